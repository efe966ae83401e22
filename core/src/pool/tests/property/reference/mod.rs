//! The reference model: what a pool owes to whom, written to be read.
//!
//! It is told every event and every action, keeps a list of connections, a list of waiters and a few facts about each
//! host, and says which guarantee an action breaks, or which one the lack of an action does. It shares the machine's
//! public types and none of its code. Where the machine draws by lot (lifetimes, delays) it knows the bounds.
//!
//! Whatever is due is expected with a tick: [`World`](super::world::World) ticks before it tells anything else.

mod asked;
mod done;
mod host;
mod told;

use std::time::Duration;

use crate::config::{PoolConfig, ValidationPolicy};
use crate::pool::{Action, Check, CloseReason, ConnId, Event, Machine, ResetHow, State, TimerKind, WaiterId};
use crate::time::Instant;
use host::{Host, Standing};

use super::guarantee::{Broken, Evidence, Guarantee};

pub(super) type Verdict = Result<(), Broken>;

/// Unless `$holds`, `$guarantee` is broken.
macro_rules! ensure {
    ($holds:expr, $guarantee:ident, $($what:tt)*) => {
        if !$holds {
            let (guarantee, what) = ($crate::pool::tests::property::guarantee::Guarantee::$guarantee, format!($($what)*));
            return Err($crate::pool::tests::property::guarantee::Broken { guarantee, what });
        }
    };
}
pub(super) use ensure;

/// A lease, from its grant to its end.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Lease {
    pub(super) waiter: Waiter,
    pub(super) since: Instant,
    /// How often it was suspected of a leak, and when it is the next time.
    pub(super) reports: u32,
    pub(super) leak_due: Instant,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Waiter {
    pub(super) id: WaiterId,
    pub(super) arrival: Instant,
    pub(super) deadline: Instant,
    pub(super) leak_after: Duration,
}

/// What a connection is in.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Is {
    Connecting {
        deadline: Instant,
    },
    Idle,
    /// `doubted`: a sibling died since the check began.
    Checking {
        how: Check,
        since: Instant,
        deadline: Instant,
        doubted: bool,
    },
    Lent(Lease),
    /// Came back and must be reset, in this step.
    Returned(ResetHow),
    Resetting {
        since: Instant,
        deadline: Instant,
        doubted: bool,
    },
    /// Must be closed, in this step and for this reason.
    Condemned(CloseReason),
    Closing {
        deadline: Instant,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Conn {
    pub(super) id: ConnId,
    pub(super) host: usize,
    pub(super) is: Is,
    /// When its connect began.
    pub(super) begun: Instant,
    pub(super) opened: Instant,
    pub(super) proved: Instant,
    pub(super) idle_since: Instant,
    /// Whether anybody used it since it was proved.
    pub(super) used: bool,
    pub(super) queries: u64,
    /// Whether no sibling died since it was proved.
    pub(super) sound: bool,
    /// Whether it was idle already when this step began.
    pub(super) rested: bool,
    /// Whether it is to be replaced.
    pub(super) doomed: bool,
}

impl Conn {
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.is, Is::Connecting { .. } | Is::Closing { .. } | Is::Condemned(_))
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Phase {
    New,
    Starting { lazy: bool },
    Running,
    Ending { deadline: Instant, hard: Instant },
    Over,
}

/// What has been counted: the pool's totals must agree.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub(super) struct Tally {
    /// Those included that were taken back.
    pub(super) grants: u64,
    pub(super) acquisitions: u64,
    pub(super) releases: u64,
    pub(super) cancelled: u64,
    pub(super) timeouts: u64,
    pub(super) rejected: u64,
    pub(super) opened: u64,
    pub(super) connects: u64,
    pub(super) validations: u64,
    pub(super) leaks_suspected: u64,
    pub(super) queries: u64,
    pub(super) closed: u64,
    pub(super) connect_failures: u64,
}

