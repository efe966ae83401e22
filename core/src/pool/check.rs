//! Proving connections: validation, suspicion, and what happens to the ones that fail.

use super::event::{Action, Check, CloseHow, CloseReason, ConnId, Fault, FaultClass};
use super::machine::{Machine, Phase, after};
use super::notice::{Notice, Reject};
use super::slot::{Life, Slot};
use super::waiters::Waiter;
use crate::time::Instant;

impl Machine {
    /// Starts round trips on idle connections for waiters that nothing recent serves.
    pub(super) fn check_stale(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.slots.idle() == 0 || !self.serving() {
            return;
        }
        let demand = self.demand().saturating_sub(self.waiters_served_by_stack(now));
        let wanted = demand.saturating_sub(self.covering(now)) as usize;
        if wanted == 0 {
            return;
        }
        let stale = self.slots.idle_stack().iter().rev().copied();
        let chosen: Vec<u32> = stale.filter(|&index| self.is_checkable(index, now)).take(wanted).collect();
        for index in chosen {
            self.begin_check(now, index, Check::RoundTrip, actions);
        }
    }

    /// 1 where a `try_get` would be served at once by what is idle already.
    fn waiters_served_by_stack(&self, now: Instant) -> u32 {
        if self.nudge > 0 && self.find_fresh(now).is_some() { self.nudge } else { 0 }
    }

    fn is_checkable(&self, index: u32, now: Instant) -> bool {
        match self.slots.get(index) {
            Slot::Idle { life, .. } => !self.is_doomed(life, now),
            _ => false,
        }
    }

    /// Proves suspect idle connections without being asked, a few at a time: what the pool says of itself becomes true
    /// and the next caller finds them ready.
    pub(super) fn check_suspects(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let slack = self.config.max_connecting.max(1).saturating_sub(self.slots.validating()) as usize;
        if slack == 0 || self.slots.sound() == self.slots.open() {
            return;
        }
        let suspect = |index: u32| match self.slots.get(index) {
            Slot::Idle { life, .. } => self.slots.is_suspect(life) && !self.is_doomed(life, now),
            _ => false,
        };
        let stack = self.slots.idle_stack().iter().rev().copied();
        let chosen: Vec<u32> = stack.filter(|&index| suspect(index)).take(slack).collect();
        for index in chosen {
            self.begin_check(now, index, Check::RoundTrip, actions);
        }
    }

    fn begin_check(&mut self, now: Instant, index: u32, how: Check, actions: &mut Vec<Action>) {
        let Slot::Idle { life, since } = *self.slots.get(index) else { return };
        let deadline = after(now, self.config.validation_timeout);
        let suspicion = self.slots.suspicion();
        self.slots.put(index, Slot::Validating { life, idle_since: since, since: now, deadline, suspicion, how });
        self.arm(deadline, super::timer::TimerKind::Validate);
        actions.push(Action::Validate { conn: self.slots.id(index), how, deadline });
    }

    /// An idle socket has something to say. Looking at it proves nothing: the idle clock, the last check and the
    /// suspicion stay as they were.
    pub(super) fn touched(&mut self, now: Instant, conn: ConnId, actions: &mut Vec<Action>) {
        if let Some(Slot::Idle { .. }) = self.slots.find(conn) {
            self.unsettled = true;
            self.begin_check(now, conn.slot, Check::Socket, actions);
        }
    }

    pub(super) fn validated(&mut self, now: Instant, conn: ConnId, actions: &mut Vec<Action>) {
        let Some(&Slot::Validating { mut life, idle_since, since, suspicion, how, .. }) = self.slots.find(conn) else {
            return;
        };
        self.unsettled = true;
        match how {
            Check::Socket => self.slots.put(conn.slot, Slot::Idle { life, since: idle_since }),
            Check::RoundTrip => {
                life.checked = now.max(idle_since);
                life.suspicion = suspicion;
                self.totals.validations += 1;
                self.totals.last_check = Some(now);
                self.totals.last_latency = Some(now - since);
                self.notice(Notice::Validated { conn, took: now - since }, actions);
                self.place(now, conn.slot, life, idle_since, actions);
            }
        }
    }

    pub(super) fn validation_failed(&mut self, now: Instant, conn: ConnId, fault: Fault, actions: &mut Vec<Action>) {
        let Some(&Slot::Validating { life, .. }) = self.slots.find(conn) else { return };
        self.notice(Notice::ValidationFailed { conn, fault: fault.clone() }, actions);
        self.bury(now, conn.slot, life, fault, CloseReason::ValidationFailed, actions);
    }

