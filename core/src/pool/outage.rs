//! Start-up, outage and recovery: what the links and the table mean for the pool as a whole.

use std::time::Duration;

use super::event::{Action, Fault, FaultClass};
use super::machine::{Init, Machine, Outage, Phase, Recovery};
use super::notice::{Notice, OutageReport, Reject, State};
use crate::config::PoolConfig;
use crate::time::Instant;

impl Machine {
    pub(super) fn start(&mut self, now: Instant, lazy: bool, actions: &mut Vec<Action>) {
        if let Phase::New = self.phase {
            let PoolConfig { min_size: min, max_size: max, acquire_timeout, .. } = self.config;
            self.notice(Notice::InitStarted { min, max, acquire_timeout }, actions);
            self.phase = Phase::Initializing(Init { started: now, lazy, rounds: Vec::new(), fault: None });
            self.unsettled = true;
        }
    }

    /// Draws the conclusions from what is open and what failed.
    pub(super) fn judge(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.slots.sound() > 0 && self.bad_link().is_none() {
            self.cause = None;
        }
        self.notice_nothing_left();
        let strict = self.is_strict_start();
        if !strict {
            self.judge_outage(now, actions);
        }
        if let Phase::Initializing(_) = self.phase {
            self.judge_start(now, actions);
        }
        // A strict start may end because nothing is missing any more, with waiters and a server that cannot be reached.
        if strict && let Phase::Running = self.phase {
            self.judge_outage(now, actions);
        }
    }

    /// An outage begins when nothing open is sound after a fault and either every host failed with no check in flight
    /// that could still find a good connection, or outage_grace has passed. It ends with the first sound connection.
    fn judge_outage(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.slots.sound() > 0 {
            self.dry_since = None;
            if let Some(outage) = self.outage.take() {
                self.recovery = Some(Recovery { since: outage.since, attempts: outage.attempts });
                self.links.iter_mut().for_each(super::backoff::Link::server_lives);
                self.update_state(now, actions);
            }
            self.judge_recovery(now, actions);
            return;
        }
        if self.outage.is_none() && self.cause.is_none() && self.config.min_size == 0 {
            self.judge_recovery(now, actions);
        }
        let wanted = self.config.min_size > 0 || self.waiters.live() > 0 || self.recovery.is_some();
        let full = self.bad_link().is_some_and(|fault| fault.class == FaultClass::Capacity);
        if self.outage.is_some() || self.cause.is_none() || !wanted || full {
            self.dry_since = None;
            return;
        }
        let since = *self.dry_since.get_or_insert(now);
        let undecided = self.slots.idle() + self.slots.validating() + self.slots.resetting() > 0;
        let failed = self.bad_link().is_some() && !undecided;
        if !failed && now - since < self.config.outage_grace {
            return;
        }
        let Some(cause) = self.bad_link().or(self.cause.as_ref()).cloned() else { return };
        self.dry_since = None;
        // A relapse continues the outage that it relapses into.
        let first = Recovery { since, attempts: u32::from(self.bad_link().is_some()) };
        let Recovery { since, attempts } = self.recovery.take().unwrap_or(first);
        self.outage = Some(Outage { since, attempts, cause: cause.clone() });
        self.notice(Notice::ConnectivityLost { cause, state: self.state }, actions);
        self.update_state(now, actions);
    }

    /// Recovery is complete with min_size open, or with what a full server allows.
    fn judge_recovery(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Some(Recovery { since, attempts }) = self.recovery else { return };
        if self.slots.sound() < self.config.min_size && !self.is_full() {
            return;
        }
        self.recovery = None;
        self.recent_fault = None;
        self.recovered_at = now;
        let counts = self.counts();
        self.notice(Notice::Recovered { counts, attempts, outage: now - since }, actions);
    }

    /// Whether the server allows no more connections than there are.
    fn is_full(&self) -> bool {
        self.slots.open() > 0 && self.bad_link().is_some_and(|fault| fault.class == FaultClass::Capacity)
    }

