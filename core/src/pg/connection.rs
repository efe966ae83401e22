//! The connection machine itself.

use std::fmt;
use std::io;
use std::sync::Arc;

use postgres_types::{Oid, Type};

use super::error::{Error, SubmitError};
use super::request::{Event, Fetch, Params, Request, RequestId, TransactionStatus};
use super::session::{CancelKey, SessionConfig};
use super::statements::{CacheStats, Statement};
use crate::pool::{Fate, Fault};
use crate::time::Instant;

/// Where in its life a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// The startup message is out or about to go; the server is to say how to log in.
    Startup,
    /// Logging in.
    Authentication,
    /// Logged in; the server sends its parameters.
    Session,
    /// Requests are taken.
    Ready,
    /// Terminate is queued or sent.
    Terminating,
    /// Over.
    Closed,
}

/// What [`Connection::settle`] found to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Settle {
    /// Write, read, and call again.
    Wait {
        /// The server is at work on something that nobody wants any more: a CancelRequest is worth while.
        cancel: bool,
    },
    /// Ready, idle, nothing pending: the next one can have it.
    Settled,
    /// Closing is cheaper, or the only way.
    Close(Fault),
}

/// One PostgreSQL session as seen from this side. See the module's documentation for how to drive it.
pub struct Connection {
    _config: Arc<SessionConfig>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        unimplemented!()
    }
}

#[allow(unused_variables)]
impl Connection {
    /// A connection over a stream that was just opened; the startup message is queued.
    ///
    /// # Errors
    /// [`Error::Config`] if a name or parameter cannot be sent: a zero byte, or a reserved name.
    pub fn new(config: Arc<SessionConfig>, now: Instant) -> Result<Self, Error> {
        unimplemented!()
    }

    /// Takes what was read from the stream, in pieces of any size.
    ///
    /// While logging in this may cost milliseconds of CPU (SCRAM derives a key): never call it under a lock.
    ///
    /// # Errors
    /// The connection is over: what [`Connection::fault`] says from now on. Events from before the error can still be
    /// polled; pending requests get no further event.
    pub fn receive(&mut self, now: Instant, bytes: &[u8]) -> Result<(), Error> {
        unimplemented!()
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// [`Error::Closed`], unless the connection was terminated by us or had failed before.
    pub fn receive_eof(&mut self, now: Instant) -> Result<(), Error> {
        unimplemented!()
    }

    /// The socket failed, reading or writing. Returns the error to report, with what the server said before, if
    /// anything.
    pub fn receive_io_error(&mut self, now: Instant, error: &io::Error) -> Error {
        unimplemented!()
    }

    /// What is to be written, oldest byte first.
    pub fn outgoing(&self) -> &[u8] {
        unimplemented!()
    }

    /// The first `n` bytes of [`Connection::outgoing`] were written.
    ///
    /// # Panics
    /// If `n` is more than that.
    pub fn sent(&mut self, n: usize) {
        unimplemented!()
    }

    /// Queues a request behind those already pending.
    ///
    /// # Errors
    /// Why not; nothing is queued then and the connection is as before.
    pub fn submit(&mut self, now: Instant, request: Request<'_>) -> Result<RequestId, SubmitError> {
        unimplemented!()
    }

    /// Second half of [`Request::Unprepared`], after its [`Event::Prepared`]: binds the parameters and runs. Events as
    /// with [`Request::Query`].
    ///
    /// # Errors
    /// Why not; the round is still open: try again or abandon the request.
    pub fn bind(&mut self, now: Instant, id: RequestId, params: Params<'_>, fetch: Fetch) -> Result<(), SubmitError> {
        unimplemented!()
    }

    /// After [`Event::Suspended`] of a request with [`Fetch::Rows`]: asks for more.
    ///
    /// # Errors
    /// [`SubmitError::UnknownRequest`] if this request is not suspended.
    pub fn fetch(&mut self, now: Instant, id: RequestId, fetch: Fetch) -> Result<(), SubmitError> {
        unimplemented!()
    }

    /// Nobody wants this request's answer any more. Its events, those already queued included, are dropped; the
    /// connection goes on reading to its ReadyForQuery. If no byte of it was sent it is un-queued. Unknown and finished
    /// requests are ignored.
    pub fn abandon(&mut self, id: RequestId) {
        unimplemented!()
    }

    /// [`Connection::abandon`]s every request.
    pub fn abandon_all(&mut self) {
        unimplemented!()
    }

    /// The oldest event that was not yet taken. Call until `None` after every `receive`.
    pub fn poll_event(&mut self) -> Option<Event> {
        unimplemented!()
    }

    /// When the request at the head of the queue will have run for command_timeout; `None` without a timeout or
    /// without a request. Abandoned ones have no deadline here.
    pub fn deadline(&self) -> Option<Instant> {
        unimplemented!()
    }

    /// The request whose deadline has passed at `now`.
    pub fn overdue(&self, now: Instant) -> Option<RequestId> {
        unimplemented!()
    }

    /// What the connection is good for: Clean if ready, nothing pending or unsent, not in a transaction; Broken once it
    /// has failed or ended, or before it is ready; else Dirty. Never Unused: that is for the lease to know.
    pub fn fate(&self) -> Fate {
        unimplemented!()
    }

    /// What ended the connection.
    pub fn fault(&self) -> Option<&Fault> {
        unimplemented!()
    }

    /// What ended the connection, in full.
    pub fn error(&self) -> Option<&Error> {
        unimplemented!()
    }

    /// Where in its life it is.
    pub fn phase(&self) -> Phase {
        unimplemented!()
    }

    /// Whether requests are taken.
    pub fn is_ready(&self) -> bool {
        unimplemented!()
    }

    /// As of the latest ReadyForQuery; requests that are pending may change it.
    pub fn transaction_status(&self) -> TransactionStatus {
        unimplemented!()
    }

    /// The latest value of a parameter that the server reports, such as `server_version` or `in_hot_standby`.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        unimplemented!()
    }

