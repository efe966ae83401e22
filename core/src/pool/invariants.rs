//! What must always hold. Each check names the guarantee (DESIGN section 4) that it watches.

use super::event::FaultClass;
use super::machine::{Machine, Phase};
use super::slot::Slot;
use crate::time::Instant;

impl Machine {
    /// Panics with the guarantee's name if one does not hold. Called after every event in debug builds; linear in the
    /// number of connections and waiters.
    pub fn check_invariants(&self) {
        self.slots.check();
        self.waiters.check();
        self.check_bounds();
        self.check_links();
        self.check_leases();
        self.check_stranding();
        self.check_end();
        self.check_deadline();
    }

    fn check_bounds(&self) {
        let total = self.slots.total();
        assert!(total <= self.allowed, "Cap: {total} connections where {} are allowed", self.allowed);
        assert!(self.allowed <= self.config.max_size || self.allowed == total, "Cap: more allowed than a shrink left");
        assert!(self.config.min_size <= self.config.max_size, "Cap: min_size above max_size");
    }

    fn check_links(&self) {
        for (host, link) in self.links.iter().enumerate() {
            let to_host = |slot: &Slot| matches!(slot, Slot::Connecting { host: to, .. } if usize::from(to.0) == host);
            let in_flight = self.slots.iter().filter(|(_, slot)| to_host(slot)).count();
            assert_eq!(in_flight, link.in_flight() as usize, "True numbers: connects in flight to host {host}");
            let probe = |slot: &Slot| match slot {
                Slot::Connecting { host: to, since, .. } => usize::from(to.0) == host && *since > link.failed_at(),
                _ => false,
            };
            let probes = self.slots.iter().filter(|(_, slot)| probe(slot)).count();
            assert!(link.is_good() || probes <= 1, "Quiet outage: {probes} connects to host {host} since it failed");
        }
        assert!(
            self.slots.connecting() <= self.config.max_connecting.max(1),
            "Quiet outage, prompt recovery: more connects in flight than max_connecting"
        );
        assert!(self.outage.is_none() || self.recovery.is_none(), "Quiet outage: down and recovering at once");
        assert!(self.outage.is_none() || self.slots.sound() == 0, "Fast truth: down with a sound connection");
        assert!(
            self.slots.open() > 0
                || !matches!(self.phase, Phase::Running | Phase::Initializing(_))
                || self.links.iter().all(|link| link.class() != Some(FaultClass::Capacity)),
            "Quiet outage: a full server with no connection of ours"
        );
    }

    fn check_leases(&self) {
        let mut holders: Vec<_> = self.slots.iter().filter_map(|(_, slot)| lease_of(slot)).collect();
        let lent = holders.len();
        let leaks = self.slots.iter().filter(|(_, slot)| matches!(slot, Slot::Lent { lease, .. } if lease.reports > 0));
        assert_eq!(leaks.count(), self.leaks as usize, "True numbers: suspected leaks");
        holders.sort_unstable();
        holders.dedup();
        assert_eq!(holders.len(), lent, "One holder: a waiter holds two connections");
        for waiter in self.waiters.iter() {
            assert!(holders.binary_search(&waiter.id).is_err(), "One answer: {:?} waits and holds", waiter.id);
            assert!(waiter.id.0 < self.next_waiter, "One answer: an unknown waiter waits");
        }
        assert!(
            self.totals.wait.count() >= self.totals.acquisitions,
            "True numbers: acquisitions are missing in the wait histogram"
        );
    }

    fn check_stranding(&self) {
        if !self.serving() || self.waiters.live() == 0 {
            return;
        }
        assert!(
            self.find_fresh(self.now).is_none(),
            "No stranding: a lendable connection is idle while a waiter waits"
        );
        let spare = self.slots.total() < self.config.max_size;
        let hope = self.slots.connecting() + self.slots.validating() + self.slots.resetting() + self.slots.closing();
        assert!(
            !spare || hope > 0 || self.next_connect(self.now).0 < Instant::MAX,
            "No stranding: capacity is spare, a waiter waits and nothing is under way"
        );
        assert!(
            spare || hope + self.slots.lent() > 0,
            "No stranding: only idle connections, a waiter, and nothing is under way"
        );
    }

    fn check_end(&self) {
        match &self.phase {
            Phase::Terminated => {
                assert_eq!(self.slots.total(), 0, "Bounded end: connections outlive the pool");
                assert_eq!(self.waiters.live(), 0, "Bounded end: waiters outlive the pool");
            }
            Phase::Ending(ending) => {
                assert_eq!(self.waiters.live(), 0, "Bounded end: acquires wait for a pool that ends");
                assert_eq!(self.slots.connecting(), 0, "Bounded end: a connect in flight");
                assert!(
                    !ending.cut || self.slots.lent() + self.slots.resetting() == 0,
                    "Bounded end: a lease was kept"
                );
            }
            Phase::New | Phase::Initializing(_) | Phase::Running => {}
        }
        let refill = self.slots.open() < self.config.min_size && self.slots.total() < self.config.max_size;
        let under_way = self.slots.connecting() > 0 || self.next_connect(self.now).0 < Instant::MAX;
        assert!(
            !refill || under_way || !matches!(self.phase, Phase::Running | Phase::Initializing(_)),
            "Min restored: below min_size and no connect under way"
        );
    }

    fn check_deadline(&self) {
        let exact = self.exact_bound(self.now);
        assert!(
            self.bound.at <= exact.at,
            "deadline: {:?} is later than what is due at {:?} ({:?})",
            self.bound.at,
            exact.at,
            exact.kind
        );
        assert!(self.bound.at > self.now, "deadline: {:?} is due and was not done", self.bound.kind);
    }
}

fn lease_of(slot: &Slot) -> Option<super::event::WaiterId> {
    match slot {
        Slot::Lent { lease, .. } => Some(lease.waiter),
        _ => None,
    }
}
