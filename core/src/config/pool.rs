//! What the pool machine is configured with.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The pool machine's configuration: always valid, since the builder is the only way to one.
///
/// For durations that may be off, zero means off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
