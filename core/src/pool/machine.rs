//! The machine: its fields, its one entrance and what it answers about itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::backoff::{Link, Rng};
use super::event::{Action, ConnId, Event, Fault};
use super::hosts::HostRecord;
use super::notice::{Counts, Holder, Notice, Queued, ShutdownReport, State};
use super::slot::{Lease, Slot, Slots};
use super::stats::{SlowWaits, Stats, Totals};
use super::timer::{Bound, TimerKind};
use super::waiters::{Waiter, Waiters};
use crate::config::PoolConfig;
use crate::time::Instant;

/// The pool machine: every decision of the pool, as plain data.
///
/// Call [`handle`](Machine::handle) with each [`Event`] and carry out the actions in order; call it with
/// [`Event::Tick`] no later than [`deadline`](Machine::deadline). There is no I/O, no clock and no randomness but the
/// seed's: the same configuration, seed and events give the same actions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub(super) config: PoolConfig,
    pub(super) created: Instant,
    /// The latest time seen: time never goes back.
    pub(super) now: Instant,
    pub(super) phase: Phase,
    pub(super) paused: bool,
    pub(super) slots: Slots,
    pub(super) waiters: Waiters,
    /// Ids below this were seen before.
    pub(super) next_waiter: u64,
    /// One per host.
    pub(super) links: Vec<Link>,
    /// One per host, for people: nothing is decided by it.
    pub(super) hosts: Vec<HostRecord>,
    pub(super) rng: Rng,
    /// Counts the recycles: connections opened before the last one are doomed.
    pub(super) recycle: u32,
    /// Set while no connection can be had.
    pub(super) outage: Option<Outage>,
    /// Set from an outage's end until min_size is open again.
    pub(super) recovery: Option<Recovery>,
    /// Since when no sound connection is open, after a fault.
    pub(super) dry_since: Option<Instant>,
    /// The last fault that no success has answered.
    pub(super) cause: Option<Fault>,
    /// The last fault, answered or not.
    pub(super) last_error: Option<(Fault, Instant)>,
    /// The last fault that still degrades health.
    pub(super) recent_fault: Option<(Instant, Fault)>,
    /// When the pool last was as it should be: losses of older connections are explained already.
    pub(super) recovered_at: Instant,
    pub(super) state: State,
    pub(super) totals: Totals,
    pub(super) slow_waits: SlowWaits,
    /// Leases suspected of a leak.
    pub(super) leaks: u32,
    /// Connections open when idle ones began to be reaped.
    pub(super) shrink_from: Option<u32>,
    /// Connections that may exist: max_size, or more for a while after a shrink.
    pub(super) allowed: u32,
    /// Acquires that do not queue but count as demand while they are handled: `try_get`.
    pub(super) nudge: u32,
    /// Set when something changed that the hot path does not look at.
    pub(super) unsettled: bool,
    pub(super) bound: Bound,
    pub(super) limits: Limits,
}

/// The configuration's durations that the hot path needs, in nanoseconds; `u64::MAX` is never.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Limits {
    pub(super) fresh: u64,
    pub(super) idle: u64,
    pub(super) slow: u64,
    pub(super) leak: u64,
}

impl Limits {
    pub(super) fn new(config: &PoolConfig) -> Self {
        let unless_zero = |limit: Duration| if limit.is_zero() { u64::MAX } else { nanos(limit) };
        let leak = if config.enable_leak_detection { config.leak_detection_timeout } else { Duration::ZERO };
        Limits {
            fresh: nanos(config.validation_interval),
            idle: unless_zero(config.max_idle_time),
            slow: unless_zero(config.acquire_slow),
            leak: unless_zero(leak),
        }
    }
}

/// Where the pool is in its life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Phase {
    New,
    Initializing(Init),
    Running,
    Ending(Ending),
    Terminated,
}

/// Start-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Init {
    pub(super) started: Instant,
    pub(super) lazy: bool,
    /// One fault per finished round.
    pub(super) rounds: Vec<Fault>,
    /// The last fault in this round.
    pub(super) fault: Option<Fault>,
}

/// Shutdown, or the clean-up after a failed start-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Ending {
    pub(super) started: Instant,
    /// When leases are cut off.
    pub(super) deadline: Instant,
    /// When everything is considered closed.
    pub(super) hard: Instant,
    pub(super) report: ShutdownReport,
    pub(super) init_failed: bool,
    /// Whether the leases were cut off.
    pub(super) cut: bool,
}

/// A time without any connection to be had.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Outage {
    pub(super) since: Instant,
    pub(super) attempts: u32,
    pub(super) cause: Fault,
}

/// The time after an outage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Recovery {
    pub(super) since: Instant,
    pub(super) attempts: u32,
}

/// What the driver asks about a lease, off the hot path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeaseTimes {
    pub(crate) arrival: Instant,
    pub(crate) deadline: Instant,
    pub(crate) since: Instant,
}

