//! The runtime that this binary is about, and the library's types on it, named as in the crates for users.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pgweir_core::runtime::{Address, Runtime};
use pgweir_core::time::Instant;
use pgweir_tests::kit;
use tracing::dispatcher::{self, Dispatch};
use tracing::instrument::WithSubscriber;

pub(crate) use pgweir_core::config::Config;
pub(crate) use pgweir_core::error::{AcquireError, OpenError};
pub(crate) use pgweir_tests::kit::{Elapsed, Task, join, join_all, unless, yield_now};

use super::common::trace;

pub(crate) type Rt = Traced<crate::Subject>;
pub(crate) type Postgres = pgweir_core::client::Postgres<Rt>;
pub(crate) type Pool<M = Postgres> = pgweir_core::driver::Pool<Rt, M>;
pub(crate) type Lease<M = Postgres> = pgweir_core::driver::Lease<Rt, M>;
pub(crate) type Client = pgweir_core::client::Client<Rt>;

/// Runs `work` in the background.
pub(crate) fn spawn<F>(work: F) -> Task<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    kit::spawn(&Rt::current(), work)
}

/// Waits.
pub(crate) async fn sleep(time: Duration) {
    kit::sleep(&Rt::current(), time).await;
}

/// What `work` returns within `time`.
pub(crate) async fn timeout<T>(time: Duration, work: impl Future<Output = T>) -> Result<T, Elapsed> {
    kit::timeout(&Rt::current(), time, work).await
}

/// Runs what blocks on a thread of its own: the runtime's thread may be the only one.
pub(crate) async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    kit::off_thread(&Rt::current(), work).await
}

/// The runtime under test, with one thing added: what a task logs goes to the subscriber of the test that started it,
/// and the test's tasks are counted. Runtimes share their threads between tests, so a subscriber of the thread's would
/// not do. Sockets, timers and the clock are the runtime's own.
#[derive(Clone, Debug)]
pub(crate) struct Traced<R> {
    inner: R,
    dispatch: Dispatch,
}

impl<R: Runtime> Runtime for Traced<R> {
    type Stream = R::Stream;
    type Timer = R::Timer;

    fn current() -> Self {
        Traced { inner: R::current(), dispatch: dispatcher::get_default(Dispatch::clone) }
    }

    fn now(&self) -> Instant {
        self.inner.now()
    }

    fn unix_time(&self) -> Duration {
        self.inner.unix_time()
    }

    fn seed(&self) -> u64 {
        self.inner.seed()
    }

    fn timer(&self, deadline: Instant) -> R::Timer {
        self.inner.timer(deadline)
    }

    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let alive = Alive::new(trace::tasks(&self.dispatch));
        let counted = async move {
            task.await;
            drop(alive);
        };
        self.inner.spawn(name, counted.with_subscriber(self.dispatch.clone()));
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self.inner.resolve(host, port).await
    }

    async fn connect(&self, address: &Address) -> io::Result<R::Stream> {
        self.inner.connect(address).await
    }
}

/// A task that has not ended.
struct Alive(Option<Arc<AtomicUsize>>);

impl Alive {
    fn new(count: Option<Arc<AtomicUsize>>) -> Self {
        count.iter().for_each(|count| _ = count.fetch_add(1, Ordering::SeqCst));
        Alive(count)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.iter().for_each(|count| _ = count.fetch_sub(1, Ordering::SeqCst));
    }
}
