//! The driver on a clock that is set by hand, with an executor that polls only what was woken and a manager that does
//! what the test says: lost wakeups, leaked slots and foreign code under the lock show.

mod acquire;
mod background;
#[cfg(feature = "endpoint")]
mod endpoint;
mod events;
mod journal;
mod lifecycle;
mod metrics;
mod panics;
#[cfg(feature = "metrics")]
mod publish;
mod reports;

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::fake::{FakeRuntime, Task};
use super::{Pool, PoolBuilder};
use crate::config::PoolConfig;
use crate::journal::JournalOptions;
use crate::manager::{Manager, Returned};
use crate::pool::{Fate, Fault, FaultClass, HostId, ResetHow, Role, ServerFacts};
use crate::runtime::Abort;
use crate::time::Instant;

type ToyPool = Pool<FakeRuntime, Toy>;
type Lease = super::Lease<FakeRuntime, Toy>;

/// The executor.
#[derive(Default)]
struct World {
    runtime: FakeRuntime,
    tasks: Vec<(Task, Arc<Flag>)>,
    toy: Toy,
}

impl World {
    fn builder(&self, min_size: u32, max_size: u32) -> PoolBuilder<FakeRuntime, Toy> {
        self.configured(PoolConfig { min_size, max_size, ..PoolConfig::default() })
    }

    fn configured(&self, config: PoolConfig) -> PoolBuilder<FakeRuntime, Toy> {
        let builder = PoolBuilder::new(self.runtime.clone(), self.toy.clone(), config);
        // To make room for thousands of events takes Miri longer than most tests.
        if cfg!(miri) { builder.journal(JournalOptions::new().entries(256)) } else { builder }
    }

    /// A pool that has opened its first connections.
    fn pool(&mut self, min_size: u32, max_size: u32) -> ToyPool {
        let builder = self.builder(min_size, max_size);
        self.start(builder)
    }

    fn start(&mut self, builder: PoolBuilder<FakeRuntime, Toy>) -> ToyPool {
        let pool = builder.open_lazy();
        let shared = pool.shared().clone();
        self.toy.line().is_locked = Some(Arc::new(move || shared.is_locked()));
        self.run();
        pool
    }

    /// Polls whatever was woken, until nothing is.
    fn run(&mut self) {
        for _ in 0..10_000 {
            let new = self.runtime.take_spawned();
            self.tasks.extend(new.into_iter().map(|task| (task, Flag::raised())));
            let mut idle = true;
            self.tasks.retain_mut(|(task, flag)| {
                if !flag.lower() {
                    return true;
                }
                idle = false;
                task.as_mut().poll(&mut Context::from_waker(&Waker::from(flag.clone()))).is_pending()
            });
            if idle {
                return self.keeps_no_socket();
            }
        }
        panic!("the background task never rests");
    }

    fn advance(&mut self, time: Duration) {
        use crate::runtime::Runtime;
        self.runtime.set(self.runtime.now() + time);
        self.run();
    }

    /// The runtime is shut down: its tasks are dropped.
    fn stop(&mut self) {
        self.tasks.clear();
        drop(self.runtime.take_spawned());
        self.keeps_no_socket();
    }

    /// No abort handle outlives its connection.
    fn keeps_no_socket(&self) {
        let (open, handles) = (self.toy.open(), self.toy.handles());
        assert!(handles <= open, "{handles} abort handles keep the sockets of {open} connections open");
    }

    fn lease(&mut self, pool: &ToyPool) -> Lease {
        let mut acquire = Held::new(pool.get());
        match acquire.poll() {
            Poll::Ready(lease) => lease.expect("a connection is to be had"),
            Poll::Pending => {
                self.run();
                acquire.ready().expect("a connection is to be had")
            }
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let is_locked = self.toy.line().is_locked.take();
        drop(is_locked);
        let under_lock = std::mem::take(&mut self.toy.line().under_lock);
        if !std::thread::panicking() {
            assert!(under_lock.is_empty(), "foreign code ran under the pool's lock: {under_lock:?}");
        }
    }
}

/// Whether a task was woken.
#[derive(Default)]
struct Flag(AtomicBool);

impl Flag {
    fn raised() -> Arc<Self> {
        Arc::new(Flag(AtomicBool::new(true)))
    }