pub(super) struct Reference {
    pub(super) config: PoolConfig,
    pub(super) now: Instant,
    pub(super) phase: Phase,
    pub(super) paused: bool,
    pub(super) min: u32,
    pub(super) max: u32,
    /// Connections that may exist: more than max_size for a while after a shrink.
    pub(super) allowed: u32,
    pub(super) conns: Vec<Conn>,
    pub(super) line: Vec<Waiter>,
    hosts: Vec<Host>,
    pub(super) state: State,
    /// Said to be down at this time, and it must still be.
    pub(super) down: Option<Instant>,
    /// Said to be down, and it may still be.
    pub(super) maybe_down: bool,
    /// Whether anything ever failed or was slow.
    pub(super) troubled: bool,
    /// Whether anything failed that no sound connection and good host has answered yet.
    pub(super) cause: bool,
    /// Since when nothing sound is open although it is wanted.
    pub(super) dry_since: Option<Instant>,
    /// Start-up failed: the pool ends.
    pub(super) start_failed: bool,
    /// Generations seen, by slot.
    pub(super) generations: std::collections::BTreeMap<u32, u32>,
    pub(super) tally: Tally,
    /// `try_get` or a refused acquire in this step: it is demand while it is handled.
    pub(super) nudge: bool,
    /// Lease whose cut-off was announced in this step.
    pub(super) forced: Option<ConnId>,
    /// Suspected leases that ended in this step: their end must be said.
    pub(super) resolved: Vec<ConnId>,
    pub(super) evidence: Evidence,
}

impl Reference {
    pub(super) fn new(config: &PoolConfig, now: Instant) -> Self {
        Reference {
            config: config.clone(),
            now,
            phase: Phase::New,
            paused: false,
            min: config.min_size,
            max: config.max_size,
            allowed: config.max_size,
            conns: Vec::new(),
            line: Vec::new(),
            hosts: vec![Host::default(); usize::from(config.hosts)],
            state: State::Initializing,
            down: None,
            maybe_down: false,
            troubled: false,
            cause: false,
            dry_since: None,
            start_failed: false,
            generations: std::collections::BTreeMap::new(),
            tally: Tally::default(),
            nudge: false,
            forced: None,
            resolved: Vec::new(),
            evidence: Evidence::default(),
        }
    }

    /// One step of the machine: the event, what it asked for, and what it says of itself afterwards.
    pub(super) fn judge(&mut self, now: Instant, event: &Event, actions: &[Action], machine: &Machine) -> Verdict {
        self.now = now;
        self.nudge = false;
        self.tell(event)?;
        if self.sound() > 0 {
            // The trouble is over, even if what ended it is closed in this very step; and the other hosts may be tried.
            self.forgive();
            if self.maybe_down {
                self.down = None;
                self.hosts.iter_mut().for_each(Host::relax);
            }
        }
        for action in actions {
            self.check_action(action)?;
        }
        self.allowed = self.allowed.min(self.total()).max(self.max);
        self.is_done(event, machine.deadline().map_or(Instant::MAX, |(at, _)| at))?;
        self.are_numbers_true(machine)?;
        self.is_health_true(machine)?;
        self.is_deadline_in_time(machine.deadline())
    }

    /// Something sound is open: what failed before is no outage's cause any more once a host is good.
    pub(super) fn forgive(&mut self) {
        self.cause &= self.hosts.iter().all(|host| host.standing != Standing::Good);
    }

    pub(super) fn is_open(&self) -> bool {
        !matches!(self.phase, Phase::Ending { .. } | Phase::Over)
    }

    pub(super) fn has_started(&self) -> bool {
        matches!(self.phase, Phase::Starting { .. } | Phase::Running)
    }

    pub(super) fn is_strict_start(&self) -> bool {
        self.phase == Phase::Starting { lazy: false }
    }

    pub(super) fn serves(&self) -> bool {
        self.has_started() && !self.paused
    }

    pub(super) fn find(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.iter_mut().find(|conn| conn.id == id)
    }

    pub(super) fn count(&self, pick: impl Fn(&Is) -> bool) -> u32 {
        self.conns.iter().filter(|conn| pick(&conn.is)).count() as u32
    }

    pub(super) fn total(&self) -> u32 {
        self.conns.len() as u32
    }

    pub(super) fn open(&self) -> u32 {
        self.conns.iter().filter(|conn| conn.is_open()).count() as u32
    }

    pub(super) fn sound(&self) -> u32 {
        self.conns.iter().filter(|conn| conn.is_open() && conn.sound).count() as u32
    }

    pub(super) fn connecting(&self) -> u32 {
        self.count(|is| matches!(is, Is::Connecting { .. }))
    }

    /// Acquires that want a connection now.
    pub(super) fn demand(&self) -> u32 {
        if self.paused { 0 } else { self.line.len() as u32 + u32::from(self.nudge) }
    }

    /// Past its lifetime, its queries or a recycle: certainly, for what must not happen to it.
    pub(super) fn is_certainly_worn(&self, conn: &Conn) -> bool {
        self.is_worn_at(conn, 1.0)
    }

    /// Possibly past its lifetime, which was shortened by up to a tenth: for what must happen to it.
    pub(super) fn is_perhaps_worn(&self, conn: &Conn) -> bool {
        self.is_worn_at(conn, 0.899)
    }

