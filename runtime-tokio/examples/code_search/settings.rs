//! The command line. The database and the pool are configured by `DATABASE_URL` and `POOL_*`.

use std::path::PathBuf;

use clap::Parser;
use tracing_subscriber::filter::Targets;

/// A code-search server for MCP hosts over PostgreSQL. It talks over standard input and output; DATABASE_URL says where
/// the database is, POOL_MAX_SIZE and the like how the pool behaves.
#[derive(Parser)]
#[command(name = "code_search")]
pub(crate) struct Settings {
    /// Where the log goes, as JSON lines; added to what is there.
    #[arg(long, value_name = "FILE", env = "CODE_SEARCH_LOG", default_value_os_t = default_log())]
    pub(crate) log: PathBuf,
    /// What is logged: error, warn, info, debug or trace, or by target, as in info,pgweir=debug
    #[arg(long, value_name = "LEVEL", env = "CODE_SEARCH_LOG_LEVEL", default_value = "info")]
    pub(crate) log_level: Targets,
    /// Nothing outside of this folder is indexed; relative paths are relative to it.
    #[arg(long, value_name = "FOLDER", env = "CODE_SEARCH_ROOT", default_value = ".")]
    pub(crate) root: PathBuf,
    /// Serves health and metrics over HTTP too, for instance at 127.0.0.1:9187
    #[cfg(feature = "endpoint")]
    #[arg(long, value_name = "ADDRESS", env = "CODE_SEARCH_ENDPOINT")]
    pub(crate) endpoint: Option<String>,
}

fn default_log() -> PathBuf {
    std::env::temp_dir().join("code_search.log")
}
