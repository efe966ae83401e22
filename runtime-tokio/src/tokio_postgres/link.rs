//! A connection between the task that drives it and the pool that owns it.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use pgweir_core::pool::{Fault, FaultClass};
use pgweir_core::runtime::{Abort, Peek};
use tokio_postgres::AsyncMessage;

use super::connector::Drive;
use super::fault;
use super::traffic::Traffic;
use super::wire::{Socket, lock};

/// The pool's end of a connection. Dropping it closes the connection at once.
pub(super) struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    traffic: Arc<Mutex<Traffic>>,
    socket: Socket,
}

struct State {
    /// Gone when it has ended.
    connection: Option<Box<dyn Drive>>,
    /// Of the task, which is the one to wake whoever polled last.
    driver: Waker,
    /// Of whoever waits for the end.
    listener: Option<Waker>,
    /// A notice that said the server would go.
    farewell: Option<Fault>,
    end: Option<Fault>,
}

impl Link {
    /// Both ends: the task is to be spawned.
    pub(super) fn new(
        connection: Box<dyn Drive>,
        traffic: Arc<Mutex<Traffic>>,
        socket: Socket,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let state = State {
            connection: Some(connection),
            driver: Waker::noop().clone(),
            listener: None,
            farewell: None,
            end: None,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), traffic, socket });
        (Link { shared: Arc::clone(&shared) }, Task(shared))
    }

    /// Sends what was asked for and reads what has come, without waiting: afterwards the traffic tells all that there is
    /// to know.
    ///
    /// # Errors
    /// The connection's end.
    pub(super) fn turn(&self) -> Result<(), Fault> {
        self.shared.turn(None)
    }

    /// Looks at the socket without a round trip.
    ///
    /// # Errors
    /// The connection's end, or bytes that cannot be read.
    pub(super) fn peek(&self) -> Result<(), Fault> {
        if let Some(end) = &lock(&self.shared.state).end {
            return Err(end.clone());
        }
        if self.shared.socket.peek() == Peek::Quiet {
            return Ok(());
        }
        let before = self.traffic(|traffic| traffic.bytes_received());
        self.turn()?;
        // Half a record of a TLS stream is no byte of the session's: the next check sees the rest.
        match self.traffic(|traffic| traffic.bytes_received() != before || traffic.read_waits) {
            true => Ok(()),
            false => {
                Err(Fault::plain(FaultClass::Transient, "an answer to an earlier user still fills the connection"))
            }
        }
    }

    /// Ready when the connection has ended.
    pub(super) fn poll_end(&self, cx: &mut Context<'_>) -> Poll<Fault> {
        let mut state = lock(&self.shared.state);
        if let Some(end) = &state.end {
            return Poll::Ready(end.clone());
        }
        let stale = match &state.listener {
            Some(listener) if listener.will_wake(cx.waker()) => None,
            _ => state.listener.replace(cx.waker().clone()),
        };
        drop(state);
        drop(stale);
        Poll::Pending
    }

    /// Waits until the connection has ended, which it does when its client is dropped.
    pub(super) async fn end(&self) -> Fault {
        poll_fn(|cx| self.poll_end(cx)).await
    }

    /// What has gone over the wire so far. Not in the midst of a turn, where nothing is settled: the task has turns of its
    /// own at any time.
    pub(super) fn traffic<T>(&self, look: impl FnOnce(&mut Traffic) -> T) -> T {
        let _no_turn = lock(&self.shared.state);
        look(&mut lock(&self.shared.traffic))
    }

    pub(super) fn abort_handle(&self) -> Arc<dyn Abort> {
        self.shared.socket.abort_handle()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let (connection, driver) = {
            let mut state = lock(&self.shared.state);
            (state.connection.take(), state.driver.clone())
        };
        drop(connection);
        driver.wake();
    }
}