    pub(super) fn lost(&mut self, now: Instant, conn: ConnId, fault: Fault, actions: &mut Vec<Action>) {
        if let Some(&(Slot::Idle { life, .. } | Slot::Validating { life, .. })) = self.slots.find(conn) {
            self.bury(now, conn.slot, life, fault, CloseReason::Broken, actions);
        }
    }

    pub(super) fn came_back_broken(
        &mut self,
        now: Instant,
        index: u32,
        life: Life,
        fault: Option<Box<Fault>>,
        actions: &mut Vec<Action>,
    ) {
        let fault = fault.map_or_else(
            || Fault::plain(FaultClass::Transient, "the connection came back in an unknown state"),
            |fault| *fault,
        );
        self.bury(now, index, life, fault, CloseReason::Broken, actions);
    }

    /// A granted connection was dead before its caller saw it: the grant never happened.
    pub(super) fn check_failed(&mut self, now: Instant, conn: ConnId, fault: Fault, actions: &mut Vec<Action>) {
        let Some(&Slot::Lent { life, lease }) = self.slots.find(conn) else { return };
        self.uncount();
        self.leak_resolved(now, conn.slot, &life, &lease, actions);
        self.notice(Notice::ValidationFailed { conn, fault: fault.clone() }, actions);
        self.bury(now, conn.slot, life, fault, CloseReason::ValidationFailed, actions);
        let waiter = Waiter {
            id: lease.waiter,
            arrival: lease.arrival,
            deadline: lease.deadline,
            leak_after: lease.leak_after,
            site: lease.site,
        };
        if matches!(self.phase, Phase::Ending(_) | Phase::Terminated) {
            self.reject(waiter.id, Reject::Closed, actions);
        } else if waiter.deadline <= waiter.arrival {
            self.reject(waiter.id, Reject::WouldBlock, actions);
        } else {
            self.waiters.insert(waiter);
            self.expire_waiters(now, actions);
        }
    }

    pub(super) fn reset_done(&mut self, now: Instant, conn: ConnId, actions: &mut Vec<Action>) {
        let Some(&Slot::Resetting { mut life, suspicion, .. }) = self.slots.find(conn) else { return };
        self.unsettled = true;
        life.checked = now;
        life.suspicion = suspicion;
        match self.retire_reason(&life, 0, now) {
            Some(reason) => self.retire_freed(now, conn.slot, life, now, reason, actions),
            None => self.place(now, conn.slot, life, now, actions),
        }
    }

    /// A reset that fails says something about that connection's last user, not about its siblings; unless it found the
    /// server's role changed, which is changed for all of them (PEERS 17).
    pub(super) fn reset_failed(&mut self, now: Instant, conn: ConnId, fault: Fault, actions: &mut Vec<Action>) {
        let Some(&Slot::Resetting { life, .. }) = self.slots.find(conn) else { return };
        self.unsettled = true;
        self.note_loss(now, &life, &fault);
        self.close(now, conn.slot, Some(&life), CloseReason::ResetFailed, CloseHow::Abort, actions);
        if fault.class == FaultClass::WrongRole {
            self.slots.suspect_all();
            self.cause = Some(fault);
        }
    }

    /// Ends a connection that died. If it was in good standing, its siblings become suspect; a suspect that dies says
    /// nothing new.
    fn bury(
        &mut self,
        now: Instant,
        index: u32,
        life: Life,
        fault: Fault,
        reason: CloseReason,
        actions: &mut Vec<Action>,
    ) {
        self.unsettled = true;
        let was_suspect = self.slots.is_suspect(&life);
        let reason = if was_suspect { CloseReason::Suspect } else { reason };
        self.close(now, index, Some(&life), reason, CloseHow::Abort, actions);
        if !was_suspect {
            self.slots.suspect_all();
        }
        self.note_loss(now, &life, &fault);
        self.cause = Some(fault.clone());
        let link = &mut self.links[usize::from(life.host.0)];
        if link.lost(now, life.opened, &self.config) {
            // Whatever ended it, the host could be reached: no more than "try again later" follows.
            let class = if fault.class == FaultClass::NotYet { fault.class } else { FaultClass::Transient };
            self.link_failed(now, life.host, life.opened, Fault { class, ..fault }, actions);
        }
    }

    /// Remembers a fault. The loss of a connection from before the last recovery is part of what was recovered from.
    fn note_loss(&mut self, now: Instant, life: &Life, fault: &Fault) {
        self.last_error = Some((fault.clone(), now));
        self.hosts[usize::from(life.host.0)].failed(now, fault);
        if life.opened >= self.recovered_at {
            self.recent_fault = Some((now, fault.clone()));
        }
    }
}
