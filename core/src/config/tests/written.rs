//! What is written as YAML or into an environment is read back the same, and what cannot be read is called by its name.

use std::time::Duration;

use quickcheck::{Arbitrary, Gen, quickcheck};

use super::super::fields::config_fields;
use super::super::value::FieldValue;
use super::*;
use crate::tests::STRIDE;

/// Any configuration that keeps the rules.
#[derive(Clone, Debug)]
struct Valid(Config);

/// A duration that is not zero, from a nanosecond to the longest that there is.
fn some(g: &mut Gen) -> Duration {
    match u8::arbitrary(g) % 4 {
        0 => Duration::from_nanos(u64::arbitrary(g).max(1)),
        1 => Duration::from_millis(u64::from(u16::arbitrary(g)) + 1),
        2 => Duration::new(u64::arbitrary(g), u32::arbitrary(g) % 1_000_000_000).max(Duration::from_nanos(1)),
        _ => *g.choose(&[Duration::MAX, Duration::from_nanos(1), Duration::from_secs(90)]).expect("some"),
    }
}

fn any(g: &mut Gen) -> Duration {
    if u8::arbitrary(g).is_multiple_of(4) { Duration::ZERO } else { some(g) }
}

impl Arbitrary for Valid {
    fn arbitrary(g: &mut Gen) -> Self {
        let max_size = 1 + u32::arbitrary(g) % 10_000;
        let initial = some(g).max(Duration::from_millis(1));
        let probe = any(g);
        let sql = format!("SELECT '{}'", String::arbitrary(g).replace('\0', "").trim());
        let resets = [ResetPolicy::Nothing, ResetPolicy::DiscardAll, ResetPolicy::Sql(sql.trim().to_owned())];
        let fraction = |g: &mut Gen| f64::from(u32::arbitrary(g)) / f64::from(u32::MAX);
        let config = Config::builder()
            .database_url(URL)
            .max_size(max_size)
            .min_size(u32::arbitrary(g) % (max_size + 1))
            .acquire_timeout(some(g))
            .acquire_slow(any(g))
            .connect_timeout(some(g))
            .validation(
                *g.choose(&[ValidationPolicy::Interval, ValidationPolicy::Always, ValidationPolicy::Suspect])
                    .expect("some"),
            )
            .validation_interval(any(g))
            .validation_timeout(some(g))
            .reset_timeout(some(g))
            .close_timeout(some(g))
            .max_queries(u64::arbitrary(g))
            .max_idle_time(any(g))
            .max_connection_lifetime(any(g))
            .leak_detection_timeout(any(g))
            .enable_leak_detection(bool::arbitrary(g))
            .shutdown_timeout(any(g))
            .backoff_initial(initial)
            .backoff_max(some(g).max(initial))
            .backoff_multiplier(1.0 + 99.0 * fraction(g))
            .backoff_jitter(0.5 * fraction(g))
            .demand_probe_interval(if probe.is_zero() { probe } else { probe.max(Duration::from_millis(1)) })
            .outage_grace(any(g))
            .max_connecting(1 + u32::arbitrary(g) % 10_000)
            .max_waiting(1 + u32::arbitrary(g) % 1_000_000)
            .init_attempts(1 + u32::arbitrary(g) % 1_000)
            .command_timeout(any(g))
            .statement_cache_size(usize::arbitrary(g) % 65_537)
            .reset_policy(g.choose(&resets).expect("some").clone())
            .build();
        Valid(config.unwrap_or_else(|error| panic!("{error}")))
    }
}

