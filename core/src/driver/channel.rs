//! A connection machine on a stream, driven by whichever task holds it: no task of its own, no hop between tasks.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::sync::{AtomicBool, Ordering, StaticU64};
use crate::pg::{Connection, Error, Event};
use crate::runtime::{Abort, Runtime, Stream};

/// What one read takes at most. Small answers come in one read whatever it is; large ones are fewer reads with more,
/// and every open connection owns one such buffer.
const READ_BUFFER: usize = 16 * 1024;

/// Reads in a row after which a task gives way, whatever its runtime does about fairness: a server that never stops
/// sending must hold up neither the drop of a lease, which looks at its connection, nor the pool's one task, which has
/// the other connections and all deadlines to see to.
const TURN: u32 = 32;

/// Carries bytes between a stream and a connection machine.
///
/// All protocol state is in the machine, so any future over a channel may be dropped at any point.
pub struct Channel<R: Runtime> {
    runtime: R,
    stream: R::Stream,
    machine: Connection,
    buffer: Box<[u8]>,
    received: u64,
    /// The machine's count of queries, for whoever does not hold it.
    queries: Arc<StaticU64>,
    /// Reads since one had to wait.
    reads: u32,
    /// Why writing is over, while the server's last words may still be unread.
    write_error: Option<io::Error>,
    cut: Arc<Cut>,
}

/// Ends a channel while somebody else holds it, and remembers who did: its holder is not to blame the server.
#[derive(Debug)]
struct Cut {
    stream: Arc<dyn Abort>,
    was_made: AtomicBool,
}

impl Abort for Cut {
    fn abort(&self) {
        self.was_made.store(true, Ordering::Release);
        self.stream.abort();
    }
}

impl<R: Runtime> Channel<R> {
    /// Joins the two.
    pub fn new(runtime: R, stream: R::Stream, machine: Connection) -> Self {
        let cut = Arc::new(Cut { stream: stream.abort_handle(), was_made: AtomicBool::new(false) });
        Channel {
            runtime,
            stream,
            machine,
            buffer: vec![0; READ_BUFFER].into_boxed_slice(),
            received: 0,
            queries: Arc::default(),
            reads: 0,
            write_error: None,
            cut,
        }
    }

