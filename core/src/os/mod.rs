//! What every shim on a real operating system needs and none should write twice: the clock, what tokio's and async-io's
//! sockets do not offer themselves, and files for journals. There is no runtime in here, and the machines do not see it.

mod journal;
#[cfg(unix)]
mod unix;

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use socket2::{SockRef, TcpKeepalive};

pub use journal::{JournalDirectory, JournalFile};
#[cfg(unix)]
pub use unix::connect_unix;

use crate::config::TcpOptions;
use crate::runtime::Peek;
use crate::time::Instant;

/// Reads the processor's cycle counter where that is sound, which takes half the time of the system's monotonic clock,
/// and that clock elsewhere. All pools of a process share one epoch: times in their reports compare.
static CLOCK: LazyLock<Clock> = LazyLock::new(|| {
    let clock = quanta::Clock::new();
    Clock { epoch: clock.raw(), clock }
});

struct Clock {
    clock: quanta::Clock,
    epoch: u64,
}

/// Calibrates the clock, once per process, in about a millisecond: better when a pool is made than at its first acquire.
pub fn prepare_clock() {
    LazyLock::force(&CLOCK);
}

/// The time, for [`Runtime::now`](crate::runtime::Runtime::now).
#[inline]
pub fn now() -> Instant {
    Instant::from_nanos(CLOCK.clock.delta_as_nanos(CLOCK.epoch, CLOCK.clock.raw()))
}

/// The wall clock, for [`Runtime::unix_time`](crate::runtime::Runtime::unix_time).
#[allow(clippy::disallowed_methods, reason = "this is where Runtime::unix_time comes from")]
pub fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Entropy, for [`Runtime::seed`](crate::runtime::Runtime::seed): the standard library seeds its hashers from the
/// operating system.
pub fn seed() -> u64 {
    RandomState::new().hash_one(now())
}

/// Sets up a new TCP socket: no delay for small requests, and the kernel's own watch over silent peers. Keepalive is on
/// unless it was turned off, as in libpq.
///
/// # Errors
/// The operating system's error.
pub fn set_up_tcp(socket: &SockRef<'_>, options: &TcpOptions) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    if options.keepalives == Some(false) {
        return socket.set_keepalive(false);
    }
    let mut keepalive = TcpKeepalive::new();
    if let Some(idle) = options.keepalives_idle {
        keepalive = keepalive.with_time(idle);
    }
    if let Some(interval) = options.keepalives_interval {
        keepalive = keepalive.with_interval(interval);
    }
    if let Some(count) = options.keepalives_count {
        keepalive = keepalive.with_retries(count);
    }
    socket.set_keepalive(true)?;
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if options.user_timeout.is_some() {
        socket.set_tcp_user_timeout(options.user_timeout)?;
    }
    Ok(())
}

/// [`Stream::peek`](crate::runtime::Stream::peek) of a non-blocking socket.
pub fn peek(socket: &SockRef<'_>) -> Peek {
    let mut byte = [MaybeUninit::uninit()];
    match socket.peek(&mut byte) {
        Ok(0) => Peek::Ended,
        Ok(_) => Peek::Readable,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Peek::Quiet,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Peek::Readable,
        Err(_) => Peek::Ended,
    }
}

/// [`Abort::abort`](crate::runtime::Abort::abort) of a socket.
pub fn abort(socket: &SockRef<'_>) {
    // An error means that the socket is not connected any more, which is what was wanted.
    let _ = socket.shutdown(Shutdown::Both);
}
