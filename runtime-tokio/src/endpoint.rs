//! Listening on tokio, for the [endpoint](pgweir_core::endpoint).

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use pgweir_core::endpoint::{Listen, Listener};
use tokio::net::TcpListener;

use crate::TokioRuntime;
use crate::stream::TokioStream;

/// A TCP socket that listens.
#[derive(Debug)]
pub struct TokioListener(TcpListener);

impl Listen for TokioRuntime {
    type Listener = TokioListener;

    fn listen(&self, address: SocketAddr) -> io::Result<TokioListener> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let _entered = self.enter();
        TcpListener::from_std(listener).map(TokioListener)
    }
}

impl Listener for TokioListener {
    type Stream = TokioStream;

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<TokioStream>> {
        let (stream, _) = ready!(self.0.poll_accept(cx))?;
        Poll::Ready(Ok(TokioStream::accepted(stream)))
    }
}
