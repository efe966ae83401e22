//! A runtime for unit tests: a clock that is set by hand and streams that play a script.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::sync::{Arc, AtomicU32, AtomicU64, Mutex, Ordering::Relaxed, lock};
use crate::runtime::{Abort, Address, Peek, Runtime, Stream, Timer};
use crate::time::Instant;

/// The clock stands still until it is [set](FakeRuntime::set); tasks wait until somebody
/// [takes](FakeRuntime::take_spawned) and polls them.
#[derive(Clone, Default)]
pub(crate) struct FakeRuntime {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    clock: AtomicU64,
    /// What the wall clock shows when the other one shows nothing, in seconds.
    date: AtomicU64,
    /// How often a timer was made or moved: what a real one would pay for.
    armed: AtomicU32,
    timers: Mutex<Vec<(Instant, Waker)>>,
    spawned: Mutex<Vec<Task>>,
}

pub(crate) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

impl FakeRuntime {
    /// Moves the clock and wakes whoever waited for that.
    pub(crate) fn set(&self, now: Instant) {
        let mut timers = lock(&self.inner.timers);
        self.inner.clock.store(now.as_nanos(), Relaxed);
        let (due, later) = timers.drain(..).partition(|(at, _)| *at <= now);
        *timers = later;
        drop(timers);
        let due: Vec<(Instant, Waker)> = due;
        due.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Sets the wall clock's reading at the epoch of the other.
    #[cfg(not(pgweir_loom))]
    #[cfg(not(pgweir_loom))]
    pub(crate) fn date(&self, unix: Duration) {
        self.inner.date.store(unix.as_secs(), Relaxed);
    }

    #[cfg(not(pgweir_loom))]
    pub(crate) fn armed(&self) -> u32 {
        self.inner.armed.load(Relaxed)
    }

    pub(crate) fn take_spawned(&self) -> Vec<Task> {
        std::mem::take(&mut *lock(&self.inner.spawned))
    }
}

impl fmt::Debug for FakeRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeRuntime").field("clock", &self.inner.clock).finish_non_exhaustive()
    }
}

impl Runtime for FakeRuntime {
    type Stream = Script;
    type Timer = FakeTimer;

    fn current() -> Self {
        FakeRuntime::default()
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(self.inner.clock.load(Relaxed))
    }

    fn unix_time(&self) -> Duration {
        Duration::from_secs(self.inner.date.load(Relaxed)) + (self.now() - Instant::ZERO)
    }

    fn seed(&self) -> u64 {
        0
    }

    fn timer(&self, deadline: Instant) -> FakeTimer {
        self.inner.armed.fetch_add(1, Relaxed);
        FakeTimer { runtime: self.clone(), deadline }
    }

    fn spawn(&self, _name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        lock(&self.inner.spawned).push(Box::pin(task));
    }

    async fn resolve(&self, _host: &str, _port: u16) -> io::Result<Vec<SocketAddr>> {
        Err(io::ErrorKind::NotFound.into())
    }

    async fn connect(&self, _address: &Address) -> io::Result<Script> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }
}

#[derive(Debug)]
pub(crate) struct FakeTimer {
    runtime: FakeRuntime,
    deadline: Instant,
}

impl Future for FakeTimer {
    type Output = ();
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut timers = lock(&self.runtime.inner.timers);
        if self.runtime.now() >= self.deadline {
            return Poll::Ready(());
        }
        timers.push((self.deadline, cx.waker().clone()));
        Poll::Pending
    }
}

impl Timer for FakeTimer {
    fn reset(&mut self, deadline: Instant) {
        self.runtime.inner.armed.fetch_add(1, Relaxed);
        self.deadline = deadline;
    }
}

/// What the reads give, in order (then Pending), and how many bytes are taken before writing fails.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) reads: VecDeque<Result<Vec<u8>, io::ErrorKind>>,
    pub(crate) writable: Option<usize>,
    pub(crate) written: Vec<u8>,
}

impl Stream for Script {
    fn poll_read(&mut self, _cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.reads.pop_front() {
            None => Poll::Pending,
            Some(Err(kind)) => Poll::Ready(Err(kind.into())),
            Some(Ok(mut bytes)) => {
                let n = bytes.len().min(buffer.len());
                buffer[..n].copy_from_slice(&bytes[..n]);
                if n < bytes.len() {
                    self.reads.push_front(Ok(bytes.split_off(n)));
                }
                Poll::Ready(Ok(n))
            }
        }
    }

    fn poll_write(&mut self, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let left = self.writable.map_or(usize::MAX, |limit| limit.saturating_sub(self.written.len()));
        if left == 0 {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let n = bytes.len().min(left);
        self.written.extend_from_slice(&bytes[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_close(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn peek(&self) -> Peek {
        if self.reads.is_empty() { Peek::Quiet } else { Peek::Readable }
    }

    fn abort_handle(&self) -> std::sync::Arc<dyn Abort> {
        std::sync::Arc::new(NoAbort)
    }
}

#[derive(Debug)]
struct NoAbort;
impl Abort for NoAbort {
    fn abort(&self) {}
}
