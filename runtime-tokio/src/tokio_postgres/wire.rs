//! The streams that a tokio-postgres connection runs on.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use pgweir_core::runtime::{Abort, Peek, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsStream};

use super::traffic::Traffic;
use crate::TokioStream;

/// Reads in a row after which others have their turn: a server that never stops sending must not hold up the end of a
/// lease.
const TURN: u32 = 32;

/// A socket as tokio-postgres and its TLS connectors take it: name this type where a connector's trait asks for a
/// stream (`T: MakeTlsConnect<Wire>`).
///
/// Shutting it down waits until the peer has closed its end too, so that a connection that is gone is gone on the server
/// as well, and a cancel request that is out has arrived.
#[derive(Debug)]
pub struct Wire {
    stream: TokioStream,
    look: Arc<AtomicBool>,
    reads: u32,
    said_goodbye: bool,
}

/// A connection's socket as its pool sees it, while tokio-postgres holds the [`Wire`].
#[derive(Debug)]
pub(super) struct Socket {
    stream: TokioStream,
    look: Arc<AtomicBool>,
}

impl Wire {
    pub(super) fn new(stream: TokioStream) -> (Self, Socket) {
        let look = Arc::new(AtomicBool::new(false));
        let socket = Socket { stream: stream.share(), look: Arc::clone(&look) };
        (Wire { stream, look, reads: 0, said_goodbye: false }, socket)
    }

    /// Counts a read that did not have to wait. Whether it is now somebody else's turn; then the task is woken already.
    fn gives_way(&mut self, cx: &Context<'_>) -> bool {
        self.reads += 1;
        if self.reads < TURN {
            return false;
        }
        self.reads = 0;
        cx.waker().wake_by_ref();
        true
    }
}

impl Socket {
    /// Looks at the socket itself. Where it has something to say, the wire's next read asks it too, whatever the
    /// runtime has heard of it so far.
    pub(super) fn peek(&self) -> Peek {
        let seen = self.stream.peek();
        if seen != Peek::Quiet {
            self.look.store(true, Ordering::Relaxed);
        }
        seen
    }

    pub(super) fn abort_handle(&self) -> Arc<dyn Abort> {
        self.stream.abort_handle()
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.reads == TURN - 1 && this.gives_way(cx) {
            return Poll::Pending;
        }
        if this.look.swap(false, Ordering::Relaxed) {
            match this.stream.read_now(buffer.initialize_unfilled()) {
                Ok(n) => {
                    buffer.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        match this.stream.poll_read(cx, buffer.initialize_unfilled()) {
            Poll::Ready(Ok(n)) => {
                this.reads += 1;
                buffer.advance(n);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                this.reads = 0;
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.said_goodbye {
            this.said_goodbye = true;
            // It may be gone already.
            if ready!(this.stream.poll_close(cx)).is_err() {
                return Poll::Ready(Ok(()));
            }
        }
        let mut ignored = [0; 1024];
        loop {
            if let Ok(0) | Err(_) = ready!(this.stream.poll_read(cx, &mut ignored)) {
                return Poll::Ready(Ok(()));
            }
            if this.gives_way(cx) {
                return Poll::Pending;
            }
        }
    }
}

/// A stream whose [`Traffic`] is watched: the wire, or what is decrypted from it.
pub(super) struct Watched<S> {
    pub(super) stream: S,
    pub(super) traffic: Arc<Mutex<Traffic>>,
}

impl<S> Watched<S> {
    fn traffic(&self) -> MutexGuard<'_, Traffic> {
        lock(&self.traffic)
    }
}

/// What is behind a mutex that nothing panics under.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let mut traffic = self.traffic();
        traffic.read_waits = read.is_pending();
        traffic.received(&buffer.filled()[before..]);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        let mut traffic = self.traffic();
        traffic.write_waits = written.is_pending();
        if let Poll::Ready(Ok(n)) = written {
            traffic.sent(&bytes[..n]);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.traffic().write_waits = flushed.is_pending();
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: TlsStream + Unpin> TlsStream for Watched<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.stream.channel_binding()
    }
}
