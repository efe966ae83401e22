//! A pool of PostgreSQL connections, from a URL or a configuration.

use super::error::Error;
use super::postgres::Postgres;
use crate::config::{Config, ConfigError};
use crate::driver::{Pool, PoolBuilder};
use crate::error::OpenError;
use crate::runtime::Runtime;

/// Why [`Pool::connect`] failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL, or the environment that completes it, is not valid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The first connections could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl<R: Runtime> Pool<R, Postgres<R>> {
    /// Opens a pool with the defaults (2 to 10 connections) and waits until it is ready.
    ///
    /// # Errors
    /// [`ConnectError::Config`] names what is wrong with the URL; [`ConnectError::Open`] has each attempt's error.
    ///
    /// # Panics
    /// Outside the runtime, as [`Runtime::current`].
    ///
    /// # Cancellation
    /// Dropping the future closes what was opened.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        Ok(Self::builder(Config::from_url(url)?).open().await?)
    }

    /// A pool as configured, on the runtime that the calling code runs on.
    ///
    /// # Panics
    /// Outside the runtime, as [`Runtime::current`]; [`Pool::builder_on`] takes it as an argument.
    pub fn builder(config: Config) -> PoolBuilder<R, Postgres<R>> {
        Self::builder_on(R::current(), config)
    }

    /// As [`Pool::builder`], on `runtime`.
    pub fn builder_on(runtime: R, config: Config) -> PoolBuilder<R, Postgres<R>> {
        for warning in config.warnings() {
            tracing::warn!(name: "pgweir.config.warning", "{warning}");
        }
        let (pool, connect) = config.into_parts();
        PoolBuilder::new(runtime.clone(), Postgres::new(runtime, connect), pool)
    }
}

impl<R: Runtime> PoolBuilder<R, Postgres<R>> {
    /// Changes the manager: fresh credentials per connect, statements for every new session.
    #[must_use]
    pub fn postgres(self, change: impl FnOnce(Postgres<R>) -> Postgres<R>) -> Self {
        self.map_manager(change)
    }
}

/// An error of the pool or of a query, for functions that do both.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// No connection.
    #[error(transparent)]
    Acquire(#[from] crate::error::AcquireError),
    /// The query failed.
    #[error(transparent)]
    Query(#[from] Error),
}
