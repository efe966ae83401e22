//! Lending: acquires, grants, releases.

use std::time::Duration;

use super::event::{Action, CloseReason, ConnId, Fate, Fault, ResetHow, SiteId, WaiterId};
use super::machine::{Machine, Phase, after, nanos, nanos_between, plus};
use super::notice::{Holder, Notice, Reject};
use super::slot::{Lease, Life, Slot};
use super::timer::TimerKind;
use super::waiters::Waiter;
use crate::config::ValidationPolicy;
use crate::time::Instant;

impl Machine {
    /// The hot path: nobody waits and the connection on top of the stack can be lent as it is. Constant time, no
    /// allocation beyond the caller's `actions`.
    #[inline(always)]
    pub(super) fn acquire(
        &mut self,
        now: Instant,
        id: WaiterId,
        deadline: Instant,
        leak_after: Option<Duration>,
        site: SiteId,
        actions: &mut Vec<Action>,
    ) {
        if id.0 < self.next_waiter {
            return;
        }
        self.next_waiter = id.0.saturating_add(1);
        let leak_after = self.leak_limit(leak_after);
        let waiter = Waiter { id, arrival: now, deadline, leak_after, site };
        if self.waiters.live() == 0
            && let Some(&top) = self.slots.idle_stack().last()
            && let &Slot::Idle { ref life, since } = self.slots.get(top)
            && now < life.renew
            && life.recycle == self.recycle
            && self.serving()
            && self.is_fresh(life, since, now)
        {
            self.slots.lend_top(top, lease(&waiter, since, now));
            self.granted(now, top, &waiter, actions);
        } else {
            self.acquire_slowly(now, waiter, actions);
        }
    }

    #[inline(never)]
    fn acquire_slowly(&mut self, now: Instant, waiter: Waiter, actions: &mut Vec<Action>) {
        if matches!(self.phase, Phase::Ending(_) | Phase::Terminated) {
            self.reject(waiter.id, Reject::Closed, actions);
            return;
        }
        if self.waiters.live() == 0
            && self.serving()
            && let Some(index) = self.find_fresh(now)
        {
            // While it is lent it is not one of those that are being replaced: its siblings may be a surplus.
            let renewing = |life: &Life| self.is_renewing(life, now);
            self.unsettled |= matches!(self.slots.get(index), Slot::Idle { life, .. } if renewing(life));
            self.grant(now, index, waiter, actions);
            return;
        }
        let now_or_never = waiter.deadline <= now;
        let unavailable = self.outage.is_some() && (now_or_never || self.reject_at(waiter.arrival) <= now);
        let refusal = if unavailable {
            self.outage_report(now, Duration::ZERO).map(|report| Reject::Unavailable(Box::new(report)))
        } else if now_or_never {
            Some(Reject::WouldBlock)
        } else if self.waiters.live() >= self.config.max_waiting {
            Some(Reject::QueueFull { max_waiting: self.config.max_waiting })
        } else {
            None
        };
        match refusal {
            Some(reason) => {
                self.reject(waiter.id, reason, actions);
                // It is demand all the same: the next one should find a connection.
                self.nudge = 1;
                self.serve(now, actions);
                self.nudge = 0;
            }
            None => {
                if self.outage.is_some() {
                    self.arm(self.reject_at(waiter.arrival), TimerKind::Waiter);
                }
                self.arm(waiter.deadline, TimerKind::Waiter);
                self.waiters.insert(waiter);
                self.totals.peak_waiting = self.totals.peak_waiting.max(self.waiters.live());
                // Where nothing was wanted before, no outage was declared either.
                let dry = self.slots.sound() == 0 && self.cause.is_some();
                self.unsettled |= dry && self.outage.is_none() && self.dry_since.is_none();
                self.serve(now, actions);
            }
        }
    }

    /// What a new waiter sets in motion. When everything is in use, nothing: constant time.
    fn serve(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if !self.serving() {
            return;
        }
        if self.slots.idle() > 0 {
            self.check_stale(now, actions);
            let closing = self.slots.closing();
            self.retire(now, actions);
            self.unsettled |= self.slots.closing() != closing;
        }
        if self.slots.total() < self.config.max_size {
            let connecting = self.slots.connecting();
            self.grow(now, actions);
            self.arm_cover(now);
            // A probe takes its slot out of what can be served.
            self.unsettled |= self.slots.connecting() != connecting && self.probes_in_flight() > 0;
        }
    }

    pub(super) fn cancel(&mut self, id: WaiterId) {
        if self.waiters.remove(id).is_some() {
            self.totals.cancelled += 1;
            self.unsettled |= self.dry_since.is_some();
        }
    }

    pub(super) fn reject(&mut self, waiter: WaiterId, reason: Reject, actions: &mut Vec<Action>) {
        match reason {
            Reject::Timeout(_) => self.totals.timeouts += 1,
            _ => self.totals.rejected += 1,
        }
        actions.push(Action::Reject { waiter, reason });
    }

