//! Opening connections: how many, when, to which host.

use std::time::Duration;

use super::event::{Action, ConnId, Fault, FaultClass, HostId, ServerFacts};
use super::machine::{Machine, Phase, after};
use super::notice::Notice;
use super::slot::{Life, Slot};
use super::timer::TimerKind;
use crate::time::Instant;

/// How long a check or reset in flight counts as good as done for a waiter. After that the waiter is entitled to a
/// connect: a silent peer costs it this long, not the whole validation_timeout.
pub(super) const COVER: Duration = Duration::from_millis(250);

/// Lifetimes are shortened by up to this fraction, so that connections opened together do not end together.
const LIFETIME_JITTER: f64 = 0.1;

impl Machine {
    /// Starts the connects that are wanted and allowed.
    pub(super) fn grow(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.notice_nothing_left();
        for _ in 0..self.connects_wanted(now) {
            match self.pick_host(now) {
                Some(host) => self.start_connect(now, host, actions),
                None => {
                    let (at, kind) = self.next_connect(now);
                    self.arm(at, kind);
                    break;
                }
            }
        }
    }

    /// How many connects should start now if the links allow it: up to min_size, or to one per waiter that nothing in
    /// flight will serve, whichever is more.
    pub(super) fn connects_wanted(&self, now: Instant) -> u32 {
        if !matches!(self.phase, Phase::Running | Phase::Initializing(_)) {
            return 0;
        }
        let connecting = self.slots.connecting();
        let room = self.config.max_size.saturating_sub(self.slots.total());
        let slack = self.config.max_connecting.max(1).saturating_sub(connecting);
        if room == 0 || slack == 0 {
            return 0;
        }
        let missing = self.config.min_size.saturating_sub(self.slots.open() - self.renewing(now));
        let uncovered = match self.demand() {
            0 => 0,
            // Once one check or reset takes too long, none is counted on any more.
            demand if self.covering(now) < self.slots.validating() + self.slots.resetting() => demand,
            demand => demand.saturating_sub(self.covering(now)),
        };
        // An outage ends by trying, even where nothing is wanted: health must not stay wrong for ever.
        let wanted = missing.max(uncovered).max(u32::from(self.outage.is_some()));
        wanted.saturating_sub(connecting).min(room).min(slack)
    }

    /// Checks and resets that began recently enough to count on.
    pub(super) fn covering(&self, now: Instant) -> u32 {
        if self.slots.validating() + self.slots.resetting() == 0 {
            return 0;
        }
        let young = |slot: &Slot| match slot {
            Slot::Validating { since, .. } | Slot::Resetting { since, .. } => now - *since < COVER,
            _ => false,
        };
        self.slots.iter().filter(|(_, slot)| young(slot)).count() as u32
    }

    /// Arms the moment at which the oldest check or reset that serves a waiter stops counting.
    pub(super) fn arm_cover(&mut self, now: Instant) {
        if self.demand() > 0 && self.slots.validating() + self.slots.resetting() > 0 {
            let (at, kind) = self.cover_ends(now);
            self.arm(at, kind);
        }
    }

    pub(super) fn cover_ends(&self, now: Instant) -> (Instant, TimerKind) {
        let ends = self.slots.iter().filter_map(|(_, slot)| match slot {
            Slot::Validating { since, .. } | Slot::Resetting { since, .. } => Some(*since + COVER),
            _ => None,
        });
        (ends.filter(|end| *end > now).min().unwrap_or(Instant::MAX), TimerKind::Cover)
    }

    /// Idle connections that are to be replaced soon or are doomed: they do not count towards min_size.
    pub(super) fn renewing(&self, now: Instant) -> u32 {
        let soon = |slot: &Slot| match slot {
            Slot::Idle { life, .. } => self.is_renewing(life, now),
            _ => false,
        };
        self.slots.iter().filter(|(_, slot)| soon(slot)).count() as u32
    }

    pub(super) fn is_renewing(&self, life: &Life, now: Instant) -> bool {
        now >= life.renew || life.recycle != self.recycle
    }

    /// Where the next connect may go now: a good link first, else one whose schedule allows it.
    ///
    /// While nothing open is sound after a fault, even a good link gets one connect at a time: it is in doubt.
    pub(super) fn pick_host(&self, now: Instant) -> Option<HostId> {
        let in_doubt = self.slots.sound() == 0 && self.cause.is_some();
        let good = self.links.iter().position(|link| link.is_good() && !(in_doubt && link.in_flight() > 0));
        let demand = self.demand_hurries();
        let due = || {
            self.links.iter().position(|link| !link.is_good() && link.in_flight() == 0 && now >= link.ready_at(demand))
        };
        good.or_else(due).map(|index| HostId(index as u16))
    }

    /// When the next connect that is wanted may start, if the links hold it back until then.
    pub(super) fn next_connect(&self, now: Instant) -> (Instant, TimerKind) {
        if self.connects_wanted(now) == 0 || self.pick_host(now).is_some() {
            return (Instant::MAX, TimerKind::Reconnect);
        }
        let demand = self.demand_hurries();
        let waiting = self.links.iter().filter(|link| !link.is_good() && link.in_flight() == 0);
        let at = waiting.map(|link| link.ready_at(demand)).min().unwrap_or(Instant::MAX);
        (at, TimerKind::Reconnect)
    }

    /// Whether waiters bring the next attempt forward. Start-up keeps to its schedule.
    pub(super) fn demand_hurries(&self) -> bool {
        self.demand() > 0 && !self.is_strict_start()
    }

