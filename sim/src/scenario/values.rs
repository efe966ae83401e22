//! How values are written in a scenario: durations as `30s`, ranges.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// What does not fit is the longest that does.
pub(crate) fn scale(duration: Duration, factor: f64) -> Duration {
    let nanos = duration.as_nanos();
    // What fits is converted by one instruction.
    let nanos = u64::try_from(nanos).map_or(nanos as f64, |nanos| nanos as f64);
    Duration::from_nanos((nanos * factor) as u64)
}

/// What a number or a duration is expected to be: `3` is exactly that, `{at_least: 1, at_most: 5}` a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range<T> {
    /// Not less than this.
    pub at_least: Option<T>,
    /// Not more than this.
    pub at_most: Option<T>,
}

impl<T: Copy + PartialOrd> Range<T> {
    /// Whether `value` is in it.
    pub fn holds(&self, value: T) -> bool {
        self.at_least.is_none_or(|least| value >= least) && self.at_most.is_none_or(|most| value <= most)
    }

    /// Whether nothing can be in it.
    pub(crate) fn is_empty(&self) -> bool {
        matches!((self.at_least, self.at_most), (Some(least), Some(most)) if least > most)
    }
}

impl<T: Scalar + PartialEq> fmt::Display for Range<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.at_least, self.at_most) {
            (Some(least), Some(most)) if least == most => write!(f, "{}", least.spell()),
            (Some(least), Some(most)) => write!(f, "{} to {}", least.spell(), most.spell()),
            (Some(least), None) => write!(f, "at least {}", least.spell()),
            (None, Some(most)) => write!(f, "at most {}", most.spell()),
            (None, None) => f.write_str("anything"),
        }
    }
}

/// What a [`Range`] can be of.
pub trait Scalar: Copy {
    /// For "expected".
    const FORM: &'static str;

    /// As people write it.
    fn spell(self) -> String;

    /// From a YAML scalar.
    fn from_written(written: Written<'_>) -> Result<Self, String>;

    /// To a YAML scalar.
    fn write<S: Serializer>(self, serializer: S) -> Result<S::Ok, S::Error>;
}

/// A YAML scalar.
#[derive(Clone, Copy, Debug)]
pub enum Written<'a> {
    /// A whole number that is not negative.
    Number(u64),
    /// Anything else, as it stands there.
    Text(&'a str),
}

impl Scalar for u64 {
    const FORM: &'static str = "a whole number, or {at_least: 1, at_most: 5}";

    fn spell(self) -> String {
        self.to_string()
    }

    fn from_written(written: Written<'_>) -> Result<u64, String> {
        match written {
            Written::Number(number) => Ok(number),
            Written::Text(text) => Err(format!("`{text}` is not a whole number of 0 or more")),
        }
    }

    fn write<S: Serializer>(self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self)
    }
}

impl Scalar for Duration {
    const FORM: &'static str = "a duration such as 500ms, 30s, 5m or 1h, or {at_least: 1s, at_most: 5s}";

    fn spell(self) -> String {
        show(self)
    }

    fn from_written(written: Written<'_>) -> Result<Duration, String> {
        match written {
            Written::Number(0) => Ok(Duration::ZERO),
            Written::Number(number) => Err(format!("`{number}` needs a unit: write `{number}s`")),
            Written::Text("forever") => Ok(Duration::MAX),
            Written::Text(text) if text.starts_with('-') => Err(format!("`{text}` must not be negative")),
            Written::Text(text) if text.parse::<f64>().is_ok() => {
                Err(format!("`{text}` needs a unit: write `{text}s`"))
            }
            Written::Text(text) => humantime::parse_duration(text)
                .map_err(|_| format!("`{text}` is not a duration: write 500ms, 30s, 5m or 1h")),
        }
    }

    fn write<S: Serializer>(self, serializer: S) -> Result<S::Ok, S::Error> {
        write_duration(&self, serializer)
    }
}

/// A duration for people: `1.5s`, `250ms`, `12µs`; three digits are enough.
pub(crate) fn show(duration: Duration) -> String {
    if duration == Duration::MAX {
        return "forever".to_owned();
    }
    let seconds = duration.as_secs_f64();
    let (value, unit) = match duration.as_nanos() {
        0 => return "0s".to_owned(),
        n if n < 1_000 => (n as f64, "ns"),
        n if n < 1_000_000 => (seconds * 1e6, "µs"),
        n if n < 1_000_000_000 => (seconds * 1e3, "ms"),
        n if n < 120_000_000_000 => (seconds, "s"),
        _ => return humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string(),
    };
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// A duration with every digit, as a file has it.
pub(crate) fn exact(duration: Duration) -> String {
    match duration {
        Duration::ZERO => "0s".to_owned(),
        Duration::MAX => "forever".to_owned(),
        duration => humantime::format_duration(duration).to_string(),
    }
}

/// For `serialize_with`.
pub(super) fn write_duration<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&exact(*duration))
}

