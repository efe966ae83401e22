//! What the callers, the operator, the breaker and the watcher of a soak share.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pgweir_core::client::Postgres;
use pgweir_core::driver::Lease;
use pgweir_core::runtime::Runtime;

use super::books::Books;
use super::census::Census;
use crate::demo::error::Error;
use crate::demo::load::PgPool;
use crate::demo::screen::span;
use crate::kit::sleep;

pub(super) type PgLease<R> = Lease<R, Postgres<R>>;

pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
pub(super) const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);
/// What anything may take beyond its own deadline on a busy machine before it counts as a hang.
pub(super) const SLACK: Duration = Duration::from_secs(5);

pub(super) struct Field<R: Runtime> {
    pub(super) runtime: R,
    pub(super) begun: Instant,
    pub(super) books: Books,
    pub(super) census: Mutex<Census>,
    pub(super) pool: Mutex<Option<PgPool<R>>>,
    pub(super) callers: Vec<Caller>,
    /// Whether callers may begin requests.
    pub(super) gate: AtomicBool,
    /// Requests under way.
    pub(super) busy: AtomicUsize,
    /// Tasks that the soak itself has spawned.
    pub(super) own_tasks: AtomicUsize,
    pub(super) stop: AtomicBool,
    /// The breaker is to hold still; and whether it does something.
    pub(super) calm: AtomicBool,
    pub(super) breaking: AtomicBool,
    /// How many leases the next callers are to forget.
    pub(super) to_forget: AtomicU32,
    /// Forgotten leases, and when they come back.
    pub(super) drawer: Mutex<Vec<(Instant, PgLease<R>)>>,
}

/// What one caller is at, for whoever looks for hangs.
#[derive(Default)]
pub(super) struct Caller {
    /// Microseconds from the soak's begin, 0 for nothing.
    since: AtomicU64,
    querying: AtomicBool,
}

impl<R: Runtime> Field<R> {
    pub(super) fn new(runtime: R, census: Census, callers: usize) -> Self {
        Field {
            runtime,
            begun: Instant::now(),
            books: Books::default(),
            census: Mutex::new(census),
            pool: Mutex::default(),
            callers: (0..callers).map(|_| Caller::default()).collect(),
            gate: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
            own_tasks: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            calm: AtomicBool::new(false),
            breaking: AtomicBool::new(false),
            to_forget: AtomicU32::new(0),
            drawer: Mutex::default(),
        }
    }

    pub(super) fn pool(&self) -> Option<PgPool<R>> {
        lock(&self.pool).clone()
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(super) async fn sleep(&self, time: Duration) {
        sleep(&self.runtime, time).await;
    }

    /// Waits until `condition` holds; false if it did not within `limit`.
    pub(super) async fn until(&self, limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
        let end = Instant::now() + limit;
        loop {
            let last = Instant::now() >= end;
            if condition() {
                return true;
            }
            if last {
                return false;
            }
            self.sleep(Duration::from_millis(5)).await;
        }
    }

    /// Counts a task of the soak's own for as long as this is kept.
    pub(super) fn own(self: &Arc<Self>) -> Own<R> {
        self.own_tasks.fetch_add(1, Ordering::SeqCst);
        Own(self.clone())
    }

    /// Caller `number` begins to wait: for a connection, or for an answer.
    pub(super) fn mark(&self, number: usize, querying: bool) {
        let caller = &self.callers[number];
        caller.querying.store(querying, Ordering::Relaxed);
        let micros = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        caller.since.store(micros.max(1), Ordering::Relaxed);
    }

    pub(super) fn unmark(&self, number: usize) {
        self.callers[number].since.store(0, Ordering::Relaxed);
    }

    /// Reports each caller that waits for longer than it can, once.
    pub(super) fn look_for_hangs(&self) {
        for (number, caller) in self.callers.iter().enumerate() {
            let since = caller.since.load(Ordering::Relaxed);
            let waits = self.begun.elapsed().saturating_sub(Duration::from_micros(since));
            let querying = caller.querying.load(Ordering::Relaxed);
            let limit = if querying { COMMAND_TIMEOUT } else { ACQUIRE_TIMEOUT } + SLACK;
            if since == 0 || waits < limit {
                continue;
            }
            if caller.since.compare_exchange(since, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                let what = if querying { "a query" } else { "an acquire" };
                self.books.violated(format!("hang: {what} of caller {number} is not over after {}", span(waits)));
            }
        }
    }

    /// Gives forgotten leases back: those that are due, or all.
    pub(super) fn empty_drawer(&self, all: bool) {
        let now = Instant::now();
        let due = {
            let mut drawer = lock(&self.drawer);
            let (due, kept) = std::mem::take(&mut *drawer).into_iter().partition(|(at, _)| all || *at <= now);
            *drawer = kept;
            due
        };
        let due: Vec<(Instant, PgLease<R>)> = due;
        drop(due);
    }
}

/// Counts its task, whatever ends it.
pub(super) struct Own<R: Runtime>(Arc<Field<R>>);

impl<R: Runtime> Drop for Own<R> {
    fn drop(&mut self) {
        self.0.own_tasks.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Threads without a runtime, which end with this.
pub(super) struct Threads<R: Runtime> {
    field: Arc<Field<R>>,
    threads: Vec<JoinHandle<Result<(), Error>>>,
}

impl<R: Runtime> Threads<R> {
    pub(super) fn new(field: &Arc<Field<R>>) -> Self {
        Threads { field: field.clone(), threads: Vec::new() }
    }

    pub(super) fn start(&mut self, work: impl FnOnce() -> Result<(), Error> + Send + 'static) {
        self.threads.push(std::thread::spawn(work));
    }

    /// What one that has ended too early says.
    pub(super) fn check(&mut self) -> Result<(), Error> {
        match self.threads.iter().position(|thread| thread.is_finished()) {
            Some(ended) => join(self.threads.remove(ended)),
            None => Ok(()),
        }
    }

    pub(super) fn end(&mut self) -> Result<(), Error> {
        self.field.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).try_for_each(join)
    }
}

impl<R: Runtime> Drop for Threads<R> {
    fn drop(&mut self) {
        // Whoever drops this early has an error of its own to tell.
        let _ = self.end();
    }
}

fn join(thread: JoinHandle<Result<(), Error>>) -> Result<(), Error> {
    thread.join().unwrap_or_else(|_| Err(Error::Failed("a thread of the soak panicked".to_owned())))
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
