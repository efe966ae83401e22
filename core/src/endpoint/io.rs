//! hyper's traits over [`Stream`]; and it sees how fast the client is.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};

use super::patience::Progress;
use crate::runtime::{Runtime, Stream};

/// A connection, as hyper wants it.
pub(super) struct Io<R, S> {
    stream: S,
    runtime: R,
    progress: Progress,
    /// The client did not take all of the last write.
    blocked: bool,
    buffer: Box<[u8]>,
}

/// What is read at once. A request of a usual client fits.
const READ: usize = 2048;

impl<R, S> Unpin for Io<R, S> {}

impl<R: Runtime, S: Stream> Io<R, S> {
    pub(super) fn new(runtime: R, stream: S, progress: Progress) -> Self {
        Io { stream, runtime, progress, blocked: false, buffer: vec![0; READ].into_boxed_slice() }
    }

    /// Says that nothing more comes, and reads what still does: a client that is still sending would otherwise get a reset,
    /// and lose the answer that tells it why. Ready when the client has ended.
    pub(super) fn poll_linger(&mut self, cx: &mut Context<'_>, lingering: &mut Lingering) -> Poll<()> {
        if !lingering.closed {
            lingering.closed = true;
            if matches!(self.stream.poll_close(cx), Poll::Ready(Err(_))) {
                return Poll::Ready(());
            }
        }
        while lingering.left > 0 {
            match ready!(self.stream.poll_read(cx, &mut self.buffer)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(count) => lingering.left = lingering.left.saturating_sub(count),
            }
        }
        Poll::Ready(())
    }
}

/// How far the end of a connection has come.
pub(super) struct Lingering {
    closed: bool,
    left: usize,
}

impl Lingering {
    /// So much is read of what a client sends in vain.
    const MOST: usize = 256 * 1024;

    pub(super) fn new() -> Self {
        Lingering { closed: false, left: Self::MOST }
    }
}

impl<R: Runtime, S: Stream> Read for Io<R, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Io { stream, runtime, progress, blocked, buffer } = &mut *self;
        let room = cursor.remaining().min(buffer.len());
        let Poll::Ready(read) = stream.poll_read(cx, &mut buffer[..room]) else {
            if !*blocked {
                progress.rests(runtime.now());
            }
            return Poll::Pending;
        };
        let count = read?;
        if count > 0 {
            progress.received(runtime.now());
        }
        cursor.put_slice(&buffer[..count]);
        Poll::Ready(Ok(()))
    }
}

impl<R: Runtime, S: Stream> Write for Io<R, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.stream.poll_write(cx, bytes);
        self.blocked = written.is_pending();
        if self.blocked {
            self.progress.blocked(self.runtime.now());
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_close(cx)
    }
}
