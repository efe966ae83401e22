//! What the models run on: the fake runtime, whose primitives are loom's here, a manager that opens, lends and closes
//! no more than a number, and the background task, polled by hand or on a thread of its own.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::sync::atomic::AtomicBool as PlainBool;
use std::sync::atomic::AtomicUsize as PlainUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Wake, Waker};

use loom::future::block_on;
use loom::thread::{self, JoinHandle};

use crate::config::PoolConfig;
use crate::driver::fake::{self, FakeRuntime};
use crate::driver::sync::{Arc, Mutex, lock};
use crate::driver::{Pool, PoolBuilder};
use crate::journal::JournalOptions;
use crate::manager::{Manager, Returned};
use crate::pool::{Fate, Fault, FaultClass, HostId, ResetHow, ServerFacts};
use crate::runtime::Abort;
use crate::time::Instant;

pub(super) type WirePool = Pool<FakeRuntime, Wire>;

/// In words. Loom's own threads have a quarter of that, which a pool does not fit on.
const STACK: usize = 0x4000;

/// Runs the model under every schedule with at most so many preemptions, or as many as `LOOM_MAX_PREEMPTIONS` says.
///
/// # Panics
/// When the model does, and when there is next to nothing to schedule: then its threads do not meet.
pub(super) fn check(preemptions: usize, model: fn()) {
    let runs = std::sync::Arc::new(PlainUsize::new(0));
    let counted = runs.clone();
    let mut builder = loom::model::Builder::new();
    let preemptions = *builder.preemption_bound.get_or_insert(preemptions);
    builder.max_branches = 10_000;
    builder.check(move || {
        counted.fetch_add(1, Relaxed);
        spawn(model).join().expect("a model's panic ends loom");
    });
    let runs = runs.load(Relaxed);
    report(&format!("{runs} schedules with {preemptions} preemptions"));
    assert!(runs > 20, "only {runs} schedules");
}

/// Shown with `--nocapture`.
#[expect(clippy::print_stderr, reason = "a test's output")]
fn report(what: &str) {
    eprintln!("{}: {what}", std::thread::current().name().unwrap_or("a model"));
}

pub(super) fn spawn<T: Send + 'static>(code: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::Builder::new().stack_size(STACK).spawn(code).expect("loom always spawns")
}

/// The runtime and the other end of all connections.
#[derive(Default)]
pub(super) struct Rig {
    pub(super) runtime: FakeRuntime,
    pub(super) wire: Wire,
}

impl Rig {
    /// A pool that has opened its first connections, and its background task, which rests.
    pub(super) fn pool(&self, min_size: u32, max_size: u32) -> (WirePool, Background) {
        let config = PoolConfig { min_size, max_size, ..PoolConfig::default() };
        let builder = PoolBuilder::new(self.runtime.clone(), self.wire.clone(), config);
        let pool = builder.journal(JournalOptions::off()).open_lazy();
        let task = self.runtime.take_spawned().pop().expect("a pool spawns its task");
        let mut background = Background { task, flag: std::sync::Arc::new(Flag(PlainBool::new(true))) };
        assert!(!background.rest());
        (pool, background)
    }

    /// The end of every model in which the task is polled by hand: the pool goes, and with it everything.
    pub(super) fn close(self, pool: WirePool, mut background: Background) {
        drop(pool);
        assert!(background.rest(), "the task ends with the pool");
        assert_eq!(self.wire.open(), 0, "nothing stays open");
    }

    /// The end of every model in which the task has a thread. How that ends has models of its own.
    pub(super) fn end(self, pool: WirePool, task: JoinHandle<()>) {
        loom::stop_exploring();
        drop(pool);
        task.join().expect("a model's panic ends loom");
        assert_eq!(self.wire.open(), 0, "nothing stays open");
    }
}

/// A pool's background task.
pub(super) struct Background {
    task: fake::Task,
    flag: std::sync::Arc<Flag>,
}

impl Background {
    /// Polls it as long as it was woken. Whether it has ended.
    pub(super) fn rest(&mut self) -> bool {
        while self.flag.0.swap(false, Relaxed) {
            if self.task.as_mut().poll(&mut Context::from_waker(&Waker::from(self.flag.clone()))).is_ready() {
                return true;
            }
        }
        false
    }

    /// Gives it a thread of its own, which ends when it does.
    pub(super) fn spawn(self) -> JoinHandle<()> {
        spawn(move || block_on(self.task))
    }
}

/// The waker of what is polled by hand. It is not loom's: it is looked at only where no other thread runs.
pub(super) struct Flag(PlainBool);

