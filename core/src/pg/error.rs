//! Errors of a connection and of single requests.

use std::borrow::Cow;
use std::fmt;
use std::io;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::ErrorFields;

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

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Server(error) => error.fmt(f),
            Error::Protocol { message, .. } => f.write_str(message),
            Error::Authentication(message) | Error::Config(message) => f.write_str(message),
            Error::Closed { phase, cause: None } => write!(f, "the server closed the connection while {phase}"),
            Error::Closed { phase, cause: Some(cause) } => {
                write!(f, "the server closed the connection while {phase}: {cause}")
            }
            Error::Io { phase, message, cause, .. } => {
                write!(f, "the connection failed while {phase}: {message}")?;
                match cause {
                    Some(cause) => write!(f, "; the server had said: {cause}"),
                    None => Ok(()),
                }
            }
            Error::Copy(CopyDirection::In) => {
                f.write_str("COPY ... FROM STDIN cannot be run as a query: use the COPY interface")
            }
            Error::Copy(CopyDirection::Out) => {
                f.write_str("COPY ... TO STDOUT cannot be run as a query: use the COPY interface")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.db_error().map(|error| error as _)
    }
}

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

/// How bad an error or notice is, in the server's own words.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// For developers.
    Debug,
    /// For administrators.
    Log,
    /// Asked for by the user.
    Info,
    /// Worth knowing.
    Notice,
    /// Likely a mistake.
    Warning,
    /// The command, and with it the transaction, has failed.
    Error,
    /// The session has ended.
    Fatal,
    /// All sessions have ended.
    Panic,
}

impl Severity {
    fn parse(text: &str) -> Option<Severity> {
        Some(match text {
            "DEBUG" => Severity::Debug,
            "LOG" => Severity::Log,
            "INFO" => Severity::Info,
            "NOTICE" => Severity::Notice,
            "WARNING" => Severity::Warning,
            "ERROR" => Severity::Error,
            "FATAL" => Severity::Fatal,
            "PANIC" => Severity::Panic,
            _ => return None,
        })
    }
}

impl DbError {
    /// An error with no more than the three fields that all have.
    pub(super) fn new(severity: Severity, code: SqlState, message: String) -> Self {
        DbError {
            severity,
            code,
            message,
            detail: None,
            hint: None,
            position: None,
            context: None,
            schema: None,
            table: None,
            column: None,
            datatype: None,
            constraint: None,
            file: None,
            line: None,
            routine: None,
        }
    }

    /// From the fields of a message; `default` is the severity if they have none that is known. Text that is not
    /// UTF-8, as before the session's encoding is set, is taken as far as it goes.
    pub(super) fn parse(mut fields: ErrorFields<'_>, default: Severity) -> io::Result<Self> {
        let mut error = DbError::new(default, internal_error(), String::new());
        let (mut position, mut internal_position, mut internal_query) = (None, None, None);
        let mut severity_known = false;
        while let Some(field) = fields.next()? {
            let text = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                // V is S in English whatever the server's language; servers before 9.6 have S alone.
                b'V' | b'S' => {
                    if let Some(severity) = Severity::parse(&text)
                        && (field.type_() == b'V' || !severity_known)
                    {
                        error.severity = severity;
                        severity_known = true;
                    }
                }
                b'C' => error.code = SqlState::parse(&text).unwrap_or_else(internal_error),
                b'M' => error.message = text,
                b'D' => error.detail = Some(text),
                b'H' => error.hint = Some(text),
                b'P' => position = text.parse().ok(),
                b'p' => internal_position = text.parse().ok(),
                b'q' => internal_query = Some(text),
                b'W' => error.context = Some(text),
                b's' => error.schema = Some(text),
                b't' => error.table = Some(text),
                b'c' => error.column = Some(text),
                b'd' => error.datatype = Some(text),
                b'n' => error.constraint = Some(text),
                b'F' => error.file = Some(text),
                b'L' => error.line = text.parse().ok(),
                b'R' => error.routine = Some(text),
                // "Frontends should silently ignore fields of unrecognized type."
                _ => {}
            }
        }
        error.position = match (position, internal_position, internal_query) {
            (Some(position), ..) => Some(Position::Original(position)),
            (None, Some(position), Some(query)) => Some(Position::Internal { position, query }),
            _ => None,
        };
        Ok(error)
    }

    /// About how many bytes it keeps.
    pub(super) fn size(&self) -> usize {
        let texts = [&self.detail, &self.hint, &self.context, &self.schema, &self.table, &self.column];
        let more = [&self.datatype, &self.constraint, &self.file, &self.routine];
        let length = |text: &&Option<String>| text.as_ref().map_or(0, String::len);
        let query = match &self.position {
            Some(Position::Internal { query, .. }) => query.len(),
            _ => 0,
        };
        size_of::<DbError>() + self.message.len() + query + texts.iter().chain(&more).map(length).sum::<usize>()
    }

    /// Whether the session ends with it.
    pub fn is_fatal(&self) -> bool {
        self.severity >= Severity::Fatal
    }

    /// Whether a prepared statement is not usable any more: 26000 (it is gone) or 0A000 "cached plan must not change
    /// result type". The connection has dropped it from its cache: prepare it again, and outside a transaction block
    /// try again.
    pub fn is_stale_statement(&self) -> bool {
        match self.code.code() {
            "26000" => true,
            // 0A000 is any unsupported feature. The message is translated, the routine's name is not.
            "0A000" => {
                self.routine.as_deref() == Some("RevalidateCachedQuery")
                    || self.message == "cached plan must not change result type"
            }
            _ => false,
        }
    }
}

fn internal_error() -> SqlState {
    SqlState::parse("XX000").expect("five letters and digits")
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
    /// The statement or portal belongs to another connection, or the server has dropped it: prepare it on this one.
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
impl fmt::Display for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubmitError::NotReady { fault: Some(fault), .. } => write!(f, "the connection has ended: {fault}"),
            SubmitError::NotReady { phase, fault: None } => {
                write!(f, "the connection takes no requests while {phase}")
            }
            SubmitError::RoundOpen => {
                f.write_str("a request that fetches in parts, or is not bound yet, must end or be abandoned first")
            }
            SubmitError::QueueFull => f.write_str("too much is queued on this connection: read some answers first"),
            SubmitError::UnknownRequest => f.write_str("this request does not wait for this"),
            SubmitError::Foreign => f.write_str(
                "the statement or portal belongs to another connection, is gone, or has no name: prepare it here",
            ),
            SubmitError::ParameterCount { expected, given } => {
                write!(f, "the statement has {expected} parameters, {given} were given")
            }
            SubmitError::Encode { index, source } => write!(f, "parameter ${} cannot be sent: {source}", index + 1),
            SubmitError::Unsendable(error) => write!(f, "the request cannot be sent: {error}"),
        }
    }
}

impl std::error::Error for SubmitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SubmitError::Encode { source, .. } => Some(&**source),
            SubmitError::Unsendable(error) => Some(error),
            _ => None,
        }
    }
}
