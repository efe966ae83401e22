//! Single settings of a pool, as an option of a command has them: `max_size=20`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use pgweir_core::config::{FIELDS, PoolConfig};

use crate::yaml;

/// One setting of a pool: a field of its configuration, and a value as YAML has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    field: String,
    value: String,
}

impl Setting {
    /// A field and its value.
    pub fn new(field: impl Into<String>, value: impl Into<String>) -> Self {
        Setting { field: field.into(), value: value.into() }
    }

    /// The field.
    pub fn field(&self) -> &str {
        &self.field
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.field, self.value)
    }
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((field, value)) if !field.trim().is_empty() && !value.trim().is_empty() => {
                Ok(Setting::new(field.trim(), value.trim()))
            }
            _ => Err(format!("`{text}` is not a setting: write it as field=value, such as max_size=20")),
        }
    }
}

/// Settings that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BadSetting {
    /// The settings that it is about, as they are written: one, unless it is wrong only together with others.
    pub written: String,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for BadSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.written, self.problem)
    }
}

impl std::error::Error for BadSetting {}

/// `config` with other settings. They are checked together, so that their order makes no difference.
///
/// # Errors
/// A setting of a field that is none of the pool machine's or is set twice, or one with a value that breaks one of the
/// configuration's rules.
pub fn with_settings(config: &PoolConfig, settings: &[Setting]) -> Result<PoolConfig, BadSetting> {
    let spelt = || settings.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let raw = yaml::write_raw(config).map_err(|problem| BadSetting { written: spelt(), problem })?;
    let mut seen = BTreeSet::new();
    for setting in settings {
        let bad = |problem| Err(BadSetting { written: setting.to_string(), problem });
        let field = setting.field();
        if field == "hosts" || !yaml::entries(&raw).iter().any(|(known, _)| known == field) {
            return bad(unknown(field));
        }
        if !seen.insert(field) {
            return bad(format!("`{field}` is set twice"));
        }
    }
    let read = |settings: &[Setting]| {
        let set = |raw, setting: &Setting| yaml::with(raw, &setting.field, yaml::scalar(&setting.value));
        yaml::read_raw::<PoolConfig>(settings.iter().fold(raw.clone(), set))
    };
    read(settings).map_err(|problem| {
        // If one of them is as wrong without the others, it is about that one.
        let alone = settings.iter().find(|one| read(std::slice::from_ref(one)).as_ref() == Err(&problem));
        BadSetting { written: alone.map_or_else(spelt, ToString::to_string), problem }
    })
}

fn unknown(field: &str) -> String {
    if FIELDS.iter().any(|info| info.name == field) || field == "hosts" {
        return format!("`{field}` has no part in the simulation: it is not a setting of the pool machine");
    }
    let names: Vec<&str> = FIELDS.iter().map(|info| info.name).collect();
    format!("there is no field `{field}`; the fields are {}", names.join(", "))
}

/// The fields that differ: name, and both values as they would be written.
pub(crate) fn differences(from: &PoolConfig, to: &PoolConfig) -> Vec<(String, String, String)> {
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

    fn set(config: &PoolConfig, settings: &[&str]) -> Result<PoolConfig, String> {
        let settings: Result<Vec<Setting>, String> = settings.iter().map(|text| text.parse()).collect();
        with_settings(config, &settings?).map_err(|bad| bad.to_string())
    }

    #[test]
    fn settings_change_a_configuration() {
        let before = PoolConfig::builder().max_size(7).build().expect("valid");
        let config = set(&before, &["min_size = 15", "max_size=20", "acquire_timeout=5s"]).expect("valid");
        assert_eq!((config.min_size(), config.max_size()), (15, 20));
        assert_eq!(config.acquire_timeout().as_secs(), 5);
        assert_eq!(set(&before, &["min_size=3"]).expect("valid").max_size(), 7);
        assert_eq!(set(&before, &[]), Ok(before));
    }

    #[test]
    fn every_field_of_the_pool_can_be_set_to_its_default() {
        let session = ["database_url", "command_timeout", "statement_cache_size", "reset_policy"];
        let default = PoolConfig::default();
        for field in FIELDS.iter().filter(|field| !session.contains(&field.name)) {
            let setting = format!("{}={}", field.name, field.default);
            assert_eq!(set(&default, &[&setting]).as_ref(), Ok(&default), "{}", field.name);
        }
    }

    #[test]
    fn differences_are_named() {
        let before = PoolConfig::default();
        let config = set(&before, &["max_size=1", "min_size=1", "outage_grace=5s"]).expect("valid");
        let changes = differences(&before, &config);
        let text: Vec<String> = changes.iter().map(|(name, from, to)| format!("{name} {from} {to}")).collect();
        assert_eq!(text, ["min_size 2 1", "max_size 10 1", "outage_grace 2s 5s"]);
    }

    #[test]
    fn what_cannot_be_set_is_refused_with_the_reason() {
        for (settings, said) in [
            (&["max_size"][..], "`max_size` is not a setting: write it as field=value, such as max_size=20"),
            (&["=3"], "`=3` is not a setting"),
            (&["maxsize=3"], "maxsize=3: there is no field `maxsize`; the fields are database_url, min_size, max_size"),
            (&["max_size=many"], "max_size=many: invalid type"),
            (&["max_size=[1]"], "max_size=[1]: invalid type"),
            (&["max_size=3\nmin_size: 2"], "max_size=3\nmin_size: 2: invalid type"),
            (&["max_size=0"], "max_size=0: max_size (0) must be 1 to 10,000"),
            (&["max_size=1"], "max_size=1: max_size (1) must be at least min_size (2)"),
            (&["max_size=5", "min_size=6"], "max_size=5, min_size=6: max_size (5) must be at least min_size (6)"),
            (&["idle_size=1", "max_size=5"], "idle_size=1: there is no field"),
            (&["max_size=5", "outage_grace=5"], "outage_grace=5: "),
            (&["outage_grace=-5s"], "outage_grace=-5s: "),
            (&["validation=sometimes"], "validation=sometimes: "),
            (&["max_size=2", "max_size=3"], "max_size=3: `max_size` is set twice"),
            (&["reset_policy=nothing"], "reset_policy=nothing: `reset_policy` has no part in the simulation"),
            (&["hosts=2"], "hosts=2: `hosts` has no part in the simulation"),
        ] {
            let problem = set(&PoolConfig::default(), settings).expect_err(said);
            assert!(problem.starts_with(said), "{settings:?}: {problem}");
        }
        let problem = set(&PoolConfig::default(), &["outage_grace=5"]).expect_err("no unit");
        assert!(problem.contains("write 5s"), "{problem}");
    }
}
