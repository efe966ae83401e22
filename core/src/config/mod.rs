//! Validated configuration.
//!
//! A [`Config`] says everything about a pool: how it behaves ([`PoolConfig`]) and where its connections go
//! ([`ConnectConfig`]). It comes from code, the environment, YAML and defaults, in this order of precedence, and it is
//! always valid: all problems of all sources are found before anything is opened, and reported together in a
//! [`ConfigError`].
//!
//! ```
//! use std::time::Duration;
//! use pgweir_core::config::{Config, Environment};
//!
//! let environment: Environment = [("DATABASE_URL", "postgres://app:secret@db1,db2/shop"), ("POOL_MAX_SIZE", "20")]
//!     .into_iter()
//!     .collect();
//! let config = Config::builder()
//!     .yaml_str("max_size: 5\nacquire_timeout: 10s\nbackoff: {initial: 500ms}\n")
//!     .environment(environment) // `.env()` reads the process's
//!     .acquire_timeout(Duration::from_secs(3))
//!     .build()?;
//! assert_eq!(config.pool().max_size(), 20);
//! assert_eq!(config.pool().acquire_timeout(), Duration::from_secs(3));
//! assert_eq!(config.pool().backoff_initial(), Duration::from_millis(500));
//! assert_eq!(config.connect().redacted_url(), "postgres://app:***@db1:5432,db2:5432/shop");
//! # Ok::<(), pgweir_core::config::ConfigError>(())
//! ```
//!
//! # Fields
//!
//! The name is the setter's and the key in YAML. Durations are written `500ms`, `30s`, `1m 30s`, `1h`; a bare number
//! in the environment is seconds, in YAML it is refused. Zero means off where the range says so.
//!
//! | Field | Default | Range | Environment |
//! |---|---|---|---|
//! | `database_url` | required | a libpq URI or key=value string | `POOL_DATABASE_URL` |
//! | `min_size` | 2 | 0 to max_size | `POOL_MIN_SIZE` |
//! | `max_size` | 10 | 1 to 10,000 | `POOL_MAX_SIZE` |
//! | `acquire_timeout` | 30s | more than 0 | `POOL_ACQUIRE_TIMEOUT` |
//! | `acquire_slow` | 1s | 0 (off) or more | `POOL_ACQUIRE_SLOW` |
//! | `connect_timeout` | 5s | more than 0 | `POOL_CONNECT_TIMEOUT` |
//! | `validation` | interval | interval, always or suspect | `POOL_VALIDATION` |
//! | `validation_interval` | 500ms | 0 or more | `POOL_VALIDATION_INTERVAL` |
//! | `validation_timeout` | 5s | more than 0 | `POOL_VALIDATION_TIMEOUT` |
//! | `reset_timeout` | 5s | more than 0 | `POOL_RESET_TIMEOUT` |
//! | `close_timeout` | 2s | more than 0 | `POOL_CLOSE_TIMEOUT` |
//! | `max_queries` | 50000 | 0 (off) or more | `POOL_MAX_QUERIES` |
//! | `max_idle_time` | 1m | 0 (off) or more | `POOL_MAX_IDLE_TIME` |
//! | `max_connection_lifetime` | 1h | 0 (off) or more | `POOL_MAX_CONNECTION_LIFETIME` |
//! | `leak_detection_timeout` | 30s | 0 (off) or more | `POOL_LEAK_DETECTION_TIMEOUT` |
//! | `enable_leak_detection` | true | true or false | `POOL_ENABLE_LEAK_DETECTION` |
//! | `leak_stack` | adaptive | adaptive, always or never | `POOL_LEAK_STACK` |
//! | `shutdown_timeout` | 30s | 0 or more | `POOL_SHUTDOWN_TIMEOUT` |
//! | `backoff_initial` | 1s | 1ms to backoff_max | `POOL_BACKOFF_INITIAL` |
//! | `backoff_max` | 16s | backoff_initial or more | `POOL_BACKOFF_MAX` |
//! | `backoff_multiplier` | 2 | 1 to 100 | `POOL_BACKOFF_MULTIPLIER` |
//! | `backoff_jitter` | 0.1 | 0 to 0.5 | `POOL_BACKOFF_JITTER` |
//! | `demand_probe_interval` | 1s | 0 (off), or 1ms or more | `POOL_DEMAND_PROBE_INTERVAL` |
//! | `outage_grace` | 2s | 0 or more | `POOL_OUTAGE_GRACE` |
//! | `max_connecting` | 4 | 1 to 10,000 | `POOL_MAX_CONNECTING` |
//! | `max_waiting` | 10000 | 1 to 1,000,000 | `POOL_MAX_WAITING` |
//! | `init_attempts` | 3 | 1 to 1,000 | `POOL_INIT_ATTEMPTS` |
//! | `command_timeout` | 1m | 0 (off) or more | `POOL_COMMAND_TIMEOUT` |
//! | `statement_cache_size` | 256 | 0 (off) to 65,536 | `POOL_STATEMENT_CACHE_SIZE` |
//! | `reset_policy` | nothing | nothing, discard_all or sql: ... | `POOL_RESET_POLICY` |
//!
//! `DATABASE_URL` and `POOL_TIMEOUT` are read too, below `POOL_DATABASE_URL` and `POOL_ACQUIRE_TIMEOUT`. A variable
//! set to nothing is not set. A `POOL_*` variable that looks like a slip of one of these is refused; others, such as
//! those that Kubernetes injects for a service called "pool", are not.
//!
//! In YAML the `backoff_` fields may stand together: `backoff: {initial: 1s, max: 16s, multiplier: 2, jitter: 0.1}`.
//! Unknown and duplicate keys are refused.
//!
//! # The database
//!
//! `database_url` takes what libpq takes: `postgres://user:password@host:5432/database?application_name=shop`, several
//! hosts (`h1:5432,h2:5433`), IPv6 in brackets, Unix sockets (`postgres:///shop?host=/run/postgresql`), or
//! `host=db user=app`. A driver's suffix as in `postgresql+asyncpg://` is dropped. Missing parts come from `PGHOST`,
//! `PGHOSTADDR`, `PGPORT`, `PGUSER`, `PGPASSWORD`, `PGDATABASE`, `PGAPPNAME`, `PGOPTIONS`, `PGCONNECT_TIMEOUT`,
//! `PGPASSFILE`, `PGSSLMODE` and `PGTARGETSESSIONATTRS`, where the environment is read; the password then from
//! `~/.pgpass`. What this version cannot honour is refused, not ignored: TLS (`sslmode=require` and stricter),
//! `target_session_attrs` other than any, read-write and primary, service files, GSSAPI. The defaults are the host
//! localhost, the port 5432, the operating system's user, and the database of the user's name.
//!
//! No password is ever shown, by Debug, Display or an error.

