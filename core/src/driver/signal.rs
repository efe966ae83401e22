//! Wakes the background task: once for all of it, and with a mark per slot, so that it knows whom to poll.

use std::task::{Wake, Waker};

use super::sync::{AtomicBool, Mutex, Ordering, lock};

/// The background task's doorbell.
#[derive(Debug)]
pub(crate) struct Signal {
    raised: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Signal {
    pub(crate) fn new() -> Self {
        Signal { raised: AtomicBool::new(true), waker: Mutex::new(None) }
    }

    /// Rings. The task is woken only by the first ring since it last looked.
    pub(crate) fn raise(&self) {
        if self.raised.swap(true, Ordering::AcqRel) {
            return;
        }
        let waker = lock(&self.waker).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether it rang since the last look. Register first, then look: a ring in between is seen.
    pub(crate) fn take(&self) -> bool {
        self.raised.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn register(&self, waker: &Waker) {
        let mut slot = lock(&self.waker);
        let old = match &mut *slot {
            Some(registered) if registered.will_wake(waker) => None,
            registered => registered.replace(waker.clone()),
        };
        drop(slot);
        // A waker's drop may run a task's drop: not under our lock.
        drop(old);
    }

    /// Forgets the task: called when it ends.
    pub(crate) fn clear(&self) {
        let old = lock(&self.waker).take();
        drop(old);
    }
}

/// Marks one slot as having something to do, then rings.
#[derive(Debug)]
pub(crate) struct SlotSignal {
    ready: AtomicBool,
    signal: std::sync::Arc<Signal>,
}

impl SlotSignal {
    pub(crate) fn new(signal: std::sync::Arc<Signal>) -> Self {
        SlotSignal { ready: AtomicBool::new(false), signal }
    }

    pub(crate) fn mark(&self) {
        self.ready.store(true, Ordering::Release);
    }

    pub(crate) fn is_marked(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// As a rule there is no mark, and a look costs less than a swap.
    pub(crate) fn take(&self) -> bool {
        self.is_marked() && self.ready.swap(false, Ordering::AcqRel)
    }
}

impl Wake for SlotSignal {
    fn wake(self: std::sync::Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &std::sync::Arc<Self>) {
        self.mark();
        self.signal.raise();
    }
}
