//! Cancels that end with their lease.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::pool::{Fault, FaultClass};

/// Keeps a lease's cancel tokens from reaching beyond it: a CancelRequest names a session, not a query, and would stop
/// whatever the session does when it arrives.
///
/// One gate per lease. A token [`enter`](Gate::enter)s for as long as its request is under way; the manager
/// [`close`](Gate::close)s it when the lease ends, and waits until it is [quiet](Gate::poll_quiet) before the connection
/// is lent again.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    under_way: u32,
    used: bool,
    unsure: bool,
    waker: Option<Waker>,
}

/// A cancel that is under way, until it is dropped.
#[derive(Debug)]
pub struct Pass<'a> {
    gate: &'a Gate,
    /// Whether the request may have reached the server without the server's end having been seen: dropped like this, it
    /// may still arrive at any time, and costs the connection.
    pub unsure: bool,
}

impl Gate {
    /// Lets a cancel in; `None` if the lease has ended.
    pub fn enter(&self) -> Option<Pass<'_>> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        state.under_way += 1;
        state.used = true;
        Some(Pass { gate: self, unsure: false })
    }

    /// Voids the tokens. Whether any was used.
    pub fn close(&self) -> bool {
        let mut state = self.lock();
        state.closed = true;
        state.used
    }

    /// Waits until no cancel is under way.
    ///
    /// # Errors
    /// If one was given up half-way: it may still come, whenever it likes.
    pub fn poll_quiet(&self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let mut state = self.lock();
        if state.under_way > 0 {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(match state.unsure {
            false => Ok(()),
            true => {
                Err(Fault::plain(FaultClass::Transient, "a cancel request was given up half-way and may still arrive"))
            }
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.gate.lock();
            state.under_way -= 1;
            state.unsure |= self.unsure;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet(gate: &Gate) -> Poll<Result<(), Fault>> {
        gate.poll_quiet(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_closed_gate_lets_nobody_in_and_waits_for_those_inside() {
        let gate = Gate::default();
        let inside = gate.enter().unwrap();
        assert!(gate.close(), "it was used");
        assert!(gate.enter().is_none());
        assert!(quiet(&gate).is_pending());
        drop(inside);
        assert!(matches!(quiet(&gate), Poll::Ready(Ok(()))));
        let unused = Gate::default();
        assert!(!unused.close());
    }

    #[test]
    fn a_cancel_of_unknown_whereabouts_costs_the_connection() {
        let gate = Gate::default();
        let mut inside = gate.enter().unwrap();
        inside.unsure = true;
        drop(inside);
        gate.close();
        assert!(matches!(quiet(&gate), Poll::Ready(Err(_))));
    }
}
