//! Wakes the background task: once for all of it, and with a mark per slot, so that it knows whom to poll.

use std::task::{Wake, Waker};

use super::origin::Origin;
use super::sync::{AtomicBool, Mutex, Ordering, lock};
use crate::pool::WaiterId;

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

/// What a slot's holder and the background task share. It marks the slot as having something to do, then rings.
#[derive(Debug)]
pub(crate) struct SlotSignal {
    ready: AtomicBool,
    /// Where the slot's lease comes from, with the acquire that got it.
    origin: Mutex<Option<(WaiterId, Origin)>>,
    signal: std::sync::Arc<Signal>,
}

impl SlotSignal {
    pub(crate) fn new(signal: std::sync::Arc<Signal>) -> Self {
        SlotSignal { ready: AtomicBool::new(false), origin: Mutex::new(None), signal }
    }

    pub(crate) fn mark(&self) {
        self.ready.store(true, Ordering::Release);
    }

    pub(crate) fn is_marked(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Says where the slot's lease comes from: by its holder, without the pool's lock.
    pub(crate) fn set_origin(&self, waiter: WaiterId, origin: Origin) {
        let old = lock(&self.origin).replace((waiter, origin));
        drop(old);
    }

    /// Where the lease of `waiter` comes from, if anything was noted.
    pub(crate) fn origin(&self, waiter: WaiterId) -> Option<Origin> {
        lock(&self.origin).as_ref().filter(|(noted, _)| *noted == waiter).map(|(_, origin)| origin.clone())
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