mod builder;
mod check;
mod connect;
mod environment;
mod error;
mod fields;
mod layer;
mod params;
mod passfile;
mod pool;
mod resolve;
#[cfg(all(test, not(pgweir_loom)))]
mod tests;
mod url;
mod value;
mod yaml;

use std::path::Path;

pub use builder::ConfigBuilder;
pub(crate) use check::LARGEST_POOL;
pub use connect::{ConnectConfig, Host, ResetPolicy, Secret, SessionOptions, SslMode, TargetSessionAttrs, TcpOptions};
pub use environment::Environment;
pub use error::{ConfigError, Problem, Source};
pub use fields::{FIELDS, FieldInfo};
pub use pool::{LeakStack, PoolConfig, PoolConfigBuilder, ValidationPolicy};

/// A pool's whole configuration, always valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pool: PoolConfig,
    connect: ConnectConfig,
    warnings: Vec<String>,
}

impl Config {
    /// Starts from the defaults.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// A URL or `key=value` string, with what libpq takes from the process's environment: the `PG*` variables and
    /// `~/.pgpass`. `POOL_*` variables are not read.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn from_url(url: &str) -> Result<Self, ConfigError> {
        Self::builder().database_url(url).pg_environment(Environment::process()).build()
    }

    /// The process's environment: `DATABASE_URL`, `POOL_*`, `PG*` and `~/.pgpass`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::builder().env().build()
    }

    /// A YAML text, with what libpq takes from the process's environment. `POOL_*` variables are not read.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn from_yaml_str(text: &str) -> Result<Self, ConfigError> {
        Self::builder().yaml_str(text).pg_environment(Environment::process()).build()
    }

    /// A YAML file, with what libpq takes from the process's environment. `POOL_*` variables are not read.
    ///
    /// # Errors
    /// Everything that is wrong with them, or that the file cannot be read.
    pub fn from_yaml_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Self::builder().yaml_file(path).pg_environment(Environment::process()).build()
    }

    /// How the pool behaves.
    pub fn pool(&self) -> &PoolConfig {
        &self.pool
    }

    /// Where its connections go.
    pub fn connect(&self) -> &ConnectConfig {
        &self.connect
    }

    /// What is odd but no reason to refuse, one sentence each: to be logged when the pool opens.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The two parts.
    pub fn into_parts(self) -> (PoolConfig, ConnectConfig) {
        (self.pool, self.connect)
    }
}
