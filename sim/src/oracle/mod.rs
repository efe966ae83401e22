//! The oracle: a model of what a pool owes its callers and its server, kept from outside.
//!
//! It sees every event that the machine is told and every action that it asks for, and nothing else; from these it
//! knows what each connection is in, who waits, what failed. After every step it compares: each guarantee that pgweir
//! gives (and that the machine checks of itself from inside) is checked here a second time, by other code. The machine
//! is asked for its numbers only to see whether they are true.

mod conns;
mod health;
mod line;
mod link;
mod retire;
mod rules;
mod seen;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use pgweir_core::config::PoolConfig;
use pgweir_core::pool::{
    Action, CloseReason, ConnId, Counts, Event, Fate, FaultClass, Notice, Reject, State, Stats, WaiterId,
};
use pgweir_core::time::Instant;

use conns::{Conns, Is, Lease};
pub(crate) use health::agree;
use line::{Asker, Line};
use link::Link;
pub(crate) use rules::is_legal;
use seen::{Seen, Step};

/// A shutdown outlasts its deadline by this much at most.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

/// A guarantee that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The guarantee's name, as in the documentation of the pool.
    pub guarantee: &'static str,
    /// What was seen.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.guarantee, self.detail)
    }
}

/// What a check comes to.
pub(crate) type Verdict = Result<(), Violation>;

/// Unless `$holds`, the guarantee `$name` is violated.
macro_rules! ensure {
    ($holds:expr, $name:literal, $($detail:tt)*) => {
        if !$holds {
            return Err($crate::oracle::Violation { guarantee: $name, detail: format!($($detail)*) });
        }
    };
}
pub(crate) use ensure;

/// The oracle.
#[derive(Clone, Debug)]
pub(crate) struct Oracle {
    config: PoolConfig,
    min_size: u32,
    max_size: u32,
    /// Connections that may exist: max_size, or more for a while after a shrink.
    allowed: u32,
    /// How late the pool's timers may be.
    late: Duration,
    phase: Phase,
    paused: bool,
    line: Line,
    conns: Conns,
    /// One for each host.
    links: Vec<Link>,
    /// The pool's process did not run: what is due is late without a fault of the pool's.
    slept: bool,
    /// The state that was last announced.
    state: State,
    /// Since when the pool says that it is down, unless it cannot be by now.
    down_since: Option<Instant>,
    /// Whether it has said so, and nothing else since.
    down: bool,
    /// Since when a connect is needed, and none is under way.
    needed_since: Option<Instant>,
    /// Leases suspected of a leak.
    suspects: u32,
    step: Step,
    seen: Seen,
}

#[derive(Clone, Debug, PartialEq)]
enum Phase {
    New,
    Open,
    Ending { deadline: Instant, hard: Instant },
    Terminated,
}

impl Oracle {
    pub(crate) fn new(config: &PoolConfig, late: Duration) -> Self {
        Oracle {
            config: config.clone(),
            min_size: config.min_size(),
            max_size: config.max_size(),
            allowed: config.max_size(),
            late,
            phase: Phase::New,
            paused: false,
            line: Line::default(),
            conns: Conns::default(),
            links: (0..config.hosts().max(1)).map(|_| Link::default()).collect(),
            slept: false,
            state: State::Initializing,
            down_since: None,
            down: false,
            needed_since: None,
            suspects: 0,
            step: Step::default(),
            seen: Seen::default(),
        }
    }

