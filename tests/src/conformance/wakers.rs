//! Wakers that count.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

/// How often its waker was woken.
#[derive(Debug, Default)]
pub(crate) struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Woken {
    /// Never yet, and the waker.
    pub(crate) fn new() -> (Arc<Woken>, Waker) {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        (woken, waker)
    }

    /// Whether it was woken.
    pub(crate) fn once(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }
}
