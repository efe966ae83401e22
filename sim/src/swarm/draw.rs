//! What a seed makes of the pool, the workload and the server.

use std::time::Duration;

use pgweir_core::config::{PoolConfig, ValidationPolicy};

use super::timeline;
use crate::rng::Rng;
use crate::scenario::{Cancel, Dist, Expect, Group, HostRole, HostSpec, Leaks, Scenario, ServerSpec, ServerState};

/// Streams of a seed, apart from those of a run: one knob does not shift the draws of another.
const WHOLE: u64 = 0x5c0;
const POOL: u64 = 0x5c1;
const SERVER: u64 = 0x5c2;
const WORKLOAD: u64 = 0x5c3;
const TIMELINE: u64 = 0x5c4;

/// The scenario of a seed: the same everywhere, and valid. It expects nothing but the guarantees.
pub fn draw(seed: u64) -> Scenario {
    let mut rng = Rng::new(seed, WHOLE);
    let duration = pick(&mut rng, &[20, 40, 60, 90]) * SECOND;
    let lazy = rng.chance(0.7);
    let timers_late_by = pick(&mut rng, &[Duration::ZERO, 50 * MICRO, 50 * MICRO, 5 * MILLI, 100 * MILLI]);
    // Nobody asks any more while faults go on, and then for longer than a fault is remembered.
    let calm = rng.chance(0.1).then(|| duration.mul_f64(0.2 + 0.8 * rng.fraction()));
    let server = server(&mut Rng::new(seed, SERVER));
    let pool = pool(&mut Rng::new(seed, POOL), server.hosts.len().max(1) as u16);
    let mut workload = workload(seed, calm.unwrap_or(duration));
    workload.iter_mut().for_each(|group| group.until = group.until.or(calm));
    let timeline = timeline::draw(&mut Rng::new(seed, TIMELINE), &server, &pool, duration);
    let duration = if calm.is_some() { duration + 65 * SECOND } else { duration };
    Scenario {
        name: format!("swarm seed {seed}"),
        about: String::new(),
        seed,
        duration,
        lazy,
        timers_late_by,
        pool,
        server,
        workload,
        timeline,
        expect: Expect::default(),
    }
}

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MILLI: Duration = Duration::from_millis(1);
const MICRO: Duration = Duration::from_micros(1);

pub(super) fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.below(from.len() as u64) as usize]
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A pool of one to sixteen. Half of the time each knob has its default: rare settings meet common ones.
fn pool(rng: &mut Rng, hosts: u16) -> PoolConfig {
    let max = pick(rng, &[1, 2, 3, 4, 6, 8, 10, 16]);
    let min = pick(rng, &[0, 0, 1, 2, max / 2, max]).min(max);
    let mut one = |values: &[u64], default: u64| if rng.chance(0.5) { ms(default) } else { ms(pick(rng, values)) };
    let initial = one(&[10, 100, 500, 3000], 1000);
    let mut pool = PoolConfig::builder()
        .hosts(hosts)
        .max_size(max)
        .min_size(min)
        .acquire_timeout(one(&[50, 300, 2000, 8000], 30_000))
        .acquire_slow(one(&[0, 20, 300], 1000))
        .connect_timeout(one(&[50, 500, 2000], 5000))
        .validation_interval(one(&[0, 5, 50, 5000], 500))
        .validation_timeout(one(&[20, 300, 1000], 5000))
        .reset_timeout(one(&[20, 200, 1000], 5000))
        .close_timeout(one(&[1, 100, 500], 2000))
        .max_idle_time(one(&[0, 500, 3000], 60_000))
        .max_connection_lifetime(one(&[0, 2000, 10_000, 25_000], 3_600_000))
        .leak_detection_timeout(one(&[0, 50, 1000, 6000], 30_000))
        .shutdown_timeout(one(&[0, 500, 2000], 30_000))
        .backoff_initial(initial)
        .backoff_max(initial * pick(&mut Rng::new(initial.as_nanos() as u64, u64::from(max)), &[1, 4, 16]))
        .demand_probe_interval(one(&[0, 5, 200, 3000], 1000))
        .outage_grace(one(&[0, 100, 500, 10_000], 2000));
    pool = pool
        .validation(pick(
            rng,
            &[
                ValidationPolicy::Interval,
                ValidationPolicy::Interval,
                ValidationPolicy::Always,
                ValidationPolicy::Suspect,
            ],
        ))
        .reset_on_release(rng.chance(0.25))
        .max_queries(pick(rng, &[50_000, 50_000, 0, 1, 7, 100]))
        .enable_leak_detection(rng.chance(0.9))
        .backoff_multiplier(pick(rng, &[2.0, 2.0, 1.0, 1.5, 10.0]))
        .backoff_jitter(pick(rng, &[0.1, 0.1, 0.0, 0.5]))
        .max_connecting(pick(rng, &[4, 4, 1, 2, 16]))
        .max_waiting(pick(rng, &[10_000, 10_000, 1, 5]))
        .init_attempts(pick(rng, &[3, 1, 10]));
    pool.build().unwrap_or_else(|error| panic!("the swarm draws valid pools only: {error}"))
}

