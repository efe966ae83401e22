//! A pooled connection: the state beside the channel, and how one request is driven.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::cancel::CancelToken;
use super::error::Error;
use super::timer::LazyTimer;
use super::types::TypeCache;
use crate::driver::Channel;
use crate::manager::Gate;
use crate::pg::{self, Event, Fetch, Params, Request, RequestId, SubmitError, TransactionStatus};
use crate::pool::HostId;
use crate::runtime::{Address, Runtime};

/// Notifications kept until somebody asks for them; then the oldest go.
const MAX_NOTIFICATIONS: usize = 1_000;

/// One PostgreSQL session, as a lease hands it out.
///
/// Every method that talks to the server may be dropped at any await: what was sent is then answered by the server all
/// the same, and skipped here. The next call on the connection works, and waits for that first. If the lease ends
/// instead, the pool cancels what still runs.
///
/// Each call fails with [`Error::Timeout`] when it takes longer than the configured command_timeout.
pub struct Client<R: Runtime> {
    pub(super) channel: Channel<R>,
    pub(super) origin: Origin,
    pub(super) types: Arc<TypeCache>,
    timer: LazyTimer<R::Timer>,
    command_timeout: Duration,
    /// Whether SQL text is prepared under a name and kept.
    pub(super) caches_statements: bool,
    /// What a dropped transaction has left to be sent before the next request.
    pub(super) rollback: Option<Cow<'static, str>>,
    pub(super) savepoints: u64,
    notifications: VecDeque<Notification>,
    notifications_lost: u64,
    pub(super) gate: Option<Arc<Gate>>,
    /// Set when the server refused to write (25006): it may have been demoted since the session began.
    pub(super) role_doubt: bool,
}

/// Where a session came from.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) host: HostId,
    pub(super) address: Address,
    /// Whether it took writes when it began.
    pub(super) writable: bool,
}

/// What NOTIFY sent to a session that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The process id of the session that notified.
    pub process_id: i32,
    /// On which channel.
    pub channel: String,
    /// With which text.
    pub payload: String,
}

impl<R: Runtime> Client<R> {
    pub(super) fn new(
        channel: Channel<R>,
        origin: Origin,
        types: Arc<TypeCache>,
        session: &crate::config::SessionOptions,
    ) -> Self {
        Client {
            channel,
            origin,
            types,
            timer: LazyTimer::new(),
            command_timeout: session.command_timeout,
            caches_statements: session.statement_cache_size > 0,
            rollback: None,
            savepoints: 0,
            notifications: VecDeque::new(),
            notifications_lost: 0,
            gate: None,
            role_doubt: false,
        }
    }

    /// The server's process id for this session, as pg_stat_activity shows it; 0 if the server gave none.
    pub fn backend_pid(&self) -> i32 {
        self.channel.machine().backend_key().map_or(0, |key| key.process_id)
    }

