//! What a pool says of itself, for whoever looks from outside.

use std::fmt;

use super::pool::Pool;
use super::shared::{Handle, Shared};
use crate::journal::Tape;
use crate::manager::Manager;
use crate::metrics::Snapshot;
use crate::pool::SiteId;
use crate::report::{self, DebugParts, DebugReport, HealthReport, PoolStats};
use crate::runtime::Runtime;

/// Sees a pool without being a handle to it: the pool shuts down when its last [`Pool`] is dropped, whoever observes it.
/// For endpoints, exporters and other housekeeping. Cheap to clone.
pub struct Observer<R: Runtime, M: Manager> {
    shared: Handle<R, M>,
}

impl<R: Runtime, M: Manager> Pool<R, M> {
    /// Looks at this pool, without keeping it open.
    pub fn observer(&self) -> Observer<R, M> {
        Observer { shared: self.shared().clone() }
    }
}

/// What can be seen of a pool, whatever it pools and on whichever runtime.
pub trait Observe: Send + Sync + 'static {
    /// As [`Pool::stats`].
    fn stats(&self) -> PoolStats;
    /// As [`Pool::health`].
    fn health(&self) -> HealthReport;
    /// As [`Pool::debug_report`].
    fn debug_report(&self, limit: usize) -> DebugReport;
    /// As [`Pool::metrics`].
    fn metrics(&self) -> Snapshot;
}

impl<R: Runtime, M: Manager> Observe for Observer<R, M> {
    fn stats(&self) -> PoolStats {
        self.shared.stats()
    }

    fn health(&self) -> HealthReport {
        self.shared.health()
    }

    fn debug_report(&self, limit: usize) -> DebugReport {
        self.shared.debug_report(limit)
    }

    fn metrics(&self) -> Snapshot {
        self.shared.metrics()
    }
}

/// Every document and snapshot is made the same way: what is needed is copied under the lock, and written after it.
impl<R: Runtime, M: Manager> Shared<R, M> {
    pub(crate) fn stats(&self) -> PoolStats {
        let now = self.runtime.now();
        let (stats, state, last_error, hosts) = {
            let state = self.lock();
            let machine = &state.machine;
            let last_error = machine.last_fault().map(|(fault, at)| (fault.clone(), at));
            (machine.stats(now), machine.state(), last_error, machine.hosts())
        };
        PoolStats::new(&stats, state, last_error.as_ref(), &hosts, &self.scale(now))
    }

    pub(crate) fn health(&self) -> HealthReport {
        let now = self.runtime.now();
        let (health, hosts, holders) = {
            let state = self.lock();
            (state.machine.health(now), state.machine.hosts(), state.leases(now, report::HOLDERS))
        };
        HealthReport::new(&health, &hosts, &holders, &self.scale(now))
    }

    pub(crate) fn debug_report(&self, limit: usize) -> DebugReport {
        let now = self.runtime.now();
        let (parts, tape, sites) = {
            let state = self.lock();
            let parts = DebugParts {
                state: state.machine.state(),
                counts: state.machine.counts(),
                holders: state.leases(now, limit),
                waiters: state.queue(limit),
                hosts: state.machine.hosts(),
            };
            (parts, state.recorder.recent(limit), state.sites.all().to_vec())
        };
        let location = |site: SiteId| sites.get(site.0 as usize).copied();
        let events = tape.iter().flat_map(Tape::entries);
        let events = events.map(|(at, event, _)| report::describe(at, &event, self.wall, location)).collect();
        DebugReport::new(&parts, events, &self.scale(now))
    }

    pub(crate) fn metrics(&self) -> Snapshot {
        let now = self.runtime.now();
        let (stats, health, hosts) = {
            let state = self.lock();
            (state.machine.stats(now), state.machine.health(now), state.machine.hosts())
        };
        Snapshot { stats, health, hosts, host_names: self.scale(now).hosts.to_vec() }
    }
}

impl<R: Runtime, M: Manager> Clone for Observer<R, M> {
    fn clone(&self) -> Self {
        Observer { shared: self.shared.clone() }
    }
}

impl<R: Runtime, M: Manager> fmt::Debug for Observer<R, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").field("pool", &self.shared).finish()
    }
}
