//! The machines' only notion of time: nanoseconds since an epoch that the runtime chose.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A moment on the pool's own monotonic clock, in nanoseconds since the runtime's epoch.
///
/// It is never read from a clock in this crate: a runtime passes it in ([`Runtime::now`]), the simulator invents it.
/// Arithmetic saturates, so "never" (a duration of centuries) is a legal deadline.
///
/// [`Runtime::now`]: crate::runtime::Runtime::now
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Instant(u64);

impl Instant {
    /// The epoch.
    pub const ZERO: Instant = Instant(0);
    /// Later than anything that happens.
    pub const MAX: Instant = Instant(u64::MAX);

    /// Later than any pool lives, by centuries: after it, deadlines could not be told from never.
    pub(crate) const END: Instant = Instant(u64::MAX / 2);

    /// The moment `nanos` nanoseconds after the epoch.
    pub const fn from_nanos(nanos: u64) -> Self {
        Instant(nanos)
    }

    /// The moment `millis` milliseconds after the epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Instant(millis.saturating_mul(1_000_000))
    }

    /// The moment `secs` seconds after the epoch.
    pub const fn from_secs(secs: u64) -> Self {
        Instant(secs.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the epoch.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// This moment plus `duration`, at most [`Instant::MAX`].
    #[must_use]
    pub const fn saturating_add(self, duration: Duration) -> Self {
        Instant(self.0.saturating_add(nanos(duration)))
    }

    /// This moment minus `duration`, at least the epoch.
    #[must_use]
    pub const fn saturating_sub(self, duration: Duration) -> Self {
        Instant(self.0.saturating_sub(nanos(duration)))
    }

    /// The time from `earlier` to this moment; zero when `earlier` is later.
    #[must_use]
    #[inline]
    pub const fn saturating_since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.nanos_since(earlier))
    }

    /// As [`saturating_since`](Instant::saturating_since), in nanoseconds: without a division, for the hot path.
    #[must_use]
    #[inline]
    pub const fn nanos_since(self, earlier: Instant) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

const fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(duration.subsec_nanos() as u64)
}

impl std::ops::Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, duration: Duration) -> Instant {
        self.saturating_add(duration)
    }
}

impl std::ops::Sub<Instant> for Instant {
    type Output = Duration;
    fn sub(self, earlier: Instant) -> Duration {
        self.saturating_since(earlier)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Instant::MAX {
            return f.write_str("never");
        }
        write!(f, "{}.{:09}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// What the wall clock showed at one moment of the pool's: it dates what happened, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Wall {
    /// The moment.
    pub at: Instant,
    /// The time since the Unix epoch then.
    pub unix: Duration,
}

impl Wall {
    /// The time since the Unix epoch at `at`.
    pub fn unix(&self, at: Instant) -> Duration {
        self.unix.saturating_add(at - self.at).saturating_sub(self.at - at)
    }

    /// The moment as `2026-01-31T12:00:00.000Z`; empty if no calendar goes that far.
    pub fn iso(&self, at: Instant) -> String {
        // humantime's calendar ends with the year 9999.
        const END: Duration = Duration::from_secs(253_402_300_800);
        let unix = Some(self.unix(at)).filter(|unix| *unix < END);
        let time = unix.and_then(|unix| UNIX_EPOCH.checked_add(unix));
        time.map_or_else(String::new, |time| humantime::format_rfc3339_millis(time).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Instant::MAX + Duration::from_secs(1), Instant::MAX);
        assert_eq!(Instant::from_secs(1).saturating_sub(Duration::MAX), Instant::ZERO);
        assert_eq!(Instant::ZERO - Instant::from_secs(1), Duration::ZERO);
        assert_eq!(Instant::from_secs(3) - Instant::from_secs(1), Duration::from_secs(2));
    }

    #[test]
    fn the_wall_clock_dates_moments_on_both_sides_of_its_reading() {
        let wall = Wall { at: Instant::from_secs(100), unix: Duration::from_secs(1_000_000_000) };
        assert_eq!(wall.iso(Instant::from_millis(101_500)), "2001-09-09T01:46:41.500Z");
        assert_eq!(wall.iso(Instant::from_secs(40)), "2001-09-09T01:45:40.000Z");
        assert_eq!(wall.iso(Instant::MAX), "2586-03-30T01:19:33.709Z");
        let broken = Wall { at: Instant::ZERO, unix: Duration::MAX };
        assert_eq!((broken.iso(Instant::MAX).as_str(), broken.unix(Instant::ZERO)), ("", Duration::MAX));
    }
}
