//! What the pool machine is configured with.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check;
use super::error::{ConfigError, Problems, Source};
use super::fields::{Sources, config_fields};
use super::value::Wired;

/// The pool machine's configuration: always valid, since the builder is the only way to one.
///
/// For durations that may be off, zero means off. Serialised, durations are texts such as `30s`; what is missing has
/// its default, unknown keys are refused, and so is whatever breaks a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "Wire", try_from = "Wire")]
pub struct PoolConfig {
    pub(crate) min_size: u32,
    pub(crate) max_size: u32,
    pub(crate) acquire_timeout: Duration,
    pub(crate) acquire_slow: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) validation: ValidationPolicy,
    pub(crate) validation_interval: Duration,
    pub(crate) validation_timeout: Duration,
    /// How long draining and resetting a returned connection may take.
    pub(crate) reset_timeout: Duration,
    /// How long an orderly close waits for the peer's end.
    pub(crate) close_timeout: Duration,
    /// Whether a cleanly returned connection needs [`Action::Reset`](crate::pool::Action::Reset) too: a reset policy
    /// that costs a round trip, or an after-release hook.
    pub(crate) reset_on_release: bool,
    pub(crate) max_queries: u64,
    pub(crate) max_idle_time: Duration,
    pub(crate) max_connection_lifetime: Duration,
    pub(crate) leak_detection_timeout: Duration,
    pub(crate) enable_leak_detection: bool,
    pub(crate) leak_stack: LeakStack,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) backoff_initial: Duration,
    pub(crate) backoff_max: Duration,
    pub(crate) backoff_multiplier: f64,
    /// Fraction of a delay by which the generator may move it, up or down: 0.1 is ±10 %.
    pub(crate) backoff_jitter: f64,
    pub(crate) demand_probe_interval: Duration,
    pub(crate) outage_grace: Duration,
    pub(crate) max_connecting: u32,
    pub(crate) max_waiting: u32,
    pub(crate) init_attempts: u32,
    pub(crate) hosts: u16,
}

/// Makes a [`PoolConfig`]; see [`PoolConfig::builder`].
#[derive(Clone, Debug)]
pub struct PoolConfigBuilder {
    config: PoolConfig,
    min_size_is_set: bool,
}

/// When an idle connection is proved by a round trip before it is lent. The socket is looked at in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValidationPolicy {
    /// When it was unused for longer than validation_interval, or is suspect.
    #[default]
    Interval,
    /// At every acquire.
    Always,
    /// Only when it is suspect.
    Suspect,
}

/// When the call stack of an acquire is kept, to be shown should its lease be suspected of a leak. The source line is
/// known in any case, at no cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeakStack {
    /// For source lines whose leases were suspected before; in a debug build for all.
    #[default]
    Adaptive,
    /// For every acquire.
    Always,
    /// For none.
    Never,
}

impl Default for PoolConfig {
    fn default() -> Self {
        PoolConfig {
            min_size: 2,
            max_size: 10,
            acquire_timeout: Duration::from_secs(30),
            acquire_slow: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(5),
            validation: ValidationPolicy::Interval,
            validation_interval: Duration::from_millis(500),
            validation_timeout: Duration::from_secs(5),
            reset_timeout: Duration::from_secs(5),
            close_timeout: Duration::from_secs(2),
            reset_on_release: false,
            max_queries: 50_000,
            max_idle_time: Duration::from_secs(60),
            max_connection_lifetime: Duration::from_secs(3600),
            leak_detection_timeout: Duration::from_secs(30),
            enable_leak_detection: true,
            leak_stack: LeakStack::Adaptive,
            shutdown_timeout: Duration::from_secs(30),
            backoff_initial: Duration::from_secs(1),
            backoff_max: Duration::from_secs(16),
            backoff_multiplier: 2.0,
            backoff_jitter: 0.1,
            demand_probe_interval: Duration::from_secs(1),
            outage_grace: Duration::from_secs(2),
            max_connecting: 4,
            max_waiting: 10_000,
            init_attempts: 3,
            hosts: 1,
        }
    }
}