    /// Possibly so near its end that a replacement is sought: a twentieth of its lifetime before.
    pub(super) fn is_perhaps_renewing(&self, conn: &Conn) -> bool {
        self.is_worn_at(conn, 0.849)
    }

    fn is_worn_at(&self, conn: &Conn, share: f64) -> bool {
        let lifetime = self.config.max_connection_lifetime;
        let aged = !lifetime.is_zero() && self.now >= conn.opened + lifetime.mul_f64(share);
        conn.doomed || self.has_served_enough(conn) || aged
    }

    pub(super) fn has_served_enough(&self, conn: &Conn) -> bool {
        let limit = self.config.max_queries;
        limit > 0 && conn.queries >= limit
    }

    /// Whether what is worn stays until its replacement is there.
    fn waits_for_replacement(&self, is_reachable: impl Fn(&Host) -> bool) -> bool {
        let coming = self.connecting() > 0 || self.total() < self.max;
        self.open() <= self.min && coming && self.hosts.iter().any(is_reachable)
    }

    /// Whether it was proved recently enough for the policy.
    pub(super) fn is_proved(&self, conn: &Conn) -> bool {
        let recent = |at: Instant| self.now - at <= self.config.validation_interval;
        match self.config.validation {
            ValidationPolicy::Interval => recent(conn.idle_since.max(conn.proved)),
            ValidationPolicy::Always => !conn.used && recent(conn.proved),
            ValidationPolicy::Suspect => true,
        }
    }

    /// Whether it could be lent as it is, beyond doubt.
    pub(super) fn is_surely_lendable(&self, conn: &Conn) -> bool {
        conn.is == Is::Idle && conn.sound && !self.is_perhaps_worn(conn) && self.is_proved(conn)
    }

    /// The earliest thing that must happen at a time that is known.
    pub(super) fn next_known(&self) -> Option<(Instant, &'static str)> {
        let mut known: Vec<(Instant, &'static str)> = Vec::new();
        for conn in &self.conns {
            match conn.is {
                Is::Connecting { deadline } => known.push((deadline, "a connect's deadline")),
                Is::Checking { deadline, .. } => known.push((deadline, "a check's deadline")),
                Is::Resetting { deadline, .. } => known.push((deadline, "a reset's deadline")),
                Is::Closing { deadline } => known.push((deadline, "a close's deadline")),
                Is::Lent(lease) => known.push((lease.leak_due, "a leak")),
                _ => {}
            }
        }
        let grace = self.down.map(|since| (since, self.config.outage_grace));
        for waiter in &self.line {
            known.push((waiter.deadline, "a waiter's deadline"));
            known.extend(grace.map(|(since, grace)| (waiter.arrival.max(since) + grace, "a waiter's patience")));
        }
        if let Phase::Ending { deadline, hard } = self.phase {
            known.push((if self.now < deadline { deadline } else { hard }, "the shutdown's deadline"));
        }
        let limit = self.config.max_idle_time;
        let spare =
            self.open() > self.min + self.conns.iter().filter(|conn| self.is_perhaps_renewing(conn)).count() as u32;
        if self.has_started() && spare && !limit.is_zero() {
            let idle = self.conns.iter().filter(|conn| conn.is == Is::Idle);
            known.extend(idle.map(|conn| conn.idle_since).min().map(|oldest| (oldest + limit, "max_idle_time")));
        }
        known.into_iter().filter(|(at, _)| *at < Instant::MAX).min()
    }

    /// Punctual: the machine wants to be ticked in time for everything that is known, and never for what is past.
    fn is_deadline_in_time(&mut self, deadline: Option<(Instant, TimerKind)>) -> Verdict {
        if let Some((at, kind)) = deadline {
            ensure!(at > self.now, Punctual, "the deadline {at:?} ({kind:?}) has passed");
        }
        if let Some((at, what)) = self.next_known() {
            self.evidence.saw(Guarantee::Punctual);
            let by = deadline.map_or(Instant::MAX, |(at, _)| at);
            ensure!(by <= at, Punctual, "{what} is due at {at:?}, and the deadline is {by:?}");
        }
        Ok(())
    }
}

/// When a lease is suspected next: at the first of 1, 2, 4, ... times its time that lies ahead.
pub(super) fn leak_due(since: Instant, leak_after: Duration, now: Instant) -> Instant {
    if leak_after == Duration::MAX {
        return Instant::MAX;
    }
    let mut allowance = leak_after;
    while since + allowance <= now {
        allowance = allowance.saturating_mul(2);
    }
    since + allowance
}
