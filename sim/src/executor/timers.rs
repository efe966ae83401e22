//! Timers on the virtual clock.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use pgweir_core::runtime::Timer;
use pgweir_core::time::Instant;

use super::{Executor, lock};
use crate::rng::Rng;
use crate::scenario::Dist;

/// When a timer fires, and a number of its own.
type Key = (Instant, u64);

/// The timers that are armed.
pub(super) struct Timers {
    armed: BTreeMap<Key, Waker>,
    next: u64,
    slack: Dist,
    rng: Rng,
}

impl Timers {
    pub(super) fn new(slack: Dist, rng: Rng) -> Self {
        Timers { armed: BTreeMap::new(), next: 0, slack, rng }
    }

    pub(super) fn next_at(&self) -> Instant {
        self.armed.first_key_value().map_or(Instant::MAX, |((at, _), _)| *at)
    }

    /// Takes out the first timer that is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(Key, Waker)> {
        if self.next_at() > now {
            return None;
        }
        self.armed.pop_first()
    }

    /// Takes out all timers.
    pub(super) fn take_all(&mut self) -> BTreeMap<Key, Waker> {
        std::mem::take(&mut self.armed)
    }

    fn arm(&mut self, deadline: Instant, exact: bool, waker: Waker) -> Key {
        let late = if exact { std::time::Duration::ZERO } else { self.slack.draw(&mut self.rng) };
        let key = (deadline + late, self.next);
        self.next += 1;
        self.armed.insert(key, waker);
        key
    }
}

/// A timer of the simulator's: never early, and as late as the run's timer slack makes it.
pub struct SimTimer {
    executor: Arc<Executor>,
    deadline: Instant,
    /// Without slack: the test's own clockwork.
    exact: bool,
    armed: Option<Key>,
}

impl SimTimer {
    pub(crate) fn new(executor: Arc<Executor>, deadline: Instant) -> Self {
        SimTimer { executor, deadline, exact: false, armed: None }
    }

    pub(crate) fn exact(executor: Arc<Executor>, deadline: Instant) -> Self {
        SimTimer { executor, deadline, exact: true, armed: None }
    }

    fn disarm(&mut self) {
        if let Some(key) = self.armed.take() {
            let waker = lock(&self.executor.timers).armed.remove(&key);
            drop(waker);
        }
    }
}

impl Future for SimTimer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let now = self.executor.now();
        let Some(key) = self.armed else {
            if now >= self.deadline {
                return Poll::Ready(());
            }
            if self.deadline < Instant::MAX {
                let waker = cx.waker().clone();
                let key = lock(&self.executor.timers).arm(self.deadline, self.exact, waker);
                self.armed = Some(key);
            }
            return Poll::Pending;
        };
        if key.0 <= now {
            self.disarm();
            return Poll::Ready(());
        }
        let known = lock(&self.executor.timers).armed.get(&key).is_some_and(|waker| waker.will_wake(cx.waker()));
        if !known {
            let new = cx.waker().clone();
            let old = lock(&self.executor.timers).armed.insert(key, new);
            drop(old);
        }
        Poll::Pending
    }
}

impl Timer for SimTimer {
    fn reset(&mut self, deadline: Instant) {
        self.disarm();
        self.deadline = deadline;
    }
}

impl Drop for SimTimer {
    fn drop(&mut self) {
        self.disarm();
    }
}

impl fmt::Debug for SimTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimTimer").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}
