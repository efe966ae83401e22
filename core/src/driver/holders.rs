//! Who holds and who waits: what the machine knows of it, joined with what only the driver does.

use std::sync::Arc;

use super::origin::Stack;
use super::shared::State;
use super::sync::Ordering;
use crate::error::LeaseInfo;
use crate::manager::Manager;
use crate::pool::Holder;
use crate::report::Waiting;
use crate::time::Instant;

impl<M: Manager> State<M> {
    /// A lease as people see it.
    pub(crate) fn lease(&self, holder: &Holder) -> LeaseInfo {
        let entry = self.entries.get(holder.conn.slot as usize).filter(|entry| entry.conn == holder.conn);
        let queries = entry.and_then(|entry| entry.queries.as_ref());
        let origin = entry.and_then(|entry| entry.signal.origin(holder.waiter));
        LeaseInfo {
            conn: holder.conn,
            backend_pid: Some(holder.backend_pid).filter(|&pid| pid != 0),
            location: self.sites.location(holder.site),
            span: origin.as_ref().and_then(|origin| origin.span),
            since: holder.since,
            held: holder.held,
            queries: queries.map(|count| count.load(Ordering::Relaxed)),
        }
    }

    /// The call stack of a lease's acquire, if it was kept.
    pub(crate) fn stack(&self, holder: &Holder) -> Option<Arc<Stack>> {
        let entry = self.entries.get(holder.conn.slot as usize).filter(|entry| entry.conn == holder.conn)?;
        entry.signal.origin(holder.waiter)?.stack
    }

    /// The longest leases, at most `limit`.
    pub(crate) fn leases(&self, now: Instant, limit: usize) -> Vec<LeaseInfo> {
        self.machine.holders(now, limit).iter().map(|holder| self.lease(holder)).collect()
    }

    /// The head of the queue, at most `limit`.
    pub(crate) fn queue(&self, limit: usize) -> Vec<Waiting> {
        let queued = self.machine.queue(limit).into_iter();
        queued.map(|waiter| (waiter, self.sites.location(waiter.site))).collect()
    }
}
