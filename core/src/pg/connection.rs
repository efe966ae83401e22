//! The connection machine itself: its state, its phases, and how requests get in.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use postgres_types::{Oid, Type};

use super::encode;
use super::error::{DbError, Error, SubmitError};
use super::events::Events;
use super::exchange::{Exchange, Kind, Round, Step};
use super::frame::Framer;
use super::login::Login;
use super::outgoing::Outgoing;
use super::request::{Event, Fetch, Params, Request, RequestId, TransactionStatus};
use super::session::{CancelKey, SessionConfig};
use super::settle::Cancel;
use super::statements::{CacheStats, Owner, Statement, Statements, Types};
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

impl Phase {
    /// Whether the session has not begun yet.
    pub fn is_login(self) -> bool {
        matches!(self, Phase::Startup | Phase::Authentication | Phase::Session)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Startup => "waiting for the answer to the startup message",
            Phase::Authentication => "logging in",
            Phase::Session => "starting the session",
            Phase::Ready => "in session",
            Phase::Terminating => "closing",
            Phase::Closed => "closed",
        })
    }
}

/// One PostgreSQL session as seen from this side. See the module's documentation for how to drive it.
pub struct Connection {
    pub(super) config: Arc<SessionConfig>,
    pub(super) phase: Phase,
    /// `Some` while logging in.
    pub(super) login: Option<Login>,
    pub(super) framer: Framer,
    pub(super) outgoing: Outgoing,
    /// Where requests are written before they are queued.
    pub(super) scratch: BytesMut,
    /// One entry per ReadyForQuery that is still to come, in order. Ids ascend.
    pub(super) pending: VecDeque<Exchange>,
    /// Since when the first of them is the first.
    pub(super) head_since: Instant,
    pub(super) events: Events,
    pub(super) next_id: u64,
    /// Requests submitted since they were last taken.
    pub(super) queries: u64,
    pub(super) status: TransactionStatus,
    pub(super) parameters: BTreeMap<String, String>,
    pub(super) key: Option<CancelKey>,
    pub(super) owner: Owner,
    pub(super) statements: Statements,
    pub(super) types: Types,
    /// What the server said before the end that must be near: 57P01 or 57P02 as a notice.
    pub(super) cause: Option<Box<DbError>>,
    pub(super) cancel: Cancel,
    /// Rollbacks that `settle` has tried in a row.
    pub(super) rollbacks: u8,
    /// What ended it.
    error: Option<Error>,
    fault: Option<Fault>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("user", &self.config.user)
            .field("database", &self.config.database)
            .field("phase", &self.phase)
            .field("status", &self.status)
            .field("pending", &self.pending.len())
            .field("unsent", &self.outgoing.len())
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

/// The life of a connection: bytes in, bytes out, events.
impl Connection {
    /// A connection over a stream that was just opened; the startup message is queued.
    ///
    /// # Errors
    /// [`Error::Config`] if a name or parameter cannot be sent: a zero byte, or a reserved name.
    pub fn new(config: Arc<SessionConfig>, now: Instant) -> Result<Self, Error> {
        let mut startup = BytesMut::new();
        config.write_startup(&mut startup)?;
        let mut outgoing = Outgoing::default();
        outgoing.append(&mut startup);
        Ok(Connection {
            phase: Phase::Startup,
            login: Some(Login::Start),
            framer: Framer::default(),
            outgoing,
            scratch: BytesMut::new(),
            pending: VecDeque::new(),
            head_since: now,
            events: Events::new(config.limits.unasked_events),
            next_id: 1,
            queries: 0,
            status: TransactionStatus::Idle,
            parameters: BTreeMap::new(),
            key: None,
            owner: Owner::default(),
            statements: Statements::new(config.statement_cache_size),
            types: Types::default(),
            cause: None,
            cancel: Cancel::None,
            rollbacks: 0,
            error: None,
            fault: None,
            config,
        })
    }