    fn judge_start(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let recovered = self.recovery.is_none();
        let ready = self.slots.sound() >= self.config.min_size;
        let hopeless = self.is_hopeless();
        let retry_now = self.pick_host(now).is_some();
        let full = self.is_full();
        let connecting = self.slots.connecting();
        let attempts = self.config.init_attempts.max(1) as usize;
        let Phase::Initializing(init) = &mut self.phase else { return };
        // Of an outage during a lazy start it recovers first: what is open may all be in doubt.
        if recovered && (ready || (init.lazy && full)) {
            let took = now - init.started;
            self.phase = Phase::Running;
            self.recent_fault = None;
            self.recovered_at = now;
            let counts = self.counts();
            self.notice(Notice::Initialized { took, counts }, actions);
            self.set_state(State::Healthy, "min_size connections are open".to_owned(), actions);
            return;
        }
        if init.lazy || !(hopeless || (connecting == 0 && !retry_now)) {
            return;
        }
        // The round is over: nothing is in flight and the schedule says later.
        init.rounds.extend(init.fault.take());
        if hopeless || init.rounds.len() >= attempts {
            self.fail_start(now, actions);
        }
    }

    fn fail_start(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Phase::Initializing(init) = &mut self.phase else { return };
        let (since, rounds) = (init.started, std::mem::take(&mut init.rounds));
        let cause = rounds
            .last()
            .cloned()
            .unwrap_or_else(|| Fault::plain(FaultClass::Transient, "min_size connections could not be opened in time"));
        let attempts = rounds.len() as u32;
        self.notice(Notice::InitFailed { attempts: rounds }, actions);
        let hard = now + self.config.close_timeout.min(Duration::from_secs(1));
        self.begin_end(now, now, hard, true);
        let waiting = self.waiters.take_if(|_| true);
        self.count_rejected(waiting.len());
        for (waiter, _) in waiting {
            let waited = now - waiter.arrival;
            let report = OutageReport { cause: cause.clone(), attempts, since, next_attempt: None, waited };
            self.reject(waiter.id, Reject::Unavailable(Box::new(report)), actions);
        }
        self.close_all(now, actions);
        self.cut_leases(now, actions);
    }

    /// During an outage: when an acquire that arrived at `arrival` is told. It may hope for outage_grace, counted from
    /// its arrival or from the outage's begin, whichever is later: within that a demand probe is due, so a restart
    /// shorter than the grace costs callers nothing but time. A permanent fault leaves no hope.
    pub(super) fn reject_at(&self, arrival: Instant) -> Instant {
        match &self.outage {
            None => Instant::MAX,
            Some(_) if self.is_hopeless() => Instant::ZERO,
            Some(outage) => arrival.max(outage.since) + self.config.outage_grace,
        }
    }

    /// Tells the waiters whose hope is over.
    pub(super) fn reject_unavailable(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Some(outage) = &self.outage else { return };
        let (since, grace, hopeless) = (outage.since, self.config.outage_grace, self.is_hopeless());
        let told = self
            .waiters
            .take_if(|waiter| hopeless || waiter.arrival.max(since) + grace <= now || waiter.deadline <= now);
        for (waiter, _) in told {
            if let Some(report) = self.outage_report(now, now - waiter.arrival) {
                self.reject(waiter.id, Reject::Unavailable(Box::new(report)), actions);
            }
        }
    }

    /// What is known of the outage, while there is one.
    pub(super) fn outage_report(&self, now: Instant, waited: Duration) -> Option<OutageReport> {
        let outage = self.outage.as_ref()?;
        let demand = self.demand_hurries();
        let next = self.links.iter().map(|link| link.ready_at(demand)).min();
        Some(OutageReport {
            cause: outage.cause.clone(),
            attempts: outage.attempts,
            since: outage.since,
            next_attempt: if self.slots.connecting() > 0 { None } else { next.map(|at| at.max(now)) },
            waited,
        })
    }
}
