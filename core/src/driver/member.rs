//! A connection that belongs to a pool, boxed once when it is opened and moved as a pointer from then on.

use std::task::{Context, Poll, Waker};

use crate::manager::Manager;
use crate::pool::{ConnId, Fault};

pub(crate) struct Member<C> {
    pub(crate) conn: ConnId,
    pub(crate) connection: C,
    /// Marks this slot for the background task: registered with the socket while the connection is idle.
    pub(crate) waker: Waker,
}

impl<C> Member<C> {
    /// Consumes what an idle connection says and asks to be told of more.
    pub(crate) fn poll_idle<M: Manager<Connection = C>>(&mut self, manager: &M) -> Poll<Fault> {
        manager.poll_idle(&mut self.connection, &mut Context::from_waker(&self.waker))
    }
}