impl PoolConfig {
    /// A builder that starts from the defaults.
    pub fn builder() -> PoolConfigBuilder {
        PoolConfigBuilder { config: PoolConfig::default(), min_size_is_set: false }
    }

    /// A builder that starts from this configuration, for "what if it had been otherwise".
    pub fn to_builder(&self) -> PoolConfigBuilder {
        PoolConfigBuilder { config: self.clone(), min_size_is_set: true }
    }

    /// Whether every cleanly returned connection is reset before it is lent again.
    pub fn reset_on_release(&self) -> bool {
        self.reset_on_release
    }

    /// How many hosts the connections can go to.
    pub fn hosts(&self) -> u16 {
        self.hosts
    }

    /// How long a lease may be held before it is suspected; `None` when nothing is.
    pub fn leak_after(&self) -> Option<Duration> {
        (self.enable_leak_detection && !self.leak_detection_timeout.is_zero()).then_some(self.leak_detection_timeout)
    }

    /// An unset `min_size` follows a `max_size` that is smaller than the default: a pool of one needs one setting.
    pub(super) fn fit_min_size(&mut self) {
        self.min_size = self.min_size.min(self.max_size);
    }
}

impl PoolConfigBuilder {
    /// Whether every cleanly returned connection is reset before it is lent again. Default: false.
    #[must_use]
    pub fn reset_on_release(mut self, reset: bool) -> Self {
        self.config.reset_on_release = reset;
        self
    }

    /// How many hosts the connections can go to. Default: 1. Range: 1 to 64.
    #[must_use]
    pub fn hosts(mut self, hosts: u16) -> Self {
        self.config.hosts = hosts;
        self
    }

    /// The configuration.
    ///
    /// # Errors
    /// Every rule that it breaks, at once.
    pub fn build(self) -> Result<PoolConfig, ConfigError> {
        let PoolConfigBuilder { mut config, min_size_is_set } = self;
        if !min_size_is_set {
            config.fit_min_size();
        }
        let mut problems = Problems::default();
        check::pool(&config, &written(&config), &mut problems);
        problems.into_result(config)
    }
}

