//! A bound on how many of something run at once.

use std::future::poll_fn;
use std::sync::{Mutex, PoisonError};
use std::task::{Poll, Waker};

/// A small semaphore. Everybody who waits is woken when a permit comes back, so a waiter that gave up strands nobody;
/// the order among waiters is not promised, as each has a deadline of its own.
#[derive(Debug)]
pub(crate) struct Limit {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    waiting: Vec<Waker>,
}

/// The right to be one of the few, until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    limit: &'a Limit,
}

impl Limit {
    pub(crate) fn new(permits: usize) -> Self {
        Limit { state: Mutex::new(State { free: permits, waiting: Vec::new() }) }
    }

    pub(crate) async fn acquire(&self) -> Permit<'_> {
        poll_fn(|cx| {
            let mut state = self.lock();
            if state.free > 0 {
                state.free -= 1;
                return Poll::Ready(Permit { limit: self });
            }
            if !state.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                state.waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.limit.lock();
            state.free += 1;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::{Context, Wake};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU32);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_permit_that_comes_back_wakes_those_who_wait() {
        let limit = Limit::new(1);
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        let Poll::Ready(first) = pin!(limit.acquire()).poll(&mut cx) else { panic!("a permit is free") };
        {
            let mut given_up = pin!(limit.acquire());
            assert!(given_up.as_mut().poll(&mut cx).is_pending());
            assert!(given_up.as_mut().poll(&mut cx).is_pending());
        }
        let mut second = pin!(limit.acquire());
        assert!(second.as_mut().poll(&mut cx).is_pending());
        drop(first);
        // That two wakers are the same may go unseen, and then costs a wake: Miri sees to it.
        let woken = count.0.load(Ordering::Relaxed);
        assert!(woken == 1 || cfg!(miri) && woken > 1, "one task waits, whatever it polled and dropped: {woken}");
        let Poll::Ready(second) = second.poll(&mut cx) else { panic!("the permit came back") };
        assert!(pin!(limit.acquire()).poll(&mut cx).is_pending());
        drop(second);
        assert!(pin!(limit.acquire()).poll(&mut cx).is_ready());
    }
}