macro_rules! shown_fields {
    (pool { $($(#[$pd:meta])* $p:ident: $pt:ty = $pdef:literal, $pr:literal;)* }
     session { $($(#[$sd:meta])* $s:ident: $st:ty = $sdef:literal, $sr:literal;)* }) => {
        /// Every field with its value, as it is shown to people.
        fn shown(config: &Config) -> Vec<(&'static str, String)> {
            vec![
                $((stringify!($p), config.pool().$p().show()),)*
                $((stringify!($s), config.connect().session().$s().to_owned().show()),)*
            ]
        }
    };
}
config_fields!(shown_fields);

/// A text in YAML's double quotes, with everything but plain ASCII escaped.
fn quoted(text: &str) -> String {
    let plain = |c: char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\');
    let escaped = text.chars().map(|c| if plain(c) { c.to_string() } else { format!("\\U{:08X}", u32::from(c)) });
    format!("\"{}\"", escaped.collect::<String>())
}

quickcheck! {
    fn what_is_written_as_yaml_is_read_back(config: Valid, nested: bool) -> bool {
        let Valid(config) = config;
        let line = |name: &str, value: &str| format!("{name}: {}\n", quoted(value));
        let (mut yaml, mut backoff) = (String::new(), String::new());
        for (name, value) in shown(&config) {
            match name.strip_prefix("backoff_") {
                Some(name) if nested => backoff += &format!("  {}", line(name, &value)),
                _ => yaml += &line(name, &value),
            }
        }
        if nested {
            yaml += &format!("backoff:\n{backoff}");
        }
        Config::builder().database_url(URL).yaml_str(&yaml).build().as_ref() == Ok(&config)
    }

    fn what_is_written_into_an_environment_is_read_back(config: Valid) -> bool {
        let Valid(config) = config;
        let variable = |name: &str| format!("POOL_{}", name.to_ascii_uppercase());
        let variables: Environment =
            shown(&config).into_iter().map(|(name, value)| (variable(name), value)).collect();
        Config::builder().database_url(URL).environment(variables).build().as_ref() == Ok(&config)
    }

    fn a_pools_configuration_survives_a_journal(config: Valid) -> bool {
        let config = config.0.pool();
        let bytes = postcard::to_stdvec(config).expect("written");
        postcard::from_bytes::<PoolConfig>(&bytes).as_ref() == Ok(config)
    }
}

/// What no field takes.
const ODD: [&str; 21] = [
    ".nan",
    ".inf",
    "-.inf",
    "-1",
    "-1s",
    "-0.0",
    "1e400",
    "99999999999999999999999999999999999999999",
    "340282366920938463463374607431768211457s",
    "18446744073709551616s",
    "0x7fffffffffffffffffffffff",
    "NaN",
    "NaNs",
    "1s1",
    "[1s]",
    "[[[[[[]]]]]]",
    "{a: {b: {c: {d: 1}}}}",
    "\"\"",
    "\"1\\0\"",
    "2001-01-01",
    "!!binary aGk=",
];

#[test]
fn an_odd_value_is_refused_under_its_fields_name() {
    // A URL and the statements of a reset are texts; the former is never shown.
    let fields = FIELDS.iter().filter(|field| !matches!(field.name, "database_url" | "reset_policy"));
    for (field, odd) in fields.flat_map(|field| ODD.map(|odd| (field, odd))).step_by(STRIDE) {
        let yaml = format!("{}: {odd}\n", field.name);
        let built = Config::builder().database_url(URL).yaml_str(&yaml).build();
        let error = built.expect_err(&yaml);
        let tag = odd.starts_with("!!");
        for problem in error.problems() {
            assert!(problem.field == field.name || tag, "{yaml:?}: {error}");
        }
        let nested = field.name.strip_prefix("backoff_").map(|name| format!("backoff: {{{name}: {odd}}}\n"));
        if let Some(yaml) = nested {
            let error = Config::builder().database_url(URL).yaml_str(&yaml).build().expect_err(&yaml);
            assert!(error.problems().iter().all(|problem| problem.field == field.name || tag), "{yaml:?}: {error}");
        }
        let text = odd.trim_matches('"');
        let built = from_env(&[("DATABASE_URL", URL), (&field.variable(), text)]).build();
        if !text.is_empty() {
            let error = built.expect_err(text);
            assert!(error.problems().iter().all(|problem| problem.field == field.name), "{text}: {error}");
        }
    }
}
