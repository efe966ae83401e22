//! Connections, waiters and waits over time: one record, from which every picture of a run is drawn.

use std::time::Duration;

use pgweir_core::pool::Counts;
use pgweir_core::time::Instant;

/// Parts of a run's duration.
pub(crate) const PARTS: usize = 720;
/// Connections are told apart by this many states.
const STATES: usize = 6;
/// Waits by length: two buckets for each doubling, from 1 µs.
const WAITS: usize = 64;

/// A run in equal parts of its duration.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    width: u64,
    parts: Vec<Part>,
    /// What was seen last, and when; it lasted until what was seen next.
    last: Counts,
    since: u64,
    /// Where the part ends that is being filled.
    end: u64,
}

/// One part.
#[derive(Clone, Debug)]
pub struct Part {
    /// Nanoseconds that connections spent in it, by state.
    sums: [u64; STATES],
    filled: u64,
    open: u32,
    active: u32,
    waiting: u32,
    waits: [u32; WAITS],
    longest: Duration,
}

impl Default for Part {
    fn default() -> Self {
        Part {
            sums: [0; STATES],
            filled: 0,
            open: 0,
            active: 0,
            waiting: 0,
            waits: [0; WAITS],
            longest: Duration::ZERO,
        }
    }
}

/// Connections by state, on average over a part.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Shares {
    /// Ready to be lent.
    pub idle: f64,
    /// Lent.
    pub active: f64,
    /// Being opened.
    pub connecting: f64,
    /// Being checked.
    pub validating: f64,
    /// Being made fit for reuse.
    pub resetting: f64,
    /// Being closed.
    pub closing: f64,
}

impl Chart {
    pub(crate) fn new(duration: Duration) -> Self {
        let width = (duration.as_nanos() as u64).div_ceil(PARTS as u64).max(1);
        Chart { width, end: width, parts: vec![Part::default()], ..Chart::default() }
    }

    /// The parts, in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// How long a part is.
    pub fn width(&self) -> Duration {
        Duration::from_nanos(self.width)
    }

    /// Which of `columns` equal columns a moment is in; the last one for what is later.
    pub(crate) fn column(&self, at: Instant, columns: usize) -> usize {
        let part = (at.as_nanos() / self.width.max(1)) as usize;
        (part * columns / PARTS).min(columns - 1)
    }

    /// From now on this is so.
    #[inline]
    pub(crate) fn sample(&mut self, at: Instant, counts: &Counts) {
        let now = at.as_nanos();
        while now >= self.end && self.parts.len() < PARTS {
            self.lasts_until(self.end);
            let next = Part {
                open: open(&self.last),
                active: self.last.active,
                waiting: self.last.waiting,
                ..Part::default()
            };
            self.parts.push(next);
            self.end += self.width;
        }
        if now >= self.end {
            return self.lasts_until(self.end);
        }
        self.lasts_until(now);
        self.last = *counts;
        if let Some(part) = self.parts.last_mut() {
            part.open = open(counts);
            part.active = part.active.max(counts.active);
            part.waiting = part.waiting.max(counts.waiting);
        }
    }

    #[inline]
    fn lasts_until(&mut self, now: u64) {
        let time = now.saturating_sub(self.since);
        if time == 0 {
            return;
        }
        self.since = now;
        let Some(part) = self.parts.last_mut() else { return };
        let Counts { idle, active, connecting, validating, resetting, closing, .. } = self.last;
        for (sum, count) in part.sums.iter_mut().zip([idle, active, connecting, validating, resetting, closing]) {
            *sum += u64::from(count) * time;
        }
        part.filled += time;
    }

    /// Somebody got a connection after waiting so long.
    #[inline]
    pub(crate) fn waited(&mut self, at: Instant, waited: Duration) {
        if at.as_nanos() < self.end
            && let Some(part) = self.parts.last_mut()
        {
            part.waits[bucket(waited)] += 1;
            part.longest = part.longest.max(waited);
        }
    }
}

impl Part {
    /// Open connections at its end.
    pub fn open(&self) -> u32 {
        self.open
    }

    /// Lent connections, most in it.
    pub fn active(&self) -> u32 {
        self.active
    }

