//! Environment variables, as data.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::fields::{FIELDS, did_you_mean};
use super::params::KEYWORDS;

/// The environment variables that a configuration may read: `DATABASE_URL`, `POOL_*`, `PG*`, and those that name the
/// user and the home folder.
///
/// A snapshot: what the process's variables do later changes nothing, and a test brings its own instead of touching
/// the process's. Its values are never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    /// Variables whose values are not Unicode.
    unreadable: Vec<String>,
}

impl Environment {
    /// The process's environment, now.
    pub fn process() -> Self {
        let mut environment = Environment::default();
        for (name, value) in std::env::vars_os() {
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => environment.insert(name, value),
                Err(_) if is_ours(&name) => environment.unreadable.push(name),
                Err(_) => {}
            }
        }
        environment
    }

    /// What `lookup` knows. Typos such as `POOL_MAXSIZE` cannot be found this way: only known names are asked for.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let pool = FIELDS.iter().map(super::fields::FieldInfo::variable);
        let pg = KEYWORDS.iter().filter_map(|(_, variable, _)| variable.map(str::to_owned));
        let others = OTHERS.iter().chain(&["DATABASE_URL", TIMEOUT_ALIAS]).map(|name| (*name).to_owned());
        pool.chain(pg).chain(others).filter_map(|name| lookup(&name).map(|value| (name, value))).collect()
    }

    fn insert(&mut self, name: String, value: String) {
        // A variable set to nothing is how many tools say "not set".
        if is_ours(&name) && !value.is_empty() {
            self.variables.insert(name, value);
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    pub(crate) fn unreadable(&self) -> &[String] {
        &self.unreadable
    }

    /// The variables that begin like ours but are not, with the name that was probably meant. What Kubernetes injects
    /// for a service called "pool" or "pool-..." is left out.
    pub(crate) fn unknown(&self) -> impl Iterator<Item = (&str, Option<String>)> {
        let names = || FIELDS.iter().map(|field| field.name).chain(["timeout"]);
        self.variables.keys().filter_map(move |name| {
            let written = name.strip_prefix("POOL_")?;
            let known = names().any(|field| field.eq_ignore_ascii_case(written)) && *written == written.to_uppercase();
            if known || is_service_link(written) {
                return None;
            }
            let meant = did_you_mean(written, names()).map(|field| format!("POOL_{}", field.to_ascii_uppercase()));
            Some((name.as_str(), meant))
        })
    }

    /// The operating system's user, by the variables that name it.
    pub(crate) fn os_user(&self) -> Option<String> {
        ["USER", "LOGNAME", "USERNAME"].iter().find_map(|name| self.get(name)).map(str::to_owned)
    }

    /// Where the password file is unless something else is said.
    pub(crate) fn password_file(&self) -> Option<PathBuf> {
        if cfg!(windows) {
            return Some(PathBuf::from(self.get("APPDATA")?).join("postgresql").join("pgpass.conf"));
        }
        Some(PathBuf::from(self.get("HOME")?).join(".pgpass"))
    }
}

/// The brief's users have `POOL_TIMEOUT` for `POOL_ACQUIRE_TIMEOUT` (R-7.2).
pub(crate) const TIMEOUT_ALIAS: &str = "POOL_TIMEOUT";

const OTHERS: &[&str] = &["USER", "LOGNAME", "USERNAME", "HOME", "APPDATA"];

fn is_ours(name: &str) -> bool {
    name == "DATABASE_URL" || name.starts_with("POOL_") || name.starts_with("PG") || OTHERS.contains(&name)
}

/// `POOL_SERVICE_HOST`, `POOL_SERVICE_PORT`, `POOL_SERVICE_PORT_HTTP`, `POOL_PORT`, `POOL_PORT_5432_TCP_ADDR`: the
/// variables that Kubernetes and Docker links set for every service in sight. `written` is without `POOL_`.
fn is_service_link(written: &str) -> bool {
    let padded = format!("_{written}_");
    padded.contains("_SERVICE_HOST_")
        || padded.contains("_SERVICE_PORT_")
        || padded.ends_with("_PORT_")
        || padded.split("_PORT_").skip(1).any(|rest| {
            let number = rest.split('_').next().unwrap_or_default();
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        })
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        let mut environment = Environment::default();
        for (name, value) in variables {
            environment.insert(name.into(), value.into());
        }
        environment
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(names: &[&str]) -> Vec<(String, Option<String>)> {
        let environment: Environment = names.iter().map(|name| (*name, "1")).collect();
        environment.unknown().map(|(name, meant)| (name.to_owned(), meant)).collect()
    }

    #[test]
    fn every_known_variable_is_known() {
        let names: Vec<_> = FIELDS.iter().map(|field| field.variable()).collect();
        let names: Vec<_> = names.iter().map(String::as_str).chain([TIMEOUT_ALIAS, "DATABASE_URL"]).collect();
        assert_eq!(unknown(&names), []);
    }

    #[test]
    fn typos_are_found_and_other_names_are_told_apart() {
        let meant = |name: &str| Some(name.to_owned());
        assert_eq!(unknown(&["POOL_MAXSIZE"]), [("POOL_MAXSIZE".into(), meant("POOL_MAX_SIZE"))]);
        assert_eq!(unknown(&["POOL_max_size"]), [("POOL_max_size".into(), meant("POOL_MAX_SIZE"))]);
        assert_eq!(unknown(&["POOL_TIMEOUTS"]), [("POOL_TIMEOUTS".into(), meant("POOL_TIMEOUT"))]);
        assert_eq!(unknown(&["POOL_COLOUR"]), [("POOL_COLOUR".into(), None)]);
        assert_eq!(unknown(&["POOLING", "MAX_SIZE", "PATH"]), []);
    }

    #[test]
    fn what_kubernetes_injects_for_a_service_named_pool_is_left_alone() {
        let injected = [
            "POOL_SERVICE_HOST",
            "POOL_SERVICE_PORT",
            "POOL_SERVICE_PORT_HTTP",
            "POOL_PORT",
            "POOL_PORT_5432_TCP",
            "POOL_PORT_5432_TCP_ADDR",
            "POOL_PORT_5432_TCP_PORT",
            "POOL_PORT_5432_TCP_PROTO",
            "POOL_MAX_SERVICE_HOST",
            "POOL_MAX_PORT",
            "POOL_MAX_PORT_80_TCP",
        ];
        assert_eq!(unknown(&injected), []);
    }

    #[test]
    fn a_lookup_is_an_environment_and_values_are_never_shown() {
        let environment = Environment::from_lookup(|name| (name == "PGPASSWORD").then(|| "hunter2".to_owned()));
        assert_eq!(environment.get("PGPASSWORD"), Some("hunter2"));
        assert_eq!(format!("{environment:?}"), r#"{"PGPASSWORD"}"#);
    }
}
