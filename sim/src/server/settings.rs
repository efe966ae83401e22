//! A session's settings.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::error::PgError;

/// The settings that the server knows, as PostgreSQL spells them, and their values at the start.
const KNOWN: &[(&str, &str)] = &[
    ("application_name", ""),
    ("bytea_output", "hex"),
    ("client_encoding", "UTF8"),
    ("client_min_messages", "notice"),
    ("DateStyle", "ISO, MDY"),
    ("default_transaction_deferrable", "off"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    ("extra_float_digits", "1"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("in_hot_standby", "off"),
    ("integer_datetimes", "on"),
    ("IntervalStyle", "postgres"),
    ("is_superuser", "on"),
    ("jit", "off"),
    ("lc_messages", "C"),
    ("lock_timeout", "0"),
    ("max_connections", "100"),
    ("role", "none"),
    ("search_path", "\"$user\", public"),
    ("server_encoding", "UTF8"),
    ("server_version", "16.4"),
    ("server_version_num", "160004"),
    ("session_authorization", ""),
    ("standard_conforming_strings", "on"),
    ("statement_timeout", "0"),
    ("synchronous_commit", "on"),
    ("TimeZone", "UTC"),
    ("transaction_isolation", "read committed"),
    ("transaction_read_only", "off"),
    ("work_mem", "4MB"),
];

/// Those that the server reports with ParameterStatus, at the start and when they change.
pub(super) const REPORTED: &[&str] = &[
    "application_name",
    "client_encoding",
    "DateStyle",
    "default_transaction_read_only",
    "in_hot_standby",
    "integer_datetimes",
    "IntervalStyle",
    "is_superuser",
    "server_encoding",
    "server_version",
    "session_authorization",
    "standard_conforming_strings",
    "TimeZone",
];

const FIXED: &[&str] = &[
    "in_hot_standby",
    "integer_datetimes",
    "is_superuser",
    "max_connections",
    "server_encoding",
    "server_version",
    "server_version_num",
];

/// Settings by name in small letters. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    values: Arc<BTreeMap<String, String>>,
    /// What RESET goes back to.
    defaults: Arc<BTreeMap<String, String>>,
}

impl Default for Settings {
    fn default() -> Self {
        let all: BTreeMap<_, _> =
            KNOWN.iter().map(|(name, value)| (name.to_lowercase(), (*value).to_owned())).collect();
        let all = Arc::new(all);
        Settings { values: all.clone(), defaults: all }
    }
}

fn spelt(name: &str) -> Option<&'static str> {
    KNOWN.iter().map(|(known, _)| *known).find(|known| known.eq_ignore_ascii_case(name))
}

impl Settings {
    /// As SHOW does.
    pub(super) fn show(&self, name: &str) -> Result<String, PgError> {
        let found = self.values.get(&name.to_lowercase()).cloned();
        found.ok_or_else(|| unrecognized(name))
    }

    pub(super) fn get(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }

    /// As SET does; returns the value as it is shown.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<String, PgError> {
        let key = name.to_lowercase();
        if FIXED.iter().any(|fixed| fixed.eq_ignore_ascii_case(name)) {
            return Err(PgError::error("55P02", format!("parameter \"{name}\" cannot be changed")));
        }
        if spelt(name).is_none() && !name.contains('.') {
            return Err(unrecognized(name));
        }
        let value = checked(&key, value)?;
        Arc::make_mut(&mut self.values).insert(key, value.clone());
        Ok(value)
    }

    /// What the server itself knows, FIXED ones too.
    pub(super) fn put(&mut self, name: &str, value: &str) {
        Arc::make_mut(&mut self.values).insert(name.to_lowercase(), value.to_owned());
    }

    /// As RESET does.
    pub(super) fn reset(&mut self, name: &str) -> Result<(), PgError> {
        let key = name.to_lowercase();
        match self.defaults.get(&key) {
            Some(value) => {
                Arc::make_mut(&mut self.values).insert(key, value.clone());
            }
            None if name.contains('.') => {
                Arc::make_mut(&mut self.values).remove(&key);
            }
            None => return Err(unrecognized(name)),
        }
        Ok(())
    }

    /// As RESET ALL does.
    pub(super) fn reset_all(&mut self) {
        self.values = self.defaults.clone();
    }

    /// What they are now is what RESET goes back to.
    pub(super) fn begin(&mut self) {
        self.defaults = self.values.clone();
    }

    /// For a change on the server's side: another value at the start, and now unless the session has its own.
    pub(super) fn rebase(&mut self, name: &str, value: &str) {
        let key = name.to_lowercase();
        let own = self.values.get(&key) != self.defaults.get(&key);
        Arc::make_mut(&mut self.defaults).insert(key.clone(), value.to_owned());
        if !own {
            Arc::make_mut(&mut self.values).insert(key, value.to_owned());
        }
    }

    /// Those that differ from what RESET would make of them.
    pub(super) fn changed(&self) -> impl Iterator<Item = (&str, &str)> {
        let differs = |(name, value): &(&String, &String)| self.defaults.get(*name) != Some(*value);
        self.values.iter().filter(differs).map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &str, bool)> {
        self.values.iter().map(|(name, value)| {
            let own = self.defaults.get(name) != Some(value);
            (spelt(name).unwrap_or(name), value.as_str(), own)
        })
    }

    /// A setting such as statement_timeout; zero is off.
    pub(super) fn duration(&self, name: &str) -> Option<Duration> {
        milliseconds(self.get(name)).filter(|time| !time.is_zero())
    }
}

fn unrecognized(name: &str) -> PgError {
    PgError::error("42704", format!("unrecognized configuration parameter \"{name}\""))
}

fn invalid(name: &str, value: &str) -> PgError {
    let name = spelt(name).unwrap_or(name);
    PgError::error("22023", format!("invalid value for parameter \"{name}\": \"{value}\""))
}

fn checked(key: &str, value: &str) -> Result<String, PgError> {
    if key.ends_with("_timeout") {
        let time = milliseconds(value).ok_or_else(|| invalid(key, value))?;
        return Ok(show_milliseconds(time));
    }
    let switches = ["default_transaction_read_only", "transaction_read_only", "default_transaction_deferrable", "jit"];
    if switches.contains(&key) {
        return match &*value.to_ascii_lowercase() {
            "on" | "true" | "yes" | "1" | "t" | "y" => Ok("on".to_owned()),
            "off" | "false" | "no" | "0" | "f" | "n" => Ok("off".to_owned()),
            _ => Err(PgError::error("22023", format!("parameter \"{key}\" requires a Boolean value"))),
        };
    }
    match key {
        "client_encoding" if matches!(&*value.to_ascii_uppercase(), "UTF8" | "UTF-8" | "UNICODE") => {
            Ok("UTF8".to_owned())
        }
        "client_encoding" => Err(invalid(key, value)),
        _ => Ok(value.to_owned()),
    }
}

/// `250`, `250ms`, `5s`, `1min`, `1h`, `1d`.
fn milliseconds(value: &str) -> Option<Duration> {
    let value = value.trim();
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let number: u64 = value[..digits].parse().ok()?;
    let factor = match value[digits..].trim() {
        "" | "ms" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(factor).filter(|ms| *ms <= i32::MAX as u64).map(Duration::from_millis)
}

fn show_milliseconds(time: Duration) -> String {
    let ms = time.as_millis();
    for (factor, unit) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s")] {
        if ms > 0 && ms % factor == 0 {
            return format!("{}{unit}", ms / factor);
        }
    }
    if ms == 0 { "0".to_owned() } else { format!("{ms}ms") }
}
