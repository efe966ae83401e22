//! What a seed lets happen.

use std::time::Duration;

use pgweir_core::config::PoolConfig;

use super::draw::{MILLI, SECOND, pick, round_trip};
use crate::rng::Rng;
use crate::scenario::{
    Crash, Cut, Demote, Dist, Kill, Partition, Resize, Restart, ServerSpec, Sessions, Step, Suspend, What,
};

/// A timeline: faults one after the other, mostly none upon another of its kind, and in a third of the cases a shutdown.
pub(super) fn draw(rng: &mut Rng, server: &ServerSpec, pool: &PoolConfig, duration: Duration) -> Vec<Step> {
    let mut steps = Vec::new();
    let pace = pick(rng, &[1, 4, 12]) * SECOND;
    let last = duration - 5 * SECOND;
    let mut at = pace.mul_f64(rng.fraction());
    let mut busy = Busy::default();
    if server.state != crate::scenario::ServerState::Up {
        let starting = SECOND.mul_f64(5.0 * rng.fraction());
        steps.push(Step { at, host: None, what: What::Restart(Restart { starting, ..Restart::default() }) });
        at += starting;
    }
    while at < last {
        let host = server.hosts.get(rng.below(server.hosts.len().max(1) as u64) as usize).map(|host| host.name.clone());
        // With several hosts, some things happen to all of them.
        let host = host.filter(|_| rng.chance(0.8));
        let what = what(rng, server, pool);
        let lasts = what.lasts();
        let of_pool = what.is_of_pool();
        let host = if of_pool { None } else { host.or_else(|| needs_host(&what, server)) };
        if at + lasts + SECOND < duration && busy.takes(&what, host.as_deref(), at) {
            steps.push(Step { at, host, what });
        }
        at += pace.mul_f64(2.0 * rng.fraction()) + MILLI;
    }
    if rng.chance(0.33) {
        let at = last + (duration - last).mul_f64(0.9 * rng.fraction());
        let within = pick(rng, &[Duration::ZERO, 200 * MILLI, 3 * SECOND]);
        let is_later = |step: &Step| step.what.is_of_pool() && step.at >= at;
        steps.retain(|step| !is_later(step));
        steps.push(Step { at, host: None, what: What::Shutdown(within) });
    }
    steps.sort_by_key(|step| step.at);
    steps
}

/// A promotion is one host's.
fn needs_host(what: &What, server: &ServerSpec) -> Option<String> {
    let needs = matches!(what, What::Promote | What::Demote(_));
    needs.then(|| server.hosts.first().map_or("db".to_owned(), |host| host.name.clone()))
}

/// Until when what lasts does so, by kind and host.
#[derive(Default)]
struct Busy(Vec<(&'static str, Option<String>, Duration)>);

impl Busy {
    fn takes(&mut self, what: &What, host: Option<&str>, at: Duration) -> bool {
        let kind = match what {
            What::Silence(_) | What::Partition(_) => "silence",
            What::RefuseLogins(_) | What::Pause(_) | What::Suspend(_) => what.key(),
            _ => return true,
        };
        let meets = |(other, other_host, until): &(&'static str, Option<String>, Duration)| {
            *other == kind && *until > at && (host.is_none() || other_host.is_none() || other_host.as_deref() == host)
        };
        if self.0.iter().any(meets) {
            return false;
        }
        self.0.push((kind, host.map(str::to_owned), at + what.lasts()));
        true
    }
}

fn what(rng: &mut Rng, server: &ServerSpec, pool: &PoolConfig) -> What {
    let some = SECOND.mul_f64(pick(rng, &[0.2, 2.0, 8.0]) * rng.fraction()) + MILLI;
    let more = SECOND.mul_f64(5.0 * rng.fraction());
    let nothing_or = |rng: &mut Rng, time: Duration| if rng.chance(0.4) { Duration::ZERO } else { time };
    let several = !server.hosts.is_empty();
    match rng.below(if several { 22 } else { 18 }) {
        0 | 1 => What::Restart(Restart {
            stopping: nothing_or(rng, some / 4),
            down: nothing_or(rng, some),
            starting: nothing_or(rng, more),
        }),
        2 | 3 => What::Crash(Crash { down: nothing_or(rng, more), recovering: nothing_or(rng, some) }),
        4 => What::Kill(Kill { share: 1.0 }),
        5 => What::Kill(Kill { share: 0.5 }),
        6 => What::Silence(some),
        7 => What::Partition(Partition { lasts: some, cuts: Cut::Connects }),
        8 => What::Partition(Partition { lasts: some, cuts: Cut::Answers }),
        9 => What::RefuseLogins(some),
        10 => What::MaxConnections(1 + rng.below(2 * u64::from(pool.max_size())) as u32),
        11 => What::OtherSessions(rng.below(u64::from(server.max_connections) + 2) as u32),
        12 => What::Connect(Dist::Fixed(MILLI * pick(rng, &[1, 20, 400]))),
        13 => What::RoundTrip(round_trip(rng)),
        14 => What::Suspend(Suspend {
            lasts: if rng.chance(0.5) { some } else { some / 20 },
            sessions: pick(rng, &[Sessions::Ended, Sessions::Kept]),
        }),
        15 => {
            let max_size = 1 + rng.below(12) as u32;
            What::Resize(Resize { min_size: rng.below(u64::from(max_size) + 1) as u32, max_size })
        }
        16 => What::Pause(some),
        17 => What::Recycle,
        18 | 19 => What::Promote,
        _ => What::Demote(Demote { sessions: pick(rng, &[Sessions::Ended, Sessions::Kept]) }),
    }
}
