//! What can go wrong with a query.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use crate::pg::{self, CopyDirection, DbError, SubmitError};
use crate::pool::{Fault, FaultClass, SqlState};

/// Why a query failed. No variant holds the query's text or its parameters; what the server says may quote them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server refused the request; the connection is fine.
    #[error("{}{}", .0, .0.hint.as_deref().map(|hint| format!("; hint: {hint}")).unwrap_or_default())]
    Db(Box<DbError>),
    /// The connection is gone, with what the server said last. Whether a request that was in flight took effect is
    /// not known, a COMMIT included.
    #[error("{fault}; take another one from the pool (a request in flight may have taken effect)")]
    Closed {
        /// What ended it.
        fault: Fault,
        /// What the server said before, if anything.
        cause: Option<Box<DbError>>,
    },
    /// The socket failed. Whether a request that was in flight took effect is not known.
    #[error("{fault}; take another one from the pool (a request in flight may have taken effect)")]
    Io {
        /// What the operating system said.
        kind: io::ErrorKind,
        /// The same for the pool.
        fault: Fault,
        /// What the server said before, if anything.
        cause: Option<Box<DbError>>,
    },
    /// The server's bytes make no sense; the connection is over.
    #[error(
        "the server broke the protocol: {0}; is this a PostgreSQL server, and nothing in between that alters bytes?"
    )]
    Protocol(String),
    /// The request could not be sent as it is: a text with a zero byte, or a message over 1 GiB.
    #[error("the request cannot be sent: {0}")]
    Encode(#[source] io::Error),
    /// A parameter does not convert to the type that the statement wants.
    #[error("parameter ${} cannot be sent: {source}; cast it in SQL or pass another Rust type", index + 1)]
    ToSql {
        /// Which, from 0.
        index: usize,
        /// Why.
        source: Box<dyn StdError + Sync + Send>,
    },
    /// The wrong number of parameters.
    #[error("the statement has {expected} parameters, {given} were given")]
    ParameterCount {
        /// What the statement has.
        expected: usize,
        /// What was given.
        given: usize,
    },
    /// A value does not convert to the type asked for.
    #[error(
        "column {column} (\"{name}\") cannot be read: {source}; ask for another Rust type, or for an Option if it may be NULL"
    )]
    FromSql {
        /// Which, from 0.
        column: usize,
        /// Its name.
        name: String,
        /// Why.
        source: Box<dyn StdError + Sync + Send>,
    },
    /// The row has no such column.
    #[error("there is no column {index} among the {columns} of this row")]
    Column {
        /// What was asked for.
        index: String,
        /// How many there are.
        columns: usize,
    },
    /// Not the number of rows that was asked for.
    #[error("{expected} was expected, the query returned {rows} rows")]
    RowCount {
        /// What the call promises.
        expected: &'static str,
        /// What came.
        rows: u64,
    },
    /// command_timeout passed. The request is abandoned; when the lease ends, the pool cancels it on the server.
    #[error(
        "no answer within command_timeout ({after:?}): the request was abandoned; raise command_timeout or make the query faster"
    )]
    Timeout {
        /// The timeout.
        after: Duration,
    },
    /// COMMIT was answered with ROLLBACK, since a statement before had failed.
    #[error("the transaction was rolled back instead of committed, because a statement in it had failed: run it again")]
    RolledBack,
    /// Options were given for a transaction within a transaction.
    #[error("a transaction is open: isolation level and access mode can only be chosen for the outermost one")]
    InTransaction,
    /// The statement is a COPY.
    #[error("COPY {} is not supported by this call", match .0 { CopyDirection::In => "FROM STDIN", CopyDirection::Out => "TO STDOUT" })]
    Copy(CopyDirection),
    /// A type that a statement uses was not found in pg_type.
    #[error(
        "type {oid} is used by the statement but is not in pg_type: was it dropped, or may this role not read the catalog?"
    )]
    UnknownType {
        /// Its OID.
        oid: u32,
    },
    /// Too much is queued on the connection.
    #[error("too many requests are queued on this connection: wait for some of them first")]
    QueueFull,
    /// Logging in failed on this side.
    #[error("cannot log in: {0}")]
    Login(String),
}

