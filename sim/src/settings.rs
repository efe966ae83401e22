//! Single settings of a pool, as an option of a command has them: `max_size=20`.

use std::fmt;
use std::str::FromStr;

use pgweir_core::config::PoolConfig;

use crate::yaml::{self, Raw};

/// One setting of a pool: a field of its configuration, and a value as YAML has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    key: String,
    value: String,
}

impl Setting {
    /// A field and its value.
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Self {
        Setting { key: key.into(), value: value.into() }
    }

    /// The configuration that these settings make of the defaults; a later one wins over an earlier one of the same
    /// field.
    ///
    /// # Errors
    /// What is wrong with them, with what is expected.
    pub fn configure(settings: &[Setting]) -> Result<PoolConfig, String> {
        let mut all: Vec<(&str, Raw)> = Vec::new();
        for setting in settings {
            let value = setting.read()?;
            // Alone it can be wrong only by itself, so that the message is about it.
            yaml::read_raw::<PoolConfig>(yaml::single(&setting.key, value.clone()))
                .map(drop)
                .or_else(|problem| if is_between_fields(&problem) { Ok(()) } else { Err(problem) })
                .map_err(|problem| format!("{setting}: {problem}"))?;
            all.retain(|(key, _)| *key != setting.key);
            all.push((&setting.key, value));
        }
        let spelt = settings.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        yaml::read_raw(yaml::mapping(all)).map_err(|problem| format!("{spelt}: {problem}"))
    }

    fn read(&self) -> Result<Raw, String> {
        let raw: Raw = yaml::read(&self.value).map_err(|misread| format!("{self}: {}", misread.problem))?;
        match raw {
            Raw::Bool(_) | Raw::Number(_) | Raw::String(_) => Ok(raw),
            _ => Err(format!("{self}: `{}` is not a single value", self.value)),
        }
    }
}

/// Whether a problem is that two fields do not fit each other.
fn is_between_fields(problem: &str) -> bool {
    problem.contains("must be at least") || problem.contains("must be at most")
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() && !value.trim().is_empty() => {
                Ok(Setting::new(key.trim(), value.trim()))
            }
            _ => Err(format!("`{text}` is not a setting: write for example max_size=20")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configure(settings: &[&str]) -> Result<PoolConfig, String> {
        let settings: Result<Vec<Setting>, String> = settings.iter().map(|text| text.parse()).collect();
        Setting::configure(&settings?)
    }

    #[test]
    fn settings_configure_a_pool() {
        let config = configure(&["max_size=20", "min_size = 15", "acquire_timeout=5s", "max_size=30"]).expect("valid");
        assert_eq!((config.min_size(), config.max_size()), (15, 30));
        assert_eq!(config.acquire_timeout().as_secs(), 5);
        assert_eq!(configure(&[]).expect("valid"), PoolConfig::default());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (settings, said) in [
            (&["max_size"][..], "`max_size` is not a setting: write for example max_size=20"),
            (&["=3"], "`=3` is not a setting"),
            (&["maxsize=3"], "maxsize=3: unknown field `maxsize`"),
            (&["max_size=many"], "max_size=many: invalid type"),
            (&["max_size=0"], "max_size=0: max_size (0) must be 1 to 10,000"),
            (&["acquire_timeout=30"], "acquire_timeout=30: "),
            (&["max_size=[1]"], "max_size=[1]: `[1]` is not a single value"),
            (&["max_size=3\nmin_size: 2"], "max_size=3"),
            (&["max_size=5", "min_size=6"], "max_size=5, min_size=6: "),
        ] {
            let problem = configure(settings).expect_err(said);
            assert!(problem.starts_with(said), "{settings:?}: {problem}");
        }
    }
}