    /// Takes what was read from the stream, in pieces of any size.
    ///
    /// While logging in this may cost milliseconds of CPU (SCRAM derives a key): never call it under a lock. Tell
    /// [`Connection::sent`] first: an answer to what was not sent is an error.
    ///
    /// # Errors
    /// The connection is over: what [`Connection::fault`] says from now on. Events from before the error can still be
    /// polled; pending requests get no further event.
    pub fn receive(&mut self, now: Instant, bytes: &[u8]) -> Result<(), Error> {
        match (self.phase, &self.error) {
            (Phase::Closed, Some(error)) => return Err(error.clone()),
            // Whatever the server still has to say, nobody asks any more.
            (Phase::Closed | Phase::Terminating, _) => return Ok(()),
            _ => self.framer.push(bytes),
        }
        loop {
            let handled = match self.framer.next(self.phase, &self.config.limits) {
                Ok(Some(frame)) => self.on_frame(now, frame),
                Ok(None) => return Ok(()),
                Err(error) => Err(error),
            };
            handled.map_err(|error| self.end(error))?;
        }
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// [`Error::Closed`], unless the connection was terminated by us or had failed before.
    pub fn receive_eof(&mut self, _now: Instant) -> Result<(), Error> {
        match self.phase {
            Phase::Closed => Ok(()),
            Phase::Terminating => {
                self.phase = Phase::Closed;
                self.outgoing.clear();
                Ok(())
            }
            phase => {
                let cause = self.cause.take();
                Err(self.end(Error::Closed { phase, cause }))
            }
        }
    }

    /// The socket failed, reading or writing. Returns the error to report, with what the server said before, if
    /// anything.
    pub fn receive_io_error(&mut self, _now: Instant, error: &io::Error) -> Error {
        if let Some(first) = &self.error {
            return first.clone();
        }
        let (phase, cause) = (self.phase, self.cause.take());
        self.end(Error::Io { phase, kind: error.kind(), message: error.to_string(), cause })
    }

    /// What is to be written, oldest byte first.
    pub fn outgoing(&self) -> &[u8] {
        self.outgoing.bytes()
    }

    /// The first `n` bytes of [`Connection::outgoing`] were written.
    ///
    /// # Panics
    /// If `n` is more than that.
    pub fn sent(&mut self, n: usize) {
        self.outgoing.sent(n);
    }

    /// The oldest event that was not yet taken. Call until `None` after every `receive`.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop()
    }

    /// Queues Terminate and takes no more requests; those of which no byte was sent are un-queued. Write
    /// [`Connection::outgoing`], then wait for the peer's end.
    pub fn terminate(&mut self) {
        if matches!(self.phase, Phase::Closed | Phase::Terminating) {
            return;
        }
        self.abandon_all();
        self.pending.clear();
        self.phase = Phase::Terminating;
        self.framer.clear();
        self.scratch.clear();
        postgres_protocol::message::frontend::terminate(&mut self.scratch);
        self.outgoing.append(&mut self.scratch);
    }

    /// It is over. Nothing of what was to be sent or answered makes sense any more; events stay.
    fn end(&mut self, error: Error) -> Error {
        self.phase = Phase::Closed;
        self.login = None;
        self.framer.clear();
        self.outgoing.clear();
        self.pending.clear();
        self.statements.forget_all();
        self.fault = Some(error.fault());
        self.error = Some(error.clone());
        error
    }
}

/// Requests.
impl Connection {
    /// Queues a request behind those already pending.
    ///
    /// # Errors
    /// Why not; nothing is queued then and the connection is as before.
    pub fn submit(&mut self, now: Instant, request: Request<'_>) -> Result<RequestId, SubmitError> {
        self.check_ready()?;
        let id = self.enqueue(now, &request, false)?;
        self.queries += u64::from(self.pending.back().is_some_and(|exchange| exchange.kind.runs()));
        Ok(id)
    }

