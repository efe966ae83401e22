//! Distributions: durations that are drawn.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::values::{One, Scalar, ScalarVisitor, duration, scale, write_duration};
use crate::rng::{Rng, exp, ln};

/// A duration that is drawn each time it is needed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Dist {
    /// Always this long: `5ms`. `forever` is [`Duration::MAX`].
    Fixed(Duration),
    /// Between the two: `{uniform: [1ms, 9ms]}`.
    Uniform(Duration, Duration),
    /// Exponentially distributed with this mean: `{exponential: 5ms}`.
    Exponential(Duration),
    /// Lognormal, the shape of most latencies: half of them are shorter than `median`, and one in a hundred is longer
    /// than `p99`: `{lognormal: {median: 2ms, p99: 50ms}}`.
    Lognormal {
        /// The median, more than 0.
        median: Duration,
        /// The 99th percentile, at least the median.
        p99: Duration,
    },
    /// One of several, each in its share of cases: `{choice: [[0.95, 2ms], [0.05, {exponential: 200ms}]]}`. The shares
    /// add up to 1.
    Choice(Vec<(f64, Dist)>),
}

/// How many deviations above the mean the 99th percentile of a normal distribution is.
const P99: f64 = 2.326_347_874_040_841;

impl Dist {
    pub(crate) fn draw(&self, rng: &mut Rng) -> Duration {
        match self {
            Dist::Fixed(duration) => *duration,
            Dist::Uniform(least, most) => *least + scale(*most - *least, rng.fraction()),
            Dist::Exponential(mean) => scale(*mean, rng.exponential()),
            Dist::Lognormal { median, p99 } => scale(*median, exp(deviation(*median, *p99) * rng.normal())),
            Dist::Choice(choices) => {
                let mut left = rng.fraction();
                for (share, dist) in choices {
                    left -= share;
                    if left < 0.0 {
                        return dist.draw(rng);
                    }
                }
                // Shares that add up to a little less than 1.
                choices.last().map_or(Duration::ZERO, |(_, dist)| dist.draw(rng))
            }
        }
    }

    pub(crate) fn mean(&self) -> Duration {
        match self {
            Dist::Fixed(duration) => *duration,
            Dist::Uniform(least, most) => *least + (*most - *least) / 2,
            Dist::Exponential(mean) => *mean,
            Dist::Lognormal { median, p99 } => {
                let deviation = deviation(*median, *p99);
                scale(*median, exp(deviation * deviation / 2.0))
            }
            Dist::Choice(choices) => {
                let parts = choices.iter().filter(|(share, _)| *share > 0.0);
                parts.map(|(share, dist)| scale(dist.mean(), *share)).fold(Duration::ZERO, Duration::saturating_add)
            }
        }
    }

    /// Whether every draw comes to an end.
    pub(crate) fn ends(&self) -> bool {
        match self {
            Dist::Fixed(duration) => *duration < Duration::MAX,
            Dist::Choice(choices) => choices.iter().all(|(share, dist)| *share == 0.0 || dist.ends()),
            _ => true,
        }
    }
}

/// The deviation of the logarithm.
fn deviation(median: Duration, p99: Duration) -> f64 {
    // The logarithm is for numbers up to 1.
    -ln(median.as_nanos().max(1) as f64 / p99.max(median).as_nanos().max(1) as f64) / P99
}

impl Serialize for Dist {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kind = match self {
            Dist::Fixed(duration) => return duration.write(serializer),
            Dist::Uniform(..) => "uniform",
            Dist::Exponential(_) => "exponential",
            Dist::Lognormal { .. } => "lognormal",
            Dist::Choice(_) => "choice",
        };
        let mut map = serializer.serialize_map(Some(1))?;
        match self {
            Dist::Fixed(duration) | Dist::Exponential(duration) => map.serialize_entry(kind, &One(*duration))?,
            Dist::Uniform(least, most) => map.serialize_entry(kind, &[One(*least), One(*most)])?,
            Dist::Lognormal { median, p99 } => {
                map.serialize_entry(kind, &Lognormal { median: *median, p99: *p99 })?;
            }
            Dist::Choice(choices) => map.serialize_entry(kind, choices)?,
        }
        map.end()
    }
}

/// What is under `lognormal`.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Lognormal {
    #[serde(deserialize_with = "duration", serialize_with = "write_duration")]
    median: Duration,
    #[serde(deserialize_with = "duration", serialize_with = "write_duration")]
    p99: Duration,
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
        let kinds = &["uniform", "exponential", "lognormal", "choice"];
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
            Some("lognormal") => {
                let Lognormal { median, p99 } = map.next_value()?;
                if median.is_zero() || median > p99 || p99 == Duration::MAX {
                    return Err(de::Error::custom(
                        "`median` must be more than 0 and `p99` at least that, and both end",
                    ));
                }
                Dist::Lognormal { median, p99 }
            }
            Some("choice") => choice(map.next_value()?).map_err(de::Error::custom)?,
            Some(other) => return Err(de::Error::unknown_field(other, kinds)),
            None => return Err(de::Error::custom("nothing is said: write 5ms or {exponential: 5ms}")),
        };
        match map.next_key::<String>()? {
            None => Ok(dist),
            Some(more) => Err(de::Error::custom(format_args!("`{more}` is one too many: a distribution has one kind"))),
        }
    }
}

