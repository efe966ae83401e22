//! What can go wrong in the testkit.

use std::time::Duration;
use std::{fmt, io};

/// The result of a testkit operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the testkit or of the server under test.
///
/// Debug shows the same text as Display: a failed `unwrap` in a test is to show a log's lines as lines.
#[derive(thiserror::Error)]
pub enum Error {
    /// The operating system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// No usable PostgreSQL on this machine; the text says how to get one.
    #[error("{0}")]
    NoPostgres(String),
    /// A program of PostgreSQL failed; the text has its last output.
    #[error("{what}\n{output}")]
    Failed {
        /// What was run, and how it ended.
        what: String,
        /// The end of its output or log.
        output: String,
    },
    /// The server answered with an ErrorResponse.
    #[error("{severity} {sqlstate}: {message}")]
    Server {
        /// `ERROR`, `FATAL` or `PANIC`.
        severity: String,
        /// The five characters of the SQLSTATE.
        sqlstate: String,
        /// The primary message.
        message: String,
    },
    /// The server sent what the protocol does not allow here.
    #[error("protocol violation: {0}")]
    Protocol(String),
    /// A condition did not come true in time.
    #[error("{what} did not happen within {limit:?}\n{detail}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
        /// What was seen instead.
        detail: String,
    },
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error {
    /// Wraps an I/O error with what was being done: `.map_err(Error::io("read the file"))`.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { what: what.into(), source }
    }

    /// The SQLSTATE, if the server answered with one.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Error::Server { sqlstate, .. } => Some(sqlstate),
            _ => None,
        }
    }

    /// The kind of the I/O error behind this, if there is one.
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Error::Io { source, .. } => Some(source.kind()),
            _ => None,
        }
    }
}
