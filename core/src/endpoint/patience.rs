//! How long a client may take: for the head of a request, for reading the answer, and between two requests.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::time::Instant;

/// The limits of an endpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// At once.
    pub(super) connections: usize,
    pub(super) patience: Patience,
}

/// The limits of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// From its first byte, or from the connection's start, to the end of a request's head.
    pub(super) head: Duration,
    /// From there until the client has taken the whole answer.
    pub(super) answer: Duration,
    /// Until the next request's first byte.
    pub(super) idle: Duration,
}

/// When the patience with a connection ends. Shared by its stream, which sees bytes, its service, which sees requests, and
/// whoever drops it then.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    patience: Patience,
    state: Arc<Mutex<(Phase, Instant)>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// A request's head is being read.
    Head,
    /// A request is being answered.
    Answer,
    /// Nothing is under way.
    Idle,
}

impl Progress {
    /// A new connection: its first request is due.
    pub(super) fn new(patience: Patience, now: Instant) -> Self {
        Progress { patience, state: Arc::new(Mutex::new((Phase::Head, now + patience.head))) }
    }

    /// When the patience ends.
    pub(super) fn deadline(&self) -> Instant {
        self.with(|(_, deadline)| *deadline)
    }

    /// Whether no request is being read or answered.
    pub(super) fn is_idle(&self) -> bool {
        self.with(|(phase, _)| *phase == Phase::Idle)
    }

    /// Something of a request has arrived: one that was under way has no more time for it.
    pub(super) fn received(&self, now: Instant) {
        self.turn(Phase::Idle, Phase::Head, now + self.patience.head);
    }

    /// A request is there.
    pub(super) fn requested(&self, now: Instant) {
        self.with(|state| *state = (Phase::Answer, now + self.patience.answer));
    }

    /// The client does not take what was written: it may be the end of an answer to which nothing else belongs.
    pub(super) fn blocked(&self, now: Instant) {
        self.turn(Phase::Idle, Phase::Answer, now + self.patience.answer);
        self.turn(Phase::Head, Phase::Answer, now + self.patience.answer);
    }

    /// All that was written is out, and there is nothing to read.
    pub(super) fn rests(&self, now: Instant) {
        self.turn(Phase::Answer, Phase::Idle, now + self.patience.idle);
    }

    fn turn(&self, from: Phase, to: Phase, deadline: Instant) {
        self.with(|state| {
            if state.0 == from {
                *state = (to, deadline);
            }
        });
    }

    fn with<T>(&self, what: impl FnOnce(&mut (Phase, Instant)) -> T) -> T {
        what(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
