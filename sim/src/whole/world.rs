//! What a run consists of: servers, a pool, callers, a timeline, and the end.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use pgweir_core::client::Postgres;
use pgweir_core::config::{Config, ConnectConfig};
use pgweir_core::driver::PoolBuilder;
use pgweir_core::journal::JournalOptions;
use pgweir_core::pool::ShutdownReport;
use pgweir_core::time::Instant;

use super::judge::Tape;
use super::knobs::Knobs;
use super::look::Look;
use super::watch::{FirstWrong, Verdict, Watch};
use super::{Shared, request, timeline};
use crate::executor::lock;
use crate::oracle::Violation;
use crate::record::Record;
use crate::scenario::{HostRole, Scenario};
use crate::server;
use crate::stack::Pool;
use crate::{Server, Sim};

/// What the pool is given on top of its own promises before a run counts as stuck.
const LINGER: Duration = Duration::from_secs(5);
/// How often something that must come to pass is looked at.
const RHYTHM: Duration = Duration::from_millis(50);

/// Everything there is.
pub(super) struct World {
    pub(super) sim: Sim,
    pub(super) scenario: Scenario,
    pub(super) servers: Vec<Server>,
    /// Which of them take writes.
    pub(super) writable: Vec<Arc<AtomicBool>>,
    pub(super) tape: Arc<Tape>,
    pub(super) state: Mutex<State>,
}

/// What changes.
pub(super) struct State {
    pub(super) watch: Watch,
    pub(super) look: Look,
    pub(super) wrong: FirstWrong,
    pub(super) record: Record,
    pub(super) pool: Option<Pool>,
    /// Whether callers go on making requests.
    pub(super) open: bool,
    pub(super) shut_down: bool,
    pub(super) paused: bool,
    pub(super) min_size: u32,
    /// Requests that have not come to their end, those that leak apart.
    pub(super) busy: u64,
    pub(super) leaking: u64,
    pub(super) next_call: u64,
    pub(super) report: Option<ShutdownReport>,
    /// When the machine's process was stopped.
    pub(super) suspensions: Vec<Instant>,
    /// The last steps before what was wrong.
    pub(super) last: Vec<String>,
}

impl World {
    pub(super) fn new(sim: &Sim, scenario: &Scenario, knobs: &Knobs) -> Shared {
        let hosts = scenario.hosts();
        let writable: Vec<Arc<AtomicBool>> =
            hosts.iter().map(|host| Arc::new(AtomicBool::new(host.role == HostRole::Primary))).collect();
        let servers: Vec<Server> = hosts
            .iter()
            .zip(&writable)
            .map(|(host, writable)| {
                let spec = &scenario.server;
                let mut config = server::Config {
                    max_connections: spec.max_connections,
                    other_sessions: spec.other_sessions,
                    connect: spec.connect.clone(),
                    logins_at_once: spec.logins_at_once,
                    standby: host.role == HostRole::Standby,
                    ..server::Config::default()
                };
                knobs.server(&mut config);
                let server = sim.server_as(&host.name, config);
                knobs.begin(&server, scenario.duration);
                timeline::set_round_trip(&server, &scenario.server.round_trip);
                timeline::set_state(&server, scenario.server.state);
                request::take_writes(&server, writable.clone());
                server
            })
            .collect();
        let state = State {
            watch: Watch::new(&scenario.pool, scenario.timers_late_by),
            look: Look::new(&scenario.pool, servers.len()),
            wrong: FirstWrong::default(),
            record: Record::new(scenario.duration, scenario.expect.health.len()),
            pool: None,
            open: true,
            shut_down: false,
            paused: false,
            min_size: scenario.pool.min_size(),
            busy: 0,
            leaking: 0,
            next_call: 1,
            report: None,
            suspensions: Vec::new(),
            last: Vec::new(),
        };
        Arc::new(World {
            sim: sim.clone(),
            scenario: scenario.clone(),
            servers,
            writable,
            tape: Arc::default(),
            state: Mutex::new(state),
        })
    }

