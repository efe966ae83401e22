//! What a client of a workload wants next, drawn from the seed: the same whatever becomes of its other requests, and
//! the same for the machine alone and for the whole stack.

use std::time::Duration;

use pgweir_core::time::Instant;

use crate::rng::Rng;
use crate::scenario::{Group, Scenario};

/// Where the streams of clients' randomness begin.
const CLIENTS: u64 = 1000;

/// A client's draws.
#[derive(Debug)]
pub(crate) struct Wisher {
    rng: Rng,
    leaks_left: u32,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    /// How long the connection is held; `Duration::MAX` for ever.
    pub(crate) hold: Duration,
    /// How the lease ends if nothing comes in between.
    pub(crate) end: End,
    /// When its future is dropped, from its beginning.
    pub(crate) cancel: Option<Duration>,
    /// Nobody looks at the connection any more.
    pub(crate) leaked: bool,
}

/// How a lease is meant to end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    Clean,
    /// Alive, but its caller does not want it to be used again.
    Discarded,
    /// Dropped in the middle of a query.
    Abandoned,
    Broken,
}

impl Wisher {
    /// Client `number` of the group `index`.
    pub(crate) fn new(seed: u64, index: usize, number: u32, group: &Group) -> Self {
        // A group's leaks are spread over its clients, the first ones first.
        let clients = group.clients.unwrap_or(1);
        let leaks = group.leaks.as_ref().map_or(0, |leaks| leaks.count);
        let leaks_left = leaks / clients + u32::from(number < leaks % clients);
        let stream = CLIENTS + ((index as u64) << 32) + u64::from(number);
        Wisher { rng: Rng::new(seed, stream), leaks_left }
    }

    /// When it begins: the first request of a client, or the first arrival of an open loop.
    pub(crate) fn begins(&mut self, number: u32, group: &Group) -> Instant {
        let from = Instant::ZERO + group.from;
        match &group.every {
            Some(every) => from + next_arrival(group, Duration::ZERO, every.draw(&mut self.rng)),
            None => {
                // With a ramp, clients join one after the other.
                let joins = group.ramp.mul_f64(f64::from(number) / f64::from(group.clients.unwrap_or(1)));
                from + joins + group.think.draw(&mut self.rng)
            }
        }
    }

    /// When an open loop makes its next request.
    pub(crate) fn next_arrival(&mut self, now: Instant, group: &Group) -> Option<Instant> {
        let begun = Instant::ZERO + group.from;
        let pause = group.every.as_ref()?.draw(&mut self.rng);
        Some(begun + next_arrival(group, now - begun, pause))
    }

    /// How long a client of a closed loop pauses.
    pub(crate) fn thinks(&mut self, group: &Group) -> Duration {
        group.think.draw(&mut self.rng)
    }

    /// Every request draws the same numbers, so that one that goes otherwise does not change the next.
    pub(crate) fn wish(&mut self, group: &Group) -> Wish {
        let rng = &mut self.rng;
        let mut hold = group.hold.draw(rng);
        let fate = rng.fraction();
        let cancel = group.cancel.as_ref().map(|cancel| (rng.chance(cancel.share), cancel.after.draw(rng)));
        let end = match fate {
            fate if fate < group.abandon => End::Abandoned,
            fate if fate < group.abandon + group.broken => End::Broken,
            fate if fate < group.abandon + group.broken + group.discard => End::Discarded,
            _ => End::Clean,
        };
        let mut leaked = false;
        if let (Some(leaks), true) = (&group.leaks, self.leaks_left > 0) {
            self.leaks_left -= 1;
            hold = leaks.hold.draw(rng);
            leaked = true;
        }
        Wish { hold, end, cancel: cancel.and_then(|(cancels, after)| cancels.then_some(after)), leaked }
    }
}

/// How long an acquire of the group waits.
pub(crate) fn patience(scenario: &Scenario, group: &Group) -> Duration {
    group.timeout.unwrap_or(scenario.pool.acquire_timeout())
}
/// When an open loop that made a request at `at` makes its next one, both counted from its beginning. `gap` is the time
/// between two at full speed. With a ramp the speed grows evenly from nothing: at time t of a ramp r, t²/2r of full
/// speed's time has passed.
fn next_arrival(group: &Group, at: Duration, gap: Duration) -> Duration {
    let ramp = group.ramp.as_secs_f64();
    let at_seconds = at.as_secs_f64();
    if at_seconds >= ramp {
        return at.saturating_add(gap);
    }
    let passed = at_seconds * at_seconds / (2.0 * ramp) + gap.as_secs_f64();
    // Square roots are exact to the last bit everywhere.
    let next = if passed < ramp / 2.0 { (2.0 * ramp * passed).sqrt() } else { passed + ramp / 2.0 };
    // Never the same moment again: time must go on.
    let next = Duration::try_from_secs_f64(next).unwrap_or(Duration::MAX);
    next.max(at + Duration::from_nanos(1))
}
