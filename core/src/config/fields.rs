//! Every field of the configuration: name, type, default and range, in one list.
//!
//! The list makes the getters, the setters of both builders, the readers for the environment and YAML, and the table
//! in the documentation, so that none of them can forget a field.

use std::collections::BTreeMap;

use super::error::Source;

/// Calls a macro with every field. Pool fields configure the pool machine, session fields each connection's client
/// side. `database_url` is not in the list, as it is read in a way of its own.
macro_rules! config_fields {
    ($callback:ident) => {
        $callback! {
            pool {
                /// Connections that are kept open, busy or not. Unset, it is never above `max_size`.
                min_size: u32 = "2", "0 to max_size";
                /// Connections at most, whatever their state.
                max_size: u32 = "10", "1 to 10,000";
                /// How long an acquire waits at most; each call can say otherwise.
                acquire_timeout: Duration = "30s", "more than 0";
                /// An acquire that took longer is reported. Zero: never.
                acquire_slow: Duration = "1s", "0 (off) or more";
                /// How long opening one connection may take, login included.
                connect_timeout: Duration = "5s", "more than 0";
                /// When an idle connection is proved by a round trip before it is lent.
                validation: ValidationPolicy = "interval", "interval, always or suspect";
                /// Unused for longer than this, a connection is proved by a round trip before it is lent.
                validation_interval: Duration = "500ms", "0 or more";
                /// How long such a round trip may take.
                validation_timeout: Duration = "5s", "more than 0";
                /// How long draining and resetting a returned connection may take.
                reset_timeout: Duration = "5s", "more than 0";
                /// How long an orderly close waits for the server's end.
                close_timeout: Duration = "2s", "more than 0";
                /// Queries after which a connection is replaced. Zero: never.
                max_queries: u64 = "50000", "0 (off) or more";
                /// Idle for longer than this, a connection beyond `min_size` is closed. Zero: never.
                max_idle_time: Duration = "1m", "0 (off) or more";
                /// Age at which a connection is replaced, jittered down by up to 10 %. Zero: never.
                max_connection_lifetime: Duration = "1h", "0 (off) or more";
                /// A lease held longer is reported as a suspected leak. Zero: never.
                leak_detection_timeout: Duration = "30s", "0 (off) or more";
                /// Whether suspected leaks are reported.
                enable_leak_detection: bool = "true", "true or false";
                /// When the call stack of an acquire is kept for such a report: for source lines that were reported before
                /// (in a debug build for all), always or never. Keeping one takes about 10 µs.
                leak_stack: LeakStack = "adaptive", "adaptive, always or never";
                /// How long leases may take to finish when the pool closes.
                shutdown_timeout: Duration = "30s", "0 or more";
                /// The first delay before a reconnect attempt.
                backoff_initial: Duration = "1s", "1ms to backoff_max";
                /// The longest delay before a reconnect attempt.
                backoff_max: Duration = "16s", "backoff_initial or more";
                /// By how much a delay is longer than the one before it.
                backoff_multiplier: f64 = "2", "1 to 100";
                /// The fraction by which a delay is moved at random, up or down: 0.1 is ±10 %.
                backoff_jitter: f64 = "0.1", "0 to 0.5";
                /// While the database is down, waiting callers bring the next attempt forward, but never closer than
                /// this to the last one. Zero: they do not.
                demand_probe_interval: Duration = "1s", "0 (off), or 1ms or more";
                /// While the database is down, how long an acquire waits before it fails with the cause.
                outage_grace: Duration = "2s", "0 or more";
                /// Connections being opened at the same time, at most.
                max_connecting: u32 = "4", "1 to 10,000";
                /// Callers waiting for a connection at the same time, at most; more are refused at once.
                max_waiting: u32 = "10000", "1 to 1,000,000";
                /// Attempts to open the first connections before opening the pool fails.
                init_attempts: u32 = "3", "1 to 1,000";
            }
            session {
                /// How long one command may take before it is cancelled. Zero: no limit.
                command_timeout: Duration = "1m", "0 (off) or more";
                /// Prepared statements kept per connection. Zero: none, as PgBouncer's transaction mode needs.
                statement_cache_size: usize = "256", "0 (off) to 65,536";
                /// What is cleared when a lease ends cleanly: `nothing`, `discard_all`, or `sql:` and the statements.
                reset_policy: ResetPolicy = "nothing", "nothing, discard_all or sql: ...";
            }
        }
    };
}
pub(crate) use config_fields;

