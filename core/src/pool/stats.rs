//! What the pool counts: totals, peaks and histograms.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::{CloseReason, FaultClass};
use super::machine::nanos;
use super::notice::Counts;
use crate::time::Instant;

/// A snapshot of the pool's numbers at one instant. Times are on the pool's own clock.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Stats {
    /// When the snapshot was taken.
    pub at: Instant,
    /// When the machine was made.
    pub created: Instant,
    /// Connections by state, and waiters.
    pub counts: Counts,
    /// Leases suspected of a leak now.
    pub leaks: u32,
    /// Totals since the pool was made.
    pub totals: Totals,
}

/// What grew since the pool was made.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Acquires that got a connection and saw it. The one number here that may shrink: a grant that nobody saw is taken
    /// back.
    pub acquisitions: u64,
    /// Leases that came back. A lease cut off by a shutdown does not.
    pub releases: u64,
    /// Acquires dropped before they saw a connection.
    pub cancelled: u64,
    /// Acquires whose deadline passed.
    pub timeouts: u64,
    /// Acquires rejected for any other reason, `try_get` with nothing ready included.
    pub rejected: u64,
    /// Connections opened.
    pub opened: u64,
    /// Connect attempts.
    pub connects: u64,
    /// Connect attempts on the reconnect schedule: those that followed a failure.
    pub reconnects: u64,
    /// Round trips that proved a connection.
    pub validations: u64,
    /// Leases that were ever suspected of a leak.
    pub leaks_suspected: u64,
    /// Requests sent over all leases that came back.
    pub queries: u64,
    /// Connections closed, by reason.
    pub closed: Closed,
    /// Failed connects, by class.
    pub connect_failures: ConnectFailures,
    /// Most connections lent at once.
    pub peak_active: u32,
    /// Most waiters at once.
    pub peak_waiting: u32,
    /// Time from acquire to grant, those grants included that nobody saw.
    pub wait: Histogram,
    /// Time from grant to release.
    pub usage: Histogram,
    /// Time from the start of a connect to its success.
    pub create: Histogram,
    /// When a connection was last proved by a round trip.
    pub last_check: Option<Instant>,
    /// How long that took: the last known latency.
    pub last_latency: Option<Duration>,
}

impl Totals {
    /// Whether nothing exceeds `limit`, and the histograms are what they should be.
    pub(super) fn has_room(&self, limit: u64) -> bool {
        let counters = [
            self.acquisitions,
            self.releases,
            self.cancelled,
            self.timeouts,
            self.rejected,
            self.opened,
            self.connects,
            self.reconnects,
            self.validations,
            self.leaks_suspected,
        ];
        let counters = counters.iter().chain(&self.closed.0).chain(&self.connect_failures.0);
        let sum = counters.fold(0_u64, |sum, counter| sum.saturating_add(*counter));
        sum <= limit && [&self.wait, &self.usage, &self.create].iter().all(|histogram| histogram.is_consistent(limit))
    }
}

impl CloseReason {
    /// Every reason, in the order of [`Closed`].
    pub const ALL: [CloseReason; 13] = [
        CloseReason::IdleTimeout,
        CloseReason::Lifetime,
        CloseReason::QueryLimit,
        CloseReason::Recycle,
        CloseReason::Suspect,
        CloseReason::ValidationFailed,
        CloseReason::Broken,
        CloseReason::ResetFailed,
        CloseReason::ConnectTimeout,
        CloseReason::Shrink,
        CloseReason::Shutdown,
        CloseReason::Unwanted,
        CloseReason::Discarded,
    ];
}

impl FaultClass {
    /// Every class, in the order of [`ConnectFailures`].
    pub const ALL: [FaultClass; 5] =
        [FaultClass::Transient, FaultClass::NotYet, FaultClass::Permanent, FaultClass::Capacity, FaultClass::WrongRole];
}

/// Closed connections by reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Closed([u64; CloseReason::ALL.len()]);

impl Closed {
    /// How many were closed for `reason`.
    pub fn get(&self, reason: CloseReason) -> u64 {
        self.0[reason as usize]
    }

    /// How many were closed.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(super) fn add(&mut self, reason: CloseReason) {
        self.0[reason as usize] += 1;
    }
}

/// Failed connects by class.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ConnectFailures([u64; FaultClass::ALL.len()]);

impl ConnectFailures {
    /// How many failed with `class`.
    pub fn get(&self, class: FaultClass) -> u64 {
        self.0[class as usize]
    }

    /// How many failed.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(super) fn add(&mut self, class: FaultClass) {
        self.0[class as usize] += 1;
    }
}

/// Nanoseconds per unit, as a power of two: finer differences do not matter.
const UNIT: u32 = 7;
/// Sub-buckets per doubling, as a power of two.
const SUB: u32 = 3;
/// Eight buckets per doubling from 128 ns to two hours; the last one takes everything longer.
const BUCKETS: usize = 272;

