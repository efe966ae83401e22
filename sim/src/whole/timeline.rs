//! The timeline: what is done to the servers, the network and the pool.

use std::sync::atomic::Ordering;
use std::time::Duration;

use pgweir_core::time::Instant;

use super::Shared;
use super::world::World;
use crate::Server;
use crate::net::{Direction, Path};
use crate::scenario::{Cut, Dist, ServerState, Sessions, Step, What};

/// Does what the scenario says, each thing at its time.
pub(super) async fn run(world: Shared) {
    for step in &world.scenario.timeline {
        world.sim.sleep_until(Instant::ZERO + step.at).await;
        happens(&world, step);
    }
}

fn happens(world: &Shared, step: &Step) {
    if step.what.is_of_pool() {
        return befalls_pool(world, &step.what);
    }
    let hosts = world.scenario.hosts();
    for (number, host) in hosts.iter().enumerate() {
        if step.host.as_ref().is_none_or(|name| *name == host.name) {
            befalls_host(world, number, &step.what);
        }
    }
}

fn befalls_pool(world: &Shared, what: &What) {
    if let What::Suspend(suspend) = what {
        let (shared, suspend) = (world.clone(), *suspend);
        {
            let mut state = world.state();
            state.suspensions.push(world.now());
            state.look.asleep = true;
            let now = world.now();
            state.watch.sleeps(now, now + suspend.lasts);
        }
        if suspend.sessions == Sessions::Ended {
            for server in &world.servers {
                server.net().reset_all();
            }
        }
        let asleep = async move {
            shared.sim.suspend(suspend.lasts).await;
            shared.state().look.asleep = false;
        };
        return drop(world.sim.spawn_named("suspend", asleep));
    }
    let Some(pool) = world.state().pool.clone() else { return };
    match what {
        What::Shutdown(within) => {
            world.state().shut_down = true;
            let within = *within;
            drop(world.sim.spawn_named("shutdown", async move { pool.close_timeout(within).await }));
        }
        What::Resize(size) => {
            pool.resize(size.min_size, size.max_size);
            let mut state = world.state();
            state.min_size = size.min_size;
            state.look.resize(size.max_size);
        }
        What::Pause(lasts) => {
            pool.pause();
            world.state().paused = true;
            after(world, *lasts, move |world| {
                if std::mem::take(&mut world.state().paused) {
                    pool.resume();
                }
            });
        }
        What::Recycle => pool.recycle(),
        _ => {}
    }
}

fn befalls_host(world: &Shared, number: usize, what: &What) {
    let server = &world.servers[number];
    match what {
        What::Restart(restart) => server.with(|server, now| server.restart(now, restart)),
        What::Crash(crash) => server.with(|server, now| server.crash(now, crash)),
        What::Promote => {
            server.promote();
            world.writable[number].store(true, Ordering::Relaxed);
        }
        What::Demote(demote) => {
            server.demote();
            world.writable[number].store(false, Ordering::Relaxed);
            if demote.sessions == Sessions::Ended {
                server.kill_all();
            }
        }
        What::Silence(lasts) => cut(world, number, Cut::Everything, *lasts),
        What::Partition(partition) => cut(world, number, partition.cuts, partition.lasts),
        What::Kill(kill) => {
            server.with(|server, now| server.kill_some(now, kill.share));
        }
        What::RefuseLogins(lasts) => {
            server.refuse_logins(*lasts);
            world.state().look.refuses_logins(number, true);
            after(world, *lasts, move |world| world.state().look.refuses_logins(number, false));
        }
        What::MaxConnections(allowed) => server.with(|server, now| server.set_max_connections(now, *allowed)),
        What::OtherSessions(sessions) => server.with(|server, now| server.set_other_sessions(now, *sessions)),
        What::Connect(dist) => server.with(|server, now| server.set_login_cost(now, dist.clone())),
        What::RoundTrip(dist) => set_round_trip(server, dist),
        What::Suspend(_) | What::Shutdown(_) | What::Resize(_) | What::Pause(_) | What::Recycle => {}
    }
}

fn cut(world: &Shared, number: usize, cut: Cut, lasts: Duration) {
    let net = world.servers[number].net();
    match cut {
        Cut::Connects => net.hang(),
        Cut::Answers => net.black_hole(Direction::ToClient),
        Cut::Everything => net.partition(),
    };
    let now = world.now();
    {
        let mut state = world.state();
        state.look.cut(number, true, now);
        state.watch.trouble(now);
    }
    after(world, lasts, move |world| heal_network(world, number));
}

fn heal_network(world: &World, number: usize) {
    let now = world.now();
    world.servers[number].net().heal();
    let mut state = world.state();
    state.look.cut(number, false, now);
    state.watch.trouble(now);
}

fn after(world: &Shared, lasts: Duration, what: impl FnOnce(&World) + Send + 'static) {
    let shared = world.clone();
    let later = async move {
        shared.sim.sleep(lasts).await;
        what(&shared);
    };
    drop(world.sim.spawn_named("timeline", later));
}

/// The scenario is over: whatever is wrong with servers and network ends.
pub(super) fn heal_everything(world: &World) {
    let wanted = world.scenario.pool.max_size();
    for (number, server) in world.servers.iter().enumerate() {
        server.with(|server, now| {
            server.heal(now);
            let allowed = server.config().max_connections.max(2 * wanted + 20);
            server.set_max_connections(now, allowed);
            server.set_other_sessions(now, 0);
            let usual = crate::scenario::ServerSpec::default();
            server.set_login_cost(now, usual.connect);
            server.config().logins_at_once = server.config().logins_at_once.max(usual.logins_at_once);
            server.set_query_time(now, Dist::Fixed(Duration::ZERO));
        });
        server.net().path(|path| *path = Path::default());
        if world.state().look.is_cut(number) {
            heal_network(world, number);
        }
        world.state().look.refuses_logins(number, false);
    }
    if world.servers.iter().all(|server| server.with(|server, _| server.is_standby())) {
        world.servers[0].promote();
        world.writable[0].store(true, Ordering::Relaxed);
    }
}

/// A round trip takes so long altogether.
pub(super) fn set_round_trip(server: &Server, dist: &Dist) {
    server.net().path(|path| (path.to_host, path.to_client) = (Dist::Fixed(Duration::ZERO), dist.clone()));
}

/// As it is at the beginning.
pub(super) fn set_state(server: &Server, state: ServerState) {
    const EVER: Duration = Duration::MAX;
    server.with(|server, now| match state {
        ServerState::Up => {}
        ServerState::Starting => server.start(now, EVER),
        ServerState::Stopping => server.stop(now, crate::server::StopMode::Fast, EVER),
        ServerState::Down => server.stop(now, crate::server::StopMode::Fast, Duration::ZERO),
    });
}
