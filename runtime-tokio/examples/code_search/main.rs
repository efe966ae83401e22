//! A code-search server for MCP hosts (editors, assistants) over PostgreSQL, whose tools work through the pool.
//!
//! A host starts it and talks to it over standard input and output:
//!
//! ```json
//! {"mcpServers": {"code-search": {
//!     "command": "code_search", "args": ["--root", "/home/me/src", "--log", "/home/me/code_search.log"],
//!     "env": {"DATABASE_URL": "postgres://me@localhost/me", "POOL_MAX_SIZE": "5"}
//! }}}
//! ```
//!
//! Tools: `index_folder`, `search_code` and `index_status`. Resources: `health://connection-pool` and
//! `metrics://prometheus`; with feature `endpoint`, `--endpoint 127.0.0.1:9187` serves both over HTTP too. While the
//! database is down calls fail with DATABASE_ERROR and say what the pool knows; the server stays, and recovers with it.
//! Standard output holds nothing but the protocol, standard error nothing; everything else is in the log file. SIGTERM,
//! SIGINT and the end of the input end the server: calls in progress may finish for up to POOL_SHUTDOWN_TIMEOUT.
//!
//! `cargo mcp-check` runs it with a real client through a crash of the database. One concern per file: `settings` and
//! `logs`; `database` the pool and the schema; `walk` and `index`, `words`, `search` and `snippet` the work; `tools` and `resources`
//! what the protocol sees of it, `errors` what it sees when that fails; `ending` the end.

mod database;
mod ending;
mod errors;
mod index;
mod logs;
mod resources;
mod search;
mod settings;
mod snippet;
mod tools;
mod walk;
mod words;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use rmcp::ServiceExt;
use rmcp::transport::io::stdio_pipes;

use database::Database;
use ending::{Calls, Ending};
use pgweir_tokio::Config;
use settings::Settings;
use tools::CodeSearch;

fn main() -> ExitCode {
    let settings = Settings::parse();
    let _log = match logs::start(&settings.log, &settings.log_level) {
        Ok(log) => log,
        // The one thing that cannot be in the log.
        Err(error) => {
            let path = settings.log.display();
            let _ = writeln!(
                std::io::stderr(),
                "code_search: cannot write the log to {path}: {error}; choose another --log"
            );
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(name: "code_search.failed", %error, "cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run(settings));
    // A read of standard input that is no pipe cannot be interrupted; nobody waits for it.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(name: "code_search.failed", error, "cannot serve: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Opens the pool, serves, and closes the pool. `Err` says why it could not serve.
async fn run(settings: Settings) -> Result<(), String> {
    let root = settings.root.canonicalize().map_err(|error| format!("--root {}: {error}", settings.root.display()))?;
    let config = Config::from_env().map_err(|error| error.to_string())?;
    let limit = config.pool().shutdown_timeout();
    // From here on a signal ends the server in order, also while the pool opens.
    let ending = Ending::listen().map_err(|error| format!("cannot listen for signals: {error}"))?;
    let database = tokio::select! {
        opened = Database::open(config) => opened.map_err(|error| error.to_string())?,
        reason = ending.wait() => {
            tracing::info!(name: "code_search.ended", reason, "ended by {reason} before the pool was open");
            return Ok(());
        }
    };
    #[cfg(feature = "endpoint")]
    let _endpoint = match &settings.endpoint {
        Some(address) => Some(serve_http(address, &database).await?),
        None => None,
    };
    let calls = Calls::default();
    let server = CodeSearch::new(database.clone(), root, calls.clone());
    let (input, output) = stdio_pipes();
    let transport = (ending.watch(input), output);
    let service = tokio::select! {
        service = server.serve(transport) => Some(service),
        _ = ending.wait() => None,
    };
    match service {
        Some(Ok(service)) => {
            tracing::info!(name: "code_search.serving", "a client is connected");
            ending::serve_until(service, &ending, &calls, &database, limit).await
        }
        Some(Err(error)) => {
            database.pool().close().await;
            Err(format!("the client's first message is not MCP's: {error}"))
        }
        None => {
            database.pool().close().await;
            tracing::info!(name: "code_search.ended", "ended before a client was connected");
            Ok(())
        }
    }
}

#[cfg(feature = "endpoint")]
async fn serve_http(address: &str, database: &Database) -> Result<pgweir_core::endpoint::Serving, String> {
    let endpoint = pgweir_tokio::Endpoint::bind(address).pool(resources::POOL_NAME, database.pool());
    let serving = endpoint.serve().await.map_err(|error| format!("--endpoint {address}: {error}"))?;
    let address = serving.local_addr();
    tracing::info!(name: "code_search.endpoint", %address, "health and metrics are at http://{address}/");
    Ok(serving)
}
