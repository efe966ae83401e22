//! [`Stream`] over tokio's sockets.

use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pgweir_core::runtime::{Abort, Peek, Stream};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

/// A TCP or Unix-domain socket. Shared with nobody but its abort handle, which only ever shuts it down.
#[derive(Debug)]
pub struct TokioStream {
    socket: Arc<Socket>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl TokioStream {
    pub(crate) fn tcp(stream: TcpStream) -> Self {
        TokioStream { socket: Arc::new(Socket::Tcp(stream)) }
    }

    pub(crate) fn unix(stream: UnixStream) -> Self {
        TokioStream { socket: Arc::new(Socket::Unix(stream)) }
    }
}

impl Socket {
    fn raw(&self) -> SockRef<'_> {
        match self {
            Socket::Tcp(stream) => SockRef::from(stream),
            Socket::Unix(stream) => SockRef::from(stream),
        }
    }

    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(stream) => stream.poll_read_ready(cx),
            Socket::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    /// Reads what is there. A short read means that the socket is drained: tokio is told so at once, which saves the
    /// next poll a system call that would only say "nothing yet".
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut drained = None;
        let read = || {
            let read = (&*self.raw()).read(buffer)?;
            if read == 0 || read == buffer.len() {
                return Ok(read);
            }
            drained = Some(read);
            Err(io::ErrorKind::WouldBlock.into())
        };
        let result = match self {
            Socket::Tcp(stream) => stream.try_io(Interest::READABLE, read),
            Socket::Unix(stream) => stream.try_io(Interest::READABLE, read),
        };
        drained.map_or(result, Ok)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(stream) => stream.poll_write_ready(cx),
            Socket::Unix(stream) => stream.poll_write_ready(cx),
        }
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.try_write(bytes),
            Socket::Unix(stream) => stream.try_write(bytes),
        }
    }
}

impl Stream for TokioStream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_read_ready(cx))?;
            match self.socket.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_write_ready(cx))?;
            match self.socket.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_close(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.raw().shutdown(Shutdown::Write))
    }

    fn peek(&self) -> Peek {
        let mut byte = [MaybeUninit::uninit()];
        match self.socket.raw().peek(&mut byte) {
            Ok(0) => Peek::Ended,
            Ok(_) => Peek::Readable,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Peek::Quiet,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Peek::Readable,
            Err(_) => Peek::Ended,
        }
    }

    fn abort_handle(&self) -> Arc<dyn Abort> {
        self.socket.clone()
    }
}

impl Abort for Socket {
    fn abort(&self) {
        // An error means that the socket is not connected any more, which is what was wanted.
        let _ = self.raw().shutdown(Shutdown::Both);
    }
}