/// A log-linear histogram of durations: 272 buckets, each at most 12.5 % wide.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    /// Nanoseconds.
    sum: u64,
    /// Nanoseconds.
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: vec![0; BUCKETS], count: 0, sum: 0, max: 0 }
    }
}

impl Histogram {
    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their sum, saturating after 584 years.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum)
    }

    /// The longest that was ever recorded.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }

    /// Their mean; zero when there are none.
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.sum.checked_div(self.count).unwrap_or(0))
    }

    /// The duration that `percent` of the recorded ones do not exceed, at most 12.5 % too long; zero when there are
    /// none.
    pub fn percentile(&self, percent: f64) -> Duration {
        let rank = ((percent.clamp(0.0, 100.0) / 100.0 * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank && *count > 0 {
                return Duration::from_nanos(upper_bound(index).min(self.max));
            }
        }
        self.max()
    }

    /// How many of the recorded durations are known to be at most each of `bounds`, which ascend: what a Prometheus
    /// histogram exports. None is counted under a bound that it exceeds; one that is up to 12.5 % shorter than a bound may
    /// be counted under the next.
    pub fn cumulative(&self, bounds: &[Duration]) -> Vec<u64> {
        let (mut index, mut seen) = (0, 0);
        let mut count = |bound: &Duration| {
            let bound = nanos(*bound);
            while index < BUCKETS && upper_bound(index) <= bound {
                seen += self.buckets[index];
                index += 1;
            }
            seen
        };
        bounds.iter().map(&mut count).collect()
    }

    /// Whether it has the right buckets, and they hold what is counted, which is not more than `limit`.
    fn is_consistent(&self, limit: u64) -> bool {
        let sum = self.buckets.iter().fold(0_u64, |sum, count| sum.saturating_add(*count));
        self.buckets.len() == BUCKETS && sum == self.count && sum <= limit
    }

    #[inline(always)]
    pub(super) fn record(&mut self, nanos: u64) {
        self.buckets[bucket(nanos)] += 1;
        self.count += 1;
        self.sum = self.sum.saturating_add(nanos);
        self.max = self.max.max(nanos);
    }

    /// The buckets in use: the longest duration in each, at most the maximum, and how many are in it.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        let used = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        used.map(|(index, count)| (Duration::from_nanos(upper_bound(index).min(self.max)), *count))
    }

    /// What was recorded since `earlier`, a copy of this histogram.
    pub fn since(&self, earlier: &Histogram) -> Histogram {
        let buckets = self.buckets.iter().zip(&earlier.buckets).map(|(now, then)| now.saturating_sub(*then));
        Histogram {
            buckets: buckets.collect(),
            count: self.count.saturating_sub(earlier.count),
            sum: self.sum.saturating_sub(earlier.sum),
            max: self.max,
        }
    }
}

#[inline(always)]
fn bucket(nanos: u64) -> usize {
    let units = nanos >> UNIT;
    if units < 1 << SUB {
        return units as usize;
    }
    let exponent = 63 - units.leading_zeros();
    let sub = (units >> (exponent - SUB)) & ((1 << SUB) - 1);
    ((((exponent - SUB + 1) << SUB) as u64 + sub) as usize).min(BUCKETS - 1)
}

/// The longest duration in bucket `index`, in nanoseconds.
fn upper_bound(index: usize) -> u64 {
    if index == BUCKETS - 1 {
        return u64::MAX;
    }
    let next = index as u64 + 1;
    let units = if next < 1 << SUB {
        next
    } else {
        let exponent = (next >> SUB) + u64::from(SUB) - 1;
        let sub = next & ((1 << SUB) - 1);
        (1 << exponent) + (sub << (exponent - u64::from(SUB)))
    };
    (units << UNIT) - 1
}

/// Slow grants over a recent window: two halves, of which the older one is forgotten at each turn.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct SlowWaits {
    /// When the newer half began.
    start: Instant,
    newer: Half,
    older: Half,
}

#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
struct Half {
    slow: u64,
    /// Acquires settled before this half began.
    base: u64,
}

/// How long one half lasts: a slow grant is forgotten after one to two of these.
const HALF: Duration = Duration::from_secs(30);

impl SlowWaits {
    /// One of `settled` acquires waited too long.
    pub(super) fn record(&mut self, now: Instant, settled: u64) {
        self.turn(now, settled.saturating_sub(1));
        self.newer.slow += 1;
    }

    /// Whether nothing exceeds `limit`.
    pub(super) fn has_room(&self, limit: u64) -> bool {
        self.newer.slow.saturating_add(self.older.slow) <= limit
    }

    /// Forgets what is old.
    pub(super) fn turn(&mut self, now: Instant, settled: u64) {
        let age = now - self.start;
        if age < HALF {
            return;
        }
        let fresh = Half { slow: 0, base: settled };
        self.older = if age < 2 * HALF { self.newer } else { fresh };
        self.newer = fresh;
        self.start = now;
    }