    fn start_connect(&mut self, now: Instant, host: HostId, actions: &mut Vec<Action>) {
        let deadline = after(now, self.config.connect_timeout);
        let link = &mut self.links[usize::from(host.0)];
        link.started();
        self.hosts[usize::from(host.0)].attempts += 1;
        self.totals.connects += 1;
        self.totals.reconnects += u64::from(!link.is_good());
        if let Some(outage) = &mut self.outage {
            outage.attempts += 1;
        } else if let Some(recovery) = &mut self.recovery {
            recovery.attempts += 1;
        }
        let index = self.slots.occupy(Slot::Connecting { host, since: now, deadline, recycle: self.recycle });
        self.arm(deadline, TimerKind::Connect);
        actions.push(Action::Connect { conn: self.slots.id(index), host, deadline });
    }

    pub(super) fn connected(&mut self, now: Instant, conn: ConnId, facts: &ServerFacts, actions: &mut Vec<Action>) {
        let Some(&Slot::Connecting { host, since, recycle, .. }) = self.slots.find(conn) else { return };
        self.unsettled = true;
        let link = &mut self.links[usize::from(host.0)];
        link.ended();
        link.succeeded(now, since);
        self.hosts[usize::from(host.0)].opened(facts.role);
        let took = now - since;
        self.totals.opened += 1;
        self.totals.create.record(took.as_nanos() as u64);
        self.totals.last_check = Some(now);
        self.notice(Notice::Opened { conn, host, took }, actions);
        let life = self.new_life(now, host, recycle, facts.backend_pid);
        self.place(now, conn.slot, life, now, actions);
    }

    /// A connect that was under way at a recycle is of before it: it may have met the server that is to be left.
    fn new_life(&mut self, now: Instant, host: HostId, recycle: u32, backend_pid: i32) -> Life {
        let lifetime = self.config.max_connection_lifetime;
        let (renew, expires) = if lifetime.is_zero() {
            (Instant::MAX, Instant::MAX)
        } else {
            let expires = now + self.rng.below(lifetime, LIFETIME_JITTER);
            (expires.saturating_sub((lifetime / 20).min(self.config.connect_timeout)), expires)
        };
        let suspicion = self.slots.suspicion();
        Life { opened: now, renew, expires, checked: now, queries: 0, suspicion, recycle, host, backend_pid }
    }

    pub(super) fn connect_failed(&mut self, now: Instant, conn: ConnId, fault: Fault, actions: &mut Vec<Action>) {
        let Some(&Slot::Connecting { host, since, .. }) = self.slots.find(conn) else { return };
        // The driver has dropped it already: the slot is free at once.
        self.slots.put(conn.slot, Slot::Vacant { failed: true });
        self.connect_ended_badly(now, conn, host, since, fault, actions);
    }

    pub(super) fn connect_ended_badly(
        &mut self,
        now: Instant,
        conn: ConnId,
        host: HostId,
        since: Instant,
        fault: Fault,
        actions: &mut Vec<Action>,
    ) {
        self.unsettled = true;
        self.links[usize::from(host.0)].ended();
        self.totals.connect_failures.add(fault.class);
        self.notice(Notice::ConnectFailed { conn, host, fault: fault.clone(), took: now - since }, actions);
        self.last_error = Some((fault.clone(), now));
        let record = &mut self.hosts[usize::from(host.0)];
        record.failures += 1;
        record.failed(now, &fault);
        self.recent_fault = Some((now, fault.clone()));
        self.cause = Some(fault.clone());
        if let Some(outage) = &mut self.outage {
            outage.cause = fault.clone();
        }
        if let Phase::Initializing(init) = &mut self.phase {
            init.fault = Some(fault.clone());
        }
        self.link_failed(now, host, since, fault, actions);
    }

    /// Puts a link on its schedule. A full server is one that is down when no connection of ours lives, and while the
    /// pool starts.
    pub(super) fn link_failed(
        &mut self,
        now: Instant,
        host: HostId,
        started: Instant,
        mut fault: Fault,
        actions: &mut Vec<Action>,
    ) {
        let full = fault.class == FaultClass::Capacity;
        if full && (self.slots.open() == 0 || self.is_strict_start()) {
            fault.class = FaultClass::Transient;
        }
        let link = &mut self.links[usize::from(host.0)];
        let next = link.failed(now, started, fault, &self.config, &mut self.rng);
        link.note_full(full);
        if let Some((attempt, delay)) = next {
            self.notice(Notice::ReconnectScheduled { host, attempt, delay }, actions);
        }
    }

    /// A full server while no connection of ours lives is an outage like any other, until one does.
    pub(super) fn notice_nothing_left(&mut self) {
        if self.slots.open() == 0 {
            for link in &mut self.links {
                link.nothing_left(&self.config, &mut self.rng);
            }
        } else if !self.is_strict_start() {
            self.links.iter_mut().for_each(super::backoff::Link::something_left);
        }
    }

    /// Whether the pool starts and must reach min_size before it serves for certain.
    pub(super) fn is_strict_start(&self) -> bool {
        matches!(&self.phase, Phase::Initializing(init) if !init.lazy)
    }

    /// Connects in flight to hosts that failed before.
    pub(super) fn probes_in_flight(&self) -> u32 {
        self.links.iter().filter(|link| !link.is_good()).map(super::backoff::Link::in_flight).sum()
    }

    /// The fault that keeps every host from being connected to, if that is so: the latest.
    pub(super) fn bad_link(&self) -> Option<&Fault> {
        if self.links.iter().any(super::backoff::Link::is_good) {
            return None;
        }
        self.links.iter().max_by_key(|link| link.failed_at()).and_then(super::backoff::Link::fault)
    }
}