    /// The latest value of a setting that the server reports: server_version, TimeZone, in_hot_standby, ...
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.channel.machine().parameter(name)
    }

    /// Whether the session is in a transaction, as of the last answer.
    pub fn transaction_status(&self) -> TransactionStatus {
        self.channel.machine().transaction_status()
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.channel.machine().error().is_some()
    }

    /// Which of the pool's hosts this is.
    pub fn host(&self) -> HostId {
        self.origin.host
    }

    /// How the statement cache of this connection did.
    pub fn statement_cache(&self) -> pg::CacheStats {
        self.channel.machine().cache_stats()
    }

    /// A handle that cancels what this lease runs, from elsewhere. It does nothing once the lease has ended.
    ///
    /// `None` if the server gave no key to cancel with.
    pub fn cancel_token(&mut self) -> Option<CancelToken<R>> {
        let key = self.channel.machine().backend_key()?;
        let gate = self.gate.get_or_insert_with(Arc::default);
        Some(CancelToken::new(self.channel.runtime().clone(), self.origin.address.clone(), key, Arc::clone(gate)))
    }

    /// The oldest notification that came and was not taken yet, without waiting. They come for the channels that this
    /// session listens on, with the answer to a request or while [`Client::notification`] waits. At most 1,000 are
    /// kept: see [`Client::notifications_lost`].
    pub fn take_notification(&mut self) -> Option<Notification> {
        self.notifications.pop_front()
    }

    /// How many notifications were dropped because they were not taken.
    pub fn notifications_lost(&self) -> u64 {
        self.notifications_lost
    }

    /// Waits for a notification, without a timeout. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// What ended the connection.
    pub async fn notification(&mut self) -> Result<Notification, Error> {
        self.send_rollback()?;
        poll_fn(|cx| {
            loop {
                if let Some(notification) = self.notifications.pop_front() {
                    return Poll::Ready(Ok(notification));
                }
                let event = ready!(self.channel.poll_event(cx))?;
                self.absorb(event);
            }
        })
        .await
    }

    /// Submits a request and gives the guard that drives it.
    pub(super) fn begin(&mut self, request: Request<'_>) -> Result<Active<'_, R>, SubmitError> {
        let id = self.submit(request)?;
        Ok(Active::new(self, id))
    }

    /// Submits a request behind whatever a dropped transaction has left to do.
    pub(super) fn submit(&mut self, request: Request<'_>) -> Result<RequestId, SubmitError> {
        if self.rollback.is_some() {
            self.send_rollback()?;
        }
        let now = self.channel.runtime().now();
        self.start_clock(now);
        let machine = self.channel.machine_mut();
        match machine.submit(now, request) {
            // Whoever left a round open is gone: this is the only reference to the connection.
            Err(SubmitError::RoundOpen) => {
                machine.abandon_all();
                machine.submit(now, request)
            }
            result => result,
        }
    }

    /// Queues the ROLLBACK that a dropped transaction has left, if there still is something to roll back.
    pub(super) fn send_rollback(&mut self) -> Result<Option<RequestId>, SubmitError> {
        let Some(sql) = self.rollback.take() else { return Ok(None) };
        if !self.in_doubt() {
            return Ok(None);
        }
        let now = self.channel.runtime().now();
        let machine = self.channel.machine_mut();
        let mut result = machine.submit(now, Request::Simple { sql: &sql });
        if let Err(SubmitError::RoundOpen) = result {
            machine.abandon_all();
            result = machine.submit(now, Request::Simple { sql: &sql });
        }
        if result.is_err() {
            self.rollback = Some(sql);
        }
        result.map(Some)
    }

    /// Rolls back and waits for the answer. Once it is queued it happens, whether or not this future is dropped.
    pub(super) async fn finish_rollback(&mut self) -> Result<(), Error> {
        let Some(id) = self.send_rollback()? else { return Ok(()) };
        self.start_clock(self.channel.runtime().now());
        let mut active = Active { client: self, id, open: true, keep: true, failed: None };
        active.finish().await
    }

    /// Whether a transaction is or may be open.
    pub(super) fn in_doubt(&self) -> bool {
        let machine = self.channel.machine();
        machine.transaction_status() != TransactionStatus::Idle || machine.pending() > 0
    }

    /// Waits until nothing is pending, so that the transaction status is true.
    pub(super) async fn quiesce(&mut self) -> Result<(), Error> {
        self.send_rollback()?;
        if self.channel.machine().pending() == 0 {
            return Ok(());
        }
        self.start_clock(self.channel.runtime().now());
        poll_fn(|cx| {
            loop {
                // Whose requests these were is gone: their end makes no event.
                while let Some(event) = self.channel.machine_mut().poll_event() {
                    self.absorb(event);
                }
                if self.channel.machine().pending() == 0 {
                    return Poll::Ready(Ok(()));
                }
                if self.channel.poll_pump(cx)?.is_pending() {
                    ready!(self.timer.poll(self.channel.runtime(), cx));
                    return Poll::Ready(Err(Error::Timeout { after: self.command_timeout }));
                }
            }
        })
        .await
    }

    /// Starts command_timeout anew.
    pub(super) fn start_clock(&mut self, now: crate::time::Instant) {
        if !self.command_timeout.is_zero() {
            self.timer.set(now + self.command_timeout);
        }
    }

    /// The next event of any request; the session's own are dealt with here.
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Error>> {
        loop {
            match self.channel.poll_event(cx) {
                Poll::Ready(Ok(event)) => {
                    if let Some(event) = self.absorb(event) {
                        return Poll::Ready(Ok(event));
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => {
                    ready!(self.timer.poll(self.channel.runtime(), cx));
                    return Poll::Ready(Err(Error::Timeout { after: self.command_timeout }));
                }
            }
        }
    }

    /// Deals with an event of the session; gives back one of a request.
    pub(super) fn absorb(&mut self, event: Event) -> Option<Event> {
        match event {
            Event::Notice(notice) => {
                tracing::debug!(
                    name: "pgweir.notice",
                    target: "pgweir::notice",
                    pid = self.backend_pid(),
                    severity = ?notice.severity,
                    sqlstate = notice.code.code(),
                    message = notice.message,
                    "the server sent a notice"
                );
                None
            }
            Event::Notification { process_id, channel, payload } => {
                if self.notifications.len() == MAX_NOTIFICATIONS {
                    self.notifications.pop_front();
                    self.notifications_lost += 1;
                }
                self.notifications.push_back(Notification { process_id, channel, payload });
                None
            }
            Event::Ready | Event::Parameter { .. } => None,
            event => Some(event),
        }
    }

    /// Forgets what belonged to the lease that ends: its notifications, its unsent ROLLBACK (the machine knows whether
    /// a transaction is open), its savepoints.
    pub(super) fn end_lease(&mut self) {
        self.rollback = None;
        self.savepoints = 0;
        if !self.notifications.is_empty() {
            self.notifications.clear();
        }
        self.notifications_lost = 0;
    }
}

impl<R: Runtime> fmt::Debug for Client<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("address", &self.origin.address)
            .field("backend_pid", &self.backend_pid())
            .field("transaction_status", &self.transaction_status())
            .finish_non_exhaustive()
    }
}

