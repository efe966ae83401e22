//! State and health: whether work can be done, and why not.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::{Action, Fault, FaultClass};
use super::machine::{Machine, Phase};
use super::notice::{Counts, Notice, OutageReport, State};
use crate::time::Instant;

/// How long a fault keeps the pool degraded (DESIGN section 4, "Busy is not sick").
pub(super) const FAULT_MEMORY: Duration = Duration::from_secs(60);

/// The pool's health at one instant. Times are on the pool's own clock.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Health {
    /// Whether work can be done.
    pub status: Status,
    /// The pool's state.
    pub state: State,
    /// When this was true.
    pub at: Instant,
    /// How long the pool has existed.
    pub uptime: Duration,
    /// Why it is not healthy; empty when it is.
    pub reasons: Vec<Reason>,
    /// Whether the database can be reached.
    pub database: DatabaseStatus,
    /// Connections by state, and waiters.
    pub counts: Counts,
    /// Connections open or openable: max_size less what the server or its absence takes away.
    pub serviceable: u32,
    /// Leases suspected of a leak.
    pub leak_count: u32,
    /// How long the last round trip took.
    pub latency: Option<Duration>,
    /// The last fault of any kind, and when.
    pub last_error: Option<(Fault, Instant)>,
    /// The outage, while there is one.
    pub outage: Option<OutageReport>,
}

/// Whether work can be done.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Yes.
    Healthy,
    /// Yes, but something is wrong.
    Degraded,
    /// No.
    Unhealthy,
}

/// Whether the database can be reached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DatabaseStatus {
    /// A connection that is not suspect is open, or the last attempt to open one succeeded.
    Connected,
    /// No connection can be had.
    Disconnected,
    /// It is being found out.
    Connecting,
}

/// Why the pool is not healthy.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Reason {
    /// The first connections are not open yet.
    Initializing,
    /// Start-up failed.
    InitFailed,
    /// No connection can be had.
    Down {
        /// Why.
        cause: Fault,
        /// Since when.
        since: Instant,
    },
    /// The server is back and the pool refills.
    Recovering {
        /// Connections open.
        open: u32,
        /// Connections wanted.
        min: u32,
    },
    /// Fewer connections than min_size, and the rest cannot be had now.
    BelowMin {
        /// Connections open.
        open: u32,
        /// Connections wanted.
        min: u32,
    },
    /// Slots are lost because connects fail or the server allows no more connections.
    LostCapacity {
        /// Connections open or openable.
        serviceable: u32,
        /// Connections allowed by configuration.
        max: u32,
        /// Why the rest cannot be had.
        cause: Fault,
    },
    /// A connect failed or a connection was lost within the last minute.
    RecentFault {
        /// What.
        fault: Fault,
        /// When.
        at: Instant,
    },
    /// More than one acquire in twenty waited too long within the last minute.
    SlowAcquires {
        /// How many.
        count: u64,
        /// The threshold.
        threshold: Duration,
    },
    /// Leases are suspected of a leak.
    Leaks {
        /// How many.
        count: u32,
    },
    /// The pool is paused: acquires queue.
    Paused,
    /// The pool is shutting down.
    ShuttingDown,
    /// The pool has ended.
    Terminated,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Initializing => write!(f, "the first connections are not open yet"),
            Reason::InitFailed => write!(f, "min_size could not be reached at start-up"),
            Reason::Down { cause, .. } => write!(f, "no connection can be had: {cause}"),
            Reason::Recovering { open, min } => write!(f, "recovering: {open} of {min} connections are open"),
            Reason::BelowMin { open, min } => write!(f, "below min_size: {open} of {min} connections are open"),
            Reason::LostCapacity { serviceable, max, cause } => {
                write!(f, "only {serviceable} of {max} connections can be had: {cause}")
            }
            Reason::RecentFault { fault, .. } => write!(f, "a fault within the last minute: {fault}"),
            Reason::SlowAcquires { count, threshold } => {
                let acquires = if *count == 1 { "acquire" } else { "acquires" };
                write!(f, "{count} {acquires} waited over {threshold:?} within the last minute")
            }
            Reason::Leaks { count: 1 } => write!(f, "1 lease is suspected of a leak"),
            Reason::Leaks { count } => write!(f, "{count} leases are suspected of a leak"),
            Reason::Paused => write!(f, "paused: acquires queue"),
            Reason::ShuttingDown => write!(f, "shutting down"),
            Reason::Terminated => write!(f, "terminated"),
        }
    }
}

impl Machine {
    /// The pool's state.
    pub fn state(&self) -> State {
        self.state
    }

    /// The pool's health. Pure and without I/O: reading it changes nothing, its own timestamps included.
    pub fn health(&self, now: Instant) -> Health {
        let now = now.max(self.now);
        let (status, reasons) = self.assess(now);
        Health {
            status,
            state: self.state,
            at: now,
            uptime: now - self.created,
            reasons,
            database: self.database_status(),
            counts: self.counts(),
            serviceable: self.serviceable(now),
            leak_count: self.leaks,
            latency: self.totals.last_latency,
            last_error: self.last_error.clone(),
            outage: self.outage_report(now, Duration::ZERO),
        }
    }

