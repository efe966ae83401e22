//! What must always hold. Each check names the guarantee (DESIGN section 4) that it watches.

use super::event::FaultClass;
use super::machine::{Machine, Phase};
use super::slot::Slot;
use crate::time::Instant;

/// What does not hold, in words.
pub(super) type Held = Result<(), String>;

/// Returns what does not hold, in words, if it does not.
macro_rules! hold {
    ($holds:expr, $($words:tt)+) => {
        if !$holds {
            return Err(format!($($words)+));
        }
    };
}
pub(super) use hold;

impl Machine {
    /// Panics with the guarantee's name if one does not hold. Called after every event in debug builds; linear in the
    /// number of connections and waiters.
    pub fn check_invariants(&self) {
        if let Err(broken) = self.invariants() {
            panic!("{broken}");
        }
    }

    /// The guarantee that does not hold, if there is one.
    pub(crate) fn invariants(&self) -> Held {
        self.slots.check()?;
        self.waiters.check()?;
        self.check_bounds()?;
        self.check_links()?;
        self.check_leases()?;
        self.check_stranding()?;
        self.check_end()?;
        self.check_deadline()
    }

    fn check_bounds(&self) -> Held {
        let total = self.slots.total();
        hold!(total <= self.allowed, "Cap: {total} connections where {} are allowed", self.allowed);
        hold!(self.allowed <= self.config.max_size || self.allowed == total, "Cap: more allowed than a shrink left");
        hold!(self.config.min_size <= self.config.max_size, "Cap: min_size above max_size");
        Ok(())
    }

    fn check_links(&self) -> Held {
        for (host, link) in self.links.iter().enumerate() {
            let to_host = |slot: &Slot| matches!(slot, Slot::Connecting { host: to, .. } if usize::from(to.0) == host);
            let in_flight = self.slots.iter().filter(|(_, slot)| to_host(slot)).count();
            hold!(in_flight == link.in_flight() as usize, "True numbers: connects in flight to host {host}");
            let probe = |slot: &Slot| match slot {
                Slot::Connecting { host: to, since, .. } => usize::from(to.0) == host && *since > link.failed_at(),
                _ => false,
            };
            let probes = self.slots.iter().filter(|(_, slot)| probe(slot)).count();
            hold!(link.is_good() || probes <= 1, "Quiet outage: {probes} connects to host {host} since it failed");
        }
        hold!(
            self.slots.connecting() <= self.config.max_connecting.max(1),
            "Quiet outage, prompt recovery: more connects in flight than max_connecting"
        );
        hold!(self.outage.is_none() || self.recovery.is_none(), "Quiet outage: down and recovering at once");
        hold!(self.outage.is_none() || self.slots.sound() == 0, "Fast truth: down with a sound connection");
        hold!(
            self.slots.open() > 0
                || !matches!(self.phase, Phase::Running | Phase::Initializing(_))
                || self.links.iter().all(|link| link.class() != Some(FaultClass::Capacity)),
            "Quiet outage: a full server with no connection of ours"
        );
        Ok(())
    }

    fn check_leases(&self) -> Held {
        let mut holders: Vec<_> = self.slots.iter().filter_map(|(_, slot)| lease_of(slot)).collect();
        let lent = holders.len();
        let leaks = self.slots.iter().filter(|(_, slot)| matches!(slot, Slot::Lent { lease, .. } if lease.reports > 0));
        hold!(leaks.count() == self.leaks as usize, "True numbers: suspected leaks");
        holders.sort_unstable();
        holders.dedup();
        hold!(holders.len() == lent, "One holder: a waiter holds two connections");
        for waiter in self.waiters.iter() {
            hold!(holders.binary_search(&waiter.id).is_err(), "One answer: {:?} waits and holds", waiter.id);
            hold!(
                waiter.id.0 < self.next_waiter || self.next_waiter == u64::MAX,
                "One answer: an unknown waiter waits"
            );
        }
        hold!(
            self.totals.wait.count() >= self.totals.acquisitions,
            "True numbers: acquisitions are missing in the wait histogram"
        );
        Ok(())
    }

    fn check_stranding(&self) -> Held {
        if !self.serving() || self.waiters.live() == 0 {
            return Ok(());
        }
        hold!(self.find_fresh(self.now).is_none(), "No stranding: a lendable connection is idle while a waiter waits");
        let spare = self.slots.total() < self.config.max_size;
        let hope = self.slots.connecting() + self.slots.validating() + self.slots.resetting() + self.slots.closing();
        hold!(
            !spare || hope > 0 || self.next_connect(self.now).0 < Instant::MAX,
            "No stranding: capacity is spare, a waiter waits and nothing is under way"
        );
        hold!(
            spare || hope + self.slots.lent() > 0,
            "No stranding: only idle connections, a waiter, and nothing is under way"
        );
        Ok(())
    }

    fn check_end(&self) -> Held {
        match &self.phase {
            Phase::Terminated => {
                hold!(self.slots.total() == 0, "Bounded end: connections outlive the pool");
                hold!(self.waiters.live() == 0, "Bounded end: waiters outlive the pool");
            }
            Phase::Ending(ending) => {
                hold!(self.waiters.live() == 0, "Bounded end: acquires wait for a pool that ends");
                hold!(self.slots.connecting() == 0, "Bounded end: a connect in flight");
                hold!(!ending.cut || self.slots.lent() + self.slots.resetting() == 0, "Bounded end: a lease was kept");
            }
            Phase::New | Phase::Initializing(_) | Phase::Running => {}
        }
        let refill = self.slots.open() < self.config.min_size && self.slots.total() < self.config.max_size;
        let under_way = self.slots.connecting() > 0 || self.next_connect(self.now).0 < Instant::MAX;
        hold!(
            !refill || under_way || !matches!(self.phase, Phase::Running | Phase::Initializing(_)),
            "Min restored: below min_size and no connect under way"
        );
        Ok(())
    }

    fn check_deadline(&self) -> Held {
        let exact = self.exact_bound(self.now);
        hold!(
            self.bound.at <= exact.at,
            "deadline: {:?} is later than what is due at {:?} ({:?})",
            self.bound.at,
            exact.at,
            exact.kind
        );
        hold!(self.bound.at > self.now, "deadline: {:?} is due and was not done", self.bound.kind);
        Ok(())
    }
}

fn lease_of(slot: &Slot) -> Option<super::event::WaiterId> {
    match slot {
        Slot::Lent { lease, .. } => Some(lease.waiter),
        _ => None,
    }
}
