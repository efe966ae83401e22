//! Listening on async-io, for the [endpoint](pgweir_core::endpoint).

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::task::{Context, Poll, ready};

use ::async_io::Async;
use pgweir_core::endpoint::{Listen, Listener};

use crate::AsyncIoStream;

/// A TCP socket that listens.
#[derive(Debug)]
pub struct AsyncIoListener(Async<TcpListener>);

#[cfg(feature = "smol")]
impl Listen for crate::smol::Smol {
    type Listener = AsyncIoListener;

    fn listen(&self, address: SocketAddr) -> io::Result<AsyncIoListener> {
        AsyncIoListener::bind(address)
    }
}

#[cfg(feature = "async-std")]
impl Listen for crate::async_std::AsyncStd {
    type Listener = AsyncIoListener;

    fn listen(&self, address: SocketAddr) -> io::Result<AsyncIoListener> {
        AsyncIoListener::bind(address)
    }
}

impl AsyncIoListener {
    fn bind(address: SocketAddr) -> io::Result<Self> {
        Async::<TcpListener>::bind(address).map(AsyncIoListener)
    }
}

impl Listener for AsyncIoListener {
    type Stream = AsyncIoStream;

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.get_ref().local_addr()
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<AsyncIoStream>> {
        loop {
            match self.0.get_ref().accept() {
                Ok((stream, _)) => return Poll::Ready(AsyncIoStream::accepted(stream)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Poll::Ready(Err(error)),
            }
            ready!(self.0.poll_readable(cx))?;
        }
    }
}
