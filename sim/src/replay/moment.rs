//! A moment of a journal, as people write it.

use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

use pgweir_core::journal::Journal;
use pgweir_core::time::Instant;

/// A moment of a journal: `12.5s` after its beginning, `-5s` before its end, or the wall-clock time
/// `2026-01-31T12:00:00Z`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// So long after the first entry.
    AfterBeginning(Duration),
    /// So long before the last entry.
    BeforeEnd(Duration),
    /// The time since the Unix epoch.
    Wall(Duration),
}

/// What is no [`Moment`], and what would be one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadMoment(String);

impl std::fmt::Display for BadMoment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:?} is no moment: write 12.5s (after the beginning), -5s (before the end) or 2026-01-31T12:00:00Z",
            self.0
        )
    }
}

impl std::error::Error for BadMoment {}

impl FromStr for Moment {
    type Err = BadMoment;

    fn from_str(text: &str) -> Result<Self, BadMoment> {
        let bad = || BadMoment(text.to_owned());
        if let Some(before) = text.strip_prefix('-') {
            return length(before).map(Moment::BeforeEnd).ok_or_else(bad);
        }
        if let Some(after) = length(text) {
            return Ok(Moment::AfterBeginning(after));
        }
        let time = humantime::parse_rfc3339_weak(text).map_err(|_| bad())?;
        time.duration_since(UNIX_EPOCH).map(Moment::Wall).map_err(|_| bad())
    }
}

impl Moment {
    /// The moment on the journal's clock, no earlier than its beginning.
    pub fn of(self, journal: &Journal) -> Instant {
        let begin = journal.start().now();
        let at = match self {
            Moment::AfterBeginning(after) => begin + after,
            Moment::BeforeEnd(before) => end(journal).saturating_sub(before),
            Moment::Wall(unix) => {
                let wall = journal.header().wall;
                (wall.at + unix.saturating_sub(wall.unix)).saturating_sub(wall.unix.saturating_sub(unix))
            }
        };
        at.max(begin)
    }
}

/// The time of a journal's last entry.
pub(super) fn end(journal: &Journal) -> Instant {
    journal.entries().last().map_or(journal.start().now(), |entry| entry.at)
}

/// A length of time: with a unit, and with decimals if it is one number (`12.5s`).
pub(crate) fn length(text: &str) -> Option<Duration> {
    if let Ok(length) = humantime::parse_duration(text) {
        return Some(length);
    }
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit);
    let (whole, part) = number.split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 9 {
        return None;
    }
    let unit = humantime::parse_duration(&format!("1{unit}")).ok()?;
    let whole = unit.checked_mul(whole.parse().ok()?)?;
    let scale = 10_u128.pow(part.len() as u32);
    let nanos = unit.as_nanos().checked_mul(part.parse().ok()?)? / scale;
    whole.checked_add(Duration::from_nanos(u64::try_from(nanos).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_offsets_or_times_of_day() {
        let read = |text: &str| text.parse::<Moment>();
        assert_eq!(read("12.5s"), Ok(Moment::AfterBeginning(Duration::from_millis(12_500))));
        assert_eq!(read("1.25m"), Ok(Moment::AfterBeginning(Duration::from_secs(75))));
        assert_eq!(read("1m 30s"), Ok(Moment::AfterBeginning(Duration::from_secs(90))));
        assert_eq!(read("-250ms"), Ok(Moment::BeforeEnd(Duration::from_millis(250))));
        assert_eq!(read("1970-01-01T00:01:00.5Z"), Ok(Moment::Wall(Duration::from_millis(60_500))));
        assert_eq!(read("1970-01-01 00:01:00"), Ok(Moment::Wall(Duration::from_secs(60))));
        for bad in [
            "",
            "12",
            "12.5",
            "-",
            "--5s",
            "1.s",
            ".5s",
            "1.5",
            "noon",
            "1960-01-01T00:00:00Z",
            "99999999999999999999s",
        ] {
            let error = read(bad).expect_err(bad).to_string();
            assert!(error.contains("write 12.5s"), "{error}");
        }
    }
}
