//! What is known of one host: when it may be tried, and when it must be.

use std::time::Duration;

use crate::config::PoolConfig;
use crate::pool::FaultClass;
use crate::time::Instant;

/// A host's standing, as far as it can be told from outside.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) enum Standing {
    #[default]
    Good,
    /// Its last connect failed.
    Bad(FaultClass),
    /// A connection to it died young, or a connect succeeded that began before the last failure.
    Unclear,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Host {
    pub(super) standing: Standing,
    /// When the first of the last batch of failures happened: the schedule counts from here at the earliest.
    pub(super) failed_first: Instant,
    /// When the last failure happened: the schedule counts from here at the latest.
    pub(super) failed_last: Instant,
    /// Failures in a row that each followed the schedule, with nothing in between that could shorten it.
    pub(super) streak: u32,
    /// Whether the last failure's class alone rules when it is tried again.
    pub(super) is_strict: bool,
}

impl Host {
    /// `alone`: no connection of ours is open, or the pool starts: a full server is then like one that is down.
    pub(super) fn failed(&mut self, now: Instant, begun: Instant, class: FaultClass, alone: bool) {
        let was_bad = matches!(self.standing, Standing::Bad(_));
        let is_batch = self.standing != Standing::Good && begun <= self.failed_last;
        let follows = was_bad && matches!(class, FaultClass::Transient | FaultClass::WrongRole);
        if !is_batch {
            self.streak = if follows { self.streak + 1 } else { 1 };
            self.failed_first = now;
        }
        let is_down = alone && class == FaultClass::Capacity;
        self.is_strict = !is_batch && !is_down;
        self.failed_last = now;
        self.standing = Standing::Bad(class);
    }

    pub(super) fn succeeded(&mut self, begun: Instant) {
        let proves = self.standing == Standing::Good || begun > self.failed_last;
        self.standing = if proves { Standing::Good } else { Standing::Unclear };
        self.relax();
    }

    /// A connection to it died so young that the pool may count that as a failure.
    pub(super) fn lost_young(&mut self, now: Instant) {
        if self.standing == Standing::Good {
            self.failed_first = now;
        }
        if !matches!(self.standing, Standing::Bad(_)) {
            self.standing = Standing::Unclear;
            self.failed_last = now;
        }
        self.relax();
    }

    /// A full server may have room again, or counts as one that is down.
    pub(super) fn relax_if_full(&mut self) {
        if self.standing == Standing::Bad(FaultClass::Capacity) {
            self.relax();
        }
    }

    /// Something happened that may bring the next attempt forward.
    pub(super) fn relax(&mut self) {
        self.is_strict = false;
        self.streak = self.streak.min(1);
    }

    /// The earliest time at which a connect may follow the failure: the schedule where nothing may shorten it, else the
    /// nearer of demand_probe_interval and the schedule's first step. The design promises no more where
    ///
    /// - several connects failed that were under way together: the time counts from the first of them;
    /// - a round trip succeeded, or an outage ended: the server lives, and only the nearer bound holds;
    /// - a connection died young, or a login succeeded that began before the failure: it is unclear whether the host is
    ///   bad, and only "one at a time in an outage" holds;
    /// - a full server may have room, since a connection of ours went: it may be tried at once.
    pub(super) fn not_before(&self, demand: bool, config: &PoolConfig) -> Instant {
        let least = |delay: Duration| self.failed_first + delay.mul_f64(0.899);
        let first = config.backoff_initial.min(config.backoff_max);
        let hurried = match config.demand_probe_interval {
            Duration::ZERO => first,
            interval => interval.min(first),
        };
        match self.standing {
            Standing::Good | Standing::Unclear => Instant::ZERO,
            Standing::Bad(FaultClass::Permanent | FaultClass::Capacity) if self.is_strict => least(config.backoff_max),
            // A connection of ours was closed since: there may be room.
            Standing::Bad(FaultClass::Capacity) => Instant::ZERO,
            Standing::Bad(FaultClass::Transient | FaultClass::WrongRole | FaultClass::NotYet)
                if self.is_strict && !demand =>
            {
                let factor = config.backoff_multiplier.max(1.0);
                let doubled = (1..self.streak).fold(first, |delay, _| delay.mul_f64(factor).min(config.backoff_max));
                least(doubled)
            }
            Standing::Bad(_) => least(hurried),
        }
    }

    /// The latest time at which the next attempt is due.
    pub(super) fn not_after(&self, config: &PoolConfig) -> Instant {
        self.failed_last + config.backoff_max.max(Duration::from_millis(1)).mul_f64(1.101)
    }
}
