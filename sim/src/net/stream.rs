//! The client's end of a connection.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use pgweir_core::runtime::{Abort, Peek, Stream};

use super::Net;
use super::host::LinkId;
use super::link::{Direction, Phase, Segment};
use super::state::{State, Step};

/// A connection to a [`Host`](super::Host). Dropping it closes it.
pub struct SimStream {
    end: Arc<End>,
}

/// Names the client's end of a link; the abort handle has it too.
struct End {
    net: Arc<Net>,
    link: LinkId,
}

/// A connect under way. Dropping it gives the connection up.
pub(crate) struct Connecting {
    net: Arc<Net>,
    /// Taken when the stream owns it.
    link: Option<LinkId>,
}

impl Connecting {
    pub(crate) fn new(net: Arc<Net>, link: LinkId) -> Self {
        Connecting { net, link: Some(link) }
    }
}

impl Future for Connecting {
    type Output = io::Result<SimStream>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let id = self.link.expect("not polled after it was ready");
        let mut state = self.net.lock_state();
        let client = &mut state.links.get_mut(&id).expect("kept while its connect is").client;
        match client.phase {
            Phase::Connecting => {
                let old = register(&mut client.writer, cx);
                drop(state);
                drop(old);
                Poll::Pending
            }
            Phase::Failed(kind) => Poll::Ready(Err(kind.into())),
            Phase::Open => {
                drop(state);
                self.link = None;
                let end = Arc::new(End { net: self.net.clone(), link: id });
                Poll::Ready(Ok(SimStream { end }))
            }
        }
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        if let Some(link) = self.link.take() {
            self.net.hang_up(link);
        }
    }
}

impl Net {
    /// The client lets go.
    fn hang_up(&self, id: LinkId) {
        let mut state = self.lock_state();
        let Some(link) = state.links.get_mut(&id) else { return };
        let client = &mut link.client;
        client.gone = true;
        let wakers = (client.reader.take(), client.writer.take());
        let unread = client.received.len() > 0;
        client.received.clear();
        let last = match client.phase {
            Phase::Failed(_) => None,
            // What the host sent was not taken: it is told so.
            _ if unread => Some(Segment::Reset),
            _ if client.shut => None,
            _ => Some(Segment::End),
        };
        if let Some(last) = last {
            state.launch(id, Direction::ToHost, last);
        }
        state.flush(id);
        state.settle(id);
        drop(state);
        drop(wakers);
    }
}

impl Stream for SimStream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let id = self.end.link;
        let mut guard = self.end.net.lock_state();
        let state = &mut *guard;
        let link = state.links.get_mut(&id).expect("kept while its stream is");
        let client = &mut link.client;
        if buffer.is_empty() || client.aborted {
            return Poll::Ready(Ok(0));
        }
        let there = client.received.len().min(buffer.len());
        if there > 0 {
            let share = state.machines[link.machine].path.partial;
            let n = state.draws.portion(share, there);
            client.received.read(&mut buffer[..n]);
            state.executor.chain(&Step::Read { link: id.0, length: n });
            if !link.backlog.is_empty() {
                state.flush(id);
            }
            return Poll::Ready(Ok(n));
        }
        match client.phase {
            Phase::Failed(kind) => Poll::Ready(Err(kind.into())),
            _ if client.eof => Poll::Ready(Ok(0)),
            _ => {
                let old = register(&mut client.reader, cx);
                drop(guard);
                drop(old);
                Poll::Pending
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let id = self.end.link;
        let mut guard = self.end.net.lock_state();
        let state = &mut *guard;
        let link = state.links.get_mut(&id).expect("kept while its stream is");
        let client = &mut link.client;
        match client.phase {
            _ if client.shut => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Phase::Failed(kind) => return Poll::Ready(Err(kind.into())),
            _ if bytes.is_empty() => return Poll::Ready(Ok(0)),
            _ => {}
        }
        let machine = &state.machines[link.machine];
        let room = machine.path.send_buffer.saturating_sub(link.to_host.bytes);
        if room == 0 {
            let old = register(&mut client.writer, cx);
            drop(guard);
            drop(old);
            return Poll::Pending;
        }
        let n = state.draws.portion(machine.path.partial, bytes.len().min(room).min(machine.path.segment));
        if !machine.is_whole() {
            client.unacknowledged.get_or_insert(state.executor.now());
        }
        state.executor.chain(&Step::Write { link: id.0, length: n });
        let mut buffer = state.buffer();
        buffer.extend_from_slice(&bytes[..n]);
        state.launch(id, Direction::ToHost, Segment::Bytes(buffer));
        Poll::Ready(Ok(n))
    }

    fn poll_close(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.end.net.lock_state();
        shut(&mut state, self.end.link);
        Poll::Ready(Ok(()))
    }

    fn peek(&self) -> Peek {
        self.end.net.lock_state().links[&self.end.link].peek()
    }

    fn abort_handle(&self) -> Arc<dyn Abort> {
        self.end.clone()
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.end.net.hang_up(self.end.link);
    }
}

impl Abort for End {
    fn abort(&self) {
        let mut state = self.net.lock_state();
        let Some(link) = state.links.get_mut(&self.link).filter(|link| !link.client.gone) else { return };
        link.client.aborted = true;
        link.client.received.clear();
        let wakers = [link.client.reader.take(), link.client.writer.take()];
        shut(&mut state, self.link);
        state.flush(self.link);
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

/// The client sends no more.
fn shut(state: &mut State, id: LinkId) {
    let Some(link) = state.links.get_mut(&id) else { return };
    if !std::mem::replace(&mut link.client.shut, true) && link.client.phase == Phase::Open {
        state.launch(id, Direction::ToHost, Segment::End);
    }
}

/// The waker of the latest poll is the one that counts. The one before it is given back, to be dropped after unlocking.
fn register(place: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
    match place {
        Some(waker) if waker.will_wake(cx.waker()) => None,
        _ => place.replace(cx.waker().clone()),
    }
}

impl fmt::Debug for SimStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimStream").field(&self.end.link.0).finish()
    }
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("End").field(&self.link.0).finish()
    }
}