impl Machine {
    /// A machine at rest: nothing happens before [`Event::Start`], but acquires may queue.
    pub fn new(config: &PoolConfig, seed: u64, now: Instant) -> Self {
        let mut config = config.clone();
        config.max_size = config.max_size.max(1);
        config.min_size = config.min_size.min(config.max_size);
        Machine {
            limits: Limits::new(&config),
            slots: Slots::new(config.max_size),
            links: vec![Link::new(now); usize::from(config.hosts.max(1))],
            hosts: vec![HostRecord::default(); usize::from(config.hosts.max(1))],
            allowed: config.max_size,
            config,
            created: now,
            now,
            phase: Phase::New,
            paused: false,
            waiters: Waiters::default(),
            next_waiter: 0,
            rng: Rng::new(seed),
            recycle: 0,
            outage: None,
            recovery: None,
            dry_since: None,
            cause: None,
            last_error: None,
            recent_fault: None,
            recovered_at: now,
            state: State::Initializing,
            totals: Totals::default(),
            slow_waits: SlowWaits::default(),
            leaks: 0,
            shrink_from: None,
            nudge: 0,
            unsettled: false,
            bound: Bound::default(),
        }
    }

    /// Takes one event and appends what is to be done to `actions`.
    ///
    /// A `now` earlier than a previous one counts as that one. Everything due is expired first, then the event is
    /// applied; only a cancel comes before what is due, since nobody is left to hear of it. No event panics: unknown
    /// and stale ids change nothing.
    // Inlined so that where the event is known, as it is for the driver's acquire and release, nothing is left of the
    // dispatch.
    #[inline(always)]
    pub fn handle(&mut self, now: Instant, event: Event, actions: &mut Vec<Action>) {
        self.apply(now, event, actions);
        // Under Miri they would take most of its time.
        #[cfg(all(debug_assertions, not(miri)))]
        self.check_invariants();
    }

    /// [`handle`](Machine::handle) for a machine that somebody else has written down: whether it is one that can be is
    /// not asserted.
    #[inline(always)]
    pub(crate) fn apply(&mut self, now: Instant, event: Event, actions: &mut Vec<Action>) {
        let now = now.max(self.now);
        self.now = now;
        if let Event::Cancel { waiter } = event {
            self.cancel(waiter);
        }
        if now >= self.bound.at {
            self.expire(now, actions);
        }
        match event {
            Event::Acquire { waiter, deadline, leak_after, site } => {
                self.acquire(now, waiter, deadline, leak_after, site, actions);
            }
            Event::Release { conn, fate, queries, fault } => self.release(now, conn, fate, queries, fault, actions),
            event => self.handle_rarely(now, event, actions),
        }
        if self.unsettled {
            self.settle(now, actions);
        }
    }

