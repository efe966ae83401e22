//! The callers of a fleet: an open loop at each instance.

use pgweir_core::pool::{ConnId, Event, Fate, SiteId, WaiterId};

use super::{COMMAND_TIMEOUT, Due, Place, Ref, World, after};
use crate::fleet::member::Member;

impl<M: Member> World<'_, M> {
    pub(super) fn next_arrival(&mut self, index: u32) {
        if self.spec.rate > 0.0 {
            let gap = self.instances[index as usize].rng.exponential() * self.means.gap;
            self.queue.push(after(self.now, gap), Due::Arrival(index));
        }
    }

    pub(super) fn arrival(&mut self, index: u32) {
        self.next_arrival(index);
        let instance = &mut self.instances[index as usize];
        instance.last = self.now.as_nanos().max(instance.last + 1);
        let waiter = WaiterId(instance.last);
        let deadline = self.now + self.spec.pool.acquire_timeout();
        self.tally.requests += 1;
        self.post(index, Event::Acquire { waiter, deadline, leak_after: None, site: SiteId(0) });
    }

    pub(super) fn granted(&mut self, index: u32, waiter: WaiterId, conn: ConnId) {
        let silent = self.server.is_silent();
        let peer = self.at(index, conn);
        if !matches!(peer.place, Place::Idle | Place::Checking | Place::Resetting) || peer.generation != conn.generation
        {
            let place = peer.place;
            return self.violated("One holder", format!("instance {index} lends {conn}, which is {place:?}"));
        }
        if peer.dead && !silent {
            peer.place = Place::Idle;
            let fault = Box::new(self.faults.ended.clone());
            return self.soon.push_back((index, Event::CheckFailed { conn, fault }));
        }
        let at = self.begin(index, conn, Place::Lent);
        self.answered += 1;
        self.waits.add_nanos(self.now.as_nanos().saturating_sub(waiter.0));
        let hold = self.instances[index as usize].rng.exponential() * self.means.hold;
        self.queue.push(after(self.now, hold), Due::Done(at));
    }

    pub(super) fn done(&mut self, at: Ref) {
        let silent = self.server.is_silent();
        let Some(peer) = self.peer(at) else { return };
        let (generation, dead) = (peer.generation, peer.dead);
        if silent {
            self.queue.push(self.now + COMMAND_TIMEOUT, Due::Broken(at));
            return self.held.push(Due::Done(at));
        }
        if dead {
            return self.broken(at);
        }
        peer.place = Place::Idle;
        peer.job += 1;
        self.tally.succeeded += 1;
        if self.healed.is_some() {
            self.instances[at.instance as usize].served.get_or_insert(self.now);
        }
        let conn = ConnId { slot: at.slot.into(), generation };
        self.post(at.instance, Event::Release { conn, fate: Fate::Clean, queries: 1, fault: None });
    }

    pub(super) fn broken(&mut self, at: Ref) {
        let Some(peer) = self.peer(at).filter(|peer| peer.place == Place::Lent) else { return };
        peer.place = Place::Idle;
        peer.job += 1;
        let conn = ConnId { slot: at.slot.into(), generation: peer.generation };
        self.tally.broken += 1;
        self.sample.errors += 1;
        let fault = Some(Box::new(self.faults.lost.clone()));
        self.post(at.instance, Event::Release { conn, fate: Fate::Broken, queries: 1, fault });
    }
}