    fn database_status(&self) -> DatabaseStatus {
        if matches!(self.phase, Phase::Terminated) || self.outage.is_some() {
            DatabaseStatus::Disconnected
        } else if self.slots.sound() > 0 {
            DatabaseStatus::Connected
        } else if self.cause.is_none() && self.totals.opened > 0 && self.slots.connecting() == 0 {
            // Nothing is open because nothing is wanted.
            DatabaseStatus::Connected
        } else {
            DatabaseStatus::Connecting
        }
    }

    /// Connections open or openable. While connects fail, slots whose own last connect failed are lost; while
    /// the server is full, all vacant ones are.
    fn serviceable(&self, now: Instant) -> u32 {
        let max = self.config.max_size;
        if self.outage.is_some() || matches!(self.phase, Phase::Terminated | Phase::Ending(_)) {
            return 0;
        }
        match self.failing(now) {
            None => max,
            Some(fault) if fault.class == FaultClass::Capacity => self.slots.open().min(max),
            Some(_) => max.saturating_sub(self.slots.failed() + self.probes_in_flight()),
        }
    }

    /// The fault for which no host can be connected to, unless it is old: what is wanted is tried again well within a
    /// minute, so an old fault means that nothing was, and nothing is known.
    fn failing(&self, now: Instant) -> Option<&Fault> {
        let recent = self.links.iter().any(|link| now - link.failed_at() < FAULT_MEMORY);
        if recent { self.bad_link() } else { None }
    }

    /// Status and reasons. Serviceable capacity below 80 % degrades; below half of max_size it is unhealthy, unless it
    /// is the server's own limit: then the pool serves with what it gets.
    fn assess(&self, now: Instant) -> (Status, Vec<Reason>) {
        let mut reasons = Vec::new();
        let mut status = Status::Healthy;
        let mut found = |worst: Status, reason: Reason| {
            status = status.max(worst);
            reasons.push(reason);
        };
        match &self.phase {
            Phase::Terminated => {
                return (Status::Unhealthy, vec![Reason::Terminated]);
            }
            Phase::Ending(ending) => {
                let reason = if ending.init_failed { Reason::InitFailed } else { Reason::ShuttingDown };
                return (Status::Unhealthy, vec![reason]);
            }
            Phase::New | Phase::Initializing(_) => {
                // Work can be done as soon as the first connection is open.
                let worst = if self.slots.sound() > 0 { Status::Degraded } else { Status::Unhealthy };
                found(worst, Reason::Initializing);
            }
            Phase::Running => {}
        }
        let (open, min, max) = (self.slots.open(), self.config.min_size, self.config.max_size);
        if let Some(outage) = &self.outage {
            found(Status::Unhealthy, Reason::Down { cause: outage.cause.clone(), since: outage.since });
        } else if self.recovery.is_some() {
            found(Status::Degraded, Reason::Recovering { open, min });
        } else if let Some(cause) = self.failing(now) {
            let serviceable = self.serviceable(now);
            if serviceable * 10 < max * 8 {
                let refused = cause.class == FaultClass::Capacity && open > 0;
                let worst = if serviceable * 2 < max && !refused { Status::Unhealthy } else { Status::Degraded };
                found(worst, Reason::LostCapacity { serviceable, max, cause: cause.clone() });
            }
            if open < min {
                found(Status::Degraded, Reason::BelowMin { open, min });
            }
        } else if self.cause.is_some() && self.slots.sound() < min && self.is_running() {
            found(Status::Degraded, Reason::BelowMin { open: self.slots.sound(), min });
        }
        if let Some((at, fault)) = &self.recent_fault
            && now - *at < FAULT_MEMORY
        {
            found(Status::Degraded, Reason::RecentFault { fault: fault.clone(), at: *at });
        }
        if let Some(count) = self.slow_waits.notable(self.settled()) {
            found(Status::Degraded, Reason::SlowAcquires { count, threshold: self.config.acquire_slow });
        }
        if self.leaks > 0 {
            found(Status::Degraded, Reason::Leaks { count: self.leaks });
        }
        if self.paused {
            found(Status::Degraded, Reason::Paused);
        }
        (status, reasons)
    }

    /// Moves the state to where the facts say it is: one notice per transition.
    pub(super) fn update_state(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let (status, reasons) = self.assess(now);
        let to = match &self.phase {
            Phase::New | Phase::Initializing(_) => State::Initializing,
            // A failed start-up goes from initializing to terminated.
            Phase::Ending(ending) if ending.init_failed => self.state,
            Phase::Ending(_) => State::ShuttingDown,
            Phase::Terminated => State::Terminated,
            Phase::Running if self.outage.is_some() => State::Unhealthy,
            Phase::Running if self.recovery.is_some() => State::Recovering,
            Phase::Running => match status {
                Status::Healthy => State::Healthy,
                Status::Degraded => State::Degraded,
                Status::Unhealthy => State::Unhealthy,
            },
        };
        if to == self.state {
            return;
        }
        let reason = match to {
            State::Healthy => "nothing is wrong".to_owned(),
            _ => reasons.iter().map(Reason::to_string).collect::<Vec<_>>().join("; "),
        };
        self.set_state(to, reason, actions);
    }

    pub(super) fn set_state(&mut self, to: State, reason: String, actions: &mut Vec<Action>) {
        let from = std::mem::replace(&mut self.state, to);
        if from != to {
            self.notice(Notice::StateChanged { from, to, reason }, actions);
        }
    }
}
