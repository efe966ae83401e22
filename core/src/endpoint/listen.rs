//! What an endpoint needs of a runtime beyond [`Runtime`]: to listen.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use crate::runtime::{Runtime, Stream};

/// A runtime that can accept connections. A shim implements it beside [`Runtime`].
pub trait Listen: Runtime {
    /// A socket that listens.
    type Listener: Listener;

    /// Listens at `address`. Called once, on any thread.
    ///
    /// # Errors
    /// The operating system's error.
    fn listen(&self, address: SocketAddr) -> io::Result<Self::Listener>;
}

/// A socket that listens. Dropping it closes it.
pub trait Listener: Send + Unpin + 'static {
    /// What it accepts.
    type Stream: Stream;

    /// Where it listens, with the port that the operating system chose if none was asked for.
    ///
    /// # Errors
    /// The operating system's error.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// The next connection.
    ///
    /// # Errors
    /// The operating system's error; it is asked again after a while.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Self::Stream>>;
}
