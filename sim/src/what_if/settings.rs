//! `max_size=20`: another configuration, by the fields' names and the configuration's own rules.

use std::collections::BTreeSet;
use std::fmt;

use pgweir_core::config::{FIELDS, PoolConfig};

use crate::yaml;

/// Settings that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadSetting {
    /// What was written, if one setting alone is wrong.
    pub written: Option<String>,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for BadSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.written {
            Some(written) => write!(f, "--set {written}: {}", self.problem),
            None => write!(f, "--set: {}", self.problem),
        }
    }
}

impl std::error::Error for BadSetting {}

/// `config` with other settings, each written `field=value` as the field would be in YAML.
///
/// # Errors
/// A setting without `=`, of a field that is none of the pool machine's or is set twice, or with a value that breaks one
/// of the configuration's rules, which are checked together.
pub fn with_settings(config: &PoolConfig, settings: &[String]) -> Result<PoolConfig, BadSetting> {
    let whole = |problem: String| BadSetting { written: None, problem };
    let mut raw = yaml::write_raw(config).map_err(whole)?;
    let mut seen = BTreeSet::new();
    for written in settings {
        let bad = |problem: String| BadSetting { written: Some(written.clone()), problem };
        let Some((field, value)) = written.split_once('=') else {
            return Err(bad("write it as field=value, such as max_size=20".to_owned()));
        };
        let (field, value) = (field.trim(), yaml::scalar(value.trim()));
        let known = yaml::entries(&raw).iter().any(|(key, _)| key == field) && field != "hosts";
        if !known {
            return Err(bad(unknown(field)));
        }
        if !seen.insert(field.to_owned()) {
            return Err(bad(format!("`{field}` is set twice")));
        }
        // A value of the wrong form is this setting's fault; a rule between fields is looked at when all are set.
        let sizes = matches!(field, "min_size" | "max_size" | "backoff_initial" | "backoff_max");
        if !sizes {
            yaml::read_raw::<PoolConfig>(yaml::single(field, value.clone())).map_err(bad)?;
        }
        raw = yaml::with(raw, field, value);
    }
    let alone = (settings.len() == 1).then(|| settings[0].clone());
    yaml::read_raw(raw).map_err(|problem| BadSetting { written: alone, problem })
}

fn unknown(field: &str) -> String {
    if FIELDS.iter().any(|info| info.name == field) || field == "hosts" {
        return format!("`{field}` has no part in the simulation: it is not a setting of the pool machine");
    }
    let names: Vec<&str> = FIELDS.iter().map(|info| info.name).collect();
    format!("there is no field `{field}`; the fields are {}", names.join(", "))
}

/// The fields that differ: name, and both values as they would be written.
pub(super) fn differences(from: &PoolConfig, to: &PoolConfig) -> Vec<(String, String, String)> {
    let entries = |config| yaml::write_raw(config).map(|raw| yaml::entries(&raw)).unwrap_or_default();
    let pairs = entries(from).into_iter().zip(entries(to));
    pairs
        .filter(|((_, from), (_, to))| from != to)
        .map(|((name, from), (_, to))| (name, yaml::show(&from), yaml::show(&to)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(settings: &[&str]) -> Result<PoolConfig, String> {
        let settings: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
        with_settings(&PoolConfig::default(), &settings).map_err(|bad| bad.to_string())
    }

    #[test]
    fn every_field_of_the_pool_can_be_set_to_its_default() {
        let session = ["database_url", "command_timeout", "statement_cache_size", "reset_policy"];
        for field in FIELDS.iter().filter(|field| !session.contains(&field.name)) {
            assert_eq!(
                set(&[&format!("{}={}", field.name, field.default)]),
                Ok(PoolConfig::default()),
                "{}",
                field.name
            );
        }
    }

    #[test]
    fn several_settings_are_checked_together() {
        let config = set(&["max_size=1", "min_size=1", "outage_grace = 5s"]).expect("valid");
        assert_eq!((config.max_size(), config.min_size(), config.outage_grace().as_secs()), (1, 1, 5));
        let changes = differences(&PoolConfig::default(), &config);
        let text: Vec<String> = changes.iter().map(|(name, from, to)| format!("{name} {from} {to}")).collect();
        assert_eq!(text, ["min_size 2 1", "max_size 10 1", "outage_grace 2s 5s"]);
    }

    #[test]
    fn what_cannot_be_set_is_refused_with_the_reason() {
        for (settings, said) in [
            (&["max_size"][..], "--set max_size: write it as field=value, such as max_size=20"),
            (&["maxsize=3"], "there is no field `maxsize`; the fields are database_url, min_size, max_size"),
            (&["max_size=0"], "max_size (0) must be 1 to 10,000"),
            (&["max_size=1"], "max_size (1) must be at least min_size (2)"),
            (&["outage_grace=5"], "write 5s"),
            (&["outage_grace=-5s"], "--set outage_grace=-5s: "),
            (&["validation=sometimes"], "sometimes"),
            (&["max_size=2", "max_size=3"], "`max_size` is set twice"),
            (&["reset_policy=nothing"], "`reset_policy` has no part in the simulation"),
            (&["hosts=2"], "`hosts` has no part in the simulation"),
        ] {
            let problem = set(settings).expect_err(said);
            assert!(problem.contains(said), "{settings:?}: {problem}");
        }
    }
}
