//! The handle that users hold.

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::Location;
use std::task::Poll;
use std::time::Duration;

use super::acquire::{Acquire, Patience};
use super::hooks::{HookFuture, Hooks};
use super::lease::Lease;
use super::shared::{Handle, Opening, Shared, State};
use super::sync::{Arc, Ordering};
use super::task::Background;
use crate::config::PoolConfig;
use crate::error::{AcquireError, LeaseInfo, OpenError};
use crate::journal::{Dump, JournalOptions, Why};
use crate::manager::Manager;
use crate::metrics::Snapshot;
use crate::pool::{Counts, Event, ShutdownReport};
use crate::report::{DebugReport, HealthReport, PoolStats};
use crate::runtime::Runtime;
use crate::time::Instant;

/// A pool of connections. Cheap to clone; all clones are the same pool.
///
/// When the last clone is dropped the pool shuts down in the background: idle connections are closed at once, leases
/// may finish. Call [`close`](Pool::close) to wait for that, with a deadline.
pub struct Pool<R: Runtime, M: Manager> {
    shared: Handle<R, M>,
}

/// Opens a [`Pool`] over any [`Manager`].
pub struct PoolBuilder<R: Runtime, M: Manager> {
    runtime: R,
    manager: M,
    config: PoolConfig,
    hooks: Hooks<M::Connection>,
    journal: JournalOptions,
}

impl<R: Runtime, M: Manager> PoolBuilder<R, M> {
    /// A pool of what `manager` opens. How many hosts there are and whether connections are reset on their return is
    /// known to the manager: the configuration can ask for more of both, not for less.
    pub fn new(runtime: R, manager: M, config: PoolConfig) -> Self {
        PoolBuilder { runtime, manager, config, hooks: Hooks::default(), journal: JournalOptions::default() }
    }

    pub(crate) fn map_manager(self, change: impl FnOnce(M) -> M) -> Self {
        PoolBuilder { manager: change(self.manager), ..self }
    }

    /// Runs on every new connection before it is first lent, within connect_timeout. An error counts as a failed
    /// connect.
    pub fn after_connect<F>(mut self, hook: F) -> Self
    where
        F: for<'a> Fn(&'a mut M::Connection) -> HookFuture<'a> + Send + Sync + 'static,
    {
        self.hooks.after_connect = Some(std::sync::Arc::new(hook));
        self
    }

    /// Runs at every acquire, in the acquiring task and within its deadline. An error closes the connection; the acquire
    /// goes on with another, keeping its place.
    pub fn before_acquire<F>(mut self, hook: F) -> Self
    where
        F: for<'a> Fn(&'a mut M::Connection) -> HookFuture<'a> + Send + Sync + 'static,
    {
        self.hooks.before_acquire = Some(std::sync::Arc::new(hook));
        self
    }

    /// Runs after every lease, in the background, within the reset's deadline. An error closes the connection.
    pub fn after_release<F>(mut self, hook: F) -> Self
    where
        F: for<'a> Fn(&'a mut M::Connection) -> HookFuture<'a> + Send + Sync + 'static,
    {
        self.hooks.after_release = Some(std::sync::Arc::new(hook));
        self.config.reset_on_release = true;
        self
    }

    /// What is recorded of the pool's events, and where it goes. Default: the last 4,096 or more are kept in memory, for
    /// [`Pool::journal`].
    #[must_use]
    pub fn journal(mut self, options: JournalOptions) -> Self {
        self.journal = options;
        self
    }

    /// Opens min_size connections and waits until they are ready.
    ///
    /// # Errors
    /// [`OpenError::Init`] with each attempt's error, after init_attempts rounds or at the first permanent fault. Nothing
    /// stays open then.
    ///
    /// # Cancellation
    /// Dropping the future closes what was opened.
    pub async fn open(self) -> Result<Pool<R, M>, OpenError> {
        let pool = self.start(false);
        pool.opened().await?;
        Ok(pool)
    }

    /// Starts without waiting: connections open in the background, for as long as that takes; health tells how far it
    /// is.
    pub fn open_lazy(self) -> Pool<R, M> {
        self.start(true)
    }

    fn start(mut self, lazy: bool) -> Pool<R, M> {
        self.config.hosts = self.config.hosts.max(self.manager.hosts());
        self.config.reset_on_release |= self.manager.resets();
        let shared = Arc::new(Shared::new(self.runtime, self.manager, self.hooks, &self.config, self.journal));
        let background = Background::new(shared.clone());
        shared.post(Event::Start { lazy });
        shared.runtime.spawn("pgweir", background);
        Pool { shared }
    }
}

