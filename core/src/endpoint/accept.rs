//! The task that accepts connections.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::connection::Connection;
use super::hub::{Hub, Stay};
use super::listen::{Listen, Listener};
use super::patience::Limits;
use super::service::Pages;

/// After an error, such as too many open files: others need a moment to close theirs.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// After so many at once other tasks have their turn.
const MAX_TURNS: u32 = 32;

pub(super) struct Accept<R: Listen> {
    runtime: R,
    listener: R::Listener,
    pages: Arc<Pages>,
    limits: Limits,
    hub: Arc<Hub>,
    stay: Stay,
    /// While nothing is accepted.
    pause: Option<R::Timer>,
    next_pause: Duration,
}

impl<R: Listen> Unpin for Accept<R> {}

impl<R: Listen> Accept<R> {
    pub(super) fn new(runtime: R, listener: R::Listener, pages: Arc<Pages>, limits: Limits, hub: Arc<Hub>) -> Self {
        let stay = hub.enter();
        Accept { runtime, listener, pages, limits, hub, stay, pause: None, next_pause: SHORTEST_PAUSE }
    }

    fn poll_one(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(timer) = &mut self.pause {
            ready!(Pin::new(timer).poll(cx));
            self.pause = None;
        }
        match ready!(self.listener.poll_accept(cx)) {
            Ok(stream) => self.receive(stream),
            // That client is gone already.
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => self.back_off(&error),
        }
        Poll::Ready(())
    }

    /// A connection above the limit is closed at once: to wait in the kernel's queue would only hide it.
    fn receive(&mut self, stream: <R::Listener as Listener>::Stream) {
        self.next_pause = SHORTEST_PAUSE;
        // This task is a guest, too.
        if self.hub.guests() <= self.limits.connections {
            let (runtime, pages, stay) = (self.runtime.clone(), self.pages.clone(), self.hub.enter());
            self.runtime.spawn("pgweir-endpoint", Connection::new(runtime, stream, pages, self.limits.patience, stay));
        }
    }

    fn back_off(&mut self, error: &io::Error) {
        let pause = self.next_pause;
        tracing::warn!(
            name: "pgweir.endpoint.accept_failed",
            cause = %error,
            pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
            "the endpoint accepts no connections for {pause:?}: {error}"
        );
        self.pause = Some(self.runtime.timer(self.runtime.now() + pause));
        self.next_pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

impl<R: Listen> Future for Accept<R> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.stay.poll_stop(cx).is_ready() {
            return Poll::Ready(());
        }
        for _ in 0..MAX_TURNS {
            if this.poll_one(cx).is_pending() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
