//! Timestamps: microseconds since 2000-01-01 UTC, as people read them.

const DAY: i64 = 86_400_000_000;
/// Days from 0000-03-01 to 2000-01-01.
const DAYS_TO_2000: i64 = 730_425;
/// Seconds from 1970 to 2000.
pub(super) const UNIX_TO_2000: i64 = 946_684_800;

/// `2026-11-27 02:30:18.5+00`.
pub(super) fn show(micros: i64) -> String {
    let (year, month, day) = civil(micros.div_euclid(DAY));
    let rest = micros.rem_euclid(DAY);
    let seconds = rest / 1_000_000;
    let (hour, minute, second, micros) = (seconds / 3600, seconds / 60 % 60, seconds % 60, rest % 1_000_000);
    let fraction = format!(".{micros:06}");
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}{fraction}+00")
}

/// The other way round; the zone is UTC or `+hh[:mm]`.
pub(super) fn parse(text: &str) -> Option<i64> {
    let (date, time) = text.split_once([' ', 'T']).unwrap_or((text, "00:00:00"));
    let mut parts = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() || !(0..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (time, offset) = match time.find(['+', '-', 'Z', 'z']) {
        Some(at) => (&time[..at], zone(&time[at..])?),
        None => (time, 0),
    };
    let mut parts = time.split(':');
    let (hour, minute) = (parts.next()?.parse::<i64>().ok()?, parts.next()?.parse::<i64>().ok()?);
    let (second, fraction) = match parts.next().unwrap_or("0").split_once('.') {
        Some((second, fraction)) => (second.parse::<i64>().ok()?, format!("{fraction:0<6}").get(..6)?.parse().ok()?),
        None => (time.split(':').nth(2).unwrap_or("0").parse::<i64>().ok()?, 0i64),
    };
    if !(0..=24).contains(&hour) || !(0..60).contains(&minute) || !(0..=60).contains(&second) {
        return None;
    }
    let seconds = (hour * 60 + minute) * 60 + second - offset;
    Some(days(year, month, day) * DAY + seconds * 1_000_000 + fraction)
}

/// Seconds east of Greenwich.
fn zone(text: &str) -> Option<i64> {
    if text.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = text[1..].split_once(':').unwrap_or((&text[1..], "0"));
    let (hours, minutes) = (hours.parse::<i64>().ok()?, minutes.parse::<i64>().ok()?);
    ((0..=15).contains(&hours) && (0..60).contains(&minutes)).then_some(sign * (hours * 3600 + minutes * 60))
}

/// The date so many days after 2000-01-01: years begin in March, so that the leap day is the last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + DAYS_TO_2000;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - DAYS_TO_2000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_and_read() {
        for (micros, text) in [
            (0, "2000-01-01 00:00:00+00"),
            (849_061_818_500_000, "2026-11-27 02:30:18.5+00"),
            (5_097_600_000_000, "2000-02-29 00:00:00+00"),
            (-1, "1999-12-31 23:59:59.999999+00"),
        ] {
            assert_eq!(show(micros), text);
            assert_eq!(parse(text), Some(micros), "{text}");
        }
        assert_eq!(parse("2000-01-01T01:00:00+01:00"), Some(0));
        assert_eq!(parse("2000-01-01"), Some(0));
        for bad in ["", "2000", "2000-13-01", "2000-01-01 25:00", "2000-01-01 00:00:00+x", "x-y-z"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