impl<R: Runtime, M: Manager> fmt::Debug for PoolBuilder<R, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder").field("config", &self.config).field("hooks", &self.hooks).finish_non_exhaustive()
    }
}

impl<R: Runtime, M: Manager> Pool<R, M> {
    /// Acquires a connection: an idle one, or a new one, or the next that comes back, in order of arrival, within
    /// acquire_timeout.
    ///
    /// # Errors
    /// See [`AcquireError`]; each says why.
    ///
    /// # Cancellation
    /// The future may be dropped at any point; nothing leaks.
    #[track_caller]
    pub fn get(&self) -> Acquire<R, M> {
        Acquire::new(self.shared.clone(), Patience::Default, Location::caller())
    }

    /// As [`get`](Pool::get), within `timeout`.
    ///
    /// # Errors
    /// As [`get`](Pool::get).
    #[track_caller]
    pub fn get_timeout(&self, timeout: Duration) -> Acquire<R, M> {
        Acquire::new(self.shared.clone(), Patience::For(timeout), Location::caller())
    }

    /// A connection if one is free at this moment, without waiting and without a round trip.
    ///
    /// # Errors
    /// [`AcquireError::WouldBlock`] if none is; otherwise as [`get`](Pool::get).
    #[track_caller]
    pub fn try_get(&self) -> Result<Lease<R, M>, AcquireError> {
        let mut acquire = Acquire::new(self.shared.clone(), Patience::None, Location::caller());
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(&mut acquire).poll(&mut cx) {
            Poll::Ready(result) => result,
            // A before_acquire hook that waits.
            Poll::Pending => Err(AcquireError::WouldBlock),
        }
    }

    /// Connections by state, and waiters, at this moment.
    pub fn status(&self) -> Counts {
        self.shared.lock().machine.counts()
    }

    /// All counters and histograms, from one moment. No query is made; the lock is held for as long as it takes to
    /// copy them, well below a microsecond.
    pub fn stats(&self) -> PoolStats {
        self.shared.stats()
    }

    /// Whether work can be done, and why not, from one moment. No query is made; the lock is held as for
    /// [`stats`](Pool::stats).
    pub fn health(&self) -> HealthReport {
        self.shared.health()
    }

    /// Who holds connections, who waits and from where, and the last events of the [journal](Pool::journal), from one
    /// moment: at most `limit` of each.
    pub fn debug_report(&self, limit: usize) -> DebugReport {
        self.shared.debug_report(limit)
    }

    /// Every number that a monitoring system gets, from one moment: see [`metrics`](crate::metrics). The lock is held as
    /// for [`stats`](Pool::stats).
    pub fn metrics(&self) -> Snapshot {
        self.shared.metrics()
    }

    /// The pool's recent past, to be replayed elsewhere: every event that its machine was told, as far as they are kept,
    /// and the machine before them. `None` if the journal is [off](JournalOptions::off).
    ///
    /// It holds no query and no secret; see [`journal`](crate::journal). The events are copied while the pool is locked,
    /// which takes about a tenth of a millisecond; [`Dump::to_bytes`] makes the bytes afterwards.
    pub fn journal(&self) -> Option<Dump> {
        let now = self.shared.runtime.now();
        self.shared.lock().dump(Why::Demand, now, self.shared.wall)
    }

    /// Who holds connections now, the longest first.
    pub fn holders(&self) -> Vec<LeaseInfo> {
        let now = self.shared.runtime.now();
        self.shared.lock().leases(now, usize::MAX)
    }