    /// Gives idle connections to waiters, in order, while there are both.
    pub(super) fn dispatch(&mut self, now: Instant, actions: &mut Vec<Action>) {
        while self.waiters.live() > 0
            && self.serving()
            && let Some(index) = self.find_fresh(now)
            && let Some(waiter) = self.waiters.pop()
        {
            self.grant(now, index, waiter, actions);
        }
    }

    /// The idle connection to lend next, if one can be lent without a round trip.
    pub(super) fn find_fresh(&self, now: Instant) -> Option<u32> {
        self.slots.idle_stack().iter().rev().copied().find(|&index| self.is_lendable(index, now))
    }

    /// Whether slot `index` holds an idle connection that can be lent as it is.
    pub(super) fn is_lendable(&self, index: u32, now: Instant) -> bool {
        match self.slots.get(index) {
            Slot::Idle { life, since } => !self.is_doomed(life, now) && self.is_fresh(life, *since, now),
            _ => false,
        }
    }

    /// Whether a connection that went idle at `since` needs no round trip before its next lease.
    #[inline(always)]
    fn is_fresh(&self, life: &Life, since: Instant, now: Instant) -> bool {
        let proved_within = |proof: Instant| nanos_between(proof, now) <= self.limits.fresh;
        !self.slots.is_suspect(life)
            && match self.config.validation {
                ValidationPolicy::Interval => proved_within(since.max(life.checked)),
                // A check after its last lease counts, or try_get would never find a connection.
                ValidationPolicy::Always => life.checked >= since && proved_within(life.checked),
                ValidationPolicy::Suspect => true,
            }
    }

    /// Lends the idle connection in slot `index`.
    fn grant(&mut self, now: Instant, index: u32, waiter: Waiter, actions: &mut Vec<Action>) {
        if let Slot::Idle { life, since } = *self.slots.get(index) {
            self.lend(now, index, life, since, waiter, actions);
        }
    }

    /// Lends the connection in slot `index`, whatever it was doing.
    fn lend(&mut self, now: Instant, index: u32, life: Life, since: Instant, w: Waiter, actions: &mut Vec<Action>) {
        self.slots.put(index, Slot::Lent { life, lease: lease(&w, since, now) });
        self.granted(now, index, &w, actions);
    }

    #[inline(always)]
    fn granted(&mut self, now: Instant, index: u32, waiter: &Waiter, actions: &mut Vec<Action>) {
        let conn = self.slots.id(index);
        let waited = nanos_between(waiter.arrival, now);
        self.totals.acquisitions += 1;
        self.totals.peak_active = self.totals.peak_active.max(self.slots.lent());
        self.totals.wait.record(waited);
        self.arm(plus(now, waiter.leak_after), TimerKind::Leak);
        // Not `push`: it writes the action to the stack first, field by field, and reads it back in blocks (7 ns).
        actions.extend(std::iter::once_with(|| Action::Grant { waiter: waiter.id, conn }));
        if waited >= self.limits.slow {
            let waited = Duration::from_nanos(waited);
            self.slow_waits.record(now, self.settled());
            self.unsettled = true;
            self.notice(Notice::AcquireSlow { conn, site: waiter.site, waited }, actions);
        }
    }

    /// How long a lease may be held before it is suspected; zero means off, for the pool and for one acquire.
    #[inline(always)]
    fn leak_limit(&self, wish: Option<Duration>) -> u64 {
        match wish {
            None => self.limits.leak,
            Some(limit) if self.config.enable_leak_detection && !limit.is_zero() => nanos(limit),
            Some(_) => u64::MAX,
        }
    }

    /// A lease comes back. The hot path, like [`Machine::acquire`], is the clean return of a connection in good
    /// standing: to the next waiter or to the stack.
    #[inline(always)]
    pub(super) fn release(
        &mut self,
        now: Instant,
        conn: ConnId,
        fate: Fate,
        queries: u64,
        fault: Option<Box<Fault>>,
        actions: &mut Vec<Action>,
    ) {
        let Some(&Slot::Lent { mut life, lease }) = self.slots.find(conn) else { return };
        let since = match fate {
            Fate::Unused => lease.idle_since,
            Fate::Clean if !self.config.reset_on_release => self.idle_clock(&life, now),
            _ => return self.release_slowly(now, conn, fate, queries, fault, actions),
        };
        let plain = lease.reports == 0
            && now < life.renew
            && !self.slots.is_suspect(&life)
            && self.retire_reason(&life, queries, now).is_none()
            && (self.waiters.live() == 0 || (self.serving() && self.is_fresh(&life, since, now)));
        if !plain {
            return self.release_slowly(now, conn, fate, queries, fault, actions);
        }
        self.account(now, &lease, fate, queries);
        let served = if fate == Fate::Unused { 0 } else { queries };
        match self.waiters.pop() {
            Some(waiter) => {
                life.queries = life.queries.saturating_add(served);
                self.lend(now, conn.slot, life, since, waiter, actions);
            }
            None => {
                self.slots.take_back(conn.slot, served, since);
                if self.slots.open() > self.config.min_size {
                    let due = plus(since, self.limits.idle);
                    self.arm(due, TimerKind::Idle);
                    self.unsettled |= due <= now;
                }
            }
        }
    }