    /// Acquires that waited, most in it.
    pub fn waiting(&self) -> u32 {
        self.waiting
    }

    /// The longest wait that ended in it.
    pub fn longest_wait(&self) -> Duration {
        self.longest
    }

    /// What half of the waits that ended in it do not exceed; `None` if none did. Up to 41 % too long.
    pub fn median_wait(&self) -> Option<Duration> {
        let all: u64 = self.waits.iter().map(|count| u64::from(*count)).sum();
        let mut seen = 0;
        let bucket = self.waits.iter().position(|count| {
            seen += u64::from(*count);
            all > 0 && seen * 2 >= all
        })?;
        Some(upper(bucket).min(self.longest))
    }

    /// Connections by state, on average.
    pub fn shares(&self) -> Shares {
        let [idle, active, connecting, validating, resetting, closing] =
            self.sums.map(|sum| sum as f64 / self.filled.max(1) as f64);
        Shares { idle, active, connecting, validating, resetting, closing }
    }
}

fn open(counts: &Counts) -> u32 {
    counts.idle + counts.active + counts.validating + counts.resetting
}

fn bucket(waited: Duration) -> usize {
    let micros = waited.as_nanos() as u64 / 1_000;
    if micros == 0 {
        return 0;
    }
    let octave = micros.ilog2() as usize;
    // Whether it is in the upper half of its octave, by the square root of two.
    let upper = u128::from(micros) * u128::from(micros) >= 2 << (2 * octave);
    (1 + 2 * octave + usize::from(upper)).min(WAITS - 1)
}

/// What the waits of a bucket do not exceed.
fn upper(bucket: usize) -> Duration {
    let octave = Duration::from_micros(1 << (bucket / 2));
    if bucket.is_multiple_of(2) { octave } else { octave * 1_415 / 1_000 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(idle: u32, waiting: u32) -> Counts {
        Counts { idle, waiting, ..Counts::default() }
    }

    #[test]
    fn quiet_parts_carry_on() {
        let mut chart = Chart::new(Duration::from_secs(PARTS as u64));
        chart.sample(Instant::ZERO, &counts(2, 5));
        chart.sample(Instant::from_millis(500), &counts(3, 0));
        chart.sample(Instant::from_secs(3), &counts(4, 0));
        chart.sample(Instant::from_secs(PARTS as u64 + 100), &counts(9, 9));
        let seen: Vec<_> = chart.parts().iter().take(5).map(|part| (part.open(), part.waiting())).collect();
        assert_eq!(seen, [(3, 5), (3, 0), (3, 0), (4, 0), (4, 0)]);
        assert_eq!(chart.parts().len(), PARTS);
        let idle: Vec<f64> = chart.parts().iter().take(5).map(|part| part.shares().idle).collect();
        assert_eq!(idle, [2.5, 3.0, 3.0, 4.0, 4.0]);
    }

    #[test]
    fn waits_have_a_median() {
        let mut chart = Chart::new(Duration::from_secs(1));
        assert_eq!(chart.parts()[0].median_wait(), None);
        for millis in [1, 1, 1, 50, 90] {
            chart.waited(Instant::ZERO, Duration::from_millis(millis));
        }
        let median = chart.parts()[0].median_wait().expect("waits");
        assert!((1_000..1_415).contains(&median.as_micros()), "{median:?}");
        assert_eq!(chart.parts()[0].longest_wait(), Duration::from_millis(90));
    }

    #[test]
    fn every_wait_is_within_its_bucket() {
        for nanos in [0, 1, 999, 1_000, 1_414, 1_415, 2_000, 123_456_789, 60_000_000_000] {
            let waited = Duration::from_nanos(nanos);
            let bucket = bucket(waited);
            let rounded = Duration::from_micros(waited.as_micros() as u64);
            assert!(rounded <= upper(bucket), "{nanos}");
            assert!(bucket == 0 || rounded >= upper(bucket - 1).mul_f64(0.999), "{nanos}");
        }
        assert_eq!(super::bucket(Duration::from_secs(1_000_000_000)), WAITS - 1);
    }
}
