//! What pgweir needs of an async runtime. A shim implements these three traits and nothing else.
//!
//! Timeouts, host order, retries and races stay in this crate, where the simulator tests them; a runtime only opens
//! sockets, tells the time and polls futures.
//!
#![doc = include_str!("../docs/runtime.md")]
//! ```
#![doc = include_str!("../docs/own_runtime.rs")]
//! ```
#![doc = include_str!("../docs/runtime_end.md")]

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::config::TcpOptions;
use crate::time::Instant;

/// An async runtime: a clock, timers, tasks and sockets.
///
/// Everything but [`current`](Runtime::current) may be called, and the futures, timers and streams polled and dropped, on
/// any thread, also outside the runtime's own: whoever waits for a pool may be on another runtime. After the runtime's
/// end nothing of it panics: tasks are dropped, connects and streams fail, timers need not fire any more.
pub trait Runtime: Clone + Debug + Send + Sync + 'static {
    /// A connected byte stream.
    type Stream: Stream;
    /// A future that completes at its deadline.
    type Timer: Timer;

    /// The runtime that the calling code runs on.
    ///
    /// # Panics
    /// Outside such a runtime, if this kind needs to be found by its thread.
    fn current() -> Self;
    /// The time on this runtime's monotonic clock. Called on every acquire and release: it should cost nanoseconds.
    fn now(&self) -> Instant;
    /// The wall clock, as the time since the Unix epoch. Only shown to people, never used for a decision.
    fn unix_time(&self) -> Duration;
    /// Entropy for the pool's jitter. The simulator returns the seed of its run.
    fn seed(&self) -> u64;
    /// A timer that completes at `deadline`, or at once if that has passed.
    fn timer(&self, deadline: Instant) -> Self::Timer;
    /// Runs `task` in the background. After the runtime's end it is dropped.
    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static);
    /// The addresses of `host`, in the resolver's order.
    ///
    /// # Errors
    /// The resolver's own error; an empty list is treated as "not found".
    fn resolve(&self, host: &str, port: u16) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;
    /// Opens a connection. There is no timeout: the caller drops the future when its deadline passes, and dropping it
    /// must close whatever was opened.
    ///
    /// # Errors
    /// The operating system's error, kind and code intact: they decide whether a retry makes sense.
    fn connect(&self, address: &Address) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A TCP socket, and what was said about its timers.
    Tcp(SocketAddr, TcpOptions),
    /// A Unix-domain socket's path, `.s.PGSQL.5432` included.
    Unix(PathBuf),
}

/// A bidirectional byte stream, polled by whichever task holds the connection.
///
/// The task may change between two polls: the waker of the latest poll is the one to wake, for each direction.
pub trait Stream: Debug + Send + Unpin + 'static {
    /// Reads into `buffer`. `Ok(0)` for a non-empty buffer is the end of the stream.
    ///
    /// # Errors
    /// The operating system's error.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;
    /// Writes some of `bytes` and says how many.
    ///
    /// # Errors
    /// The operating system's error.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;
    /// Ends the sending direction after what was written is out.
    ///
    /// # Errors
    /// The operating system's error; the caller drops the stream either way.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Asks the operating system, not a cached readiness, whether something has arrived; consumes nothing, never waits.
    fn peek(&self) -> Peek;
    /// A handle that shuts the stream down from elsewhere, while another task holds it.
    fn abort_handle(&self) -> Arc<dyn Abort>;
}

/// What [`Stream::peek`] saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peek {
    /// Nothing: as it should be for an idle connection.
    Quiet,
    /// Bytes wait to be read: a notice, a notification, or the server's last words.
    Readable,
    /// The stream has ended or failed.
    Ended,
}

/// Shuts a stream down in both directions, at once and without its holder: the holder's next read sees the end.
pub trait Abort: Debug + Send + Sync {
    /// Shuts down. Idempotent, never blocks, never panics.
    fn abort(&self);
}

/// A future that completes at its deadline and can be moved to another.
pub trait Timer: Future<Output = ()> + Send + Unpin + 'static {
    /// Moves the deadline. A completed timer becomes pending again.
    fn reset(&mut self, deadline: Instant);
}