/// A request in flight. Dropped before its end, the request is abandoned.
pub(super) struct Active<'a, R: Runtime> {
    client: &'a mut Client<R>,
    id: RequestId,
    open: bool,
    /// Whether it is to happen even if nobody waits for it.
    keep: bool,
    failed: Option<pg::Error>,
}

impl<'a, R: Runtime> Active<'a, R> {
    pub(super) fn new(client: &'a mut Client<R>, id: RequestId) -> Self {
        Active { client, id, open: true, keep: false, failed: None }
    }

    /// Lets go of the request without abandoning it.
    pub(super) fn detach(mut self) -> RequestId {
        self.open = false;
        self.id
    }

    /// Whether more is to come.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// The second half of an unprepared request.
    pub(super) fn bind(&mut self, params: Params<'_>, fetch: Fetch) -> Result<(), SubmitError> {
        let now = self.client.channel.runtime().now();
        self.client.channel.machine_mut().bind(now, self.id, params, fetch)
    }

    /// Asks for the next rows of a suspended request.
    pub(super) fn fetch(&mut self, fetch: Fetch) -> Result<(), SubmitError> {
        let now = self.client.channel.runtime().now();
        self.client.start_clock(now);
        self.client.channel.machine_mut().fetch(now, self.id, fetch)
    }

    /// The request's next event, [`Event::Done`] the last. A failure is not an event but an error, and comes when the
    /// request is over: the connection is ready for the next one then.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Error>> {
        loop {
            let event = match ready!(self.client.poll_event(cx)) {
                Ok(event) => event,
                Err(error) => return Poll::Ready(Err(self.failed.take().map_or(error, Error::from))),
            };
            if event.request() != Some(self.id) {
                continue;
            }
            match event {
                Event::Failed { error, .. } => {
                    self.client.role_doubt |= error.sqlstate().is_some_and(|code| code.code() == "25006");
                    self.failed = Some(error);
                    continue;
                }
                Event::Done { .. } => {
                    self.open = false;
                    if let Some(error) = self.failed.take() {
                        return Poll::Ready(Err(error.into()));
                    }
                }
                _ => {}
            }
            return Poll::Ready(Ok(event));
        }
    }

    pub(super) async fn next(&mut self) -> Result<Event, Error> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Reads to the end of the request; what else comes of it is dropped.
    pub(super) async fn finish(&mut self) -> Result<(), Error> {
        while self.open {
            self.next().await?;
        }
        Ok(())
    }
}

impl<R: Runtime> Drop for Active<'_, R> {
    fn drop(&mut self) {
        if self.open && !self.keep {
            self.client.channel.machine_mut().abandon(self.id);
        }
    }
}
