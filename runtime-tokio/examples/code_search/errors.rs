//! What a failed call looks like to the client.

use pgweir_core::client;
use pgweir_tokio::{AcquireError, Pool};
use rmcp::ErrorData;
use rmcp::handler::server::tool::IntoCallToolResult;
use rmcp::model::{CallToolResponse, CallToolResult, ContentBlock};
use serde::Serialize;
use serde_json::json;

/// Why a call failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection.
    Acquire(AcquireError),
    /// The query failed.
    Query(client::Error),
    /// What was asked for cannot be done.
    Refused(String),
    /// The client does not want the answer any more.
    Cancelled,
    /// The server takes no new calls.
    Ending,
    /// Not to be expected: a panic in a blocking task.
    Internal(String),
}

impl From<AcquireError> for Failure {
    fn from(error: AcquireError) -> Failure {
        Failure::Acquire(error)
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Failure {
        Failure::Query(error)
    }
}

impl From<tokio::task::JoinError> for Failure {
    fn from(error: tokio::task::JoinError) -> Failure {
        Failure::Internal(error.to_string())
    }
}

/// What the client gets: a result that says what is wrong with the request, for the model to do it better, or an error.
pub(crate) enum CallError {
    Refused(String),
    Failed(ErrorData),
}

impl IntoCallToolResult for CallError {
    fn into_call_tool_result(self) -> Result<CallToolResponse, ErrorData> {
        match self {
            CallError::Refused(why) => Ok(CallToolResult::error(vec![ContentBlock::text(why)]).into()),
            CallError::Failed(error) => Err(error),
        }
    }
}

impl Failure {
    /// As the protocol has it, and in the log.
    pub(crate) fn report(self, tool: &'static str, pool: &Pool) -> CallError {
        match self {
            Failure::Refused(why) => CallError::Refused(why),
            failure => CallError::Failed(failure.error(tool, pool)),
        }
    }

    fn error(self, tool: &'static str, pool: &Pool) -> ErrorData {
        let (error_type, message, suggestion) = match self {
            Failure::Acquire(error) => (acquire_type(&error), error.to_string(), acquire_suggestion(&error)),
            Failure::Query(error) => (query_type(&error), error.to_string(), query_suggestion(&error)),
            Failure::Cancelled => return ErrorData::internal_error("the call was cancelled", None),
            Failure::Ending => {
                let message = "this server is shutting down and takes no new calls";
                return ErrorData::internal_error(message, Some(json!({"message": message, "code": "SHUTTING_DOWN"})));
            }
            Failure::Refused(why) | Failure::Internal(why) => {
                tracing::error!(name: "code_search.call.failed", tool, error_type = "internal", "{why}");
                return ErrorData::internal_error(format!("{why}: see this server's log"), None);
            }
        };
        tracing::error!(name: "code_search.call.failed", tool, error_type, "{message}");
        let details = Details { error_type, pool_statistics: Statistics::new(pool), suggestion };
        let data = json!({"message": message, "code": "DATABASE_ERROR", "details": details});
        ErrorData::internal_error(message, Some(data))
    }
}

#[derive(Serialize)]
struct Details {
    error_type: &'static str,
    pool_statistics: Statistics,
    suggestion: String,
}

/// The part of `Pool::stats` that helps whoever reads an error; names and meanings are the same there.
#[derive(Serialize)]
struct Statistics {
    state: pgweir_core::pool::State,
    total: u32,
    idle: u32,
    active: u32,
    waiting: u32,
    connecting: u32,
    max_size: u32,
    timeouts: u64,
    connect_attempts: u64,
    reconnect_attempts: u64,
    last_error: Option<String>,
    last_error_class: Option<pgweir_core::pool::FaultClass>,
    last_error_time: Option<String>,
}

impl Statistics {
    fn new(pool: &Pool) -> Statistics {
        let stats = pool.stats();
        Statistics {
            state: stats.state,
            total: stats.total,
            idle: stats.idle,
            active: stats.active,
            waiting: stats.waiting,
            connecting: stats.connecting,
            max_size: stats.max_size,
            timeouts: stats.timeouts,
            connect_attempts: stats.connect_attempts,
            reconnect_attempts: stats.reconnect_attempts,
            last_error: stats.last_error,
            last_error_class: stats.last_error_class,
            last_error_time: stats.last_error_time,
        }
    }
}

fn acquire_type(error: &AcquireError) -> &'static str {
    match error {
        AcquireError::Unavailable(_) => "unavailable",
        AcquireError::Timeout(_) => "acquire_timeout",
        AcquireError::QueueFull { .. } => "queue_full",
        AcquireError::Closed => "pool_closed",
        _ => "no_connection",
    }
}

fn acquire_suggestion(error: &AcquireError) -> String {
    match error {
        AcquireError::Unavailable(outage) if error.is_transient() => {
            let next = match outage.next_attempt_in {
                Some(delay) => format!("the next attempt is in {:.1} s", delay.as_secs_f64()),
                None => "an attempt is under way".to_owned(),
            };
            format!("The pool reconnects by itself, {next}: call again in a few seconds.")
        }
        AcquireError::Unavailable(_) => {
            "The database refuses this server, and calling again will not help: see DATABASE_URL and the server's log."
                .to_owned()
        }
        AcquireError::Timeout(timeout) => format!("{}.", capitalised(timeout.suggestion())),
        AcquireError::QueueFull { .. } => "Make fewer calls at once.".to_owned(),
        AcquireError::Closed => "This server is shutting down: start it again.".to_owned(),
        _ => "Call again.".to_owned(),
    }
}

fn query_type(error: &client::Error) -> &'static str {
    match error {
        error if error.is_closed() => "connection_lost",
        client::Error::Timeout { .. } => "command_timeout",
        _ => "query_failed",
    }
}

fn query_suggestion(error: &client::Error) -> String {
    match error {
        error if error.is_closed() => {
            "Call again: what was committed stays, and indexing goes on from there.".to_owned()
        }
        client::Error::Timeout { .. } => "Ask for less, or raise POOL_COMMAND_TIMEOUT.".to_owned(),
        _ => "Calling again will not help: the server's log has the statement's error.".to_owned(),
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().collect::<String>() + letters.as_str())
}