impl Error {
    /// What the server said, if it said something.
    pub fn as_db_error(&self) -> Option<&DbError> {
        match self {
            Error::Db(error) => Some(error),
            Error::Closed { cause, .. } | Error::Io { cause, .. } => cause.as_deref(),
            _ => None,
        }
    }

    /// The server's SQLSTATE, if it said one.
    pub fn code(&self) -> Option<SqlState> {
        self.as_db_error().map(|error| error.code)
    }

    /// Whether the connection is of no more use.
    pub fn is_closed(&self) -> bool {
        match self {
            Error::Db(error) => error.is_fatal(),
            Error::Closed { .. } | Error::Io { .. } | Error::Protocol(_) | Error::Login(_) => true,
            _ => false,
        }
    }

    /// What a pool makes of it.
    pub fn fault(&self) -> Fault {
        match self {
            Error::Closed { fault, .. } | Error::Io { fault, .. } => fault.clone(),
            Error::Db(error) => Fault {
                class: pg::fault_class(error.code),
                sqlstate: Some(error.code),
                message: error.message.as_str().into(),
                // An ERROR may quote what the statement was given; what ends a session does not.
                quotable: error.is_fatal(),
            },
            Error::Login(_) => Fault::new(FaultClass::Permanent, self.to_string()),
            _ => Fault::new(FaultClass::Transient, self.to_string()),
        }
    }

    /// A prepared statement that the server does not have any more, or whose result changed under it: worth one try
    /// with a newly prepared one.
    pub(crate) fn is_stale_statement(&self) -> bool {
        matches!(self, Error::Db(error) if error.is_stale_statement())
    }

    pub(crate) fn protocol(what: &'static str) -> Self {
        Error::Protocol(what.to_owned())
    }
}

impl From<pg::Error> for Error {
    fn from(error: pg::Error) -> Self {
        let fault = error.fault();
        match error {
            pg::Error::Server(error) => Error::Db(error),
            pg::Error::Closed { cause, .. } => Error::Closed { fault, cause },
            pg::Error::Io { kind, cause, .. } => Error::Io { kind, fault, cause },
            pg::Error::Copy(direction) => Error::Copy(direction),
            pg::Error::Protocol { message, .. } => Error::Protocol(message.into_owned()),
            pg::Error::Authentication(message) | pg::Error::Config(message) => Error::Login(message.into_owned()),
        }
    }
}

impl From<SubmitError> for Error {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::NotReady { fault, .. } => Error::Closed {
                fault: fault.unwrap_or_else(|| Fault::plain(FaultClass::Transient, "the session is not open")),
                cause: None,
            },
            SubmitError::ParameterCount { expected, given } => Error::ParameterCount { expected, given },
            SubmitError::Encode { index, source } => Error::ToSql { index, source },
            SubmitError::Unsendable(error) => Error::Encode(error),
            SubmitError::QueueFull => Error::QueueFull,
            error @ (SubmitError::RoundOpen | SubmitError::UnknownRequest | SubmitError::Foreign) => {
                Error::Encode(io::Error::other(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::FaultClass;

    #[test]
    fn every_error_says_what_to_do_and_keeps_its_fault() {
        let fault = Fault::new(FaultClass::Transient, "the server is shutting down");
        let errors = [
            (Error::Closed { fault: fault.clone(), cause: None }, "take another one from the pool", true),
            (Error::Io { kind: io::ErrorKind::BrokenPipe, fault, cause: None }, "take another one from the pool", true),
            (Error::Timeout { after: Duration::from_secs(3) }, "command_timeout (3s)", false),
            (Error::ToSql { index: 1, source: "no".into() }, "parameter $2", false),
            (Error::ParameterCount { expected: 1, given: 2 }, "1 parameters, 2 were given", false),
            (Error::RowCount { expected: "exactly one row", rows: 7 }, "7 rows", false),
            (Error::Copy(CopyDirection::In), "COPY FROM STDIN", false),
            (Error::Column { index: "x".to_owned(), columns: 3 }, "no column x among the 3", false),
        ];
        for (error, text, closed) in errors {
            assert!(error.to_string().contains(text), "{error}");
            assert_eq!(error.is_closed(), closed, "{error}");
            assert_eq!(error.fault().class, FaultClass::Transient, "{error}");
            assert!(error.code().is_none());
        }
    }
}