    /// Sets new bounds. Growing serves waiters at once; shrinking closes idle connections now and lent ones when they
    /// come back. `min_size` above `max_size` is lowered to it; `max_size` 0 counts as 1, and above 10,000 as that.
    pub fn resize(&self, min_size: u32, max_size: u32) {
        let max_size = max_size.max(1);
        self.shared.post(Event::Resize { min_size: min_size.min(max_size), max_size });
    }

    /// Stops granting: acquires queue, their deadlines go on. For maintenance, such as a switch to another database.
    pub fn pause(&self) {
        self.shared.post(Event::Pause);
    }

    /// Ends a [`pause`](Pool::pause).
    pub fn resume(&self) {
        self.shared.post(Event::Resume);
    }

    /// Replaces every connection that is open or being opened now: idle ones soon and one after another, lent ones when
    /// they come back. Where `max_size` has room for both, a replacement is open before its predecessor goes, so that
    /// `min_size` holds.
    pub fn recycle(&self) {
        self.shared.post(Event::Recycle);
    }

    /// Shuts down: rejects new and queued acquires, lets leases finish for up to shutdown_timeout, cuts off the rest,
    /// and waits until nothing is open. May be called again and from several places; all get the same report.
    ///
    /// # Cancellation
    /// The shutdown goes on when the future is dropped.
    pub async fn close(&self) -> ShutdownReport {
        self.close_timeout(self.shared.shutdown_timeout).await
    }

    /// As [`close`](Pool::close), with its own deadline. A second call can only bring the deadline forward.
    pub async fn close_timeout(&self, timeout: Duration) -> ShutdownReport {
        let deadline = self.shared.runtime.now() + timeout;
        self.shared.post(Event::Shutdown { deadline });
        self.until(|state| state.terminated.clone()).await
    }

    /// Whether a shutdown has begun or ended.
    pub fn is_closed(&self) -> bool {
        use crate::pool::State;
        matches!(self.shared.lock().machine.state(), State::ShuttingDown | State::Terminated)
    }

    pub(crate) fn shared(&self) -> &Handle<R, M> {
        &self.shared
    }

    async fn opened(&self) -> Result<(), OpenError> {
        self.until(|state| match (&state.opening, &state.terminated) {
            (Opening::Failed(attempts), Some(_)) => Some(Err(OpenError::Init { attempts: attempts.clone() })),
            (Opening::Done, _) => Some(Ok(())),
            (Opening::Underway, Some(_)) => Some(Err(OpenError::Closed)),
            _ => None,
        })
        .await
    }

    /// Waits until `look` finds what it looks for.
    async fn until<T>(&self, look: impl Fn(&State<M>) -> Option<T>) -> T {
        let mut watcher = Watcher { pool: self, key: None };
        poll_fn(|cx| {
            let mut state = self.shared.lock();
            if let Some(found) = look(&state) {
                return Poll::Ready(found);
            }
            let stale = state.watch(&mut watcher.key, cx.waker());
            drop(state);
            drop(stale);
            Poll::Pending
        })
        .await
    }
}

/// Takes its waker away when the future that waits is dropped.
struct Watcher<'a, R: Runtime, M: Manager> {
    pool: &'a Pool<R, M>,
    key: Option<u64>,
}

impl<R: Runtime, M: Manager> Drop for Watcher<'_, R, M> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let stale = self.pool.shared.lock().watchers.remove(&key);
            drop(stale);
        }
    }
}

impl<R: Runtime, M: Manager> Clone for Pool<R, M> {
    fn clone(&self) -> Self {
        self.shared.handles.fetch_add(1, Ordering::Relaxed);
        Pool { shared: self.shared.clone() }
    }
}

impl<R: Runtime, M: Manager> Drop for Pool<R, M> {
    fn drop(&mut self) {
        if self.shared.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.post(Event::Shutdown { deadline: Instant::MAX });
        }
    }
}

impl<R: Runtime, M: Manager> fmt::Debug for Pool<R, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("counts", &self.status()).finish_non_exhaustive()
    }
}