    /// Everything but acquire and release.
    #[inline(never)]
    fn handle_rarely(&mut self, now: Instant, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Start { lazy } => self.start(now, lazy, actions),
            Event::CheckFailed { conn, fault } => self.check_failed(now, conn, *fault, actions),
            Event::Connected { conn, facts } => self.connected(now, conn, &facts, actions),
            Event::ConnectFailed { conn, fault } => self.connect_failed(now, conn, *fault, actions),
            Event::Validated { conn } => self.validated(now, conn, actions),
            Event::ValidationFailed { conn, fault } => self.validation_failed(now, conn, *fault, actions),
            Event::Reset { conn } => self.reset_done(now, conn, actions),
            Event::ResetFailed { conn, fault } => self.reset_failed(now, conn, *fault, actions),
            Event::Touched { conn } => self.touched(now, conn, actions),
            Event::Lost { conn, fault } => self.lost(now, conn, *fault, actions),
            Event::Closed { conn } => self.closed(conn, now),
            Event::Resize { min_size, max_size } => self.resize(min_size, max_size, actions),
            Event::Pause => self.pause(actions),
            Event::Resume => self.resume(actions),
            Event::Recycle => self.recycle_all(actions),
            Event::Shutdown { deadline } => self.shutdown(now, deadline, actions),
            Event::Tick | Event::Cancel { .. } | Event::Acquire { .. } | Event::Release { .. } => {}
        }
    }

    /// When [`Event::Tick`] must come at the latest, and what for; `None` while nothing waits for time. It is a lower
    /// bound: a tick may find nothing to do, but then the next deadline is exact.
    pub fn deadline(&self) -> Option<(Instant, TimerKind)> {
        (self.bound.at < Instant::MAX).then_some((self.bound.at, self.bound.kind))
    }

    /// The moment of [`deadline`](Machine::deadline), [`Instant::MAX`] for none: what the hot path compares.
    #[inline]
    pub(crate) fn due(&self) -> Instant {
        self.bound.at
    }

    /// Everything that follows from a change of slots, links or rules, in the order in which it matters.
    #[inline(never)]
    pub(super) fn settle(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.unsettled = false;
        self.judge_open(now, actions);
        if self.has_started() {
            self.dispatch(now, actions);
            self.check_stale(now, actions);
            let idle = self.slots.idle();
            self.retire(now, actions);
            // One that might still have been found good may be gone.
            if self.slots.idle() != idle {
                self.judge_open(now, actions);
            }
        }
        if self.has_started() {
            self.check_suspects(now, actions);
            self.grow(now, actions);
        }
        self.end_when_empty(now, actions);
        self.update_state(now, actions);
        self.allowed = self.allowed.min(self.slots.total()).max(self.config.max_size);
        self.bound = self.exact_bound(now);
    }

    /// Judges a pool that has started and does not end, and tells the waiters whose hope is over.
    fn judge_open(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.has_started() {
            self.judge(now, actions);
            self.reject_unavailable(now, actions);
        }
    }

    /// The configuration, with the bounds now in force.
    pub fn config(&self) -> &PoolConfig {
        &self.config
    }

    /// The latest time it was told.
    #[inline]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Connections by state, and waiters.
    pub fn counts(&self) -> Counts {
        Counts {
            total: self.slots.total(),
            idle: self.slots.idle(),
            active: self.slots.lent(),
            connecting: self.slots.connecting(),
            validating: self.slots.validating(),
            resetting: self.slots.resetting(),
            closing: self.slots.closing(),
            waiting: self.waiters.live(),
            max: self.config.max_size,
            min: self.config.min_size,
        }
    }

    /// All numbers at one instant.
    pub fn stats(&self, now: Instant) -> Stats {
        Stats {
            at: now.max(self.now),
            created: self.created,
            counts: self.counts(),
            leaks: self.leaks,
            totals: self.totals.clone(),
        }
    }

    /// Who holds connections, the longest first, at most `limit`.
    pub fn holders(&self, now: Instant, limit: usize) -> Vec<Holder> {
        let now = now.max(self.now);
        let mut holders: Vec<Holder> = self
            .slots
            .iter()
            .filter_map(|(index, slot)| match slot {
                Slot::Lent { life, lease } => Some(self.holder(now, index, life, lease)),
                _ => None,
            })
            .collect();
        if limit < holders.len() {
            holders.select_nth_unstable_by_key(limit, |holder| (holder.since, holder.conn));
            holders.truncate(limit);
        }
        holders.sort_unstable_by_key(|holder| (holder.since, holder.conn));
        holders
    }

    /// Who waits, the next in line first, at most `limit`.
    pub fn queue(&self, limit: usize) -> Vec<Queued> {
        let queued = |w: &Waiter| Queued { waiter: w.id, site: w.site, since: w.arrival, deadline: w.deadline };
        self.waiters.iter().take(limit).map(queued).collect()
    }

    /// When whoever holds `conn` asked for it, until when they would have waited, and when they got it.
    pub(crate) fn lease_times(&self, conn: ConnId) -> Option<LeaseTimes> {
        match self.slots.find(conn) {
            Some(&Slot::Lent { lease: Lease { arrival, deadline, since, .. }, .. }) => {
                Some(LeaseTimes { arrival, deadline, since })
            }
            _ => None,
        }
    }

    /// When the acquire that is next in line arrived.
    pub fn waiting_since(&self) -> Option<Instant> {
        self.waiters.iter().next().map(|waiter| waiter.arrival)
    }

    /// The last fault of any kind, and when it happened.
    pub fn last_fault(&self) -> Option<(&Fault, Instant)> {
        self.last_error.as_ref().map(|(fault, at)| (fault, *at))
    }

    /// Whether grants are made at all.
    pub(super) fn serving(&self) -> bool {
        !self.paused && self.has_started()
    }

    /// Whether it has started and does not end.
    fn has_started(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Initializing(_))
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    /// Acquires that wait, `try_get` included while it is handled.
    pub(super) fn demand(&self) -> u32 {
        if self.paused { 0 } else { self.waiters.live() + self.nudge }
    }

    /// Acquires that found their end in time or ran out of it.
    pub(super) fn settled(&self) -> u64 {
        self.totals.acquisitions + self.totals.timeouts
    }

    pub(super) fn notice(&self, notice: Notice, actions: &mut Vec<Action>) {
        actions.push(Action::Notice(Box::new(notice)));
    }

    pub(super) fn arm(&mut self, at: Instant, kind: TimerKind) {
        self.bound.lower(at, kind);
    }
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds from `earlier` to `later`: a [`Duration`] would cost a division.
#[inline]
pub(super) fn nanos_between(earlier: Instant, later: Instant) -> u64 {
    later.as_nanos().saturating_sub(earlier.as_nanos())
}

/// `nanos` after `now`, at most [`Instant::MAX`].
#[inline]
pub(super) fn plus(now: Instant, nanos: u64) -> Instant {
    Instant::from_nanos(now.as_nanos().saturating_add(nanos))
}

/// `timeout` after `now`, but always after it.
pub(super) fn after(now: Instant, timeout: Duration) -> Instant {
    now + timeout.max(Duration::from_nanos(1))
}
