//! [`Runtime`] for tokio.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pgweir_core::os;
use pgweir_core::runtime::{Address, Runtime, Timer};
use pgweir_core::time::Instant;
use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Handle;

use crate::stream::TokioStream;

/// tokio, multi-threaded or current-thread. Holds a handle, so that tasks can be spawned from anywhere.
#[derive(Clone, Debug)]
pub struct TokioRuntime {
    handle: Handle,
}

impl TokioRuntime {
    /// The runtime behind `handle`; its I/O and time drivers must be enabled.
    pub fn from_handle(handle: Handle) -> Self {
        os::prepare_clock();
        TokioRuntime { handle }
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
        TokioTimer { sleep: Box::pin(tokio::time::sleep_until(at(deadline))) }
    }

    fn spawn(&self, _name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(task);
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }

    async fn connect(&self, address: &Address) -> io::Result<TokioStream> {
        match address {
            Address::Tcp(address, options) => {
                let stream = TcpStream::connect(address).await?;
                os::set_up_tcp(&SockRef::from(&stream), options)?;
                Ok(TokioStream::tcp(stream))
            }
            Address::Unix(path) => Ok(TokioStream::unix(UnixStream::from_std(os::connect_unix(path)?)?)),
        }
    }
}

/// tokio's own limit is some two years; "never" is a deadline beyond it.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

fn at(deadline: Instant) -> tokio::time::Instant {
    tokio::time::Instant::now() + (deadline - os::now()).min(NEVER)
}

/// A timer of tokio's.
#[derive(Debug)]
pub struct TokioTimer {
    sleep: Pin<Box<tokio::time::Sleep>>,
}

impl Future for TokioTimer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.sleep.as_mut().poll(cx)
    }
}

impl Timer for TokioTimer {
    fn reset(&mut self, deadline: Instant) {
        self.sleep.as_mut().reset(at(deadline));
    }
}