    /// Whether the pool has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.phase == Phase::Terminated
    }

    fn is_open(&self) -> bool {
        matches!(self.phase, Phase::New | Phase::Open)
    }

    /// Acquires without an answer.
    pub(crate) fn waiting(&self) -> u32 {
        self.line.live()
    }

    /// The machine is about to be told of `event`. By now it must have done all that was due.
    pub(crate) fn event(&mut self, now: Instant, event: &Event) -> Verdict {
        if !std::mem::take(&mut self.slept) {
            self.is_punctual(now)?;
        }
        self.told(now, event);
        Ok(())
    }

    /// The pool's process stops for a while: what falls due meanwhile is done when it goes on.
    pub(crate) fn sleeps(&mut self) {
        self.slept = true;
        self.needed_since = None;
    }

    /// Whether every host has failed, and none answered since.
    fn are_links_bad(&self) -> bool {
        self.links.iter().all(Link::is_bad)
    }

    fn told(&mut self, now: Instant, event: &Event) {
        self.step = Step::default();
        let expired = self.conns.expire(now);
        for (host, opened) in expired.lives {
            self.links[host].lost(now, opened, &self.config);
            self.seen.lost(now, opened);
        }
        for (host, started) in expired.connects {
            self.links[host].failed(now, started, None, &self.config);
            self.seen.failed(now, FaultClass::Transient);
        }
        for opened in expired.resets {
            self.seen.lost(now, opened);
        }
        match event {
            Event::Acquire { waiter, deadline, leak_after, .. } => {
                self.seen.asked += 1;
                self.step.asked = true;
                let leak_after = self.leak_limit(*leak_after);
                self.line.join(Asker { id: *waiter, arrival: now, deadline: *deadline, leak_after });
            }
            Event::Release { conn, fate, queries, .. } => self.released(now, *conn, *fate, *queries),
            Event::Cancel { waiter } => {
                if self.line.leave(*waiter).is_some() {
                    self.seen.cancelled += 1;
                }
            }
            Event::CheckFailed { conn, .. } => {
                if let Is::Lent(lease) = self.conns.is(*conn) {
                    self.seen.granted -= 1;
                    self.ended(*conn, &lease);
                    self.died(now, *conn);
                    let Lease { waiter: id, arrival, deadline, leak_after, .. } = lease;
                    self.line.join(Asker { id, arrival, deadline, leak_after });
                }
            }
            Event::Start { .. } if self.phase == Phase::New => self.phase = Phase::Open,
            Event::Shutdown { deadline } => self.shutdown(now, *deadline),
            // A pool that ends is not changed any more.
            Event::Pause | Event::Resume | Event::Recycle | Event::Resize { .. } if !self.is_open() => {}
            Event::Pause => self.paused = true,
            Event::Resume => self.paused = false,
            Event::Recycle => self.conns.recycle(),
            Event::Resize { min_size, max_size } => {
                (self.min_size, self.max_size) = (*min_size, *max_size);
                self.allowed = self.conns.total().max(*max_size);
            }
            Event::Start { .. } | Event::Touched { .. } | Event::Tick => {}
            event => self.answered(now, event),
        }
        // Also where it is retired within the same step.
        if self.conns.sound() > 0 {
            self.down_since = None;
        }
    }

    /// Something that the machine asked for has an answer. One that comes too late changes nothing.
    fn answered(&mut self, now: Instant, event: &Event) {
        match event {
            Event::Connected { conn, .. } => {
                if let Is::Connecting { since, .. } = self.conns.is(*conn) {
                    self.seen.opened += 1;
                    let host = self.conns.host(*conn);
                    self.links[host].succeeded(since);
                    self.conns.opened(*conn, now);
                }
            }
            Event::ConnectFailed { conn, fault } => {
                if let Is::Connecting { since, .. } = self.conns.is(*conn) {
                    let host = self.conns.host(*conn);
                    self.links[host].failed(now, since, Some(fault.class), &self.config);
                    self.seen.failed(now, fault.class);
                    self.conns.put(*conn, Is::Vacant);
                }
            }
            Event::Validated { conn } => {
                if let Is::Validating { how, suspicion, .. } = self.conns.is(*conn) {
                    self.conns.change(*conn, |conn| {
                        conn.is = Is::Idle;
                        if how == pgweir_core::pool::Check::RoundTrip {
                            (conn.proved, conn.used, conn.suspicion) = (now, false, suspicion);
                        }
                    });
                    self.seen.validations += u64::from(how == pgweir_core::pool::Check::RoundTrip);
                }
            }
            Event::ValidationFailed { conn, .. } => {
                if let Is::Validating { .. } = self.conns.is(*conn) {
                    self.died(now, *conn);
                }
            }
            Event::Lost { conn, .. } => {
                if let Is::Idle | Is::Validating { .. } = self.conns.is(*conn) {
                    self.died(now, *conn);
                }
            }
            Event::Reset { conn } => {
                if let Is::Resetting { suspicion, .. } = self.conns.is(*conn) {
                    self.step.returned = Some(*conn);
                    self.conns.change(*conn, |conn| {
                        (conn.is, conn.idle_since) = (Is::Idle, now);
                        (conn.proved, conn.used, conn.suspicion) = (now, false, suspicion);
                    });
                }
            }
            Event::ResetFailed { conn, fault } => {
                if let (Is::Resetting { .. }, Some(found)) = (self.conns.is(*conn), self.conns.get(*conn)) {
                    self.seen.lost(now, found.opened);
                    self.conns.put(*conn, Is::Dead);
                    if fault.class == FaultClass::WrongRole {
                        self.conns.doubt();
                    }
                }
            }
            Event::Closed { conn } => {
                if let Is::Closing { .. } = self.conns.is(*conn) {
                    self.conns.put(*conn, Is::Vacant);
                }
            }
            _ => {}
        }
    }

    fn released(&mut self, now: Instant, id: ConnId, fate: Fate, queries: u64) {
        let Is::Lent(lease) = self.conns.is(id) else { return };
        self.ended(id, &lease);
        self.step.returned = Some(id);
        if let Phase::Ending { .. } = self.phase {
            self.seen.ending.finished += 1;
        }
        if fate == Fate::Unused {
            self.seen.granted -= 1;
            self.seen.cancelled += 1;
            self.conns.put(id, Is::Idle);
            return;
        }
        self.seen.released += 1;
        self.seen.queries += queries;
        let to_reset = fate == Fate::Dirty || (fate == Fate::Clean && self.config.reset_on_release());
        self.conns.change(id, |conn| {
            conn.queries += queries;
            (conn.idle_since, conn.used) = (now, true);
            conn.is = if to_reset { Is::Returned } else { Is::Idle };
        });
        if self.conns.get(id).is_some_and(|conn| self.has_served_enough(conn)) {
            self.conns.worn_from = Instant::ZERO;
        }
        match fate {
            Fate::Broken => self.died(now, id),
            Fate::Discarded => self.conns.put(id, Is::Dead),
            _ => {}
        }
    }

    fn ended(&mut self, id: ConnId, lease: &Lease) {
        if lease.reports > 0 {
            self.step.resolved = Some(id);
            self.suspects -= 1;
        }
    }

    fn died(&mut self, now: Instant, id: ConnId) {
        if let Some(conn) = self.conns.get(id) {
            self.links[conn.host].lost(now, conn.opened, &self.config);
            self.seen.lost(now, conn.opened);
        }
        self.conns.died(id);
    }

    fn shutdown(&mut self, now: Instant, deadline: Instant) {
        let hard = deadline.max(now) + self.config.close_timeout().min(SHUTDOWN_GRACE);
        match &mut self.phase {
            Phase::Ending { deadline: old, hard: old_hard } => {
                (*old, *old_hard) = ((*old).min(deadline), (*old_hard).min(hard));
            }
            Phase::Terminated => {}
            phase => {
                *phase = Phase::Ending { deadline, hard };
                self.seen.ending.rejected = self.line.live();
            }
        }
    }

    fn leak_limit(&self, wish: Option<Duration>) -> Duration {
        let limit = wish.unwrap_or(self.config.leak_detection_timeout());
        if self.config.enable_leak_detection() && !limit.is_zero() { limit } else { Duration::MAX }
    }

    /// The machine asked for `action`.
    pub(crate) fn action(&mut self, now: Instant, action: &Action) -> Verdict {
        let over = self.phase == Phase::Terminated && !matches!(action, Action::Reject { .. });
        ensure!(!over, "Bounded end", "{action:?} after the pool has terminated");
        match action {
            Action::Grant { waiter, conn } => self.granted(now, *waiter, *conn),
            Action::Reject { waiter, reason } => self.rejected(now, *waiter, reason),
            Action::Connect { conn, host, deadline } => self.connects(now, *conn, usize::from(host.0), *deadline),
            Action::Validate { conn, how, deadline } => {
                let is = self.conns.is(*conn);
                ensure!(is == Is::Idle, "Sound", "{conn} is {is:?} and is to be validated");
                let suspicion = self.conns.suspicion;
                self.conns.put(*conn, Is::Validating { since: now, deadline: *deadline, how: *how, suspicion });
                Ok(())
            }
            Action::Reset { conn, deadline, .. } => {
                let is = self.conns.is(*conn);
                ensure!(is == Is::Returned, "Sound", "{conn} is {is:?} and is to be reset");
                let suspicion = self.conns.suspicion;
                self.conns.put(*conn, Is::Resetting { since: now, deadline: *deadline, suspicion });
                Ok(())
            }
            Action::Close { conn, reason, deadline, .. } => self.closes(now, *conn, *reason, *deadline),
            Action::Notice(notice) => self.noticed(now, notice),
        }
    }

    fn granted(&mut self, now: Instant, waiter: WaiterId, id: ConnId) -> Verdict {
        let first = self.line.first().map(|asker| asker.id);
        let Some(asker) = self.line.leave(waiter) else {
            ensure!(false, "One answer", "{waiter:?} got {id}, and had its answer or was gone");
            return Ok(());
        };
        ensure!(first == Some(waiter), "FIFO", "{waiter:?} got {id} before {first:?}");
        let in_time = now < asker.deadline || now == asker.arrival;
        ensure!(in_time, "One answer", "{waiter:?} got {id} at {now:?}, after its deadline {:?}", asker.deadline);
        ensure!(self.phase == Phase::Open, "Bounded end", "{waiter:?} got {id} from a pool that is not open");
        ensure!(!self.paused, "One answer", "{waiter:?} got {id} from a pool that is paused");
        self.is_lendable(now, id)?;
        let Asker { arrival, deadline, leak_after, .. } = asker;
        self.conns.put(id, Is::Lent(Lease { waiter, arrival, deadline, since: now, leak_after, reports: 0 }));
        self.seen.granted += 1;
        self.seen.grants += 1;
        self.seen.peak_active = self.seen.peak_active.max(self.conns.lent());
        if !self.config.acquire_slow().is_zero() && now - arrival >= self.config.acquire_slow() {
            self.seen.slow_at = Some(now);
        }
        Ok(())
    }

    fn rejected(&mut self, now: Instant, waiter: WaiterId, reason: &Reject) -> Verdict {
        let Some(asker) = self.line.leave(waiter) else {
            ensure!(false, "One answer", "{waiter:?} was rejected, and had its answer or was gone");
            return Ok(());
        };
        let justified = match reason {
            Reject::Timeout(_) => now >= asker.deadline,
            Reject::WouldBlock => asker.deadline <= asker.arrival,
            Reject::QueueFull { .. } => self.line.live() >= self.config.max_waiting(),
            Reject::Closed => matches!(self.phase, Phase::Ending { .. } | Phase::Terminated),
            Reject::Unavailable(_) => self.seen.init_failed || self.conns.sound() == 0,
        };
        ensure!(justified, "Fast truth", "{waiter:?} was told {reason:?}, which is not so");
        self.is_well_reported(now, &asker, reason)?;
        if matches!(reason, Reject::Timeout(_)) && !self.config.acquire_slow().is_zero() {
            self.seen.slow_at = Some(now);
        }
        self.step.nudge |= self.step.asked && asker.arrival == now;
        match reason {
            Reject::Timeout(_) => self.seen.timeouts += 1,
            _ => self.seen.rejected += 1,
        }
        Ok(())
    }

    fn connects(&mut self, now: Instant, id: ConnId, host: usize, deadline: Instant) -> Verdict {
        let hosts = self.links.len();
        ensure!(host < hosts, "The pool owns connects", "{id} goes to host {host} of {hosts}");
        ensure!(self.phase == Phase::Open, "Bounded end", "{id} is opened by a pool that is not open");
        self.is_wanted(now, id)?;
        let in_flight = self.conns.iter().filter_map(|(_, conn)| match conn.is {
            Is::Connecting { since, .. } if conn.host == host => Some(since),
            _ => None,
        });
        self.links[host].may_start(now, in_flight, &self.config)?;
        ensure!(self.conns.add(id, host, now, deadline), "One holder", "{id} is not a new connection");
        let (connecting, most) = (self.conns.connecting(), self.config.max_connecting());
        ensure!(connecting <= most, "Quiet outage, prompt recovery", "{connecting} connects at once, not {most}");
        self.seen.connects += 1;
        self.within_cap()
    }

    fn within_cap(&self) -> Verdict {
        let (total, allowed) = (self.conns.total(), self.allowed);
        ensure!(total <= allowed, "Cap", "{total} connections where {allowed} are allowed");
        Ok(())
    }

    fn closes(&mut self, now: Instant, id: ConnId, reason: CloseReason, deadline: Instant) -> Verdict {
        self.may_close(now, id, reason)?;
        self.seen.closed[reason as usize] += 1;
        match self.conns.is(id) {
            Is::Vacant | Is::Closing { .. } => {
                ensure!(false, "One holder", "{id} is to be closed and is not open");
            }
            Is::Lent(lease) => {
                let due =
                    matches!(self.phase, Phase::Ending { deadline, .. } if now >= deadline) || self.seen.init_failed;
                ensure!(due, "One holder", "{id} is closed under {:?}", lease.waiter);
                let warned = self.step.forced.take();
                ensure!(warned == Some(id), "Bounded end", "{id} is taken from {:?} without a warning", lease.waiter);
                self.suspects -= u32::from(lease.reports > 0);
                self.seen.ending.forced += 1;
            }
            _ => {}
        }
        self.conns.put(id, Is::Closing { deadline });
        Ok(())
    }

    /// The step is over: nothing may be left undone.
    pub(crate) fn settled(&mut self, now: Instant, counts: Counts) -> Verdict {
        self.are_true(counts)?;
        if self.conns.unfinished() > 0 {
            let left = self.conns.iter().find(|(_, conn)| matches!(conn.is, Is::Returned | Is::Dead));
            ensure!(false, "Sound", "nothing was done about {left:?}");
        }
        let Step { resolved, forced, .. } = &self.step;
        ensure!(resolved.is_none(), "True numbers", "the leak of {resolved:?} has ended, and nobody was told");
        ensure!(forced.is_none(), "Bounded end", "{forced:?} is said to be cut off, and is not");
        self.allowed = self.allowed.min(self.conns.total()).max(self.max_size);
        self.within_cap()?;
        self.is_punctual(now)?;
        if self.line.live() > 0 {
            self.is_not_stranded(now)?;
            self.is_not_kept_in_the_dark()?;
        }
        self.asks_the_doubtful(now)?;
        self.lets_go_of_the_worn(now)?;
        self.goes_on_trying(now)
    }

    /// At the very end.
    pub(crate) fn finish(&self, stats: &Stats, sessions: usize) -> Verdict {
        ensure!(self.is_over(), "Bounded end", "the pool is {:?}", self.state);
        ensure!(self.line.live() == 0, "One answer", "{} acquires have no answer", self.line.live());
        ensure!(sessions == 0, "Bounded end", "the server still has {sessions} sessions");
        let (totals, seen) = (&stats.totals, &self.seen);
        for (what, said, true_number) in
            [
                ("acquisitions", totals.acquisitions, seen.granted),
                ("releases", totals.releases, seen.released),
                ("cancelled", totals.cancelled, seen.cancelled),
                ("timeouts", totals.timeouts, seen.timeouts),
                ("rejected", totals.rejected, seen.rejected),
                ("opened", totals.opened, seen.opened),
                ("connects", totals.connects, seen.connects),
                ("leaks_suspected", totals.leaks_suspected, seen.suspected),
                ("waits recorded", totals.wait.count(), seen.grants),
                ("queries", totals.queries, seen.queries),
                ("validations", totals.validations, seen.validations),
                ("peak_active", u64::from(totals.peak_active), u64::from(seen.peak_active)),
            ]
            .into_iter()
            .chain(CloseReason::ALL.map(|reason| {
                ("connections closed for a reason", totals.closed.get(reason), seen.closed[reason as usize])
            }))
            .chain(FaultClass::ALL.map(|class| {
                ("connects failed in a class", totals.connect_failures.get(class), seen.failures[class as usize])
            }))
        {
            ensure!(said == true_number, "True numbers", "{what} is {true_number}, and the pool says {said}");
        }
        let answers = seen.granted + seen.cancelled + seen.timeouts + seen.rejected;
        ensure!(answers == seen.asked, "One answer", "{} acquires, {answers} answers", seen.asked);
        Ok(())
    }

    fn noticed(&mut self, now: Instant, notice: &Notice) -> Verdict {
        match notice {
            Notice::StateChanged { from, to, .. } => {
                ensure!(*from == self.state, "Fast truth", "from {from:?} to {to:?}, but it was {:?}", self.state);
                ensure!(is_legal(*from, *to), "Fast truth", "no pool goes from {from:?} to {to:?}");
                self.state = *to;
                if *to == State::Recovering {
                    (self.down_since, self.down) = (None, false);
                }
            }
            Notice::Initialized { .. } | Notice::Recovered { .. } => {
                self.down = false;
                self.seen.well_since = Some(now);
                self.seen.fault_at = None;
            }
            Notice::ForcedClose { holder } => self.step.forced = Some(holder.conn),
            Notice::ConnectivityLost { .. } => (self.down_since, self.down) = (Some(now), true),
            Notice::InitFailed { .. } => {
                self.seen.init_failed = true;
                self.shutdown(now, now);
            }
            Notice::LeakSuspected { holder, report } => self.suspected(now, holder.conn, *report)?,
            Notice::LeakResolved { holder } => {
                let resolved = self.step.resolved.take();
                ensure!(
                    resolved == Some(holder.conn),
                    "True numbers",
                    "a leak of {} resolved, not {resolved:?}",
                    holder.conn
                );
            }
            Notice::Terminated { report } => {
                self.phase = Phase::Terminated;
                self.conns.clear();
                let ending = &self.seen.ending;
                let same = (report.finished, report.forced, report.rejected)
                    == (ending.finished, ending.forced, ending.rejected);
                ensure!(same, "True numbers", "the shutdown reports {report:?}, and it was {ending:?}");
            }
            _ => {}
        }
        Ok(())
    }

    fn suspected(&mut self, now: Instant, id: ConnId, report: u32) -> Verdict {
        let Is::Lent(lease) = self.conns.is(id) else {
            ensure!(false, "True numbers", "{id} is suspected of a leak and is not lent");
            return Ok(());
        };
        let held = now - lease.since;
        ensure!(held >= lease.leak_after, "True numbers", "{id} is suspected after {held:?} of {:?}", lease.leak_after);
        ensure!(report == lease.reports + 1, "True numbers", "report {report} of {id} after {}", lease.reports);
        self.seen.suspected += u64::from(report == 1);
        self.suspects += u32::from(report == 1);
        self.conns.put(id, Is::Lent(Lease { reports: report, ..lease }));
        Ok(())
    }
}
