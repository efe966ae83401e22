//! What a run came to: collected while it goes, compared with the expectations and shown afterwards.

use std::time::Duration;

use pgweir_core::pool::{Fault, Health, ShutdownReport, State};
use pgweir_core::time::Instant;

use crate::chart::Chart;

/// Attempts beyond this many are counted, not kept.
const KEPT: usize = 100_000;
/// Outages that are looked at: an older one will not be recovered from any more.
const MOST_OPEN: usize = 8;

/// What a run came to. Times are on the run's own clock, which begins at 0.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Record {
    /// Requests by outcome.
    pub tally: Tally,
    /// How long granted acquires waited.
    pub waits: Spread,
    /// Connect attempts in order of their start; the first 100,000.
    pub attempts: Vec<Attempt>,
    /// All of them.
    pub attempts_total: u64,
    /// State changes, with the reason given.
    pub states: Vec<(Instant, State, String)>,
    /// How many of them were within the scenario's duration.
    pub states_within: usize,
    /// Health where it was asked for, in the order of the expectations.
    pub looks: Vec<Option<Health>>,
    /// Leak reports.
    pub leaks: Vec<LeakReport>,
    /// Suspected leases that came back.
    pub leaks_resolved: u64,
    /// Times in which the server could not be used.
    pub outages: Vec<OutageSeen>,
    /// What the shutdown did, and whether the timeline asked for it.
    pub shutdown: Option<(ShutdownReport, bool)>,
    /// Most connections at once.
    pub peak: u32,
    /// Connections opened within the scenario's duration.
    pub opened: u64,
    /// Connection attempts that the server refused.
    pub refused: u64,
    /// Most sessions of the pool at once, as the server counts.
    pub peak_sessions: u64,
    /// Most logins under way at once.
    pub peak_logins: u64,
    /// Connections and waiters over time.
    pub chart: Chart,
}

/// Requests by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// All of them.
    pub started: u64,
    /// Granted, used, given back.
    pub succeeded: u64,
    /// The connection ended under its caller.
    pub broken: u64,
    /// No connection within the acquire's time.
    pub timed_out: u64,
    /// Told that the database is down.
    pub unavailable: u64,
    /// Refused because too many others waited.
    pub queue_full: u64,
    /// `try_get` with nothing ready.
    pub would_block: u64,
    /// Told that the pool is closed.
    pub closed: u64,
    /// Dropped by their caller.
    pub cancelled: u64,
    /// Cut off by a shutdown.
    pub cut_off: u64,
}

impl Tally {
    /// Each count with its name, all of them first.
    pub(crate) fn named(&self) -> [(&'static str, u64); 10] {
        [
            ("started", self.started),
            ("succeeded", self.succeeded),
            ("broken", self.broken),
            ("timed out", self.timed_out),
            ("unavailable", self.unavailable),
            ("queue full", self.queue_full),
            ("would block", self.would_block),
            ("closed", self.closed),
            ("cancelled", self.cancelled),
            ("cut off", self.cut_off),
        ]
    }

    /// Requests with an outcome.
    pub fn answered(&self) -> u64 {
        self.succeeded
            + self.broken
            + self.timed_out
            + self.unavailable
            + self.queue_full
            + self.would_block
            + self.closed
            + self.cancelled
            + self.cut_off
    }
}

/// One connect attempt.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// When it started.
    pub at: Instant,
    /// When it ended, if it did.
    pub ended: Option<Instant>,
    /// Why it failed, if it did.
    pub fault: Option<Fault>,
}

/// One report of a leak.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LeakReport {
    /// When.
    pub at: Instant,
    /// How long the connection had been held.
    pub held: Duration,
    /// The how manyth report about this lease.
    pub report: u32,
}

/// A time in which the server could not be used.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct OutageSeen {
    /// When it began.
    pub from: Instant,
    /// When the pool said so.
    pub noticed: Option<Instant>,
    /// When the server took connections again.
    pub back: Option<Instant>,
    /// When min_size connections were open again.
    pub recovered: Option<Instant>,
    /// When an acquire was granted again.
    pub granted: Option<Instant>,
}

/// A histogram of durations, each bucket at most 1.6 % wide.
#[derive(Clone, Debug, Default)]
pub struct Spread {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

/// Sub-buckets per doubling, as a power of two.
const SUB: u32 = 6;

impl Spread {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }

    /// What this percentage of them does not exceed; zero when there are none.
    pub fn percentile(&self, percent: f64) -> Duration {
        let rank = ((percent / 100.0 * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(upper(index as u64).min(self.max));
            }
        }
        self.max()
    }

    pub(crate) fn add(&mut self, duration: Duration) {
        self.add_nanos(duration.as_nanos() as u64);
    }

    pub(crate) fn add_nanos(&mut self, nanos: u64) {
        let bucket = bucket(nanos) as usize;
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.count += 1;
        self.max = self.max.max(nanos);
    }
}

fn bucket(nanos: u64) -> u64 {
    if nanos < 1 << SUB {
        return nanos;
    }
    let exponent = 63 - nanos.leading_zeros();
    let sub = (nanos >> (exponent - SUB)) & ((1 << SUB) - 1);
    (u64::from(exponent - SUB + 1) << SUB) + sub
}

fn upper(bucket: u64) -> u64 {
    if bucket < 1 << SUB {
        return bucket;
    }
    let shift = (bucket >> SUB) - 1;
    let sub = bucket & ((1 << SUB) - 1);
    ((((1 << SUB) + sub + 1) as u128) << shift).saturating_sub(1).min(u128::from(u64::MAX)) as u64
}

impl Record {
    pub(crate) fn new(duration: Duration, looks: usize) -> Self {
        Record { looks: vec![None; looks], chart: Chart::new(duration), ..Record::default() }
    }

    /// Somebody got a connection after waiting for it.
    pub(crate) fn waited(&mut self, now: Instant, waited: Duration) {
        self.waits.add(waited);
        self.chart.waited(now, waited);
    }

    /// An attempt starts; its place for [`Record::attempt_ends`].
    pub(crate) fn attempt_starts(&mut self, at: Instant) -> usize {
        self.attempts_total += 1;
        if self.attempts.len() < KEPT {
            self.attempts.push(Attempt { at, ended: None, fault: None });
            self.attempts.len() - 1
        } else {
            KEPT
        }
    }

    pub(crate) fn attempt_ends(&mut self, place: usize, at: Instant, fault: Option<Fault>) {
        if let Some(attempt) = self.attempts.get_mut(place) {
            attempt.ended = Some(at);
            attempt.fault = fault;
        }
    }

    /// The server cannot be used from now on.
    pub(crate) fn outage_begins(&mut self, at: Instant) {
        if self.outages.last().is_none_or(|outage| outage.back.is_some()) {
            self.outages.push(OutageSeen { from: at, noticed: None, back: None, recovered: None, granted: None });
        }
    }

    /// The server takes connections again.
    pub(crate) fn outage_ends(&mut self, at: Instant) {
        if let Some(outage) = self.outages.last_mut() {
            outage.back.get_or_insert(at);
        }
    }

    /// Whether an outage is over that the pool may not have recovered from.
    pub(crate) fn is_recovering(&self) -> bool {
        self.outages.iter().rev().take(MOST_OPEN).any(|outage| outage.back.is_some() && outage.recovered.is_none())
    }

    /// Notes something about the outages that have not seen it.
    pub(crate) fn outage_sees(&mut self, mut note: impl FnMut(&mut OutageSeen)) {
        for outage in
            self.outages.iter_mut().rev().take_while(|outage| outage.recovered.is_none() || outage.granted.is_none())
        {
            note(outage);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_close() {
        let mut spread = Spread::default();
        (1..=1000).for_each(|millis| spread.add(Duration::from_millis(millis)));
        for (percent, exact) in [(50.0, 500.0), (99.0, 990.0), (100.0, 1000.0)] {
            let millis = spread.percentile(percent).as_secs_f64() * 1e3;
            assert!((exact..exact * 1.017).contains(&millis), "p{percent} is {millis} ms");
        }
        assert_eq!(Spread::default().percentile(99.0), Duration::ZERO);
        spread.add(Duration::MAX);
        assert!(spread.percentile(100.0) > Duration::from_secs(1_000_000));
    }

    #[test]
    fn buckets_hold_what_they_say() {
        for nanos in [0, 1, 63, 64, 65, 127, 128, 1_000_003, u64::MAX / 3, u64::MAX] {
            let bucket = bucket(nanos);
            assert!(upper(bucket) >= nanos && (bucket == 0 || upper(bucket - 1) < nanos), "{nanos}");
        }
    }
}
