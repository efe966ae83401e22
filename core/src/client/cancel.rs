//! CancelRequests (protocol section 55.2.8): a stop sign on a connection of its own.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::error::Error;
use super::limit::Limit;
use crate::driver::within;
use crate::manager::{Gate, Stop};
use crate::pg::{self, CancelKey};
use crate::runtime::{Address, Runtime, Stream};

/// Reads of a cancel request's answer, which is an error message at most.
const MAX_LAST_WORDS: usize = 256;

/// How long [`CancelToken::cancel`] tries.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// Cancels what one lease runs, from any task.
///
/// The token is void once its lease has ended: it never reaches the connection's next user, and a cancel that is under
/// way keeps the connection from being given to one.
#[derive(Clone)]
pub struct CancelToken<R: Runtime> {
    runtime: R,
    address: Address,
    key: CancelKey,
    gate: Arc<Gate>,
}

impl<R: Runtime> CancelToken<R> {
    pub(super) fn new(runtime: R, address: Address, key: CancelKey, gate: Arc<Gate>) -> Self {
        CancelToken { runtime, address, key, gate }
    }

    /// Asks the server to stop what the session is doing; the query then fails with SQLSTATE 57014, unless it was over
    /// already. Takes a connection of its own and at most five seconds. Says whether the lease was still there to be
    /// cancelled.
    ///
    /// Do not drop the future half-way: a stop sign of unknown whereabouts costs the pool the connection.
    ///
    /// # Errors
    /// [`Error::Io`] if the server could not be reached.
    pub async fn cancel(&self) -> Result<bool, Error> {
        let Some(mut pass) = self.gate.enter() else { return Ok(false) };
        let deadline = self.runtime.now() + CANCEL_TIMEOUT;
        let sent = within(&self.runtime, deadline, send(&self.runtime, &self.address, &self.key, &mut pass.unsure));
        match sent.await.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into())) {
            Ok(()) => Ok(true),
            Err(error) => Err(Error::Io {
                kind: error.kind(),
                fault: pg::fault_of_io("sending a cancel request", &error),
                cause: None,
            }),
        }
    }
}

impl<R: Runtime> fmt::Debug for CancelToken<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken").field("address", &self.address).field("key", &self.key).finish_non_exhaustive()
    }
}

/// Sends a CancelRequest and waits until the server has closed its end: by then the signal is on its way, and it cannot
/// hit what is sent afterwards (PEERS 29). In between, `unsure` is set: dropped or failed there, the request may still
/// arrive at any time.
pub(super) async fn send<R: Runtime>(
    runtime: &R,
    address: &Address,
    key: &CancelKey,
    unsure: &mut bool,
) -> io::Result<()> {
    let mut stream = runtime.connect(address).await?;
    let request = pg::cancel_request(key);
    let mut sent = 0;
    *unsure = true;
    poll_fn(|cx| {
        while sent < request.len() {
            match stream.poll_write(cx, &request[sent..]) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => sent += n,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
        read_to_end(&mut stream, cx)
    })
    .await?;
    *unsure = false;
    Ok(())
}

fn read_to_end(stream: &mut impl Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    // A server says nothing here, but for an ErrorResponse when it is starting up or has no room: then it has closed
    // its end, and cancelled nothing.
    let mut ignored = [0; 256];
    for _ in 0..MAX_LAST_WORDS {
        match stream.poll_read(cx, &mut ignored) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => return Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
        }
    }
    Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "the answer to a cancel request does not end")))
}

/// Ends the query of a session whose socket was cut. Its backend leaves at the end of the query, and would not notice
/// before that its client is gone.
pub(super) struct StopSign<R: Runtime> {
    pub(super) runtime: R,
    pub(super) address: Address,
    pub(super) key: CancelKey,
    pub(super) cancels: Arc<Limit>,
}

impl<R: Runtime> Stop for StopSign<R> {
    fn stop(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            let _permit = self.cancels.acquire().await;
            if let Err(error) = send(&self.runtime, &self.address, &self.key, &mut false).await {
                tracing::debug!(target: "pgweir::cancel", %error, "a session that was cut off may run on");
            }
        })
    }
}