    fn lower(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A future that a test polls by hand.
struct Held<F> {
    future: Pin<Box<F>>,
    flag: Arc<Flag>,
}

impl<F: Future> Held<F> {
    fn new(future: F) -> Self {
        Held { future: Box::pin(future), flag: Arc::default() }
    }

    fn poll(&mut self) -> Poll<F::Output> {
        self.flag.lower();
        self.future.as_mut().poll(&mut Context::from_waker(&Waker::from(self.flag.clone())))
    }

    fn waits(&mut self) {
        assert!(self.poll().is_pending(), "nothing is to be had yet");
    }

    /// The result of a future that was woken and is done.
    #[track_caller]
    fn ready(&mut self) -> F::Output {
        assert!(self.flag.lower(), "it was not woken");
        match self.poll() {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("woken for nothing"),
        }
    }

    fn is_woken(&self) -> bool {
        self.flag.0.load(Ordering::Relaxed)
    }

    /// Another task polls it from now on; returns the flag of the one before.
    fn moved(&mut self) -> Arc<Flag> {
        std::mem::take(&mut self.flag)
    }
}

/// What a manager is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Connect,
    Validate,
    Reset,
    Close,
    Peek,
    Listen,
    Returned,
    Handle,
    Abort,
    Drop,
    Sink,
}

/// The manager: everything succeeds at once unless the line says otherwise.
#[derive(Clone, Default)]
struct Toy {
    line: Arc<Mutex<Line>>,
}

#[derive(Default)]
struct Line {
    /// Connections made, and those that exist.
    opened: u32,
    open: BTreeSet<u32>,
    /// Steps that wait until they are let go, and who waits.
    held: BTreeSet<Step>,
    waiting: Vec<Waker>,
    /// Steps that panic.
    panics: BTreeSet<Step>,
    /// Connections whose socket is at its end.
    dead: BTreeSet<u32>,
    /// How connections come back; otherwise clean.
    fate: Option<Fate>,
    /// How many hosts there are, if not one.
    hosts: Option<u16>,
    /// Whether clean connections are reset too.
    resets: bool,
    /// Hosts that refuse.
    refuses: BTreeSet<u16>,
    /// Whether sessions say who they are, and count their queries.
    talkative: bool,
    /// Who listens to an idle connection.
    listeners: BTreeMap<u32, Waker>,
    aborted: Vec<u32>,
    /// Every abort handle has one: each keeps its connection's socket open.
    handle: Arc<()>,
    /// How often a step was asked for.
    asked: BTreeMap<Step, u32>,
    /// What ran under the pool's lock: nothing may.
    under_lock: BTreeSet<Step>,
    is_locked: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
}

impl Toy {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, step: Step) {
        self.line().held.insert(step);
    }