fn server(rng: &mut Rng) -> ServerSpec {
    let hosts = pick(rng, &[1, 1, 1, 2, 2, 3]);
    let names = ["a", "b", "c"];
    let role = |number: usize| if number == 0 { HostRole::Primary } else { HostRole::Standby };
    let host = |number: usize| HostSpec { name: names[number].to_owned(), role: role(number) };
    let mut hosts: Vec<HostSpec> = if hosts == 1 { Vec::new() } else { (0..hosts).map(host).collect() };
    if rng.chance(0.5) {
        hosts.reverse();
    }
    let connect = pick(rng, &[0, 1, 5, 20, 100]);
    let connect = match rng.below(4) {
        0 => Dist::Exponential(ms(connect)),
        1 => Dist::Choice(vec![(0.9, Dist::Fixed(ms(connect))), (0.1, Dist::Uniform(ms(0), ms(1500)))]),
        _ => Dist::Fixed(ms(connect)),
    };
    ServerSpec {
        hosts,
        state: pick(rng, &[ServerState::Up, ServerState::Up, ServerState::Up, ServerState::Up, ServerState::Starting]),
        connect,
        logins_at_once: pick(rng, &[1, 2, 2, 100]),
        round_trip: round_trip(rng),
        max_connections: pick(rng, &[100, 100, 100, 3, 8, 12]),
        other_sessions: pick(rng, &[0, 0, 0, 2, 5]),
    }
}

pub(super) fn round_trip(rng: &mut Rng) -> Dist {
    match rng.below(6) {
        0 => Dist::Fixed(Duration::ZERO),
        1 => Dist::Exponential(ms(pick(rng, &[1, 10, 60]))),
        2 => Dist::Lognormal { median: ms(1), p99: ms(pick(rng, &[20, 400])) },
        3 => Dist::Fixed(ms(pick(rng, &[1, 40, 250]))),
        _ => Dist::Uniform(200 * MICRO, 500 * MICRO),
    }
}

/// One to four groups, each of a stream of its own.
fn workload(seed: u64, duration: Duration) -> Vec<Group> {
    let groups = 1 + Rng::new(seed, WORKLOAD).below(4);
    (0..groups).map(|number| group(&mut Rng::new(seed, WORKLOAD + ((number + 1) << 16)), number, duration)).collect()
}

fn group(rng: &mut Rng, number: u64, duration: Duration) -> Group {
    let closed = rng.chance(0.6);
    let pace = ms(pick(rng, &[5, 20, 60, 250, 2000]));
    let hold = hold(rng);
    let clients = closed.then(|| 1 + rng.below(20) as u32);
    let share = |rng: &mut Rng| if rng.chance(0.4) { pick(rng, &[0.01, 0.1, 0.3]) } else { 0.0 };
    let cancel = rng.chance(0.4).then(|| Cancel {
        share: pick(rng, &[0.05, 0.5]),
        after: match rng.below(3) {
            0 => Dist::Fixed(Duration::ZERO),
            1 => Dist::Uniform(Duration::ZERO, ms(110)),
            _ => Dist::Exponential(ms(5)),
        },
    });
    let leaks = rng.chance(0.3).then(|| Leaks {
        count: 1 + rng.below(2) as u32,
        hold: if rng.chance(0.3) { Dist::Fixed(Duration::MAX) } else { Dist::Uniform(SECOND, 20 * SECOND) },
    });
    let part = rng.chance(0.3);
    let from = if part { duration.mul_f64(rng.fraction() / 2.0) } else { Duration::ZERO };
    let until = part.then(|| from + (duration - from).mul_f64(0.2 + 0.8 * rng.fraction()));
    let burst = if closed { 1 } else { pick(rng, &[1, 1, 1, 5, 40]) };
    // Large bursts are rarer: a flood of refusals takes time and shows nothing new.
    let every = (!closed).then(|| Dist::Exponential(pace.max(20 * MILLI) * (3 + burst) / 4));
    Group {
        name: format!("group {number}"),
        clients,
        burst,
        every,
        ramp: if rng.chance(0.2) { (until.unwrap_or(duration) - from) / 4 } else { Duration::ZERO },
        // Nobody asks without a pause: time must go on.
        think: if closed { Dist::Exponential(pace) } else { Dist::Fixed(Duration::ZERO) },
        hold,
        timeout: pick(rng, &[None, None, None, Some(Duration::ZERO), Some(ms(50)), Some(ms(1)), Some(60 * SECOND)]),
        queries: pick(rng, &[1, 1, 0, 30]),
        from,
        until,
        abandon: share(rng),
        broken: share(rng),
        discard: share(rng),
        cancel,
        leaks,
        leak_after: pick(rng, &[None, None, None, Some(Duration::ZERO), Some(ms(20)), Some(20 * SECOND)]),
        command_timeout: pick(rng, &[60 * SECOND, 3 * SECOND, ms(200)]),
    }
}

fn hold(rng: &mut Rng) -> Dist {
    match rng.below(6) {
        0 => Dist::Fixed(ms(1)),
        1 => Dist::Exponential(ms(pick(rng, &[2, 20]))),
        2 => Dist::Uniform(Duration::ZERO, ms(300)),
        3 => Dist::Lognormal { median: ms(3), p99: ms(200) },
        4 => Dist::Choice(vec![(0.9, Dist::Fixed(ms(2))), (0.1, Dist::Fixed(ms(400)))]),
        _ => Dist::Fixed(ms(pick(rng, &[0, 10, 90]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_a_valid_scenario_that_a_file_can_hold() {
        for seed in 0..500 {
            let scenario = draw(seed);
            let text = scenario.to_yaml();
            let read =
                Scenario::from_yaml("swarm.yaml", &text).unwrap_or_else(|bad| panic!("seed {seed}: {bad}\n{text}"));
            assert_eq!(read, scenario, "seed {seed}\n{text}");
            assert_eq!(draw(seed), scenario);
        }
    }
}