    /// When a connection that comes back now went idle: after its last check, even where no time passed since.
    #[inline(always)]
    fn idle_clock(&self, life: &Life, now: Instant) -> Instant {
        match self.config.validation {
            ValidationPolicy::Always => now.max(life.checked + Duration::from_nanos(1)),
            ValidationPolicy::Interval | ValidationPolicy::Suspect => now,
        }
    }

    #[cold]
    fn release_slowly(
        &mut self,
        now: Instant,
        conn: ConnId,
        fate: Fate,
        queries: u64,
        fault: Option<Box<Fault>>,
        actions: &mut Vec<Action>,
    ) {
        let Some(&Slot::Lent { mut life, lease }) = self.slots.find(conn) else { return };
        let index = conn.slot;
        self.unsettled = true;
        self.account(now, &lease, fate, queries);
        self.leak_resolved(now, index, &life, &lease, actions);
        if let Phase::Ending(ending) = &mut self.phase {
            ending.report.finished += 1;
        }
        life.queries = life.queries.saturating_add(if fate == Fate::Unused { 0 } else { queries });
        let retired = self.retire_reason(&life, 0, now);
        let stays = retired.is_none_or(|reason| self.waits_for_replacement(reason));
        let reset = match fate {
            Fate::Broken => return self.came_back_broken(now, index, life, fault, actions),
            Fate::Discarded => return self.close_gracefully(now, index, &life, CloseReason::Discarded, actions),
            // Retired or not: what still runs on the server is cancelled first.
            Fate::Dirty => Some(ResetHow::Drain),
            Fate::Clean if self.config.reset_on_release && stays => Some(ResetHow::Policy),
            Fate::Clean | Fate::Unused => None,
        };
        let since = if fate == Fate::Unused { lease.idle_since } else { self.idle_clock(&life, now) };
        if let Some(how) = reset {
            self.begin_reset(now, index, life, how, actions);
        } else if let Some(reason) = retired {
            self.retire_freed(now, index, life, since, reason, actions);
        } else {
            self.slots.put(index, Slot::Idle { life, since });
        }
    }

    /// Counts a lease's end. A grant that nobody saw is no acquisition.
    #[inline(always)]
    fn account(&mut self, now: Instant, lease: &Lease, fate: Fate, queries: u64) {
        if fate == Fate::Unused {
            self.uncount();
            self.totals.cancelled += 1;
        } else {
            self.totals.releases += 1;
            self.totals.queries = self.totals.queries.saturating_add(queries);
            self.totals.usage.record(nanos_between(lease.since, now));
        }
    }

    /// Takes an acquisition back. The wait histogram keeps it: it must never shrink, since a monitoring system takes that
    /// for a restart.
    pub(super) fn uncount(&mut self) {
        self.totals.acquisitions -= 1;
    }

    pub(super) fn leak_resolved(
        &mut self,
        now: Instant,
        index: u32,
        life: &Life,
        lease: &Lease,
        actions: &mut Vec<Action>,
    ) {
        if lease.reports > 0 {
            self.leaks -= 1;
            let holder = self.holder(now, index, life, lease);
            self.notice(Notice::LeakResolved { holder }, actions);
        }
    }

    pub(super) fn holder(&self, now: Instant, index: u32, life: &Life, lease: &Lease) -> Holder {
        Holder {
            conn: self.slots.id(index),
            backend_pid: life.backend_pid,
            waiter: lease.waiter,
            site: lease.site,
            since: lease.since,
            held: now - lease.since,
        }
    }

    fn begin_reset(&mut self, now: Instant, index: u32, life: Life, how: ResetHow, actions: &mut Vec<Action>) {
        let mut deadline = after(now, self.config.reset_timeout);
        if let Phase::Ending(ending) = &self.phase {
            deadline = deadline.min(ending.deadline);
        }
        let suspicion = self.slots.suspicion();
        self.slots.put(index, Slot::Resetting { life, since: now, deadline, suspicion, how });
        actions.push(Action::Reset { conn: self.slots.id(index), how, deadline });
    }

    /// A connection was just proved: it goes to the next in line, or becomes idle with the idle clock `since`.
    pub(super) fn place(&mut self, now: Instant, index: u32, life: Life, since: Instant, actions: &mut Vec<Action>) {
        let lendable = self.serving() && !self.slots.is_suspect(&life) && !self.is_doomed(&life, now);
        match lendable.then(|| self.waiters.pop()).flatten() {
            Some(waiter) => self.lend(now, index, life, since, waiter, actions),
            None => self.slots.put(index, Slot::Idle { life, since }),
        }
    }
}

#[inline(always)]
fn lease(waiter: &Waiter, idle_since: Instant, now: Instant) -> Lease {
    Lease {
        waiter: waiter.id,
        site: waiter.site,
        since: now,
        idle_since,
        arrival: waiter.arrival,
        deadline: waiter.deadline,
        leak_after: waiter.leak_after,
        leak_next: plus(now, waiter.leak_after),
        reports: 0,
    }
}
