//! A single-threaded executor on a virtual clock. Ready tasks run in an order drawn from the seed; time passes only when
//! none is ready, and then exactly to the next thing that is due.
//!
//! State is behind locks because a [`Runtime`](pgweir_core::runtime::Runtime) can be shared between threads, but only
//! the thread that called [`run`](Executor::run) polls. No lock is held while a future is polled or dropped or a waker
//! is called.

mod task;
mod timers;

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use pgweir_core::time::Instant;
use serde::Serialize;

use self::task::{Flag, Ready, Task, Tasks};
use self::timers::Timers;
use crate::digest::Digest;
use crate::rng::Rng;
use crate::scenario::Dist;

pub(crate) use self::task::TaskId;
pub use self::timers::SimTimer;

/// Streams of a run's seed, one for each concern.
pub(crate) mod stream {
    pub(crate) const ORDER: u64 = 0x6578_6500;
    pub(crate) const SLACK: u64 = 0x6578_6501;
    pub(crate) const SEEDS: u64 = 0x6578_6502;
    pub(crate) const NETWORK: u64 = 0x6e65_7400;
}

/// What happens outside the tasks: the network and what is behind it.
pub(crate) trait Outside {
    /// When something happens next.
    fn next_at(&self) -> Instant;
    /// The next thing happens. Only called when [`next_at`](Outside::next_at) is not later than now.
    fn step(&self);
}

/// The executor.
pub(crate) struct Executor {
    seed: u64,
    /// Polls and steps at one instant before it is a livelock.
    limit: u64,
    /// When a run is not going to end by itself.
    time_limit: Instant,
    clock: AtomicU64,
    /// Until then no task is polled and no timer fires.
    asleep_until: AtomicU64,
    started: AtomicBool,
    ended: AtomicBool,
    ready: Arc<Ready>,
    tasks: Mutex<Tasks>,
    timers: Mutex<Timers>,
    digest: Mutex<Digest>,
}

/// What goes into the digest, apart from what happens outside.
#[derive(Serialize)]
enum Step {
    Spawn(u64),
    Poll(u64),
    Timer(Instant, u64),
    Asleep(Instant),
}

