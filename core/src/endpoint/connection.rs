//! One connection: hyper's side of it, for as long as its client is worth the wait.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http1::{self, Builder};

use super::hub::Stay;
use super::io::{Io, Lingering};
use super::patience::{Patience, Progress};
use super::service::{Pages, Service};
use crate::runtime::{Runtime, Stream, Timer};
use crate::time::Instant;

/// What a request's head may have, its first line included. What is longer is answered 431.
const MOST_HEAD_BYTES: usize = 16 * 1024;
const MOST_HEADERS: usize = 64;
/// How long a client may go on sending what nobody reads.
const LINGER: Duration = Duration::from_secs(1);

/// The task of one connection.
pub(super) struct Connection<R: Runtime, S: Stream> {
    stage: Stage<R, S>,
    progress: Progress,
    runtime: R,
    timer: R::Timer,
    timer_at: Instant,
    stay: Stay,
}

enum Stage<R: Runtime, S: Stream> {
    Serving { http: Box<http1::Connection<Io<R, S>, Service<R>>>, stopping: bool },
    Lingering { io: Io<R, S>, lingering: Lingering },
    Over,
}

impl<R: Runtime, S: Stream> Unpin for Connection<R, S> {}

impl<R: Runtime, S: Stream> Connection<R, S> {
    pub(super) fn new(runtime: R, stream: S, pages: Arc<Pages>, patience: Patience, stay: Stay) -> Self {
        let now = runtime.now();
        let progress = Progress::new(patience, now);
        let io = Io::new(runtime.clone(), stream, progress.clone());
        let service = Service::new(pages, runtime.clone(), progress.clone());
        let http = Builder::new()
            // Time is kept here: it differs for a head, an answer and a pause.
            .header_read_timeout(None)
            .max_header_size(MOST_HEAD_BYTES)
            .max_buf_size(2 * MOST_HEAD_BYTES)
            .max_headers(MOST_HEADERS)
            .serve_connection(io, service);
        let timer_at = progress.deadline();
        let timer = runtime.timer(timer_at);
        let stage = Stage::Serving { http: Box::new(http), stopping: false };
        Connection { stage, progress, runtime, timer, timer_at, stay }
    }

    /// Ready when the connection is over.
    fn poll_stage(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Stage::Serving { http, stopping } = &mut self.stage {
            if !*stopping && self.stay.poll_stop(cx).is_ready() {
                *stopping = true;
                Pin::new(&mut **http).graceful_shutdown();
            }
            let done = http.poll_without_shutdown(cx).is_ready();
            let stopped = *stopping && self.progress.is_idle();
            if !(done || stopped) {
                return Poll::Pending;
            }
            self.finish();
        }
        match &mut self.stage {
            Stage::Lingering { io, lingering } if self.stay.poll_stop(cx).is_pending() => io.poll_linger(cx, lingering),
            _ => Poll::Ready(()),
        }
    }

    /// Nothing more is served. A client may still be sending, and is to see the last answer; a stop does not wait for that.
    fn finish(&mut self) {
        if let Stage::Serving { http, stopping: false } = std::mem::replace(&mut self.stage, Stage::Over) {
            self.stage = Stage::Lingering { io: http.into_parts().io, lingering: Lingering::new() };
            self.timer_at = self.runtime.now() + LINGER;
            self.timer.reset(self.timer_at);
        }
    }

    /// Ready when the client has had its time.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Stage::Serving { .. } = self.stage {
                let deadline = self.progress.deadline();
                // A deadline that moved away is looked at when the timer fires: every request moves it.
                if deadline < self.timer_at {
                    self.timer_at = deadline;
                    self.timer.reset(deadline);
                }
            }
            if Pin::new(&mut self.timer).poll(cx).is_pending() {
                return Poll::Pending;
            }
            let deadline = self.progress.deadline();
            if matches!(self.stage, Stage::Lingering { .. }) || deadline <= self.timer_at {
                return Poll::Ready(());
            }
            self.timer_at = deadline;
            self.timer.reset(deadline);
        }
    }
}

impl<R: Runtime, S: Stream> Future for Connection<R, S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.poll_stage(cx).is_ready() || this.poll_patience(cx).is_ready() {
            // The socket is closed before anybody hears that the stay is over.
            this.stage = Stage::Over;
            return Poll::Ready(());
        }
        Poll::Pending
    }
}
