//! Errors of a connection and of single requests.

use std::borrow::Cow;
use std::fmt;
use std::io;

use super::connection::Phase;
use crate::pool::{Fault, SqlState};

/// Why a connection ended, or why a request failed.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The server said so (ErrorResponse).
    Server(Box<DbError>),
    /// The server's bytes make no sense.
    Protocol {
        /// Where in the session.
        phase: Phase,
        /// What was wrong, the message named.
        message: Cow<'static, str>,
    },
    /// Logging in is not possible with what we have: an unsupported method, a missing password, a server that does not
    /// know the password either.
    Authentication(Cow<'static, str>),
    /// The stream ended.
    Closed {
        /// Where in the session.
        phase: Phase,
        /// What the server said before.
        cause: Option<Box<DbError>>,
    },
    /// The socket failed.
    Io {
        /// Where in the session.
        phase: Phase,
        /// The kind of the operating system's error.
        kind: io::ErrorKind,
        /// Its text.
        message: String,
        /// What the server said before.
        cause: Option<Box<DbError>>,
    },
    /// The statement is a COPY, which this kind of request cannot serve. The COPY was ended; the connection is fine.
    Copy(CopyDirection),
    /// The session's configuration cannot be sent.
    Config(Cow<'static, str>),
}

impl Error {
    /// What the pool should make of it, for a connection that it ended.
    pub fn fault(&self) -> Fault {
        super::fault::fault_of(self)
    }

    /// The server's error, if it said one: the error itself or the cause of the stream's end.
    pub fn db_error(&self) -> Option<&DbError> {
        match self {
            Error::Server(error) => Some(error),
            Error::Closed { cause, .. } | Error::Io { cause, .. } => cause.as_deref(),
            _ => None,
        }
    }

    /// The server's code, if it said one.
    pub fn sqlstate(&self) -> Option<SqlState> {
        self.db_error().map(|error| error.code)
    }
}

/// Which way a COPY goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CopyDirection {
    /// `COPY ... FROM STDIN`.
    In,
    /// `COPY ... TO STDOUT`.
    Out,
}

impl std::error::Error for Error {}

/// An ErrorResponse or NoticeResponse, every field of it (protocol section 55.8).
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct DbError {
    /// How bad.
    pub severity: Severity,
    /// The SQLSTATE; `XX000` if the server sent none.
    pub code: SqlState,
    /// One line for people.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Where in a query text.
    pub position: Option<Position>,
    /// The context: a call stack, one line each.
    pub context: Option<String>,
    /// Schema of the object concerned.
    pub schema: Option<String>,
    /// Table concerned.
    pub table: Option<String>,
    /// Column concerned.
    pub column: Option<String>,
    /// Data type concerned.
    pub datatype: Option<String>,
    /// Constraint violated.
    pub constraint: Option<String>,
    /// The server's source file.
    pub file: Option<String>,
    /// The line in it.
    pub line: Option<u32>,
    /// The server's routine.
    pub routine: Option<String>,
}

/// Where in a query text, in characters from 1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Position {
    /// In the text that was sent.
    Original(u32),
    /// In a text that the server made or that a function holds.
    Internal {
        /// Where.
        position: u32,
        /// In which.
        query: String,
    },
}

/// How bad an error or notice is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs)] // the server's own words
pub enum Severity {
    Debug,
    Log,
    Info,
    Notice,
    Warning,
    Error,
    Fatal,
    Panic,
}

impl DbError {
    /// Whether the session ends with it.
    pub fn is_fatal(&self) -> bool {
        self.severity >= Severity::Fatal
    }

    /// Whether a prepared statement is not usable any more: 26000 (it is gone) or 0A000 (its plan must not change its
    /// result type). The connection has dropped it from its cache: prepare it again, and outside a transaction block
    /// try again.
    pub fn is_stale_statement(&self) -> bool {
        matches!(self.code.code(), "26000" | "0A000")
    }
}

impl fmt::Display for DbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for DbError {}

/// Why a request was not taken. Nothing of it was queued.
#[derive(Debug)]
#[non_exhaustive]
pub enum SubmitError {
    /// The session has not begun, is ending, or has ended (then the fault says why).
    NotReady {
        /// Where it is.
        phase: Phase,
        /// What ended it.
        fault: Option<Fault>,
    },
    /// A request with an open round (unprepared, or fetching in parts) must end, or be abandoned, first.
    RoundOpen,
    /// Too many requests, or too many bytes, are queued: write and read first.
    QueueFull,
    /// No request with this id waits for this.
    UnknownRequest,
    /// The statement or portal belongs to another connection: prepare it on this one.
    Foreign,
    /// The number of parameters is wrong.
    ParameterCount {
        /// What the statement has.
        expected: usize,
        /// What was given.
        given: usize,
    },
    /// A parameter could not be encoded.
    Encode {
        /// Which, from 0.
        index: usize,
        /// Why.
        source: Box<dyn std::error::Error + Sync + Send>,
    },
    /// A text with a zero byte, or larger than the protocol allows.
    Unsendable(io::Error),
}
impl fmt::Display for Error {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        unimplemented!()
    }
}

impl fmt::Display for SubmitError {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        unimplemented!()
    }
}

impl std::error::Error for SubmitError {}