    /// The next event. Writes what is queued and reads what is there as long as there is none, and goes on writing
    /// while it reads: a server that sends while it has not yet read all of a request would otherwise wait for us as
    /// we for it.
    ///
    /// # Errors
    /// What ended the connection, after the events from before.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Error>> {
        loop {
            if let Some(event) = self.machine.poll_event() {
                return Poll::Ready(Ok(event));
            }
            ready!(self.poll_pump(cx))?;
        }
    }

    /// Writes what can be written and reads once. Ready when something was received: the machine may have events. (It
    /// may have them also when the task is only to give way, and is called again at once.)
    ///
    /// # Errors
    /// What ended the connection. The machine may have events from before.
    pub fn poll_pump(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(error) = self.machine.error() {
            return Poll::Ready(Err(error.clone()));
        }
        self.queries.store(self.machine.queries(), Ordering::Relaxed);
        self.flush(cx);
        let read = match self.stream.poll_read(cx, &mut self.buffer) {
            Poll::Ready(read) => read,
            Poll::Pending => {
                self.reads = 0;
                return match self.write_error.take() {
                    None => Poll::Pending,
                    Some(error) => Poll::Ready(Err(self.machine.receive_io_error(self.runtime.now(), &error))),
                };
            }
        };
        let now = self.runtime.now();
        Poll::Ready(match read {
            Ok(0) | Err(_) if self.cut.was_made.load(Ordering::Acquire) => {
                let error = io::Error::new(io::ErrorKind::ConnectionAborted, "the pool cut it off");
                Err(self.machine.receive_io_error(now, &error))
            }
            Ok(0) => {
                let phase = self.machine.phase();
                self.machine.receive_eof(now).and(Err(Error::Closed { phase, cause: None }))
            }
            Ok(n) => {
                self.received += n as u64;
                let received = self.machine.receive(now, &self.buffer[..n]);
                if received.is_ok() && gives_way(&mut self.reads, cx) {
                    return Poll::Pending;
                }
                received
            }
            Err(error) => Err(self.machine.receive_io_error(now, &error)),
        })
    }

    /// Writes until there is nothing left or the socket takes no more. An error is kept until what the server said
    /// before it hung up has been read.
    fn flush(&mut self, cx: &mut Context<'_>) {
        while self.write_error.is_none() && !self.machine.outgoing().is_empty() {
            match self.stream.poll_write(cx, self.machine.outgoing()) {
                Poll::Pending => return,
                Poll::Ready(Ok(0)) => self.write_error = Some(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(n)) => self.machine.sent(n),
                Poll::Ready(Err(error)) => self.write_error = Some(error),
            }
        }
    }

    /// Says goodbye, if the session still is in a state to do so, and reads until the server has closed its end.
    ///
    /// A request that was dropped with much of it unsent is not sent to its end for the sake of a goodbye: the server
    /// takes the end of the stream for one.
    pub async fn close(mut self) {
        let mut ended = false;
        let mut goodbye = self.machine.unsent() <= READ_BUFFER;
        if goodbye {
            self.machine.terminate();
        }
        poll_fn(|cx| {
            if goodbye {
                self.flush(cx);
                goodbye = !self.machine.outgoing().is_empty();
            }
            if self.write_error.is_some() {
                return Poll::Ready(());
            }
            if !ended && !goodbye {
                let closed = ready!(self.stream.poll_close(cx));
                ended = true;
                if closed.is_err() {
                    return Poll::Ready(());
                }
            }
            loop {
                if let Ok(0) | Err(_) = ready!(self.stream.poll_read(cx, &mut self.buffer)) {
                    return Poll::Ready(());
                }
                if gives_way(&mut self.reads, cx) {
                    return Poll::Pending;
                }
            }
        })
        .await;
    }

    /// Bytes received so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The machine.
    pub fn machine(&self) -> &Connection {
        &self.machine
    }

    /// The machine, to submit requests to it.
    pub fn machine_mut(&mut self) -> &mut Connection {
        &mut self.machine
    }

    /// As [`Connection::take_queries`].
    pub fn take_queries(&mut self) -> u64 {
        self.queries.store(0, Ordering::Relaxed);
        self.machine.take_queries()
    }

    /// How many queries were sent since they were last [taken](Channel::take_queries).
    pub fn query_count(&self) -> Arc<StaticU64> {
        Arc::clone(&self.queries)
    }

    /// The stream.
    pub fn stream(&self) -> &R::Stream {
        &self.stream
    }

    /// A handle that ends the channel from elsewhere, for a pool whose shutdown has come to its deadline: whoever holds
    /// it gets an error that says so.
    pub fn abort_handle(&self) -> Arc<dyn Abort> {
        self.cut.clone()
    }

    /// The runtime.
    pub fn runtime(&self) -> &R {
        &self.runtime
    }
}

/// Counts a read that did not have to wait. Whether it is now somebody else's turn; then the task is woken already.
fn gives_way(reads: &mut u32, cx: &Context<'_>) -> bool {
    *reads += 1;
    if *reads < TURN {
        return false;
    }
    *reads = 0;
    cx.waker().wake_by_ref();
    true
}

impl<R: Runtime> fmt::Debug for Channel<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("stream", &self.stream).field("machine", &self.machine).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(pgweir_loom)))]
mod tests {
    use std::sync::Arc;
    use std::task::Waker;

    use super::*;
    use crate::config::{ConnectConfig, Host};
    use crate::driver::fake::{FakeRuntime, Script};
    use crate::pg::{Request, SessionConfig};

    const LOGIN: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
    const FATAL: &[u8] = b"E\0\0\0\x1eSFATAL\0C57P01\0Mshut down\0\0";
    const EMPTY: &[u8] = b"I\0\0\0\x04Z\0\0\0\x05I";

    fn channel(reads: &[Result<&[u8], io::ErrorKind>]) -> Channel<FakeRuntime> {
        let host = Host::Tcp { host: "localhost".to_owned(), port: 5432 };
        let session = SessionConfig::new(&ConnectConfig::new(vec![host], "u", "d"));
        let machine = Connection::new(Arc::new(session), crate::time::Instant::ZERO).unwrap();
        let reads = reads.iter().map(|read| read.map(<[u8]>::to_vec)).collect();
        Channel::new(FakeRuntime::default(), Script { reads, ..Script::default() }, machine)
    }

