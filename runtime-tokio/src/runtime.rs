//! [`Runtime`] for tokio.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use pgweir_core::os;
use pgweir_core::runtime::{Address, Runtime, Timer};
use pgweir_core::time::Instant;
use tokio::runtime::Handle;

use crate::stream::TokioStream;

/// tokio, multi-threaded or current-thread. Holds a handle, so that it can be used from anywhere.
///
/// Close a pool before its runtime ends. If the runtime goes first, acquires and queries fail, idle sessions end, and
/// nobody is left to cancel what runs on the server: such a query goes on there until it is done, or until the server
/// notices (its setting `client_connection_check_interval`).
#[derive(Clone, Debug)]
pub struct TokioRuntime {
    handle: Handle,
    ended: Ended,
}

/// Whether the runtime has ended. tokio does not tell, and its timers panic then; but it drops its tasks first.
#[derive(Clone, Debug, Default)]
struct Ended(Arc<AtomicBool>);

/// Held by a task for as long as it runs.
struct Running(Option<Ended>);

impl Running {
    fn done(mut self) {
        self.0 = None;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A panic of its own says nothing about the runtime.
        if let Some(ended) = self.0.as_ref().filter(|_| !std::thread::panicking()) {
            ended.0.store(true, Ordering::Release);
        }
    }
}

impl TokioRuntime {
    /// The runtime behind `handle`; its I/O and time drivers must be enabled.
    pub fn from_handle(handle: Handle) -> Self {
        os::prepare_clock();
        TokioRuntime { handle, ended: Ended::default() }
    }

    #[cfg(feature = "endpoint")]
    pub(crate) fn enter(&self) -> tokio::runtime::EnterGuard<'_> {
        self.handle.enter()
    }

    /// Polls `work` with this runtime entered, as tokio's sockets and threads need it, whoever waits for it.
    async fn entered<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|cx| {
            let _entered = self.handle.enter();
            work.as_mut().poll(cx)
        })
        .await
    }
}

impl Runtime for TokioRuntime {
    type Stream = TokioStream;
    type Timer = TokioTimer;

    fn current() -> Self {
        TokioRuntime::from_handle(Handle::current())
    }

    fn now(&self) -> Instant {
        os::now()
    }

    fn unix_time(&self) -> Duration {
        os::unix_time()
    }

    fn seed(&self) -> u64 {
        os::seed()
    }

    fn timer(&self, deadline: Instant) -> TokioTimer {
        let _entered = self.handle.enter();
        TokioTimer { sleep: Box::pin(tokio::time::sleep_until(at(deadline))), ended: self.ended.clone() }
    }

    fn spawn(&self, _name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let running = Running(Some(self.ended.clone()));
        self.handle.spawn(async move {
            task.await;
            running.done();
        });
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self.entered(async { Ok(tokio::net::lookup_host((host, port)).await?.collect()) }).await
    }

    async fn connect(&self, address: &Address) -> io::Result<TokioStream> {
        self.entered(TokioStream::connect(address)).await
    }
}

/// tokio's own limit is some two years; "never" is a deadline beyond it.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

fn at(deadline: Instant) -> tokio::time::Instant {
    // Our clock before tokio's: a thread that is stopped in between makes the timer late, never early.
    let left = (deadline - os::now()).min(NEVER);
    tokio::time::Instant::now() + left
}

/// A timer of tokio's. It never fires when its runtime has ended under a pool: whoever waits learns that otherwise, by
/// the pool's end or its socket's.
#[derive(Debug)]
pub struct TokioTimer {
    sleep: Pin<Box<tokio::time::Sleep>>,
    ended: Ended,
}

impl Future for TokioTimer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.ended.0.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        self.sleep.as_mut().poll(cx)
    }
}

impl Timer for TokioTimer {
    fn reset(&mut self, deadline: Instant) {
        self.sleep.as_mut().reset(at(deadline));
    }
}
