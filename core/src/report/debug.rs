//! Everything that moves, for whoever looks into a pool that misbehaves.

use serde::Serialize;

use super::Scale;
use super::rows::{HolderRow, HostRow, WaiterRow, Waiting};
use crate::error::LeaseInfo;
use crate::pool::{Counts, HostStatus, State};

/// Who holds, who waits, and what happened last.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DebugReport {
    /// When this was true.
    pub timestamp: String,
    /// The pool's state.
    pub state: State,
    /// Connections lent. `holders` has fewer if there are more than the limit.
    pub active: u32,
    /// Acquires in the queue. `waiters` has fewer if there are more than the limit.
    pub waiting: u32,
    /// Who holds connections, the longest first.
    pub holders: Vec<HolderRow>,
    /// Who waits, the next in line first.
    pub waiters: Vec<WaiterRow>,
    /// Each host.
    pub hosts: Vec<HostRow>,
    /// What the pool was told last, the latest at the end: one line each, with its time.
    pub events: Vec<String>,
}

/// What a debug report is made of, taken at one instant.
pub(crate) struct Parts {
    pub(crate) state: State,
    pub(crate) counts: Counts,
    pub(crate) holders: Vec<LeaseInfo>,
    pub(crate) waiters: Vec<Waiting>,
    pub(crate) hosts: Vec<HostStatus>,
}

impl DebugReport {
    pub(crate) fn new(parts: &Parts, events: Vec<String>, scale: &Scale<'_>) -> Self {
        let waiter = |(ahead, waiting)| WaiterRow::new(ahead, waiting, scale);
        DebugReport {
            timestamp: scale.wall.iso(scale.now),
            state: parts.state,
            active: parts.counts.active,
            waiting: parts.counts.waiting,
            holders: parts.holders.iter().map(|lease| HolderRow::new(lease, scale)).collect(),
            waiters: parts.waiters.iter().enumerate().map(waiter).collect(),
            hosts: parts.hosts.iter().map(|host| HostRow::new(host, scale)).collect(),
            events,
        }
    }
}
