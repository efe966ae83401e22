//! A pool without a plan for outages, for contrast: nobody waits before trying again, and everybody tries.
//!
//! Whoever finds nothing idle opens a connection at once, and so does the next one when that fails; the caller for whom
//! it was opened gets the error. What is missing to min_size is opened again every 100 ms. Nothing is checked before it
//! is lent but the socket.

use std::collections::VecDeque;
use std::time::Duration;

use pgweir_core::config::PoolConfig;
use pgweir_core::pool::{
    Action, CloseHow, CloseReason, ConnId, Counts, Event, Fate, Fault, HostId, OutageReport, Reject, SiteId,
    TimeoutReport, WaitPhase, WaiterId,
};
use pgweir_core::time::Instant;

use super::member::Member;

/// How often what is missing to min_size is tried again.
const REFILL: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Slot {
    Vacant,
    Connecting(Instant),
    Idle,
    Lent(WaiterId),
    Closing(Instant),
}

#[derive(Debug)]
pub(super) struct Naive {
    min: u32,
    max: u32,
    connect_timeout: Duration,
    acquire_timeout: Duration,
    slots: Vec<(Slot, u32)>,
    /// Waiters with their deadlines.
    waiters: VecDeque<(WaiterId, Instant)>,
    refill_at: Instant,
}

impl Member for Naive {
    fn new(config: &PoolConfig, _seed: u64, _now: Instant) -> Self {
        Naive {
            min: config.min_size(),
            max: config.max_size(),
            connect_timeout: config.connect_timeout(),
            acquire_timeout: config.acquire_timeout(),
            slots: vec![(Slot::Vacant, 0); config.max_size() as usize],
            waiters: VecDeque::new(),
            refill_at: Instant::MAX,
        }
    }

    fn handle(&mut self, now: Instant, event: Event, actions: &mut Vec<Action>) {
        self.expire(now, actions);
        match event {
            Event::Start { .. } => self.refill_at = now,
            Event::Acquire { waiter, .. } => self.waiters.push_back((waiter, now + self.acquire_timeout)),
            Event::Connected { conn, .. } => self.put(conn, Slot::Idle),
            Event::ConnectFailed { conn, fault } => {
                self.put(conn, Slot::Vacant);
                self.blame(now, &fault, actions);
            }
            Event::Release { conn, fate: Fate::Broken, .. } | Event::Lost { conn, .. } => {
                self.close(now, conn, CloseReason::Broken, actions);
            }
            Event::CheckFailed { conn, .. } => {
                // It was never seen: whoever was to get it is the next one again.
                if let Some((Slot::Lent(waiter), _)) = self.slots.get(conn.slot as usize) {
                    self.waiters.push_front((*waiter, now + self.acquire_timeout));
                }
                self.close(now, conn, CloseReason::Broken, actions);
            }
            Event::Release { conn, .. } => self.put(conn, Slot::Idle),
            Event::Touched { conn } => self.close(now, conn, CloseReason::Broken, actions),
            Event::Closed { conn } => self.put(conn, Slot::Vacant),
            _ => {}
        }
        self.serve(now, actions);
    }

    fn deadline(&self) -> Instant {
        let slots = self.slots.iter().map(|(slot, _)| match slot {
            Slot::Connecting(until) | Slot::Closing(until) => *until,
            _ => Instant::MAX,
        });
        let waiter = self.waiters.front().map_or(Instant::MAX, |(_, until)| *until);
        slots.min().unwrap_or(Instant::MAX).min(waiter).min(self.refill_at)
    }

    fn counts(&self) -> Counts {
        let count = |wanted: fn(&Slot) -> bool| self.slots.iter().filter(|(slot, _)| wanted(slot)).count() as u32;
        Counts {
            total: count(|slot| *slot != Slot::Vacant),
            idle: count(|slot| *slot == Slot::Idle),
            active: count(|slot| matches!(slot, Slot::Lent(_))),
            connecting: count(|slot| matches!(slot, Slot::Connecting(_))),
            closing: count(|slot| matches!(slot, Slot::Closing(_))),
            waiting: self.waiters.len() as u32,
            max: self.max,
            min: self.min,
            ..Counts::default()
        }
    }
}

impl Naive {
    fn put(&mut self, conn: ConnId, slot: Slot) {
        if let Some((found, generation)) = self.slots.get_mut(conn.slot as usize)
            && *generation == conn.generation
        {
            *found = slot;
        }
    }

    fn close(&mut self, now: Instant, conn: ConnId, reason: CloseReason, actions: &mut Vec<Action>) {
        let deadline = now + self.connect_timeout;
        self.put(conn, Slot::Closing(deadline));
        actions.push(Action::Close { conn, reason, how: CloseHow::Abort, deadline });
    }

    fn expire(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for index in 0..self.slots.len() {
            let (slot, generation) = self.slots[index];
            match slot {
                Slot::Connecting(until) if until <= now => {
                    let conn = ConnId { slot: index as u32, generation };
                    self.close(now, conn, CloseReason::ConnectTimeout, actions);
                }
                Slot::Closing(until) if until <= now => self.slots[index].0 = Slot::Vacant,
                _ => {}
            }
        }
        while let Some(&(waiter, until)) = self.waiters.front()
            && until <= now
        {
            self.waiters.pop_front();
            let report = TimeoutReport {
                waited: self.acquire_timeout,
                site: SiteId::default(),
                phase: WaitPhase::Connecting,
                counts: self.counts(),
                position: 0,
                last_fault: None,
                holders: Vec::new(),
            };
            actions.push(Action::Reject { waiter, reason: Reject::Timeout(Box::new(report)) });
        }
    }

    /// The first in line gets the error: the connection was opened for it.
    fn blame(&mut self, now: Instant, fault: &Fault, actions: &mut Vec<Action>) {
        if let Some((waiter, _)) = self.waiters.pop_front() {
            let (cause, waited) = (fault.clone(), Duration::ZERO);
            let report = OutageReport { cause, attempts: 1, since: now, next_attempt: None, waited };
            actions.push(Action::Reject { waiter, reason: Reject::Unavailable(Box::new(report)) });
        }
    }

    fn serve(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for index in 0..self.slots.len() {
            if self.slots[index].0 == Slot::Idle
                && let Some((waiter, _)) = self.waiters.pop_front()
            {
                self.slots[index].0 = Slot::Lent(waiter);
                let conn = ConnId { slot: index as u32, generation: self.slots[index].1 };
                actions.push(Action::Grant { waiter, conn });
            }
        }
        let mut counts = self.counts();
        let refill = self.refill_at <= now;
        if refill {
            self.refill_at = Instant::MAX;
        }
        for index in 0..self.slots.len() {
            let wanted = counts.waiting > counts.connecting || (refill && counts.total - counts.closing < self.min);
            if wanted && self.slots[index].0 == Slot::Vacant {
                let deadline = now + self.connect_timeout;
                let (slot, generation) = &mut self.slots[index];
                (*slot, *generation) = (Slot::Connecting(deadline), *generation + 1);
                let conn = ConnId { slot: index as u32, generation: *generation };
                actions.push(Action::Connect { conn, host: HostId(0), deadline });
                counts.total += 1;
                counts.connecting += 1;
            }
        }
        if counts.total - counts.closing < self.min && self.refill_at == Instant::MAX {
            self.refill_at = now + REFILL;
        }
    }
}
