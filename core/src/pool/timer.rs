//! Deadlines: what is due, and when the next thing is.
//!
//! There is no heap of timers. Every deadline lives where its subject lives; one lower bound for all of them is kept on
//! the side. The hot path only ever lowers the bound; a tick that reaches it looks at everything and makes it exact.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::connect::COVER;
use super::event::{Action, CloseHow, CloseReason, Fault, FaultClass};
use super::health::FAULT_MEMORY;
use super::machine::{Machine, Phase, plus};
use super::notice::{Notice, Reject, TimeoutReport, WaitPhase};
use super::slot::Slot;
use crate::time::Instant;

/// What a deadline is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimerKind {
    /// Nothing.
    #[default]
    None,
    /// An acquire's deadline, or the end of its patience with an outage.
    Waiter,
    /// A connect takes too long.
    Connect,
    /// A check takes too long.
    Validate,
    /// A check or reset takes so long that the acquire it was meant for gets a connect too.
    Cover,
    /// A reset takes too long.
    Reset,
    /// A close takes too long.
    Close,
    /// A connection was unused for max_idle_time.
    Idle,
    /// A connection nears or reaches the end of its lifetime.
    Lifetime,
    /// A lease is held too long.
    Leak,
    /// The next connect attempt.
    Reconnect,
    /// Nothing usable for outage_grace.
    Outage,
    /// A fault or slow acquire is forgotten.
    Health,
    /// A shutdown's deadline.
    Shutdown,
}

/// A lower bound for all deadlines.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Bound {
    pub(super) at: Instant,
    pub(super) kind: TimerKind,
}

impl Default for Bound {
    fn default() -> Self {
        Bound { at: Instant::MAX, kind: TimerKind::None }
    }
}

impl Bound {
    #[inline]
    pub(super) fn lower(&mut self, at: Instant, kind: TimerKind) {
        if at < self.at {
            *self = Bound { at, kind };
        }
    }
}

impl Machine {
    /// Acts on everything due, then makes the bound exact.
    #[inline(never)]
    pub(super) fn expire(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.slow_waits.turn(now, self.settled());
        if self.recent_fault.as_ref().is_some_and(|(at, _)| now - *at >= FAULT_MEMORY) {
            self.recent_fault = None;
        }
        for index in 0..self.slots.len() {
            self.expire_slot(now, index, actions);
        }
        self.expire_waiters(now, actions);
        self.cut_leases(now, actions);
        self.settle(now, actions);
    }

    fn expire_slot(&mut self, now: Instant, index: u32, actions: &mut Vec<Action>) {
        let conn = self.slots.id(index);
        match *self.slots.get(index) {
            Slot::Connecting { host, since, deadline, .. } if deadline <= now => {
                let fault = late("connect", deadline - since);
                self.close(now, index, None, CloseReason::ConnectTimeout, CloseHow::Abort, actions);
                self.connect_ended_badly(now, conn, host, since, fault, actions);
            }
            Slot::Validating { since, deadline, .. } if deadline <= now => {
                self.validation_failed(now, conn, late("check", deadline - since), actions);
            }
            Slot::Resetting { since, deadline, .. } if deadline <= now => {
                self.reset_failed(now, conn, late("reset", deadline - since), actions);
            }
            Slot::Closing { deadline, reason } if deadline <= now => self.vacate(now, index, reason),
            Slot::Lent { lease, .. } if lease.leak_next <= now => self.suspect_leak(now, index, actions),
            _ => {}
        }
    }

    /// Reports a lease that is held too long, once per deadline passed, and doubles its time.
    fn suspect_leak(&mut self, now: Instant, index: u32, actions: &mut Vec<Action>) {
        let Some((life, lease)) = self.slots.lease_mut(index) else { return };
        lease.reports += 1;
        let mut allowance = lease.leak_after.max(1);
        while plus(lease.since, allowance) <= now {
            allowance = allowance.saturating_mul(2);
        }
        lease.leak_next = plus(lease.since, allowance);
        let (life, lease) = (*life, *lease);
        if lease.reports == 1 {
            self.leaks += 1;
            self.totals.leaks_suspected += 1;
        }
        let holder = self.holder(now, index, &life, &lease);
        self.notice(Notice::LeakSuspected { holder, report: lease.reports }, actions);
    }

