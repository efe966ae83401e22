//! A connection on loan.

use std::fmt;
use std::ops::{Deref, DerefMut};

use super::member::Member;
use super::shared::Handle;
use crate::manager::Manager;
use crate::pool::ConnId;
use crate::runtime::Runtime;

/// A connection on loan: use it through [`Deref`]; dropping it gives it back.
///
/// Dropping is allowed anywhere, also on a thread without a runtime and in the middle of a query or a transaction: it
/// posts one event and returns. What was left undone is cancelled and rolled back in the background before the
/// connection is lent again; if that fails, the connection is closed.
pub struct Lease<R: Runtime, M: Manager> {
    shared: Handle<R, M>,
    /// Taken by the drop, or by whoever takes the lease apart.
    member: Option<Box<Member<M::Connection>>>,
}

impl<R: Runtime, M: Manager> Lease<R, M> {
    #[inline]
    pub(crate) fn new(shared: Handle<R, M>, member: Box<Member<M::Connection>>) -> Self {
        Lease { shared, member: Some(member) }
    }

    /// The connection's id, as in logs and reports.
    pub fn id(&self) -> ConnId {
        self.member().conn
    }

    /// Gives the connection back to be closed instead of reused. A new one takes its place where that is needed.
    pub fn discard(mut self) {
        let member = self.member.take().expect("present until the drop");
        self.shared.release(member, true);
    }

    pub(crate) fn into_member(mut self) -> Box<Member<M::Connection>> {
        self.member.take().expect("present until the drop")
    }

    fn member(&self) -> &Member<M::Connection> {
        self.member.as_ref().expect("present until the drop")
    }
}

impl<R: Runtime, M: Manager> Deref for Lease<R, M> {
    type Target = M::Connection;

    fn deref(&self) -> &M::Connection {
        &self.member().connection
    }
}

impl<R: Runtime, M: Manager> DerefMut for Lease<R, M> {
    fn deref_mut(&mut self) -> &mut M::Connection {
        &mut self.member.as_mut().expect("present until the drop").connection
    }
}

impl<R: Runtime, M: Manager> Drop for Lease<R, M> {
    #[inline]
    fn drop(&mut self) {
        if let Some(member) = self.member.take() {
            self.shared.release(member, false);
        }
    }
}

impl<R: Runtime, M: Manager> fmt::Debug for Lease<R, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("conn", &self.member().conn).finish_non_exhaustive()
    }
}
