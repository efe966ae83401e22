//! Closing connections: one by one when they are retired, all of them at the end.

use std::time::Duration;

use super::event::{Action, CloseHow, CloseReason, ConnId, FaultClass};
use super::machine::{Ending, Machine, Phase, after};
use super::notice::{Notice, Reject, ShutdownReport};
use super::slot::{Life, Slot};
use super::timer::TimerKind;
use crate::config::LARGEST_POOL;
use crate::time::Instant;

/// A shutdown outlasts its deadline by this much at most.
const GRACE: Duration = Duration::from_secs(1);

impl Machine {
    pub(super) fn close(
        &mut self,
        now: Instant,
        index: u32,
        life: Option<&Life>,
        reason: CloseReason,
        how: CloseHow,
        actions: &mut Vec<Action>,
    ) {
        let conn = self.slots.id(index);
        let mut deadline = after(now, self.config.close_timeout);
        if let Phase::Ending(ending) = &self.phase {
            deadline = deadline.min(after(now, ending.hard - now));
        }
        self.slots.put(index, Slot::Closing { deadline, reason });
        self.totals.closed.add(reason);
        self.arm(deadline, TimerKind::Close);
        if let Some(life) = life {
            self.notice(Notice::Recycled { conn, age: now - life.opened, reason }, actions);
        }
        actions.push(Action::Close { conn, reason, how, deadline });
    }

    pub(super) fn close_gracefully(
        &mut self,
        now: Instant,
        index: u32,
        life: &Life,
        reason: CloseReason,
        actions: &mut Vec<Action>,
    ) {
        self.close(now, index, Some(life), reason, CloseHow::Graceful, actions);
    }

    pub(super) fn closed(&mut self, conn: ConnId, now: Instant) {
        if let Some(&Slot::Closing { reason, .. }) = self.slots.find(conn) {
            self.vacate(now, conn.slot, reason);
        }
    }

    /// A closing slot is free again: the peer's end is closed too, or has not answered in time.
    pub(super) fn vacate(&mut self, now: Instant, index: u32, reason: CloseReason) {
        self.unsettled = true;
        let failed = reason == CloseReason::ConnectTimeout;
        self.slots.put(index, Slot::Vacant { failed });
        if !failed {
            self.links.iter_mut().for_each(|link| link.room_was_made(now));
        }
    }

    /// Why a connection that is free now must not be lent again, if so. `queries` come on top of those counted.
    #[inline]
    pub(super) fn retire_reason(&self, life: &Life, queries: u64, now: Instant) -> Option<CloseReason> {
        let limit = self.config.max_queries;
        if matches!(self.phase, Phase::Ending(_) | Phase::Terminated) {
            Some(CloseReason::Shutdown)
        } else if self.slots.open() + self.slots.connecting() > self.config.max_size {
            Some(CloseReason::Shrink)
        } else if life.recycle != self.recycle {
            Some(CloseReason::Recycle)
        } else if limit > 0 && life.queries.saturating_add(queries) >= limit {
            Some(CloseReason::QueryLimit)
        } else if now >= life.expires {
            Some(CloseReason::Lifetime)
        } else {
            None
        }
    }

    /// A connection is free again and must not be lent: it is closed, or, if it is only worn and its replacement can
    /// come first, it stays idle until then (Fresh, R-9.1).
    pub(super) fn retire_freed(
        &mut self,
        now: Instant,
        index: u32,
        mut life: Life,
        since: Instant,
        reason: CloseReason,
        actions: &mut Vec<Action>,
    ) {
        if !self.waits_for_replacement(reason) {
            return self.close_gracefully(now, index, &life, reason, actions);
        }
        // Worn by its queries it is as if its time were up.
        life.renew = life.renew.min(now);
        life.expires = life.expires.min(now);
        self.slots.put(index, Slot::Idle { life, since });
    }

    /// Whether what is to be retired for this reason stays until its replacement is there: it is only worn, without it
    /// fewer than min_size were open, and one is on its way, or there is room for one, and the server can be reached.
    pub(super) fn waits_for_replacement(&self, reason: CloseReason) -> bool {
        let worn = matches!(reason, CloseReason::Recycle | CloseReason::QueryLimit | CloseReason::Lifetime);
        let coming = self.slots.connecting() > 0 || self.slots.total() < self.config.max_size;
        worn && self.slots.open() <= self.config.min_size && coming && self.bad_link().is_none()
    }