    pub(super) fn now(&self) -> Instant {
        self.sim.now()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Remembers what was wrong, if something was and nothing was before.
    pub(super) fn note(&self, verdict: Verdict) {
        let now = self.now();
        self.state().wrong.note(now, verdict);
    }

    pub(super) fn first_wrong(&self) -> Option<(Instant, Violation)> {
        self.state().wrong.take()
    }

    /// The last steps before what was wrong, or the servers' last events.
    pub(super) fn last_words(&self) -> Vec<String> {
        const MOST: usize = 30;
        let last = std::mem::take(&mut self.state().last);
        if !last.is_empty() {
            return last;
        }
        let mut all: Vec<(Instant, String)> = Vec::new();
        for server in &self.servers {
            let name = server.net().name();
            server.with(|postgres, _| {
                all.extend(postgres.log().map(|entry| (entry.at, format!("{:?} {name}: {:?}", entry.at, entry.event))));
            });
        }
        all.sort_by_key(|(at, _)| *at);
        all.drain(..all.len().saturating_sub(MOST));
        all.into_iter().map(|(_, line)| line).collect()
    }

    /// What callers and server saw, with what the journal showed.
    pub(super) fn record_with(&self, of_journal: Record) -> Record {
        let mut state = self.state();
        let seen = std::mem::take(&mut state.record);
        let counts: Vec<server::Counts> = self.servers.iter().map(Server::counts).collect();
        Record {
            tally: seen.tally,
            waits: seen.waits,
            refused: counts.iter().map(|counts| counts.refused + counts.turned_away.values().sum::<u64>()).sum(),
            peak_sessions: counts.iter().map(|counts| counts.peak_sessions as u64).sum(),
            peak_logins: counts.iter().map(|counts| counts.peak_logins as u64).sum(),
            ..of_journal
        }
    }

    fn connect_config(&self) -> ConnectConfig {
        let names: Vec<String> = self.servers.iter().map(|server| format!("{}:5432", server.net().name())).collect();
        let several = names.len() > 1;
        let builder = Config::builder().database_url(format!("postgres://app:secret@{}/app", names.join(",")));
        let builder = match several || self.servers.iter().any(|server| server.with(|server, _| server.is_standby())) {
            true => builder.connection_parameter("target_session_attrs", "read-write"),
            false => builder,
        };
        builder.build().expect("a valid configuration").into_parts().1
    }
}

/// The whole run.
pub(super) async fn run(world: &Shared) {
    let (sim, scenario) = (&world.sim, &world.scenario);
    let seen = world.clone();
    sim.watch(move |now| look(&seen, now));
    let manager = Postgres::new(sim.runtime().clone(), world.connect_config());
    let journal = JournalOptions::new().entries(1 << 20).sink(world.tape.clone());
    let builder = PoolBuilder::new(sim.runtime().clone(), manager, scenario.pool.clone()).journal(journal);
    sim.spawn_named("timeline", timeline::run(world.clone()));
    let pool = if scenario.lazy {
        builder.open_lazy()
    } else {
        match builder.open().await {
            Ok(pool) => pool,
            // Nothing may be left of a pool that did not open.
            Err(_) => return ends_with_nothing(world).await,
        }
    };
    world.state().pool = Some(pool.clone());
    request::hire(world);
    sim.sleep_until(Instant::ZERO + scenario.duration).await;
    wind_up(world, &pool).await;
}

/// Called whenever time is about to pass.
fn look(world: &World, now: Instant) {
    let mut state = world.state();
    let State { look, watch, record, wrong, .. } = &mut *state;
    let verdict = look.look(now, &world.servers, watch, record);
    wrong.note(now, verdict);
}

/// The end of every run: the server is well again, everybody gets an answer, min_size is restored, the pool shuts down,
/// and the server has no session left.
async fn wind_up(world: &Shared, pool: &Pool) {
    let config = &world.scenario.pool;
    timeline::heal_everything(world);
    let asked = {
        let mut state = world.state();
        state.open = false;
        state.shut_down
    };
    if !asked {
        if std::mem::take(&mut world.state().paused) {
            pool.resume();
        }
        let longest = config.acquire_timeout().max(request::longest(&world.scenario)) + LINGER;
        until(world, longest, || world.state().busy == 0).await;
        let patience = config.backoff_max().mul_f64(1.0 + config.backoff_jitter())
            + config.connect_timeout()
            + config.validation_timeout()
            + config.close_timeout()
            + LINGER;
        let min = world.state().min_size as usize;
        // A lease that is never given back counts, whatever has become of its session: nobody looks at it.
        let restored = || sessions(world) as u64 + world.state().leaking >= min as u64;
        if !pool.is_closed() && !until(world, patience, restored).await {
            let detail = format!("{patience:?} after the server came back: {} sessions", sessions(world));
            world.note(Err(Violation { guarantee: "Min restored", detail }));
        }
    }
    let asked_at = world.now();
    let report = pool.close().await;
    let took = world.now() - asked_at;
    if took > config.shutdown_timeout() + Duration::from_secs(1) + world.scenario.timers_late_by * 2 && !asked {
        let detail = format!("close() took {took:?}");
        world.note(Err(Violation { guarantee: "Bounded end", detail }));
    }
    world.state().report = Some(report);
    let longest = request::longest(&world.scenario) + LINGER;
    until(world, longest, || world.state().busy == 0).await;
    ends_with_nothing(world).await;
    let (tally, leaking) = {
        let state = world.state();
        (state.record.tally, state.leaking)
    };
    if tally.started != tally.answered() + leaking {
        let detail = format!("{} requests, {} outcomes, {leaking} leaked", tally.started, tally.answered());
        world.note(Err(Violation { guarantee: "One answer", detail }));
    }
    world.state().record.tally.cut_off += leaking;
}

/// After the pool's end no session and no connection of it is left.
async fn ends_with_nothing(world: &Shared) {
    let held = || world.servers.iter().map(|server| server.net().connections()).sum::<usize>();
    // A statement that nobody can cancel ends by itself.
    let limit = request::LONGEST_STATEMENT + LINGER;
    // What a client said before it went, the network may have swallowed: then its session stays until the server's
    // keepalive, which takes hours.
    let left = || -> usize {
        let heard = |number: usize, since: Instant| world.state().look.last_cut(number).is_none_or(|cut| cut < since);
        let sessions = world.servers.iter().map(Server::sessions).enumerate();
        sessions.map(|(number, all)| all.iter().filter(|session| heard(number, session.since)).count()).sum()
    };
    if !until(world, limit, || held() == 0 && left() == 0).await {
        let sessions: Vec<_> = world.servers.iter().flat_map(Server::sessions).collect();
        let detail = format!("{} sessions and {} connections are left: {sessions:?}", left(), held());
        world.note(Err(Violation { guarantee: "Bounded end", detail }));
    }
}

fn sessions(world: &World) -> usize {
    world.servers.iter().map(|server| server.with(|server, _| server.sessions().len())).sum()
}

/// Waits until `condition` holds; false if it did not within `limit`.
async fn until(world: &World, limit: Duration, condition: impl Fn() -> bool) -> bool {
    let end = world.now() + limit;
    while !condition() {
        if world.now() >= end {
            return false;
        }
        world.sim.sleep(RHYTHM).await;
    }
    true
}

/// The pool's own numbers agree with what callers saw.
pub(super) fn are_true(state: &State, acquisitions: u64, releases: u64) -> Verdict {
    let (granted, returned) = (state.watch.granted, state.watch.returned);
    // What a shutdown cut off was not given back, though its caller thinks so.
    let cut = state.report.as_ref().map_or(0, |report| u64::from(report.forced));
    if acquisitions < granted || releases > acquisitions || returned > releases + cut {
        let detail = format!("{granted} granted and {returned} returned, {acquisitions} and {releases} counted");
        return Err(Violation { guarantee: "True numbers", detail });
    }
    Ok(())
}