    /// Rejects the waiters whose deadline has passed. During an outage they are told of that.
    pub(super) fn expire_waiters(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.outage.is_some() {
            self.reject_unavailable(now, actions);
            return;
        }
        let late = self.waiters.take_if(|waiter| waiter.deadline <= now);
        if late.is_empty() {
            return;
        }
        self.unsettled = true;
        let holders = self.holders(now, 5);
        let (phase, counts) = (self.wait_phase(), self.counts());
        let last_fault = self.links.iter().filter(|link| !link.is_good()).max_by_key(|link| link.failed_at());
        let last_fault = last_fault.and_then(|link| link.fault()).cloned();
        for (waiter, position) in late {
            let waited = now - waiter.arrival;
            if !self.config.acquire_slow.is_zero() && waited >= self.config.acquire_slow {
                self.slow_waits.record(now, self.settled() + 1);
            }
            let (last_fault, holders) = (last_fault.clone(), holders.clone());
            let report = TimeoutReport { waited, site: waiter.site, phase, counts, position, last_fault, holders };
            self.reject(waiter.id, Reject::Timeout(Box::new(report)), actions);
        }
    }

    fn wait_phase(&self) -> WaitPhase {
        if self.paused {
            WaitPhase::Paused
        } else if self.slots.sound() == 0 && self.cause.is_some() {
            WaitPhase::Reconnecting
        } else if self.slots.connecting() > 0 {
            WaitPhase::Connecting
        } else if self.slots.validating() + self.slots.resetting() > 0 {
            WaitPhase::Validating
        } else {
            WaitPhase::InQueue
        }
    }

    /// The earliest thing that must happen.
    pub(super) fn exact_bound(&self, now: Instant) -> Bound {
        let mut bound = Bound::default();
        if let Phase::Terminated = self.phase {
            return bound;
        }
        for (_, slot) in self.slots.iter() {
            self.bound_slot(slot, now, &mut bound);
        }
        for waiter in self.waiters.iter() {
            bound.lower(waiter.deadline.min(self.reject_at(waiter.arrival)), TimerKind::Waiter);
        }
        if let Phase::Ending(ending) = &self.phase {
            bound.lower(if ending.cut { ending.hard } else { ending.deadline }, TimerKind::Shutdown);
            return bound;
        }
        if let Some(&oldest) = self.slots.idle_stack().first()
            && let Slot::Idle { since, .. } = self.slots.get(oldest)
            && !self.config.max_idle_time.is_zero()
            && self.slots.open() > self.config.min_size
            && self.slots.open() > self.config.min_size + self.renewing(now)
            && !matches!(self.phase, Phase::New)
        {
            bound.lower(*since + self.config.max_idle_time, TimerKind::Idle);
        }
        let (at, kind) = self.next_connect(now);
        bound.lower(at, kind);
        if self.demand() > 0 && self.slots.total() < self.config.max_size {
            let (at, kind) = self.cover_ends(now);
            bound.lower(at, kind);
        }
        if let Some(since) = self.dry_since {
            bound.lower(since + self.config.outage_grace, TimerKind::Outage);
        }
        if let Some((at, _)) = &self.recent_fault {
            bound.lower(*at + FAULT_MEMORY, TimerKind::Health);
        }
        for link in self.links.iter().filter(|link| !link.is_good() && now - link.failed_at() < FAULT_MEMORY) {
            bound.lower(link.failed_at() + FAULT_MEMORY, TimerKind::Health);
        }
        if let Some(turn) = self.slow_waits.next_turn() {
            bound.lower(turn, TimerKind::Health);
        }
        bound
    }

    fn bound_slot(&self, slot: &Slot, now: Instant, bound: &mut Bound) {
        match slot {
            Slot::Vacant { .. } | Slot::Idle { .. } => {}
            Slot::Connecting { deadline, .. } => bound.lower(*deadline, TimerKind::Connect),
            Slot::Validating { deadline, .. } => bound.lower(*deadline, TimerKind::Validate),
            Slot::Resetting { deadline, .. } => bound.lower(*deadline, TimerKind::Reset),
            Slot::Closing { deadline, .. } => bound.lower(*deadline, TimerKind::Close),
            Slot::Lent { lease, .. } => bound.lower(lease.leak_next, TimerKind::Leak),
        }
        // Also for a lease: its return must not have to arm it.
        if let Some(life) = slot.life() {
            if life.renew > now {
                bound.lower(life.renew, TimerKind::Lifetime);
            } else if life.expires > now {
                bound.lower(life.expires, TimerKind::Lifetime);
            }
        }
    }
}

fn late(what: &str, limit: Duration) -> Fault {
    Fault::plain(FaultClass::Transient, format!("{what} timed out after {limit:?}"))
}

const _: () = assert!(COVER.as_nanos() > 0, "a check must cover its waiter for a while");