    /// Second half of [`Request::Unprepared`], after its [`Event::Prepared`]: binds the parameters and runs. Events as
    /// with [`Request::Query`].
    ///
    /// # Errors
    /// Why not; the round is still open: try again or abandon the request.
    pub fn bind(&mut self, now: Instant, id: RequestId, params: Params<'_>, fetch: Fetch) -> Result<(), SubmitError> {
        self.check_ready()?;
        let exchange = Self::awaiting(&self.pending, id, Round::AwaitsBind)?;
        let statement = exchange.statement.clone().ok_or(SubmitError::UnknownRequest)?;
        self.scratch.clear();
        let round = encode::bind_and_execute(&statement, params, fetch, &mut self.scratch)?;
        self.go_on(now, round, &[Step::Bind, Step::Execute], statement.columns.len());
        Ok(())
    }

    /// After [`Event::Suspended`] of a request with [`Fetch::Rows`]: asks for more.
    ///
    /// # Errors
    /// [`SubmitError::UnknownRequest`] if this request is not suspended.
    pub fn fetch(&mut self, now: Instant, id: RequestId, fetch: Fetch) -> Result<(), SubmitError> {
        self.check_ready()?;
        let width = Self::awaiting(&self.pending, id, Round::Suspended)?.width.unwrap_or_default();
        self.scratch.clear();
        let round = encode::execute_more(fetch, &mut self.scratch)?;
        self.go_on(now, round, &[Step::Execute], width);
        Ok(())
    }

    /// When the request at the head of the queue will have run for command_timeout; `None` without a timeout or
    /// without a request, for one that waits for `bind` or `fetch`, and for abandoned ones.
    pub fn deadline(&self) -> Option<Instant> {
        let head = self.pending.front()?;
        let counts = !head.abandoned && !head.internal && !head.is_our_turn() && !self.config.command_timeout.is_zero();
        counts.then(|| self.head_since + self.config.command_timeout)
    }

    /// The request whose deadline has passed at `now`.
    pub fn overdue(&self, now: Instant) -> Option<RequestId> {
        self.deadline().filter(|&deadline| deadline <= now)?;
        self.pending.front().map(|head| head.id)
    }

    pub(super) fn check_ready(&self) -> Result<(), SubmitError> {
        if self.phase == Phase::Ready {
            return Ok(());
        }
        Err(SubmitError::NotReady { phase: self.phase, fault: self.fault.clone() })
    }

    pub(super) fn enqueue(
        &mut self,
        now: Instant,
        request: &Request<'_>,
        internal: bool,
    ) -> Result<RequestId, SubmitError> {
        if self.pending.back().is_some_and(|last| last.round != Round::Synced) {
            return Err(SubmitError::RoundOpen);
        }
        let limits = &self.config.limits;
        if !internal && (self.pending.len() >= limits.pending || self.outgoing.len() > limits.unsent) {
            return Err(SubmitError::QueueFull);
        }
        self.scratch.clear();
        let encoded = encode::encode(request, &mut self.statements, &self.owner, &mut self.scratch)?;
        // Nothing fails from here on.
        let closes = self.statements.closed(encoded.closes);
        if let (Kind::Close, Some(statement)) = (&encoded.kind, &encoded.statement) {
            self.statements.forget(statement);
        }
        let id = RequestId(self.next_id);
        self.next_id += 1;
        if self.pending.is_empty() {
            self.head_since = now;
        }
        let start = self.outgoing.end();
        self.outgoing.append(&mut self.scratch);
        self.pending.push_back(Exchange {
            id,
            kind: encoded.kind,
            steps: encoded.steps,
            round: encoded.round,
            start,
            end: self.outgoing.end(),
            abandoned: internal,
            internal,
            failed: false,
            statement: encoded.statement,
            closes,
            width: encoded.width,
            copying_out: false,
        });
        Ok(id)
    }

    /// The request with an open round, if it is `id` and waits for us in this way. It can only be the last one.
    fn awaiting(pending: &VecDeque<Exchange>, id: RequestId, round: Round) -> Result<&Exchange, SubmitError> {
        pending.back().filter(|last| last.id == id && last.round == round).ok_or(SubmitError::UnknownRequest)
    }