    fn poll(channel: &mut Channel<FakeRuntime>) -> Poll<Result<Event, Error>> {
        channel.poll_event(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn one_write_and_one_read_carry_a_request() {
        let mut channel = channel(&[Ok(LOGIN), Ok(EMPTY)]);
        assert!(matches!(poll(&mut channel), Poll::Ready(Ok(Event::Ready))));
        let id = channel.machine.submit(crate::time::Instant::ZERO, Request::Simple { sql: "" }).unwrap();
        channel.stream.written.clear();
        assert!(matches!(poll(&mut channel), Poll::Ready(Ok(Event::Complete { id: of, .. })) if of == id));
        assert_eq!(channel.stream.written, b"Q\0\0\0\x05\0");
        assert!(matches!(poll(&mut channel), Poll::Ready(Ok(Event::Done { id: of, .. })) if of == id));
        assert!(channel.stream.reads.is_empty());
        assert_eq!(channel.received(), (LOGIN.len() + EMPTY.len()) as u64);
    }

    #[test]
    fn the_last_words_of_a_server_that_hung_up_are_read_before_the_write_error_counts() {
        let mut channel = channel(&[Ok(LOGIN), Ok(FATAL), Ok(b"")]);
        assert!(matches!(poll(&mut channel), Poll::Ready(Ok(Event::Ready))));
        channel.machine.submit(crate::time::Instant::ZERO, Request::Simple { sql: "" }).unwrap();
        channel.stream.writable = Some(0);
        let Poll::Ready(Err(error)) = poll(&mut channel) else { panic!("the connection is over") };
        assert_eq!(error.sqlstate().unwrap().code(), "57P01", "{error}");
        assert!(matches!(poll(&mut channel), Poll::Ready(Err(_))), "and stays over");
    }

    #[test]
    fn a_write_error_without_last_words_is_the_error() {
        let mut channel = channel(&[Ok(LOGIN)]);
        assert!(matches!(poll(&mut channel), Poll::Ready(Ok(Event::Ready))));
        channel.machine.submit(crate::time::Instant::ZERO, Request::Simple { sql: "" }).unwrap();
        channel.stream.writable = Some(0);
        let Poll::Ready(Err(Error::Io { kind, .. })) = poll(&mut channel) else { panic!("the connection is over") };
        assert_eq!(kind, io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn the_end_of_the_stream_and_a_read_error_end_the_connection() {
        for end in [Ok(&b""[..]), Err(io::ErrorKind::ConnectionReset)] {
            let mut channel = channel(&[Ok(LOGIN), end]);
            assert!(matches!(poll(&mut channel), Poll::Ready(Ok(Event::Ready))));
            assert!(matches!(poll(&mut channel), Poll::Ready(Err(_))));
            assert!(channel.machine().fault().is_some());
        }
    }

    #[test]
    fn whoever_holds_a_channel_that_the_pool_cuts_off_is_told_so() {
        for end in [Ok(&b""[..]), Err(io::ErrorKind::ConnectionReset)] {
            let mut channel = channel(&[Ok(LOGIN), end]);
            assert!(matches!(poll(&mut channel), Poll::Ready(Ok(Event::Ready))));
            channel.abort_handle().abort();
            let Poll::Ready(Err(error)) = poll(&mut channel) else { panic!("the connection is over") };
            assert!(matches!(error, Error::Io { kind: io::ErrorKind::ConnectionAborted, .. }), "{error:?}");
            assert!(error.to_string().contains("the pool cut it off"), "{error}");
        }
    }

    #[test]
    fn closing_says_goodbye_and_waits_for_the_end() {
        let mut channel = channel(&[Ok(LOGIN), Ok(FATAL), Ok(b"")]);
        assert!(matches!(poll(&mut channel), Poll::Ready(Ok(Event::Ready))));
        channel.stream.reads.pop_back();
        let mut waiting = std::pin::pin!(channel.close());
        assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending(), "the server is not done");

        let mut channel = self::channel(&[Ok(LOGIN), Ok(FATAL), Ok(b"")]);
        assert!(matches!(poll(&mut channel), Poll::Ready(Ok(Event::Ready))));
        let waiting = std::pin::pin!(channel.close());
        assert!(waiting.poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }

    #[test]
    fn a_close_gives_way_to_others_while_the_server_goes_on_sending() {
        let flood = EMPTY.repeat(100 * READ_BUFFER / EMPTY.len());
        let mut closing = Box::pin(channel(&[Ok(LOGIN), Ok(&flood), Ok(b"")]).close());
        let mut turns = 1;
        while closing.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            turns += 1;
        }
        assert_eq!(turns, 4, "32 reads at a time");
    }
}