    /// Whether a connection must not be lent any more (Fresh).
    #[inline]
    pub(super) fn is_doomed(&self, life: &Life, now: Instant) -> bool {
        life.recycle != self.recycle || now >= life.expires
    }

    /// Closes what is idle and should not be: above max_size, doomed, or unused for too long.
    pub(super) fn retire(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.shrink(now, actions);
        self.retire_doomed(now, actions);
        self.reap(now, actions);
    }

    /// Above max_size: connects in flight serve nobody yet and go first, then the longest idle. Lent ones follow when
    /// they come back.
    fn shrink(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let max = self.config.max_size;
        if self.slots.open() + self.slots.connecting() <= max {
            return;
        }
        for index in (0..self.slots.len()).rev() {
            if self.slots.open() + self.slots.connecting() <= max {
                return;
            }
            if let Slot::Connecting { .. } = self.slots.get(index) {
                self.abort_connect(now, index, CloseReason::Shrink, actions);
            }
        }
        while self.slots.open() + self.slots.connecting() > max
            && let Some(&index) = self.slots.idle_stack().first()
            && let Slot::Idle { life, .. } = *self.slots.get(index)
        {
            self.close_gracefully(now, index, &life, CloseReason::Shrink, actions);
        }
    }

    fn abort_connect(&mut self, now: Instant, index: u32, reason: CloseReason, actions: &mut Vec<Action>) {
        if let Slot::Connecting { host, .. } = *self.slots.get(index) {
            self.links[usize::from(host.0)].ended();
            self.close(now, index, None, reason, CloseHow::Abort, actions);
        }
    }

    /// Worn connections, a few at a time, and each after its replacement where that can be.
    fn retire_doomed(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let doomed = |index: u32| match self.slots.get(index) {
            Slot::Idle { life, .. } if self.is_doomed(life, now) => Some((index, *life)),
            _ => None,
        };
        let doomed: Vec<(u32, Life)> = self.slots.idle_stack().iter().filter_map(|&index| doomed(index)).collect();
        for (index, life) in doomed {
            let reason = self.retire_reason(&life, 0, now).unwrap_or(CloseReason::Lifetime);
            if self.waits_for_replacement(reason) || self.slots.closing() >= self.config.max_connecting.max(1) {
                return;
            }
            self.close_gracefully(now, index, &life, reason, actions);
        }
    }

    /// Idle connections above min_size that were unused for max_idle_time. One that is being replaced does not make
    /// its siblings a surplus.
    fn reap(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let (min, limit) = (self.config.min_size, self.config.max_idle_time);
        if limit.is_zero() {
            return;
        }
        let from = self.slots.open();
        if from <= min {
            return;
        }
        let mut renewing = self.renewing(now);
        while self.slots.open() > min + renewing
            && let Some(&index) = self.slots.idle_stack().first()
            && let Slot::Idle { life, since } = *self.slots.get(index)
            && since + limit <= now
        {
            renewing -= u32::from(self.is_renewing(&life, now));
            self.close_gracefully(now, index, &life, CloseReason::IdleTimeout, actions);
        }
        let to = self.slots.open();
        if to < from {
            let from = self.shrink_from.unwrap_or(from).max(from);
            self.shrink_from = (to > min).then_some(from);
            if to <= min {
                self.notice(Notice::Shrunk { from, to }, actions);
            }
        }
    }

    pub(super) fn resize(&mut self, min_size: u32, max_size: u32, actions: &mut Vec<Action>) {
        let max = max_size.clamp(1, LARGEST_POOL);
        let min = min_size.min(max);
        if (min, max) == (self.config.min_size, self.config.max_size) || !self.is_open() {
            return;
        }
        self.config.min_size = min;
        self.config.max_size = max;
        self.allowed = self.slots.total().max(max);
        self.unsettled = true;
        self.notice(Notice::Resized { min, max }, actions);
    }

    pub(super) fn pause(&mut self, actions: &mut Vec<Action>) {
        if !self.paused && self.is_open() {
            self.paused = true;
            self.unsettled = true;
            self.notice(Notice::Paused, actions);
        }
    }

    pub(super) fn resume(&mut self, actions: &mut Vec<Action>) {
        if self.paused && self.is_open() {
            self.paused = false;
            self.unsettled = true;
            self.notice(Notice::Resumed, actions);
        }
    }

    pub(super) fn recycle_all(&mut self, actions: &mut Vec<Action>) {
        if self.is_open() {
            self.recycle = self.recycle.wrapping_add(1);
            self.unsettled = true;
            self.notice(Notice::RecycleStarted { connections: self.slots.open() }, actions);
        }
    }

