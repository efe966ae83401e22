//! What the handle, the task that accepts and the connections share: whether to stop, and who is still there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Shared by everything of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Hub {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    stopping: bool,
    /// Everyone who is there, with the waker that tells it to stop.
    guests: BTreeMap<u64, Option<Waker>>,
    next: u64,
    /// Who waits until nobody is.
    leaver: Option<Waker>,
}

/// A task's stay. It is over when this is dropped, with the task.
#[derive(Debug)]
pub(super) struct Stay {
    hub: Arc<Hub>,
    key: u64,
}

impl Hub {
    /// A task begins.
    pub(super) fn enter(self: &Arc<Self>) -> Stay {
        let mut state = self.lock();
        let key = state.next;
        state.next += 1;
        state.guests.insert(key, None);
        Stay { hub: self.clone(), key }
    }

    /// How many there are.
    pub(super) fn guests(&self) -> usize {
        self.lock().guests.len()
    }

    /// Tells everyone to stop.
    pub(super) fn stop(&self) {
        let wakers: Vec<Waker> = {
            let mut state = self.lock();
            state.stopping = true;
            state.guests.values_mut().filter_map(Option::take).collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Ready when nobody is there any more.
    pub(super) fn poll_empty(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.guests.is_empty() {
            return Poll::Ready(());
        }
        let stale = state.leaver.replace(cx.waker().clone());
        drop(state);
        drop(stale);
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stay {
    /// Whether to stop; if not, `cx` is woken when it is time to.
    pub(super) fn poll_stop(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.hub.lock();
        if state.stopping {
            return Poll::Ready(());
        }
        let waker = state.guests.entry(self.key).or_default();
        let stale = match waker {
            Some(waker) if waker.will_wake(cx.waker()) => None,
            waker => waker.replace(cx.waker().clone()),
        };
        drop(state);
        drop(stale);
        Poll::Pending
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let mut state = self.hub.lock();
        let own = state.guests.remove(&self.key);
        let leaver = if state.guests.is_empty() { state.leaver.take() } else { None };
        drop(state);
        drop(own);
        leaver.into_iter().for_each(Waker::wake);
    }
}