    /// For a CancelRequest, if the server gave a key.
    pub fn backend_key(&self) -> Option<CancelKey> {
        unimplemented!()
    }

    /// Requests whose ReadyForQuery is still to come, abandoned ones included.
    pub fn pending(&self) -> usize {
        unimplemented!()
    }

    /// Bytes queued and not yet written.
    pub fn unsent(&self) -> usize {
        unimplemented!()
    }

    /// Requests submitted since the last call and not un-queued: the pool counts them against max_queries.
    pub fn take_queries(&mut self) -> u64 {
        unimplemented!()
    }

    /// Notices, notifications and parameters that were dropped because nobody polled them.
    pub fn dropped_events(&self) -> u64 {
        unimplemented!()
    }

    /// A cached statement with this text and these declared types. Counts as a use.
    pub fn cached(&mut self, sql: &str, types: &[Type]) -> Option<Arc<Statement>> {
        unimplemented!()
    }

    /// How the statement cache did.
    pub fn cache_stats(&self) -> CacheStats {
        unimplemented!()
    }

    /// Makes a type known by its OID: statements prepared from now on have it.
    pub fn learn_type(&mut self, type_: Type) {
        unimplemented!()
    }

    /// Whether a type is built in or was learned.
    pub fn known_type(&self, oid: Oid) -> Option<Type> {
        unimplemented!()
    }

    /// The statement with the types known by now, in the cache too.
    pub fn resolve(&mut self, statement: &Arc<Statement>) -> Arc<Statement> {
        unimplemented!()
    }

    /// Queues Terminate and takes no more requests; those of which no byte was sent are un-queued. Write
    /// [`Connection::outgoing`], then wait for the peer's end.
    pub fn terminate(&mut self) {
        unimplemented!()
    }

    /// Makes a connection that came back dirty fit for its next user (DESIGN 10, "Drain of an abandoned request"):
    /// abandons every request, then rolls back what is open. Call it, pump, and call again after each `receive`, until
    /// it says Settled or Close, under a deadline. More than a megabyte unsent is a reason to close.
    pub fn settle(&mut self, now: Instant) -> Settle {
        unimplemented!()
    }

    /// A CancelRequest is about to be sent on another stream. Until [`Connection::cancel_ended`], and a round trip after
    /// it, `settle` will not say Settled and `fate` not Clean: a late cancel must not hit the next user.
    pub fn cancel_started(&mut self) {
        unimplemented!()
    }

    /// The CancelRequest's stream has ended, or it could not be sent.
    pub fn cancel_ended(&mut self) {
        unimplemented!()
    }
}