macro_rules! pool_field_methods {
    (pool { $($(#[$doc:meta])* $field:ident: $type:ty = $default:literal, $range:literal;)* } session $session:tt) => {
        impl PoolConfig {
            $($(#[$doc])*
            pub fn $field(&self) -> $type {
                self.$field
            })*
        }

        impl PoolConfigBuilder {
            $($(#[$doc])*
            #[doc = concat!("\n\nDefault: ", $default, ". Range: ", $range, ".")]
            #[must_use]
            pub fn $field(mut self, $field: $type) -> Self {
                self.config.$field = $field;
                self.min_size_is_set |= stringify!($field) == "min_size";
                self
            })*
        }

        /// What differs from the defaults must have been written by the program.
        fn written(config: &PoolConfig) -> Sources {
            let defaults = PoolConfig::default();
            let mut sources = Sources::default();
            $(if config.$field != defaults.$field {
                sources.insert(stringify!($field), Source::Code);
            })*
            sources
        }

        /// The serialised form.
        #[derive(Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields, rename = "PoolConfig")]
        struct Wire {
            $($field: Option<<$type as Wired>::Wire>,)*
            reset_on_release: Option<bool>,
            hosts: Option<u16>,
        }

        impl Default for Wire {
            fn default() -> Self {
                Wire { $($field: None,)* reset_on_release: None, hosts: None }
            }
        }

        impl From<PoolConfig> for Wire {
            fn from(config: PoolConfig) -> Self {
                Wire {
                    $($field: Some(config.$field.into()),)*
                    reset_on_release: Some(config.reset_on_release),
                    hosts: Some(config.hosts),
                }
            }
        }

        impl TryFrom<Wire> for PoolConfig {
            type Error = ConfigError;

            fn try_from(wire: Wire) -> Result<Self, ConfigError> {
                let mut builder = PoolConfig::builder();
                $(if let Some(value) = wire.$field {
                    builder = builder.$field(value.into());
                })*
                if let Some(reset) = wire.reset_on_release {
                    builder = builder.reset_on_release(reset);
                }
                if let Some(hosts) = wire.hosts {
                    builder = builder.hosts(hosts);
                }
                builder.build()
            }
        }
    };
}
config_fields!(pool_field_methods);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_survive_a_journal() {
        let config = PoolConfig::builder().build().expect("valid");
        assert_eq!(config, PoolConfig::default());
        let json = serde_json::to_string(&config).expect("serialised");
        assert!(json.contains(r#""acquire_timeout":"30s""#), "{json}");
        assert_eq!(serde_json::from_str::<PoolConfig>(&json).expect("valid"), config);
    }

    #[test]
    fn every_duration_survives_a_journal() {
        for nanos in [1, 999, 1_500_000_000, 86_399_999_999_999, u64::MAX] {
            let config = PoolConfig::builder().max_idle_time(Duration::from_nanos(nanos)).build().expect("valid");
            let json = serde_json::to_string(&config).expect("serialised");
            assert_eq!(serde_json::from_str::<PoolConfig>(&json).expect("valid"), config);
        }
        let config = PoolConfig::builder().max_idle_time(Duration::MAX).build().expect("valid");
        let json = serde_json::to_string(&config).expect("serialised");
        assert_eq!(serde_json::from_str::<PoolConfig>(&json).expect("valid"), config);
    }

    #[test]
    fn what_is_deserialised_is_validated() {
        let read = |json: &str| serde_json::from_str::<PoolConfig>(json).map_err(|error| error.to_string());
        assert_eq!(read("{}"), Ok(PoolConfig::default()));
        assert_eq!(read(r#"{"max_size": 1}"#).expect("min_size follows").min_size(), 1);
        assert!(read(r#"{"max_size": 0}"#).expect_err("range").contains("max_size (0) must be 1 to 10,000"));
        assert!(read(r#"{"maxsize": 1}"#).expect_err("unknown").contains("unknown field `maxsize`"));
        assert!(read(r#"{"acquire_timeout": 30}"#).expect_err("unit").contains("write 30s"));
        assert!(read(r#"{"hosts": 0}"#).expect_err("hosts").contains("hosts (0) must be 1 to 64"));
    }

    #[test]
    fn a_builder_starts_from_a_configuration() {
        let config = PoolConfig::builder().min_size(3).max_size(7).build().expect("valid");
        let other = config.to_builder().max_size(8).build().expect("valid");
        assert_eq!((other.min_size(), other.max_size()), (3, 8));
        let error = config.to_builder().max_size(2).build().expect_err("min over max");
        assert_eq!(
            error.to_string(),
            "max_size (2) must be at least min_size (3): raise max_size to 3 or lower min_size to 2"
        );
    }

    #[test]
    fn a_pool_of_one_needs_one_setting() {
        let config = PoolConfig::builder().max_size(1).build().expect("valid");
        assert_eq!((config.min_size(), config.max_size()), (1, 1));
        PoolConfig::builder().max_size(1).min_size(2).build().expect_err("said so");
    }

    #[test]
    fn leak_detection_is_off_by_either_switch() {
        let leak_after = |builder: PoolConfigBuilder| builder.build().expect("valid").leak_after();
        assert_eq!(leak_after(PoolConfig::builder()), Some(Duration::from_secs(30)));
        assert_eq!(leak_after(PoolConfig::builder().enable_leak_detection(false)), None);
        assert_eq!(leak_after(PoolConfig::builder().leak_detection_timeout(Duration::ZERO)), None);
    }
}
