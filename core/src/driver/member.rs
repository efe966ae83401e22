//! A connection that belongs to a pool, boxed once when it is opened and moved as a pointer from then on.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::signal::SlotSignal;
use crate::manager::Manager;
use crate::pool::{ConnId, Fault};
use crate::time::Instant;

pub(crate) struct Member<C> {
    pub(crate) conn: ConnId,
    pub(crate) connection: C,
    /// Marks this slot for the background task: registered with the socket while the connection is idle.
    pub(crate) waker: Waker,
    /// The mark.
    pub(crate) signal: Arc<SlotSignal>,
    /// When it was last heard: a use, a check or its opening ended then.
    pub(crate) heard: Instant,
}

/// A connection heard this recently is not looked at again before it is lent: the look is a system call, and the
/// answer is as old as this when the first query reaches the server anyway.
const JUST_HEARD: Duration = Duration::from_millis(1);

impl<C> Member<C> {
    #[inline]
    pub(crate) fn was_just_heard(&self, now: Instant) -> bool {
        now < self.heard + JUST_HEARD
    }

    /// The look at the socket before it is lent at `now`.
    ///
    /// # Errors
    /// The end or error that was found.
    pub(crate) fn peek<M: Manager<Connection = C>>(&mut self, manager: &M, now: Instant) -> Result<(), Fault> {
        if self.was_just_heard(now) { Ok(()) } else { manager.peek(&mut self.connection) }
    }

    /// Consumes what an idle connection says and asks to be told of more.
    ///
    /// What the mark said so far is dealt with by this: while it was lent, an answer may have come before its user asked
    /// the socket, which then still had this waker.
    pub(crate) fn poll_idle<M: Manager<Connection = C>>(&mut self, manager: &M) -> Poll<Fault> {
        self.signal.take();
        manager.poll_idle(&mut self.connection, &mut Context::from_waker(&self.waker))
    }
}
