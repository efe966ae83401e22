//! How values are written in a scenario: durations as `30s`, distributions, ranges.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use crate::rng::Rng;

/// A duration that is drawn each time it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dist {
    /// Always this long: `5ms`. `forever` is [`Duration::MAX`].
    Fixed(Duration),
    /// Between the two: `{uniform: [1ms, 9ms]}`.
    Uniform(Duration, Duration),
    /// Exponentially distributed with this mean: `{exponential: 5ms}`.
    Exponential(Duration),
}

impl Dist {
    pub(crate) fn draw(&self, rng: &mut Rng) -> Duration {
        match self {
            Dist::Fixed(duration) => *duration,
            Dist::Uniform(least, most) => *least + scale(*most - *least, rng.fraction()),
            Dist::Exponential(mean) => scale(*mean, rng.exponential()),
        }
    }

    pub(crate) fn mean(&self) -> Duration {
        match self {
            Dist::Fixed(duration) => *duration,
            Dist::Uniform(least, most) => *least + (*most - *least) / 2,
            Dist::Exponential(mean) => *mean,
        }
    }
}

/// What does not fit is the longest that does.
pub(crate) fn scale(duration: Duration, factor: f64) -> Duration {
    Duration::from_nanos((duration.as_nanos() as f64 * factor) as u64)
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

struct ScalarVisitor<T>(PhantomData<T>);

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
struct One<T>(T);

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

fn exactly<T: Copy>(value: T) -> Range<T> {
    Range { at_least: Some(value), at_most: Some(value) }
}

impl<'de> Deserialize<'de> for Dist {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DistVisitor)
    }
}

struct DistVisitor;

impl<'de> Visitor<'de> for DistVisitor {
    type Value = Dist;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as 5ms, {uniform: [1ms, 9ms]} or {exponential: 5ms}")
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Dist, E> {
        ScalarVisitor(PhantomData).visit_u64(value).map(Dist::Fixed)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Dist, E> {
        ScalarVisitor(PhantomData).visit_i64(value).map(Dist::Fixed)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Dist, E> {
        ScalarVisitor(PhantomData).visit_f64(value).map(Dist::Fixed)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Dist, E> {
        ScalarVisitor(PhantomData).visit_str(value).map(Dist::Fixed)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Dist, A::Error> {
        let kinds = &["uniform", "exponential"];
        let dist = match map.next_key::<String>()?.as_deref() {
            Some("uniform") => {
                let (One(least), One(most)) = map.next_value::<(One<Duration>, One<Duration>)>()?;
                if least > most || most == Duration::MAX {
                    return Err(de::Error::custom("the first of the two must be the shorter, and both must end"));
                }
                Dist::Uniform(least, most)
            }
            Some("exponential") => match map.next_value::<One<Duration>>()?.0 {
                Duration::MAX => return Err(de::Error::custom("the mean must end")),
                mean => Dist::Exponential(mean),
            },
            Some(other) => return Err(de::Error::unknown_field(other, kinds)),
            None => return Err(de::Error::custom("nothing is said: write 5ms or {exponential: 5ms}")),
        };
        match map.next_key::<String>()? {
            None => Ok(dist),
            Some(more) => Err(de::Error::custom(format_args!("`{more}` is one too many: a distribution has one kind"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    fn dist(text: &str) -> Result<Dist, String> {
        yaml::read::<Dist>(text).map_err(|misread| misread.problem)
    }

    #[test]
    fn distributions_are_read() {
        let ms = Duration::from_millis;
        assert_eq!(dist("5ms"), Ok(Dist::Fixed(ms(5))));
        assert_eq!(dist("0"), Ok(Dist::Fixed(ms(0))));
        assert_eq!(dist("forever"), Ok(Dist::Fixed(Duration::MAX)));
        assert_eq!(dist("{uniform: [1ms, 1s]}"), Ok(Dist::Uniform(ms(1), ms(1000))));
        assert_eq!(dist("{exponential: 2s}"), Ok(Dist::Exponential(ms(2000))));
    }

    #[test]
    fn what_is_no_distribution_is_refused_with_a_form() {
        for (text, said) in [
            ("30", "`30` needs a unit: write `30s`"),
            ("1.5", "`1.5` needs a unit: write `1.5s`"),
            ("-5ms", "`-5ms` must not be negative"),
            ("-5", "`-5` must not be negative"),
            ("soon", "`soon` is not a duration: write 500ms, 30s, 5m or 1h"),
            ("{normal: 5ms}", "unknown field `normal`, expected `uniform` or `exponential`"),
            ("{uniform: [5ms, 1ms]}", "the first of the two must be the shorter, and both must end"),
            ("{exponential: 1s, uniform: [1s, 2s]}", "`uniform` is one too many: a distribution has one kind"),
            ("[1s]", "invalid type: sequence, expected a duration such as 5ms"),
        ] {
            let problem = dist(text).expect_err(text);
            assert!(problem.contains(said), "{text}: {problem}");
        }
    }

    #[test]
    fn draws_stay_in_range() {
        let mut rng = Rng::new(1, 1);
        let uniform = Dist::Uniform(Duration::from_secs(1), Duration::from_secs(2));
        for _ in 0..1000 {
            let drawn = uniform.draw(&mut rng);
            assert!(drawn >= Duration::from_secs(1) && drawn < Duration::from_secs(2));
        }
        assert_eq!(Dist::Fixed(Duration::MAX).draw(&mut rng), Duration::MAX);
    }

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
