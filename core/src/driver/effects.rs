//! What is left to do after the lock is released: everything that runs foreign code.

use std::sync::Arc;
use std::task::Waker;

use super::member::Member;
use crate::manager::Stop;
use crate::runtime::Abort;

/// A manager's handles to one connection.
pub(crate) type Handles = (Option<Arc<dyn Abort>>, Option<Arc<dyn Stop>>);

pub(crate) struct Effects<C> {
    /// Ring for the background task.
    pub(crate) ring: bool,
    /// The usual case, one waker, costs no allocation.
    wakers: (Option<Waker>, Vec<Waker>),
    pub(crate) aborts: Vec<Arc<dyn Abort>>,
    /// Handles that are not needed any more.
    pub(crate) handles: Vec<Handles>,
    /// There is something to log.
    pub(crate) emit: bool,
    /// Connections that belong nowhere any more: dropping one closes its socket.
    pub(crate) members: Vec<Box<Member<C>>>,
    /// Wakers that were replaced.
    pub(crate) stale: Option<Waker>,
}

impl<C> Effects<C> {
    pub(crate) const fn new() -> Self {
        Effects {
            ring: false,
            wakers: (None, Vec::new()),
            aborts: Vec::new(),
            handles: Vec::new(),
            emit: false,
            members: Vec::new(),
            stale: None,
        }
    }

    pub(crate) fn wake(&mut self, waker: Waker) {
        match &mut self.wakers {
            (first @ None, _) => *first = Some(waker),
            (Some(_), more) => more.push(waker),
        }
    }

    pub(crate) fn abort(&self) {
        for abort in &self.aborts {
            abort.abort();
        }
    }

    /// Wakes, and drops the rest.
    pub(crate) fn finish(self) {
        let (first, more) = self.wakers;
        for waker in first.into_iter().chain(more) {
            waker.wake();
        }
    }
}