/// A row of the table of fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FieldInfo {
    /// The name: in the builders, in YAML, and after `POOL_` in capitals in the environment.
    pub name: &'static str,
    /// The default, as YAML would have it.
    pub default: &'static str,
    /// What is allowed.
    pub range: &'static str,
    /// What it is for.
    pub meaning: &'static str,
}

impl FieldInfo {
    /// The environment variable.
    pub fn variable(&self) -> String {
        format!("POOL_{}", self.name.to_ascii_uppercase())
    }
}

macro_rules! table {
    (pool { $($(#[doc = $pd:literal])* $p:ident: $pt:ty = $pdef:literal, $pr:literal;)* }
     session { $($(#[doc = $sd:literal])* $s:ident: $st:ty = $sdef:literal, $sr:literal;)* }) => {
        /// Every field of the configuration, in the order of the documentation.
        pub const FIELDS: &[FieldInfo] = &[
            FieldInfo {
                name: DATABASE_URL,
                default: "required",
                range: "a libpq URI or key=value string",
                meaning: "Where the database is and who logs in.",
            },
            $(FieldInfo {
                name: stringify!($p),
                default: $pdef,
                range: $pr,
                meaning: concat!($($pd),*).trim_ascii_start(),
            },)*
            $(FieldInfo {
                name: stringify!($s),
                default: $sdef,
                range: $sr,
                meaning: concat!($($sd),*).trim_ascii_start(),
            },)*
        ];
    };
}
config_fields!(table);

pub(crate) const DATABASE_URL: &str = "database_url";

/// The fields of `backoff: {initial: .., max: .., multiplier: .., jitter: ..}` in YAML.
pub(crate) const BACKOFF: &str = "backoff";

/// Where each field was written; a field that is not in it has its default.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources(BTreeMap<&'static str, Source>);

impl Sources {
    pub(crate) fn insert(&mut self, field: &'static str, source: Source) {
        self.0.insert(field, source);
    }

    pub(crate) fn get(&self, field: &str) -> Source {
        self.0.get(field).cloned().unwrap_or_default()
    }

    pub(crate) fn contains(&self, field: &str) -> bool {
        self.0.contains_key(field)
    }
}

/// The name that `written` was probably meant to be: equal but for case, hyphens and underscores, or a slip of the
/// finger or two away.
pub(crate) fn did_you_mean<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let fold = |text: &str| -> Vec<u8> {
        text.bytes().filter(|byte| byte.is_ascii_alphanumeric()).map(|byte| byte.to_ascii_lowercase()).collect()
    };
    // Nobody's typo is longer, and the comparison below is quadratic.
    if written.len() > 64 {
        return None;
    }
    let folded = fold(written);
    names
        .into_iter()
        .map(|name| (distance(&folded, &fold(name)), name))
        .filter(|(distance, name)| *distance <= (name.len() / 4).clamp(1, 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Insertions, deletions, substitutions and swaps of neighbours that turn one into the other.
fn distance(from: &[u8], to: &[u8]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (i, &a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &b) in to.iter().enumerate() {
            let mut best = (above[j] + usize::from(a != b)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a == to[j - 1] && from[i - 1] == b {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typos_find_the_field_and_other_words_do_not() {
        let names = || FIELDS.iter().map(|field| field.name);
        for (typo, meant) in [
            ("maxsize", "max_size"),
            ("max-size", "max_size"),
            ("mx_size", "max_size"),
            ("aquire_timeout", "acquire_timeout"),
            ("databse_url", "database_url"),
            ("init_atempts", "init_attempts"),
            ("max_conecting", "max_connecting"),
        ] {
            assert_eq!(did_you_mean(typo, names()), Some(meant));
        }
        for other in ["", "name", "id", "color", "service_host", &"x".repeat(1000)] {
            assert_eq!(did_you_mean(other, names()), None, "{other}");
        }
    }
}
