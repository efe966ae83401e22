//! The end: signals, the end of the input, and calls that may finish first.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rmcp::RoleServer;
use rmcp::service::RunningService;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::database::Database;
use crate::errors::Failure;
use crate::tools::CodeSearch;

/// How long the last answers may take on their way to the client.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Serves until something ends it, then lets calls finish for up to `limit` and closes the pool within the same time.
/// Only a protocol that cannot go on is an error.
pub(crate) async fn serve_until(
    service: RunningService<RoleServer, CodeSearch>,
    ending: &Ending,
    calls: &Calls,
    database: &Database,
    limit: Duration,
) -> Result<(), String> {
    let stop = service.cancellation_token();
    let mut served = tokio::spawn(service.waiting());
    let (reason, outcome) = tokio::select! {
        reason = ending.wait() => (reason, Ok(())),
        quit = &mut served => ("the protocol", Err(format!("the protocol cannot go on: {quit:?}"))),
    };
    let begun = Instant::now();
    calls.refuse();
    let running = calls.running();
    tracing::info!(name: "code_search.ending", reason, running, "ended by {reason}: {running} calls may finish");
    let drained = timeout(limit, calls.finished()).await.is_ok();
    // What is still held now is cut off, and its call ends with an error.
    let report = database.pool().close_timeout(limit.saturating_sub(begun.elapsed())).await;
    let _ = timeout(LAST_WORDS, calls.finished()).await;
    stop.cancel();
    if outcome.is_ok() && timeout(LAST_WORDS, served).await.is_err() {
        tracing::warn!(name: "code_search.protocol.stuck", "the client does not take the last answers");
    }
    let duration_ms = begun.elapsed().as_millis() as u64;
    tracing::info!(name: "code_search.ended", drained, forced = report.forced, duration_ms, "ended");
    outcome
}

/// Tells when to end.
#[derive(Clone)]
pub(crate) struct Ending {
    reason: Arc<watch::Sender<Option<&'static str>>>,
}

impl Ending {
    /// Catches SIGTERM and SIGINT from now on.
    pub(crate) fn listen() -> io::Result<Ending> {
        let ending = Ending { reason: Arc::new(watch::Sender::new(None)) };
        tokio::spawn(ending.clone().on_signal(signal(SignalKind::terminate())?, "SIGTERM"));
        tokio::spawn(ending.clone().on_signal(signal(SignalKind::interrupt())?, "SIGINT"));
        Ok(ending)
    }

    /// The protocol's input, whose end is an ending too.
    pub(crate) fn watch<R>(&self, input: R) -> Input<R> {
        Input { input, ending: self.clone() }
    }

    /// Waits for it and says what it was.
    pub(crate) async fn wait(&self) -> &'static str {
        let mut reason = self.reason.subscribe();
        // The sender is in `self`.
        reason.wait_for(Option::is_some).await.ok().and_then(|reason| *reason).unwrap_or("nobody")
    }

    async fn on_signal(self, mut signal: Signal, name: &'static str) {
        if signal.recv().await.is_some() {
            self.because(name);
        }
    }

    fn because(&self, name: &'static str) {
        self.reason.send_if_modified(|reason| {
            let first = reason.is_none();
            *reason = reason.or(Some(name));
            first
        });
    }
}

/// Input without an end: the protocol's loop would give calls five seconds at the end of the input; they are to have
/// shutdown_timeout.
pub(crate) struct Input<R> {
    input: R,
    ending: Ending,
}

impl<R: AsyncRead + Unpin> AsyncRead for Input<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.input).poll_read(cx, buf));
        if read.is_ok() && buf.filled().len() > before {
            return Poll::Ready(Ok(()));
        }
        self.ending.because("the end of the input");
        Poll::Pending
    }
}

/// The calls in progress.
#[derive(Clone)]
pub(crate) struct Calls {
    /// Each call holds a receiver; the value is whether new ones are taken.
    open: Arc<watch::Sender<bool>>,
}

/// A call in progress, until it is dropped.
pub(crate) struct Call {
    _open: watch::Receiver<bool>,
}

impl Default for Calls {
    fn default() -> Calls {
        Calls { open: Arc::new(watch::Sender::new(true)) }
    }
}

impl Calls {
    /// Counts a call from now on.
    pub(crate) fn begin(&self) -> Result<Call, Failure> {
        let call = self.open.subscribe();
        let open = *call.borrow();
        if open { Ok(Call { _open: call }) } else { Err(Failure::Ending) }
    }

    fn refuse(&self) {
        self.open.send_replace(false);
    }

    fn running(&self) -> usize {
        self.open.receiver_count()
    }

    async fn finished(&self) {
        self.open.closed().await;
    }
}
