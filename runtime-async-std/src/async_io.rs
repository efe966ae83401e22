//! What async-std and smol share: sockets, timers, names and the clock, on async-io.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ::async_io::Async;
use pgweir_core::os;
use pgweir_core::runtime::{Abort, Address, Peek, Stream, Timer};
use pgweir_core::time::Instant;
use socket2::SockRef;

/// Implements `Runtime` for an executor beside async-io; all that differs is how a task is spawned.
macro_rules! runtime {
    ($runtime:ident, |$task:ident| $spawn:expr) => {
        impl pgweir_core::runtime::Runtime for $runtime {
            type Stream = crate::AsyncIoStream;
            type Timer = crate::AsyncIoTimer;

            fn current() -> Self {
                pgweir_core::os::prepare_clock();
                $runtime
            }

            fn now(&self) -> pgweir_core::time::Instant {
                pgweir_core::os::now()
            }

            fn unix_time(&self) -> std::time::Duration {
                pgweir_core::os::unix_time()
            }

            fn seed(&self) -> u64 {
                pgweir_core::os::seed()
            }

            fn timer(&self, deadline: pgweir_core::time::Instant) -> crate::AsyncIoTimer {
                crate::AsyncIoTimer::new(deadline)
            }

            fn spawn(&self, _name: &'static str, $task: impl Future<Output = ()> + Send + 'static) {
                $spawn
            }

            async fn resolve(&self, host: &str, port: u16) -> std::io::Result<Vec<std::net::SocketAddr>> {
                ::async_net::resolve((host, port)).await
            }

            async fn connect(&self, address: &pgweir_core::runtime::Address) -> std::io::Result<crate::AsyncIoStream> {
                crate::AsyncIoStream::connect(address).await
            }
        }
    };
}
pub(crate) use runtime;

/// A TCP or Unix-domain socket. Shared with nobody but its abort handle, which only ever shuts it down.
#[derive(Debug)]
pub struct AsyncIoStream {
    socket: Arc<Socket>,
}

impl AsyncIoStream {
    pub(crate) async fn connect(address: &Address) -> io::Result<Self> {
        let socket = match address {
            Address::Tcp(address, options) => {
                let stream = Async::<TcpStream>::connect(*address).await?;
                os::set_up_tcp(&SockRef::from(stream.get_ref()), options)?;
                Socket::Tcp(stream)
            }
            Address::Unix(path) => Socket::Unix(Async::new_nonblocking(os::connect_unix(path)?)?),
        };
        Ok(AsyncIoStream { socket: Arc::new(socket) })
    }

    /// A connection that came in. If it is gone again its first read says so.
    #[cfg(feature = "endpoint")]
    pub(crate) fn accepted(stream: TcpStream) -> io::Result<Self> {
        let _ = stream.set_nodelay(true);
        Ok(AsyncIoStream { socket: Arc::new(Socket::Tcp(Async::new(stream)?)) })
    }
}

#[derive(Debug)]
enum Socket {
    Tcp(Async<TcpStream>),
    Unix(Async<UnixStream>),
}

impl Socket {
    fn raw(&self) -> SockRef<'_> {
        match self {
            Socket::Tcp(stream) => SockRef::from(stream.get_ref()),
            Socket::Unix(stream) => SockRef::from(stream.get_ref()),
        }
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(stream) => stream.poll_readable(cx),
            Socket::Unix(stream) => stream.poll_readable(cx),
        }
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(stream) => stream.poll_writable(cx),
            Socket::Unix(stream) => stream.poll_writable(cx),
        }
    }
}

impl Stream for AsyncIoStream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            match (&*self.socket.raw()).read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => return Poll::Ready(result),
            }
            ready!(self.socket.poll_readable(cx))?;
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match (&*self.socket.raw()).write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => return Poll::Ready(result),
            }
            ready!(self.socket.poll_writable(cx))?;
        }
    }

    fn poll_close(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.raw().shutdown(Shutdown::Write))
    }

    fn peek(&self) -> Peek {
        os::peek(&self.socket.raw())
    }

    fn abort_handle(&self) -> Arc<dyn Abort> {
        self.socket.clone()
    }
}

impl Abort for Socket {
    fn abort(&self) {
        os::abort(&self.raw());
    }
}

/// A timer of async-io's.
#[derive(Debug)]
pub struct AsyncIoTimer {
    timer: ::async_io::Timer,
    deadline: Instant,
}

impl AsyncIoTimer {
    pub(crate) fn new(deadline: Instant) -> Self {
        let mut timer = AsyncIoTimer { timer: ::async_io::Timer::never(), deadline };
        timer.arm();
        timer
    }

    fn arm(&mut self) {
        // Our clock before theirs: a thread that is stopped in between makes the timer late, never early.
        let left = self.deadline - os::now();
        match std::time::Instant::now().checked_add(left) {
            Some(at) if self.deadline != Instant::MAX => self.timer.set_at(at),
            _ => self.timer = ::async_io::Timer::never(),
        }
    }
}

impl Future for AsyncIoTimer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(Pin::new(&mut self.timer).poll(cx));
            // Two clocks never run quite alike.
            if os::now() >= self.deadline {
                return Poll::Ready(());
            }
            self.arm();
        }
    }
}

impl Timer for AsyncIoTimer {
    fn reset(&mut self, deadline: Instant) {
        self.deadline = deadline;
        self.arm();
    }
}