/// For `serialize_with`; nothing is skipped elsewhere.
pub(super) fn write_some_duration<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(exact).serialize(serializer)
}

/// For `serialize_with`.
pub(super) fn write_durations<S: Serializer>(times: &Option<Vec<Duration>>, serializer: S) -> Result<S::Ok, S::Error> {
    let texts: Option<Vec<String>> = times.as_ref().map(|times| times.iter().copied().map(exact).collect());
    texts.serialize(serializer)
}

/// For `skip_serializing_if`: what a file need not say.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

pub(super) struct ScalarVisitor<T>(pub(super) PhantomData<T>);

impl<T: Scalar> Visitor<'_> for ScalarVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::FORM.split(", or {").next().unwrap_or(T::FORM))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<T, E> {
        T::from_written(Written::Number(value)).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<T, E> {
        T::from_written(Written::Text(&value.to_string())).map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<T, E> {
        T::from_written(Written::Text(&format!("{value:?}"))).map_err(E::custom)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<T, E> {
        T::from_written(Written::Text(value)).map_err(E::custom)
    }
}

/// A scalar by itself.
pub(super) struct One<T>(pub(super) T);

impl<'de, T: Scalar> Deserialize<'de> for One<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor(PhantomData)).map(One)
    }
}

/// For `deserialize_with`.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    One::deserialize(deserializer).map(|One(duration)| duration)
}

/// For `deserialize_with`, with `default`.
pub(super) fn some_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

/// For `deserialize_with`, with `default`.
pub(super) fn durations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Duration>>, D::Error> {
    let list = Vec::<One<Duration>>::deserialize(deserializer)?;
    Ok(Some(list.into_iter().map(|One(duration)| duration).collect()))
}

impl<'de, T: Scalar> Deserialize<'de> for Range<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RangeVisitor(PhantomData))
    }
}

struct RangeVisitor<T>(PhantomData<T>);

impl<'de, T: Scalar> Visitor<'de> for RangeVisitor<T> {
    type Value = Range<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::FORM)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Range<T>, E> {
        ScalarVisitor(PhantomData).visit_u64(value).map(exactly)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Range<T>, E> {
        ScalarVisitor(PhantomData).visit_i64(value).map(exactly)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Range<T>, E> {
        ScalarVisitor(PhantomData).visit_f64(value).map(exactly)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Range<T>, E> {
        ScalarVisitor(PhantomData).visit_str(value).map(exactly)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Range<T>, A::Error> {
        let mut range = Range { at_least: None, at_most: None };
        while let Some(key) = map.next_key::<String>()? {
            let end = match key.as_str() {
                "at_least" => &mut range.at_least,
                "at_most" => &mut range.at_most,
                other => return Err(de::Error::unknown_field(other, &["at_least", "at_most"])),
            };
            if end.is_some() {
                return Err(de::Error::custom(format_args!("duplicate field `{key}`")));
            }
            *end = Some(map.next_value::<One<T>>()?.0);
        }
        if range.at_least.is_none() && range.at_most.is_none() {
            return Err(de::Error::custom(format_args!("nothing is said: write {}", T::FORM)));
        }
        Ok(range)
    }
}

impl<T: Scalar + PartialEq> Serialize for Range<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let (Some(least), Some(most)) = (self.at_least, self.at_most)
            && least == most
        {
            return least.write(serializer);
        }
        let mut map = serializer.serialize_map(None)?;
        for (key, end) in [("at_least", self.at_least), ("at_most", self.at_most)] {
            if let Some(end) = end {
                map.serialize_entry(key, &One(end))?;
            }
        }
        map.end()
    }
}

impl<T: Scalar> Serialize for One<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.write(serializer)
    }
}

fn exactly<T: Copy>(value: T) -> Range<T> {
    Range { at_least: Some(value), at_most: Some(value) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    #[test]
    fn ranges_are_read_and_shown() {
        let range = |text: &str| yaml::read::<Range<u64>>(text).map_err(|misread| misread.problem);
        assert_eq!(range("3").expect("exact").to_string(), "3");
        assert_eq!(range("{at_most: 5}").expect("range").to_string(), "at most 5");
        assert!(range("{}").is_err() && range("-1").is_err() && range("{most: 1}").is_err());
        let range = yaml::read::<Range<Duration>>("{at_least: 1s, at_most: 1500ms}").expect("range");
        assert_eq!(range.to_string(), "1s to 1.5s");
        assert!(range.holds(Duration::from_millis(1200)) && !range.holds(Duration::from_millis(1501)));
    }

    #[test]
    fn durations_are_shown_briefly() {
        for (nanos, text) in [
            (0, "0s"),
            (999, "999ns"),
            (1_500, "1.5µs"),
            (12_345_678, "12.3ms"),
            (200_000_000, "200ms"),
            (1_004_000_000, "1s"),
            (60_000_000_000, "60s"),
            (3_600_000_000_000, "1h"),
        ] {
            assert_eq!(show(Duration::from_nanos(nanos)), text);
        }
    }
}