impl Wake for Flag {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

/// Polls once, with a waker of nobody.
pub(super) fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// The manager.
#[derive(Clone, Default)]
pub(super) struct Wire {
    line: Arc<Line>,
}

#[derive(Default)]
struct Line {
    tally: Mutex<Tally>,
    gate: Mutex<Gate>,
}

#[derive(Default)]
struct Tally {
    opened: u32,
    open: BTreeMap<u32, Arc<Mutex<Socket>>>,
    watcher: Option<Waker>,
}

#[derive(Default)]
struct Gate {
    is_shut: bool,
    waiting: Option<Waker>,
}

/// What a connection is read from.
#[derive(Default)]
pub(super) struct Socket {
    is_dead: bool,
    listener: Option<Waker>,
}

impl Wire {
    pub(super) fn opened(&self) -> u32 {
        lock(&self.line.tally).opened
    }

    pub(super) fn open(&self) -> usize {
        lock(&self.line.tally).open.len()
    }

    /// Connects wait from now on.
    pub(super) fn shut(&self) {
        lock(&self.line.gate).is_shut = true;
    }

    /// The server answers.
    pub(super) fn admit(&self) {
        let waiting = {
            let mut gate = lock(&self.line.gate);
            gate.is_shut = false;
            gate.waiting.take()
        };
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    pub(super) fn socket(&self, id: u32) -> Arc<Mutex<Socket>> {
        lock(&self.line.tally).open[&id].clone()
    }

    /// Waits until so many connections were opened in all, and so many are open.
    pub(super) async fn until(&self, opened: u32, open: usize) {
        poll_fn(|cx| {
            let mut tally = lock(&self.line.tally);
            if (tally.opened, tally.open.len()) == (opened, open) {
                return Poll::Ready(());
            }
            let old = tally.watcher.replace(cx.waker().clone());
            drop(tally);
            drop(old);
            Poll::Pending
        })
        .await;
    }

    fn count(&self, change: impl FnOnce(&mut Tally)) {
        let watcher = {
            let mut tally = lock(&self.line.tally);
            change(&mut tally);
            tally.watcher.take()
        };
        if let Some(waker) = watcher {
            waker.wake();
        }
    }
}

/// The server hangs up.
pub(super) fn hang_up(socket: &Mutex<Socket>) {
    let listener = {
        let mut socket = lock(socket);
        socket.is_dead = true;
        socket.listener.take()
    };
    if let Some(waker) = listener {
        waker.wake();
    }
}

fn state(socket: &Socket) -> Result<(), Fault> {
    match socket.is_dead {
        true => Err(Fault::plain(FaultClass::Transient, "the server hung up")),
        false => Ok(()),
    }
}

pub(super) struct Conn {
    pub(super) id: u32,
    socket: Arc<Mutex<Socket>>,
    wire: Wire,
}

impl Drop for Conn {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.wire.count(|tally| drop(tally.open.remove(&self.id)));
        }
    }
}

impl Manager for Wire {
    type Connection = Conn;

    async fn connect(&self, _host: HostId, _deadline: Instant) -> Result<(Conn, ServerFacts), Fault> {
        poll_fn(|cx| {
            let mut gate = lock(&self.line.gate);
            if !gate.is_shut {
                return Poll::Ready(());
            }
            gate.waiting = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
        let socket = Arc::new(Mutex::new(Socket::default()));
        let mut id = 0;
        self.count(|tally| {
            tally.opened += 1;
            id = tally.opened;
            tally.open.insert(id, socket.clone());
        });
        Ok((Conn { id, socket, wire: self.clone() }, ServerFacts::default()))
    }

    async fn validate(&self, connection: &mut Conn) -> Result<(), Fault> {
        state(&lock(&connection.socket))
    }

    async fn reset(&self, connection: &mut Conn, _how: ResetHow, _deadline: Instant) -> Result<(), Fault> {
        state(&lock(&connection.socket))
    }

    fn peek(&self, connection: &mut Conn) -> Result<(), Fault> {
        state(&lock(&connection.socket))
    }

    fn poll_idle(&self, connection: &mut Conn, cx: &mut Context<'_>) -> Poll<Fault> {
        let mut socket = lock(&connection.socket);
        match state(&socket) {
            Err(fault) => Poll::Ready(fault),
            Ok(()) => {
                socket.listener = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn returned(&self, connection: &mut Conn) -> Returned {
        let fate = if state(&lock(&connection.socket)).is_err() { Fate::Broken } else { Fate::Clean };
        Returned { fate, queries: 1, fault: None }
    }

    async fn close(&self, connection: Conn) {
        drop(connection);
    }

    fn abort_handle(&self, _connection: &Conn) -> Option<std::sync::Arc<dyn Abort>> {
        None
    }
}