    /// Whether the pool is neither closing nor closed.
    fn is_open(&self) -> bool {
        !matches!(self.phase, Phase::Ending(_) | Phase::Terminated)
    }

    /// Begins the end, or brings its deadline forward.
    pub(super) fn shutdown(&mut self, now: Instant, deadline: Instant, actions: &mut Vec<Action>) {
        let hard = deadline.max(now) + self.config.close_timeout.min(GRACE);
        match &mut self.phase {
            Phase::Terminated => return,
            Phase::Ending(ending) => {
                ending.deadline = ending.deadline.min(deadline);
                ending.hard = ending.hard.min(hard);
            }
            Phase::New | Phase::Initializing(_) | Phase::Running => {
                self.notice(Notice::ShutdownStarted { counts: self.counts(), deadline }, actions);
                self.begin_end(now, deadline, hard, false);
                self.update_state(now, actions);
                let waiting = self.waiters.take_if(|_| true);
                self.count_rejected(waiting.len());
                for (waiter, _) in waiting {
                    self.reject(waiter.id, Reject::Closed, actions);
                }
                self.close_all(now, actions);
            }
        }
        self.unsettled = true;
        self.cut_leases(now, actions);
    }

    pub(super) fn begin_end(&mut self, now: Instant, deadline: Instant, hard: Instant, init_failed: bool) {
        let report = ShutdownReport::default();
        self.phase = Phase::Ending(Ending { started: now, deadline, hard, report, init_failed, cut: false });
        self.outage = None;
        self.recovery = None;
        self.dry_since = None;
        self.unsettled = true;
    }

    pub(super) fn count_rejected(&mut self, count: usize) {
        if let Phase::Ending(ending) = &mut self.phase {
            ending.report.rejected += count as u32;
        }
    }

    /// Closes everything but what callers still use: leases, and resets that clean up after them.
    pub(super) fn close_all(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for index in 0..self.slots.len() {
            match *self.slots.get(index) {
                Slot::Connecting { .. } => self.abort_connect(now, index, CloseReason::Shutdown, actions),
                Slot::Idle { life, .. } | Slot::Validating { life, .. } => {
                    self.close_gracefully(now, index, &life, CloseReason::Shutdown, actions);
                }
                Slot::Vacant { .. } | Slot::Lent { .. } | Slot::Resetting { .. } | Slot::Closing { .. } => {}
            }
        }
    }

    /// At the shutdown's deadline: cuts off the remaining leases, a notice each, and the resets.
    pub(super) fn cut_leases(&mut self, now: Instant, actions: &mut Vec<Action>) {
        match &mut self.phase {
            Phase::Ending(ending) if !ending.cut && now >= ending.deadline => ending.cut = true,
            _ => return,
        }
        self.unsettled = true;
        for index in 0..self.slots.len() {
            match *self.slots.get(index) {
                Slot::Lent { life, lease } => {
                    self.leaks -= u32::from(lease.reports > 0);
                    let holder = self.holder(now, index, &life, &lease);
                    self.notice(Notice::ForcedClose { holder }, actions);
                    if let Phase::Ending(ending) = &mut self.phase {
                        ending.report.forced += 1;
                    }
                    self.close(now, index, Some(&life), CloseReason::Shutdown, CloseHow::Abort, actions);
                }
                Slot::Resetting { life, .. } => {
                    self.close(now, index, Some(&life), CloseReason::Shutdown, CloseHow::Abort, actions);
                }
                _ => {}
            }
        }
    }

    /// The end: nothing is open any more, or the last moment has come.
    pub(super) fn end_when_empty(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Phase::Ending(ending) = &mut self.phase else { return };
        if self.slots.total() > 0 && now < ending.hard {
            return;
        }
        let mut report = std::mem::take(&mut ending.report);
        report.duration = now - ending.started;
        for index in 0..self.slots.len() {
            if !matches!(self.slots.get(index), Slot::Vacant { .. }) {
                self.slots.put(index, Slot::Vacant { failed: false });
            }
        }
        self.phase = Phase::Terminated;
        self.update_state(now, actions);
        self.notice(Notice::Terminated { report }, actions);
    }

    /// Whether every host refuses for good.
    pub(super) fn is_hopeless(&self) -> bool {
        self.links.iter().all(|link| link.class() == Some(FaultClass::Permanent))
    }
}