/// Locks whether or not a thread panicked under the lock: what is behind it is valid between two statements.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Executor {
    pub(crate) fn new(seed: u64, slack: Dist, limit: u64, time_limit: Instant) -> Self {
        Executor {
            seed,
            limit,
            time_limit,
            clock: AtomicU64::new(0),
            asleep_until: AtomicU64::new(0),
            started: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            ready: Arc::default(),
            tasks: Mutex::new(Tasks::new()),
            timers: Mutex::new(Timers::new(slack, Rng::new(seed, stream::SLACK))),
            digest: Mutex::default(),
        }
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    #[inline]
    pub(crate) fn now(&self) -> Instant {
        Instant::from_nanos(self.clock.load(Ordering::Relaxed))
    }

    pub(crate) fn digest(&self) -> Digest {
        *lock(&self.digest)
    }

    /// Chains `step` to the run's digest.
    #[inline]
    pub(crate) fn chain<T: Serialize>(&self, step: &T) {
        lock(&self.digest).add(step);
    }

    /// Adds a task. After the end of the run it is dropped at once.
    pub(crate) fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) -> TaskId {
        let id = lock(&self.tasks).add(name, Box::pin(future), &self.ready);
        self.chain(&Step::Spawn(id.serial));
        if self.ended.load(Ordering::Acquire) {
            self.abort(id);
        }
        id
    }

    /// Drops a task; if it is being polled, when that returns.
    pub(crate) fn abort(&self, id: TaskId) {
        let task = lock(&self.tasks).abort(id);
        if let Some(task) = task {
            task.flag.retire();
            drop(task);
        }
    }

    /// From now until `until` no task is polled and no timer fires.
    pub(crate) fn sleep_until(&self, until: Instant) {
        self.chain(&Step::Asleep(until));
        self.asleep_until.fetch_max(until.as_nanos(), Ordering::Relaxed);
    }

    /// Runs until `main` is ready; then all tasks are dropped, in the order in which they were spawned.
    ///
    /// # Panics
    /// With the seed: if `main` or a task panics, and on a stall and on a livelock. Without, if it ran before.
    pub(crate) fn run<T>(&self, main: impl Future<Output = T>, outside: &dyn Outside) -> T {
        assert!(!self.started.swap(true, Ordering::AcqRel), "a simulation runs once: make another one");
        let _end = End(self);
        let mut main = pin!(main);
        let flag = Flag::new(TaskId::MAIN, &self.ready);
        let waker = Waker::from(flag.clone());
        let mut cx = Context::from_waker(&waker);
        let mut order = Rng::new(self.seed, stream::ORDER);
        let mut steps = 0;
        loop {
            while self.awake()
                && let Some(id) = self.ready.pick(&mut order)
            {
                steps += 1;
                if steps > self.limit {
                    self.livelock(id);
                }
                if id == TaskId::MAIN {
                    self.chain(&Step::Poll(0));
                    flag.lower();
                    match catch_unwind(AssertUnwindSafe(|| main.as_mut().poll(&mut cx))) {
                        Ok(Poll::Ready(output)) => return output,
                        Ok(Poll::Pending) => {}
                        Err(panic) => self.panicked("the simulation", &*panic),
                    }
                } else {
                    self.poll(id);
                }
            }
            if self.advance(outside) {
                steps = 0;
            }
            while outside.next_at() <= self.now() {
                steps += 1;
                if steps > self.limit {
                    self.fail(format_args!("the network does not come to rest"));
                }
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| outside.step())) {
                    self.panicked("a host", &*panic);
                }
            }
            self.fire();
        }
    }

    fn poll(&self, id: TaskId) {
        let Some(mut task) = lock(&self.tasks).take(id) else { return };
        self.chain(&Step::Poll(id.serial));
        task.flag.lower();
        let Task { future, waker, name, .. } = &mut task;
        let name = *name;
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(waker))));
        let over = match polled {
            Ok(Poll::Pending) => lock(&self.tasks).put_back(task),
            Ok(Poll::Ready(())) => {
                lock(&self.tasks).remove(id);
                Some(task)
            }
            Err(panic) => {
                lock(&self.tasks).remove(id);
                // A second panic, in a drop, would hide the first one.
                let _ = dropped(task);
                self.panicked(&format!("the task {name:?}"), &*panic)
            }
        };
        if let Some(Err(panic)) = over.map(dropped) {
            self.panicked(&format!("dropping the task {name:?}"), &*panic);
        }
    }

    fn awake(&self) -> bool {
        self.asleep_until.load(Ordering::Relaxed) <= self.clock.load(Ordering::Relaxed)
    }

    /// Moves the clock to the next thing that is due; whether it moved.
    fn advance(&self, outside: &dyn Outside) -> bool {
        let now = self.now();
        let inside = if self.awake() {
            lock(&self.timers).next_at()
        } else {
            Instant::from_nanos(self.asleep_until.load(Ordering::Relaxed))
        };
        let next = inside.min(outside.next_at());
        if next == Instant::MAX {
            self.stall();
        }
        if next <= now {
            return false;
        }
        if next > self.time_limit {
            self.fail(format_args!(
                "the time limit has passed and the simulation's future still waits. Tasks: {}",
                self.tasks()
            ));
        }
        self.clock.store(next.as_nanos(), Ordering::Relaxed);
        true
    }

    /// Wakes those whose timers are due.
    fn fire(&self) {
        if !self.awake() {
            return;
        }
        loop {
            let due = lock(&self.timers).pop_due(self.now());
            let Some(((at, number), waker)) = due else { return };
            self.chain(&Step::Timer(at, number));
            waker.wake();
        }
    }

    fn stall(&self) -> ! {
        self.fail(format_args!(
            "stalled: the simulation's future waits, no task is ready and nothing is due. Waiting tasks: {}",
            self.tasks()
        ))
    }

    /// How many tasks there are of each name.
    fn tasks(&self) -> String {
        let mut names = BTreeMap::<&str, u32>::new();
        for name in lock(&self.tasks).names() {
            *names.entry(name).or_default() += 1;
        }
        let names: Vec<_> = names.iter().map(|(name, count)| format!("{count} x {name:?}")).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }

    fn livelock(&self, id: TaskId) -> ! {
        let name = match id {
            TaskId::MAIN => "the simulation's future".to_owned(),
            id => lock(&self.tasks).name(id).map_or("a task".to_owned(), |name| format!("the task {name:?}")),
        };
        self.fail(format_args!("livelock: {} polls without any time passing, the last one of {name}", self.limit))
    }

    fn panicked(&self, who: &str, panic: &(dyn Any + Send)) -> ! {
        self.fail(format_args!("{who} panicked: {}", message(panic)))
    }

    fn fail(&self, what: fmt::Arguments<'_>) -> ! {
        panic!("{what}\n  at {:?} of virtual time, {}", self.now(), again(self.seed))
    }
}

/// How a run is repeated.
pub(crate) fn again(seed: u64) -> String {
    let thread = std::thread::current();
    let test = thread.name().filter(|name| *name != "main");
    let command = test.map_or("the same command".to_owned(), |test| format!("cargo test {test}"));
    format!("seed {seed}; to run it again: {}={seed} {command}", crate::sim::SEED_VARIABLE)
}

/// What a panic said.
pub(crate) fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(not a text)")
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor").field("seed", &self.seed).field("now", &self.now()).finish_non_exhaustive()
    }
}

/// Drops what is left at the end of a run, also of one that fails: tasks own handles to what owns the tasks.
struct End<'a>(&'a Executor);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let Executor { tasks, timers, ended, .. } = self.0;
        ended.store(true, Ordering::Release);
        let all = lock(tasks).take_all();
        let mut first = None;
        for task in all {
            let name = task.name;
            if let Err(panic) = dropped(task) {
                first.get_or_insert((name, panic));
            }
        }
        let timers = lock(timers).take_all();
        drop(timers);
        if let Some((name, panic)) = first
            && !std::thread::panicking()
        {
            self.0.panicked(&format!("dropping the task {name:?}"), &*panic);
        }
    }
}

/// Drops a task that is over, and catches its panic.
fn dropped(task: Task) -> std::thread::Result<()> {
    task.flag.retire();
    catch_unwind(AssertUnwindSafe(|| drop(task)))
}
