//! What a stretch of a pool's life came to. The same code measures what was recorded and what is simulated, from events
//! and actions alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pgweir_core::pool::{Action, ConnId, Counts, Event, Fate, Notice, Reject, State, WaiterId};
use pgweir_core::time::Instant;

use super::History;
use crate::record::Spread;
use crate::trace::Trace;

/// What a stretch of a pool's life came to. Requests are those that were made within it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Measures {
    /// Requests.
    pub requests: u64,
    /// Those that got a connection and saw it.
    pub granted: u64,
    /// Those whose time passed.
    pub timed_out: u64,
    /// Those that were told that the database is down.
    pub unavailable: u64,
    /// Those that were refused because too many others waited.
    pub queue_full: u64,
    /// `try_get` with nothing ready.
    pub would_block: u64,
    /// Those that were told that the pool is closed.
    pub closed: u64,
    /// Those that their callers gave up while they waited.
    pub cancelled: u64,
    /// Leases whose connection came back broken.
    pub broken: u64,
    /// From acquire to grant, of those that got a connection.
    pub waits: Spread,
    /// Connections opened.
    pub opened: u64,
    /// Connect attempts.
    pub attempts: u64,
    /// Those of them that failed.
    pub attempts_failed: u64,
    /// Most connections at once.
    pub peak_open: u64,
    /// Most leases at once.
    pub peak_lent: u64,
    /// Most waiters at once.
    pub peak_waiting: u64,
    /// Times that the pool was down.
    pub outages: u64,
    /// From the moment at which the server could be used again to the first grant after it, the longest.
    pub first_grant: Option<Duration>,
    /// From that moment until min_size connections were open again, the longest; only outages that the pool noticed.
    pub recovery: Option<Duration>,
    /// Time in the state unhealthy.
    pub unhealthy: Duration,
    /// Time in the states degraded and recovering.
    pub degraded: Duration,
    /// Leases suspected of a leak.
    pub leaks: u64,
}

/// Measures a stretch of time.
#[derive(Debug)]
pub(super) struct Meter {
    from: Instant,
    until: Instant,
    /// When the server could be used again, each with what was seen since.
    backs: Vec<(Instant, bool, bool)>,
    measures: Measures,
    /// Requests made within the stretch that have no answer.
    waiting: BTreeMap<WaiterId, Instant>,
    waiters: BTreeSet<WaiterId>,
    waiting_before: u32,
    /// Leases: whose, when it asked, when it got it, and whether it counts.
    lent: BTreeMap<ConnId, Lease>,
    lent_before: u32,
    /// By slot: which connection, and when it counts as closed if it is being closed.
    open: BTreeMap<u32, (ConnId, Instant)>,
    open_before: u32,
    /// By slot: the last connection that ended.
    ended: BTreeMap<u32, u32>,
    state: (Instant, State),
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    waiter: WaiterId,
    asked: Option<Instant>,
    granted: Instant,
}

impl Meter {
    /// Measures from `from` to `until`, both included. `backs`: when the server could be used again after trouble.
    pub(super) fn new(from: Instant, until: Instant, backs: &[Instant], counts: &Counts, state: State) -> Self {
        Meter {
            from,
            until,
            backs: backs.iter().map(|back| (*back, false, false)).collect(),
            measures: Measures::default(),
            waiting: BTreeMap::new(),
            waiters: BTreeSet::new(),
            waiting_before: counts.waiting,
            lent: BTreeMap::new(),
            lent_before: counts.active,
            open: BTreeMap::new(),
            open_before: counts.total,
            ended: BTreeMap::new(),
            state: (from, state),
        }
    }

    /// What was recorded.
    pub(super) fn of(history: &History, backs: &[Instant]) -> Measures {
        let mut meter = Meter::new(history.begins(), history.ends(), backs, &history.counts, history.state);
        for step in &history.steps {
            meter.event(step.at, &step.event);
            for action in &step.actions {
                meter.action(step.at, action);
            }
        }
        meter.finish()
    }

    pub(super) fn finish(mut self) -> Measures {
        self.state_lasts(self.until);
        for lease in std::mem::take(&mut self.lent).into_values() {
            self.granted(lease);
        }
        self.measures
    }

    fn counts(&self, at: Instant) -> bool {
        at >= self.from && at <= self.until
    }

    fn granted(&mut self, lease: Lease) {
        if let Some(asked) = lease.asked {
            self.measures.granted += 1;
            self.measures.waits.add(lease.granted - asked);
        }
    }

    /// The state until now lasted until `at`.
    fn state_lasts(&mut self, at: Instant) {
        let (since, state) = self.state;
        let lasted = at.min(self.until) - since.max(self.from);
        match state {
            State::Unhealthy => self.measures.unhealthy += lasted,
            State::Degraded | State::Recovering => self.measures.degraded += lasted,
            _ => {}
        }
    }

    fn peaks(&mut self) {
        let measures = &mut self.measures;
        measures.peak_open = measures.peak_open.max(self.open.len() as u64 + u64::from(self.open_before));
        measures.peak_lent = measures.peak_lent.max(self.lent.len() as u64 + u64::from(self.lent_before));
        measures.peak_waiting = measures.peak_waiting.max(self.waiters.len() as u64 + u64::from(self.waiting_before));
    }

    /// A waiter waits no longer; when it asked, if that counts.
    fn leaves(&mut self, waiter: WaiterId) -> Option<Instant> {
        if !self.waiters.remove(&waiter) {
            self.waiting_before = self.waiting_before.saturating_sub(1);
        }
        self.waiting.remove(&waiter)
    }