    /// Slow grants in the window, if they are more than one in twenty.
    pub(super) fn notable(&self, settled: u64) -> Option<u64> {
        let slow = self.newer.slow + self.older.slow;
        let base = if self.older.slow > 0 { self.older.base } else { self.newer.base };
        let all = settled.saturating_sub(base).max(slow);
        (slow > 0 && slow.saturating_mul(20) > all).then_some(slow)
    }

    /// When the window forgets something next.
    pub(super) fn next_turn(&self) -> Option<Instant> {
        (self.newer.slow + self.older.slow > 0).then(|| self.start + HALF)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_cover_all_durations_in_order() {
        for index in 0..BUCKETS - 1 {
            let bound = upper_bound(index);
            assert_eq!(bucket(bound), index, "upper bound of bucket {index}");
            assert_eq!(bucket(bound + 1), index + 1, "lower bound of the next");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_at_most_an_eighth_too_long() {
        let mut histogram = Histogram::default();
        for millis in 1..=1000 {
            histogram.record(millis * 1_000_000);
        }
        for (percent, exact) in [(50.0, 500.0), (95.0, 950.0), (99.0, 990.0), (100.0, 1000.0)] {
            let millis = histogram.percentile(percent).as_secs_f64() * 1e3;
            assert!((exact..=exact * 1.125).contains(&millis), "p{percent} is {millis} ms");
        }
        assert_eq!(histogram.mean().as_micros(), 500_500);
        histogram.record(u64::MAX);
        assert_eq!(histogram.percentile(100.0), Duration::from_nanos(u64::MAX), "the last bucket has no bound");
        assert_eq!(Histogram::default().percentile(99.0), Duration::ZERO);
    }

    #[test]
    fn what_is_counted_under_a_bound_does_not_exceed_it() {
        let bounds = [1, 5, 10, 100].map(Duration::from_millis);
        let mut histogram = Histogram::default();
        assert_eq!(histogram.cumulative(&bounds), [0; 4]);
        for micros in [900, 1_001, 4_000, 5_001, 8_000, 20_000, 99_000] {
            histogram.record(micros * 1_000);
        }
        // 99 ms share a bucket with durations above 100 ms.
        assert_eq!(histogram.cumulative(&bounds), [1, 3, 5, 6]);
        histogram.record(u64::MAX);
        assert_eq!(histogram.cumulative(&bounds)[..3], [1, 3, 5]);
        assert_eq!(histogram.cumulative(&[Duration::MAX]), [8]);
    }

    /// A monitoring system takes a bucket that shrinks for a new process, and all of it for news.
    #[test]
    fn no_bucket_ever_shrinks() {
        let bounds = [1, 5, 10, 100].map(Duration::from_millis);
        let mut histogram = Histogram::default();
        let mut before = histogram.cumulative(&bounds);
        // The longest so far is within a bound; its bucket is not.
        for micros in [900, 4_990, 9_900, 99_000, 7_200_000_000] {
            histogram.record(micros * 1_000);
            let after = histogram.cumulative(&bounds);
            assert!(before.iter().zip(&after).all(|(before, after)| before <= after), "{before:?}, then {after:?}");
            before = after;
        }
    }

    #[test]
    fn a_difference_has_what_came_between() {
        let mut histogram = Histogram::default();
        histogram.record(5_000_000);
        let earlier = histogram.clone();
        assert_eq!(earlier.since(&earlier).buckets().count(), 0);
        histogram.record(5_000_000);
        histogram.record(70_000_000);
        let news = histogram.since(&earlier);
        assert_eq!((news.count(), news.sum()), (2, Duration::from_millis(75)));
        let buckets: Vec<(Duration, u64)> = news.buckets().collect();
        assert_eq!(buckets, [(Duration::from_nanos(5_242_879), 1), (Duration::from_millis(70), 1)]);
    }

    #[test]
    fn reasons_and_classes_index_their_own_counter() {
        assert!(CloseReason::ALL.iter().enumerate().all(|(index, reason)| *reason as usize == index));
        assert!(FaultClass::ALL.iter().enumerate().all(|(index, class)| *class as usize == index));
    }

    #[test]
    fn slow_waits_are_forgotten() {
        let mut slow = SlowWaits::default();
        slow.record(Instant::from_secs(100), 10);
        assert_eq!(slow.notable(10), Some(1));
        assert_eq!(slow.notable(200), None, "one in a hundred and ninety is not notable");
        slow.turn(Instant::from_secs(131), 12);
        assert_eq!(slow.notable(12), Some(1));
        slow.turn(Instant::from_secs(162), 14);
        assert_eq!((slow.notable(14), slow.next_turn()), (None, None));
    }
}
