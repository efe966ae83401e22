//! Why a program here cannot go on.

use std::time::Duration;

use pgweir_core::config::ConfigError;
use pgweir_core::error::OpenError;

/// Why a program here cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Testkit(#[from] crate::Error),
    #[error("DATABASE_URL: {0}")]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("DATABASE_URL leads to a Unix socket ({0}): give it a host and a port, or unset it")]
    NotTcp(String),
    #[error("DATABASE_URL: the host {0} cannot be resolved: {1}")]
    Resolve(String, String),
    #[error("{what} did not happen within {limit:?}")]
    Late { what: &'static str, limit: Duration },
    #[error("{0}")]
    Failed(String),
}