    fn let_go(&self, step: Step) {
        let waiting = {
            let mut line = self.line();
            line.held.remove(&step);
            std::mem::take(&mut line.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    fn panics(&self, step: Step) {
        self.line().panics.insert(step);
    }

    fn behaves(&self) {
        self.line().panics.clear();
    }

    fn open(&self) -> usize {
        self.line().open.len()
    }

    fn handles(&self) -> usize {
        Arc::strong_count(&self.line().handle) - 1
    }

    fn asked(&self, step: Step) -> u32 {
        self.line().asked.get(&step).copied().unwrap_or(0)
    }

    /// The end of a connection, as its socket sees it.
    fn kill(&self, id: u32) {
        let waker = {
            let mut line = self.line();
            line.dead.insert(id);
            line.listeners.remove(&id)
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Foreign code begins.
    fn begin(&self, step: Step) {
        let (panics, is_locked) = {
            let mut line = self.line();
            *line.asked.entry(step).or_default() += 1;
            (line.panics.contains(&step), line.is_locked.clone())
        };
        if is_locked.is_some_and(|is_locked| is_locked()) {
            self.line().under_lock.insert(step);
        }
        assert!(!panics, "{step:?} panics");
    }

    async fn step(&self, step: Step) {
        self.begin(step);
        poll_fn(|cx| {
            let mut line = self.line();
            if line.held.contains(&step) {
                line.waiting.push(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }

    fn state(&self, id: u32) -> Result<(), Fault> {
        match self.line().dead.contains(&id) {
            true => Err(Fault::new(FaultClass::Transient, "the server hung up")),
            false => Ok(()),
        }
    }
}

struct Conn {
    id: u32,
    toy: Toy,
    queries: Arc<AtomicU64>,
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.toy.line().open.remove(&self.id);
        if !std::thread::panicking() {
            self.toy.begin(Step::Drop);
        }
    }
}

impl std::fmt::Debug for Toy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Toy")
    }
}

#[derive(Debug)]
struct Scissors {
    id: u32,
    toy: Toy,
    _handle: Arc<()>,
}

impl Abort for Scissors {
    fn abort(&self) {
        self.toy.begin(Step::Abort);
        self.toy.line().aborted.push(self.id);
        self.toy.kill(self.id);
    }
}

impl Drop for Scissors {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.toy.begin(Step::Drop);
        }
    }
}

impl Manager for Toy {
    type Connection = Conn;

    async fn connect(&self, host: HostId, _deadline: Instant) -> Result<(Conn, ServerFacts), Fault> {
        self.step(Step::Connect).await;
        if self.line().refuses.contains(&host.0) {
            return Err(Fault::new(FaultClass::Transient, "refused"));
        }
        let id = {
            let mut line = self.line();
            line.opened += 1;
            let id = line.opened;
            line.open.insert(id);
            id
        };
        let facts = match self.line().talkative {
            true => ServerFacts { backend_pid: 7_000 + id.cast_signed(), role: Role::Primary },
            false => ServerFacts::default(),
        };
        Ok((Conn { id, toy: self.clone(), queries: Arc::default() }, facts))
    }

    async fn validate(&self, connection: &mut Conn) -> Result<(), Fault> {
        self.step(Step::Validate).await;
        self.state(connection.id)
    }

    async fn reset(&self, connection: &mut Conn, _how: ResetHow, _deadline: Instant) -> Result<(), Fault> {
        self.step(Step::Reset).await;
        self.state(connection.id)
    }

    fn peek(&self, connection: &mut Conn) -> Result<(), Fault> {
        self.begin(Step::Peek);
        self.state(connection.id)
    }

    fn poll_idle(&self, connection: &mut Conn, cx: &mut Context<'_>) -> Poll<Fault> {
        self.begin(Step::Listen);
        match self.state(connection.id) {
            Err(fault) => Poll::Ready(fault),
            Ok(()) => {
                let old = self.line().listeners.insert(connection.id, cx.waker().clone());
                drop(old);
                Poll::Pending
            }
        }
    }

    fn returned(&self, connection: &mut Conn) -> Returned {
        self.begin(Step::Returned);
        let fate = self.line().fate.unwrap_or(Fate::Clean);
        let fate = if self.state(connection.id).is_err() { Fate::Broken } else { fate };
        Returned { fate, queries: 1, fault: None }
    }

    async fn close(&self, connection: Conn) {
        self.step(Step::Close).await;
        drop(connection);
    }

    fn hosts(&self) -> u16 {
        self.line().hosts.unwrap_or(1)
    }

    fn host_name(&self, host: HostId) -> String {
        format!("db{}.example.com:5432", host.0 + 1)
    }

    fn query_count(&self, connection: &Conn) -> Option<Arc<AtomicU64>> {
        self.line().talkative.then(|| connection.queries.clone())
    }

    fn resets(&self) -> bool {
        self.line().resets
    }

    fn abort_handle(&self, connection: &Conn) -> Option<Arc<dyn Abort>> {
        self.begin(Step::Handle);
        let handle = self.line().handle.clone();
        Some(Arc::new(Scissors { id: connection.id, toy: self.clone(), _handle: handle }))
    }
}