impl Shared {
    /// `driver` is the task's waker, if it is the task that drives.
    fn turn(&self, driver: Option<&Waker>) -> Result<(), Fault> {
        let mut state = lock(&self.state);
        if let Some(driver) = driver {
            state.driver.clone_from(driver);
        }
        lock(&self.traffic).read_waits = false;
        let ended = state.drive();
        let result = state.end.clone().map_or(Ok(()), Err);
        let (connection, listener) = match ended {
            true => (state.connection.take(), state.listener.take()),
            false => (None, None),
        };
        drop(state);
        // Not under the lock: one closes a socket, the other runs foreign code.
        drop(connection);
        if let Some(listener) = listener {
            listener.wake();
        }
        result
    }
}

impl State {
    /// Whether the connection has ended just now.
    fn drive(&mut self) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        let mut cx = Context::from_waker(&self.driver);
        let end = loop {
            match connection.poll_message(&mut cx) {
                Poll::Pending => return false,
                Poll::Ready(Some(Ok(AsyncMessage::Notice(notice)))) => {
                    if let "57P01" | "57P02" = notice.code().code() {
                        self.farewell = Some(fault::of_notice(&notice));
                    }
                }
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => {
                    let end = fault::of(&error);
                    break self.farewell.take().filter(|_| end.sqlstate.is_none()).unwrap_or(end);
                }
                Poll::Ready(None) => break Fault::plain(FaultClass::Transient, "the connection was closed"),
            }
        };
        self.end = Some(end);
        true
    }
}

/// Drives the connection until it has ended.
struct Task(Arc<Shared>);

impl Future for Task {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Its error is the owner's to report.
        let _ = self.0.turn(Some(cx.waker()));
        match lock(&self.0.state).connection {
            Some(_) => Poll::Pending,
            None => Poll::Ready(()),
        }
    }
}

impl Drop for Task {
    /// The runtime was shut down first: nobody would drive the connection any more.
    fn drop(&mut self) {
        let (connection, listener) = {
            let mut state = lock(&self.0.state);
            let gone = || Fault::plain(FaultClass::Transient, "the runtime that drove the connection is gone");
            state.end.get_or_insert_with(gone);
            (state.connection.take(), state.listener.take())
        };
        drop(connection);
        if let Some(listener) = listener {
            listener.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
    use std::time::Duration;

    use pgweir_core::config::TcpOptions;
    use pgweir_core::runtime::Address;
    use tokio_postgres::Error;

    use super::super::wire::Wire;
    use super::*;
    use crate::TokioStream;

    /// Its turn lasts until somebody has looked at the traffic, or nobody could.
    struct Turning {
        begun: Sender<()>,
        looked: Receiver<()>,
        traffic: Arc<Mutex<Traffic>>,
    }

    impl Drive for Turning {
        fn poll_message(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Result<AsyncMessage, Error>>> {
            self.begun.send(()).expect("somebody waits for it");
            let early = self.looked.recv_timeout(Duration::from_millis(50));
            assert_eq!(early, Err(RecvTimeoutError::Timeout), "somebody looked in the midst of a turn");
            lock(&self.traffic).read_waits = true;
            Poll::Pending
        }
    }

    /// The end of a lease looks while the task has its turn, because the statement that went with the lease woke it.
    #[tokio::test]
    async fn nobody_looks_in_the_midst_of_a_turn() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = Address::Tcp(listener.local_addr().expect("an address"), TcpOptions::default());
        let (_wire, socket) = Wire::new(TokioStream::connect(&address).await.expect("a stream"));
        let traffic = Arc::new(Mutex::new(Traffic::new()));
        let ((begin, begun), (look, looked)) = (channel(), channel());
        let turning = Turning { begun: begin, looked, traffic: Arc::clone(&traffic) };
        let (link, _task) = Link::new(Box::new(turning), traffic, socket);
        std::thread::scope(|scope| {
            let turn = scope.spawn(|| link.turn());
            begun.recv().expect("a turn");
            assert!(link.traffic(|traffic| traffic.read_waits), "the turn is over");
            let _ = look.send(());
            turn.join().expect("it only turned").expect("it goes on");
        });
    }
}
