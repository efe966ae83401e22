//! What a connection is asked for and what it answers.

use std::num::NonZeroU32;
use std::sync::Arc;

use postgres_protocol::message::backend::DataRowBody;
use postgres_types::{ToSql, Type};

use super::error::{DbError, Error};
use super::statements::{Column, Owner, Statement};

/// One request on one connection; grows, is never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub(super) u64);

/// Values for a statement's parameters, in order.
pub type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Values for a statement's parameters, in order, with the types they are sent as.
pub type TypedParams<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

/// What [`Connection::submit`](super::Connection::submit) sends. Each request ends with exactly one [`Event::Done`],
/// unless the connection ends first.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    /// The simple protocol: any number of statements, rows in text format. Events: per statement
    /// [`Event::Columns`] and [`Event::Row`]s if it returns rows, then [`Event::Complete`].
    Simple {
        /// One or more statements, separated by semicolons. An empty text is the cheapest round trip.
        sql: &'a str,
    },
    /// Parses and describes a statement and keeps it under a name. Event: [`Event::Prepared`]. Ask
    /// [`Connection::cached`](super::Connection::cached) first.
    Prepare {
        /// One statement, parameters as `$1`.
        sql: &'a str,
        /// Types of the first parameters; the server infers the others.
        types: &'a [Type],
    },
    /// Runs a prepared statement. Events: [`Event::Row`]s in binary format (their columns are the statement's), then
    /// [`Event::Complete`], or [`Event::Suspended`] with [`Fetch::Rows`].
    Query {
        /// Prepared on this connection.
        statement: &'a Arc<Statement>,
        /// As many as the statement has.
        params: Params<'a>,
        /// How many rows before a pause.
        fetch: Fetch,
    },
    /// Parses and describes without a name, leaves the round open, and so also the server connection assigned by a
    /// transaction pooler. Event: [`Event::Prepared`]; then call [`Connection::bind`](super::Connection::bind) (or
    /// abandon). Everything together is one implicit transaction.
    Unprepared {
        /// One statement, parameters as `$1`.
        sql: &'a str,
        /// Types of the first parameters; the server infers the others.
        types: &'a [Type],
    },
    /// Parses, binds and runs a statement without a name in a single round trip. Events: [`Event::Columns`] (empty for
    /// a statement without rows), [`Event::Row`]s in binary format, [`Event::Complete`].
    QueryTyped {
        /// One statement, parameters as `$1`.
        sql: &'a str,
        /// All parameters.
        params: TypedParams<'a>,
        /// How many rows before a pause.
        fetch: Fetch,
    },
    /// Binds a prepared statement to a named portal, which lives until the end of the transaction. Only useful inside
    /// a transaction block. Event: [`Event::PortalOpened`].
    OpenPortal {
        /// Prepared on this connection.
        statement: &'a Arc<Statement>,
        /// As many as the statement has.
        params: Params<'a>,
    },
    /// Takes rows from a portal. Events: [`Event::Row`]s, then [`Event::Suspended`] if there may be more (ask with
    /// another `FetchPortal`) or [`Event::Complete`].
    FetchPortal {
        /// Opened on this connection.
        portal: &'a Portal,
        /// How many rows.
        fetch: Fetch,
    },
    /// Closes a portal before its transaction ends. No event but [`Event::Done`].
    ClosePortal {
        /// Opened on this connection.
        portal: &'a Portal,
    },
    /// Closes a prepared statement and forgets it. No event but [`Event::Done`].
    CloseStatement {
        /// Prepared on this connection.
        statement: &'a Arc<Statement>,
    },
}

/// How many rows the server sends before it waits to be asked for more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Fetch {
    /// All. The reader's pace is kept by TCP alone.
    #[default]
    All,
    /// So many at a time (at most `i32::MAX` are asked for): after [`Event::Suspended`] call
    /// [`Connection::fetch`](super::Connection::fetch) for more, or abandon the request. Until the request is over
    /// nothing else can be submitted, since a Sync would close the portal.
    Rows(NonZeroU32),
}

/// What happened on a connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The session has begun: requests can be submitted. Once per connection.
    Ready,
    /// A statement was parsed and described.
    Prepared {
        /// Of which request.
        id: RequestId,
        /// The statement; in the connection's cache if it has room for it.
        statement: Arc<Statement>,
    },
    /// A portal was opened.
    PortalOpened {
        /// Of which request.
        id: RequestId,
        /// The portal.
        portal: Portal,
    },
    /// A result begins with these columns.
    Columns {
        /// Of which request.
        id: RequestId,
        /// The columns.
        columns: Arc<[Column]>,
    },
    /// A row. Cheap to keep: it shares the receive buffer.
    Row {
        /// Of which request.
        id: RequestId,
        /// The row as it came; its lengths have been checked.
        row: DataRowBody,
    },
    /// The server waits to be asked for more rows.
    Suspended {
        /// Of which request.
        id: RequestId,
    },
    /// A statement is complete.
    Complete {
        /// Of which request.
        id: RequestId,
        /// Rows returned or changed, where the command has such a number.
        rows: Option<u64>,
        /// The command tag as the server wrote it (`INSERT 0 1`); empty for an empty query.
        tag: bytes::Bytes,
    },
    /// The request failed. Nothing else comes of it but [`Event::Done`]. May follow [`Event::Complete`]: what is checked
    /// at commit (deferred constraints) fails after it, so a request has succeeded only once it is done.
    Failed {
        /// Which request.
        id: RequestId,
        /// Why.
        error: Error,
    },
    /// The request is over (ReadyForQuery). Always its last event.
    Done {
        /// Which request.
        id: RequestId,
        /// The session's transaction status at this point.
        status: TransactionStatus,
    },
    /// A warning or a notice from the server.
    Notice(Box<DbError>),
    /// A notification that this session listens for.
    Notification {
        /// The process that notified.
        process_id: i32,
        /// On which channel.
        channel: String,
        /// With which text.
        payload: String,
    },
    /// A parameter was reported or has changed.
    Parameter {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
}

impl Event {
    /// Which request it belongs to; `None` for events of the session.
    pub fn request(&self) -> Option<RequestId> {
        match self {
            Event::Prepared { id, .. }
            | Event::PortalOpened { id, .. }
            | Event::Columns { id, .. }
            | Event::Row { id, .. }
            | Event::Suspended { id }
            | Event::Complete { id, .. }
            | Event::Failed { id, .. }
            | Event::Done { id, .. } => Some(*id),
            Event::Ready | Event::Notice(_) | Event::Notification { .. } | Event::Parameter { .. } => None,
        }
    }
}

/// A named portal: a running query within a transaction.
#[derive(Clone, Debug)]
pub struct Portal {
    pub(super) name: Arc<str>,
    pub(super) statement: Arc<Statement>,
    pub(super) owner: Owner,
}

impl Portal {
    /// The statement it runs, with the columns of its rows.
    pub fn statement(&self) -> &Arc<Statement> {
        &self.statement
    }
}

/// The transaction status of ReadyForQuery.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TransactionStatus {
    /// Not in a transaction block.
    #[default]
    Idle,
    /// In a transaction block.
    Transaction,
    /// In a failed transaction block: everything but a rollback is refused.
    Failed,
}