    fn ends(&mut self, conn: ConnId) {
        let ended = self.ended.entry(conn.slot).or_default();
        *ended = (*ended).max(conn.generation);
        match self.open.get(&conn.slot) {
            Some((open, _)) if *open == conn => {
                self.open.remove(&conn.slot);
            }
            Some(_) => {}
            None => self.open_before = self.open_before.saturating_sub(1),
        }
    }

    /// Whether a connection has been given up: what is heard of it then is too late.
    fn is_over(&self, conn: ConnId) -> bool {
        let ended = self.ended.get(&conn.slot).is_some_and(|generation| conn.generation <= *generation);
        ended || self.open.get(&conn.slot).is_some_and(|(open, closed)| *open != conn || *closed < Instant::MAX)
    }

    fn rejected(&mut self, waiter: WaiterId, reason: &Reject) {
        if self.leaves(waiter).is_none() {
            return;
        }
        let measures = &mut self.measures;
        *match reason {
            Reject::Timeout(_) => &mut measures.timed_out,
            Reject::WouldBlock => &mut measures.would_block,
            Reject::Unavailable(_) => &mut measures.unavailable,
            Reject::QueueFull { .. } => &mut measures.queue_full,
            Reject::Closed => &mut measures.closed,
        } += 1;
    }

    fn released(&mut self, conn: ConnId, fate: Fate) {
        let Some(lease) = self.lent.remove(&conn) else {
            self.lent_before = self.lent_before.saturating_sub(1);
            return;
        };
        if fate != Fate::Unused {
            self.granted(lease);
            self.measures.broken += u64::from(fate == Fate::Broken && lease.asked.is_some());
        } else if lease.asked.is_some() {
            self.measures.cancelled += 1;
        }
    }

    fn noticed(&mut self, at: Instant, notice: &Notice) {
        match notice {
            Notice::StateChanged { to, .. } => {
                self.state_lasts(at);
                self.state = (at, *to);
            }
            Notice::ConnectivityLost { .. } => self.measures.outages += 1,
            Notice::Recovered { .. } => {
                let recovery = &mut self.measures.recovery;
                for (back, _, recovered) in self.backs.iter_mut().filter(|(back, _, done)| *back <= at && !done) {
                    *recovered = true;
                    *recovery = (*recovery).max(Some(at - *back));
                }
            }
            Notice::LeakSuspected { report: 1, .. } => self.measures.leaks += 1,
            _ => {}
        }
    }

    fn first_grant(&mut self, at: Instant) {
        let first_grant = &mut self.measures.first_grant;
        for (back, granted, _) in self.backs.iter_mut().filter(|(back, done, _)| *back <= at && !done) {
            *granted = true;
            *first_grant = (*first_grant).max(Some(at - *back));
        }
    }
}

impl Trace for Meter {
    fn event(&mut self, at: Instant, event: &Event) {
        if at > self.until {
            return;
        }
        if self.counts(at) {
            self.peaks();
        }
        match event {
            Event::Acquire { waiter, .. } => {
                self.waiters.insert(*waiter);
                if self.counts(at) {
                    self.measures.requests += 1;
                    self.waiting.insert(*waiter, at);
                }
            }
            Event::Cancel { waiter } => self.measures.cancelled += u64::from(self.leaves(*waiter).is_some()),
            Event::CheckFailed { conn, .. } => {
                if let Some(lease) = self.lent.remove(conn) {
                    self.waiters.insert(lease.waiter);
                    if let Some(asked) = lease.asked {
                        self.waiting.insert(lease.waiter, asked);
                    }
                }
            }
            Event::Release { conn, fate, .. } => self.released(*conn, *fate),
            Event::Connected { conn, .. } if self.counts(at) && !self.is_over(*conn) => self.measures.opened += 1,
            Event::ConnectFailed { conn, .. } if !self.is_over(*conn) => {
                self.measures.attempts_failed += u64::from(self.counts(at));
                self.ends(*conn);
            }
            Event::Closed { conn } => self.ends(*conn),
            _ => {}
        }
    }

    fn action(&mut self, at: Instant, action: &Action) {
        if at > self.until {
            return;
        }
        match action {
            Action::Grant { waiter, conn } => {
                let asked = self.leaves(*waiter);
                self.lent.insert(*conn, Lease { waiter: *waiter, asked, granted: at });
                if self.counts(at) {
                    self.first_grant(at);
                }
            }
            Action::Reject { waiter, reason } => self.rejected(*waiter, reason),
            Action::Connect { conn, .. } => {
                self.measures.attempts += u64::from(self.counts(at));
                // Who was closed too slowly does not count any more.
                self.open.retain(|_, (_, closed)| *closed > at);
                self.open.insert(conn.slot, (*conn, Instant::MAX));
            }
            Action::Close { conn, reason, deadline, .. } => {
                let timed_out = *reason == pgweir_core::pool::CloseReason::ConnectTimeout;
                self.measures.attempts_failed += u64::from(timed_out && self.counts(at));
                if let Some(lease) = self.lent.remove(conn) {
                    self.granted(lease);
                }
                if let Some((open, closed)) = self.open.get_mut(&conn.slot)
                    && open == conn
                {
                    *closed = *deadline;
                }
            }
            Action::Notice(notice) if self.counts(at) => self.noticed(at, notice),
            Action::Notice(notice) => {
                if let Notice::StateChanged { to, .. } = **notice {
                    self.state = (at, to);
                }
            }
            _ => {}
        }
        if self.counts(at) && !matches!(action, Action::Notice(_)) {
            self.peaks();
        }
    }

    fn remark(&mut self, _: Instant, _: std::fmt::Arguments<'_>) {}
}