fn choice(choices: Vec<(f64, Dist)>) -> Result<Dist, String> {
    if choices.iter().any(|(_, dist)| matches!(dist, Dist::Choice(_))) {
        return Err("a choice within a choice: give each its share of the whole".to_owned());
    }
    if let Some((share, _)) = choices.iter().find(|(share, _)| !(0.0..=1.0).contains(share)) {
        return Err(format!("`{share}` must be a share from 0 to 1"));
    }
    let sum = choices.iter().fold(0.0, |sum, (share, _)| sum + share);
    if (sum - 1.0).abs() > 1e-6 {
        return Err(format!("the shares add up to {sum}, not to 1: write [[0.9, 2ms], [0.1, 200ms]]"));
    }
    Ok(Dist::Choice(choices))
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
        let lognormal = Dist::Lognormal { median: ms(2), p99: ms(50) };
        assert_eq!(dist("{lognormal: {median: 2ms, p99: 50ms}}"), Ok(lognormal));
        let choice = Dist::Choice(vec![(0.95, Dist::Fixed(ms(2))), (0.05, Dist::Exponential(ms(200)))]);
        assert_eq!(dist("{choice: [[0.95, 2ms], [0.05, {exponential: 200ms}]]}"), Ok(choice));
    }

    #[test]
    fn distributions_are_written_as_they_are_read() {
        for text in [
            "5ms",
            "0s",
            "forever",
            "{uniform: [1ms, 1s 7ns]}",
            "{exponential: 2s}",
            "{lognormal: {median: 2ms, p99: 50ms}}",
            "{choice: [[0.95, 2ms], [0.05, {exponential: 200ms}]]}",
        ] {
            let read = dist(text).expect(text);
            let written = yaml::write(&read).expect(text);
            assert_eq!(dist(&written), Ok(read), "{text} became {written}");
        }
    }

    #[test]
    fn draws_have_the_mean_and_the_percentiles_that_were_asked_for() {
        let ms = Duration::from_millis;
        for text in [
            "{lognormal: {median: 2ms, p99: 50ms}}",
            "{lognormal: {median: 2ms, p99: 2ms}}",
            "{choice: [[0.9, 2ms], [0.1, {uniform: [100ms, 300ms]}]]}",
        ] {
            let dist = dist(text).expect(text);
            let mut rng = Rng::new(5, 5);
            let mut draws: Vec<Duration> = (0..100_000).map(|_| dist.draw(&mut rng)).collect();
            draws.sort_unstable();
            let mean = draws.iter().sum::<Duration>() / 100_000;
            let off = mean.as_secs_f64() / dist.mean().as_secs_f64();
            assert!((0.95..1.05).contains(&off), "{text}: {mean:?} instead of {:?}", dist.mean());
            assert!((ms(19)..ms(21)).contains(&(draws[50_000] * 10)), "{text}: median {:?}", draws[50_000]);
            if let Dist::Lognormal { p99, .. } = dist {
                let off = draws[99_000].as_secs_f64() / p99.as_secs_f64();
                assert!((0.93..1.07).contains(&off), "{text}: {:?}", draws[99_000]);
            }
        }
    }

    #[test]
    fn what_is_no_distribution_is_refused_with_a_form() {
        for (text, said) in [
            ("30", "`30` needs a unit: write `30s`"),
            ("1.5", "`1.5` needs a unit: write `1.5s`"),
            ("-5ms", "`-5ms` must not be negative"),
            ("-5", "`-5` must not be negative"),
            ("soon", "`soon` is not a duration: write 500ms, 30s, 5m or 1h"),
            (
                "{normal: 5ms}",
                "unknown field `normal`, expected one of `uniform`, `exponential`, `lognormal`, `choice`",
            ),
            ("{lognormal: {median: 5ms}}", "missing field `p99`"),
            ("{lognormal: {median: 5ms, p99: 4ms}}", "`median` must be more than 0 and `p99` at least that"),
            ("{lognormal: {median: 0s, p99: 4ms}}", "`median` must be more than 0"),
            ("{choice: []}", "the shares add up to 0, not to 1"),
            ("{choice: [[0.5, 1ms], [0.4, 2ms]]}", "the shares add up to 0.9, not to 1"),
            ("{choice: [[-0.5, 1ms], [1.5, 2ms]]}", "`-0.5` must be a share from 0 to 1"),
            ("{choice: [[1, {choice: [[1, 1s]]}]]}", "a choice within a choice"),
            ("{choice: [[1, 5]]}", "`5` needs a unit"),
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
}