    /// Queues what is in the scratch buffer as a continuation of the last request.
    fn go_on(&mut self, now: Instant, round: Round, steps: &[Step], width: usize) {
        self.outgoing.append(&mut self.scratch);
        let end = self.outgoing.end();
        if let Some(last) = self.pending.back_mut() {
            steps.iter().for_each(|&step| last.steps.add(step));
            last.kind = Kind::Query;
            last.round = round;
            last.width = Some(width);
            last.end = end;
        }
        self.head_since = now;
    }
}

/// What is known of the connection.
impl Connection {
    /// What the connection is good for: Clean if ready, nothing pending or unsent, not in a transaction; Broken once it
    /// has failed or ended, or before it is ready; else Dirty. Never Unused: that is for the lease to know.
    pub fn fate(&self) -> Fate {
        if self.phase != Phase::Ready {
            return Fate::Broken;
        }
        let settled = self.pending.is_empty() && self.outgoing.len() == 0 && self.cancel == Cancel::None;
        if settled && self.status == TransactionStatus::Idle { Fate::Clean } else { Fate::Dirty }
    }

    /// What ended the connection.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// What ended the connection, in full.
    pub fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// Where in its life it is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether requests are taken.
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// As of the latest ReadyForQuery; requests that are pending may change it.
    pub fn transaction_status(&self) -> TransactionStatus {
        self.status
    }

    /// The latest value of a parameter that the server reports, such as `server_version` or `in_hot_standby`.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// For a CancelRequest, if the server gave a key.
    pub fn backend_key(&self) -> Option<CancelKey> {
        self.key
    }

    /// Requests whose ReadyForQuery is still to come, abandoned ones included.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Bytes queued and not yet written.
    pub fn unsent(&self) -> usize {
        self.outgoing.len()
    }

    /// What [`take_queries`](Connection::take_queries) would give.
    pub fn queries(&self) -> u64 {
        self.queries
    }

    /// Requests submitted since the last call and not un-queued that run something (preparing a statement under a name,
    /// and closing one, do not): the pool counts them against max_queries.
    pub fn take_queries(&mut self) -> u64 {
        std::mem::take(&mut self.queries)
    }

    /// Notices, notifications and parameters that were dropped because nobody polled them.
    pub fn dropped_events(&self) -> u64 {
        self.events.dropped()
    }

    /// A cached statement with this text and these declared types. Counts as a use.
    pub fn cached(&mut self, sql: &str, types: &[Type]) -> Option<Arc<Statement>> {
        self.statements.get(sql, types)
    }

    /// Whether a statement was prepared on this connection and still is.
    pub fn owns(&self, statement: &Statement) -> bool {
        statement.owner == self.owner && !statement.is_gone()
    }

    /// How the statement cache did.
    pub fn cache_stats(&self) -> CacheStats {
        self.statements.stats()
    }

    /// Makes a type known by its OID: statements described from now on have it.
    pub fn learn_type(&mut self, type_: Type) {
        self.types.learn(type_);
    }

    /// The type with this OID, if it is built in or was learned.
    pub fn known_type(&self, oid: Oid) -> Option<Type> {
        self.types.known(oid)
    }

    /// The statement with the types known by now, in the cache too. An unprepared one is described anew instead: learn
    /// the types and submit it again.
    pub fn resolve(&mut self, statement: &Arc<Statement>) -> Arc<Statement> {
        if statement.owner != self.owner || statement.unknown_types().is_empty() {
            return statement.clone();
        }
        let resolved = Arc::new(Statement {
            owner: statement.owner.clone(),
            name: statement.name.clone(),
            sql: statement.sql.clone(),
            declared: statement.declared.clone(),
            params: statement.params.iter().map(|type_| self.types.get(type_.oid())).collect(),
            columns: statement
                .columns
                .iter()
                .map(|column| super::Column { type_: self.types.get(column.type_.oid()), ..column.clone() })
                .collect(),
            gone: statement.gone.clone(),
        });
        self.statements.replace(&resolved);
        resolved
    }
}
