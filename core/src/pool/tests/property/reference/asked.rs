//! Whether the machine may ask for what it asks for.

use std::time::Duration;

use crate::pool::{Action, Check, CloseHow, CloseReason, ConnId, Notice, Reject, ResetHow, State, WaiterId};
use crate::time::Instant;

use super::super::guarantee::Guarantee;
use super::host::Standing;
use super::{Conn, Is, Lease, Phase, Reference, Verdict, ensure, leak_due};
use crate::pool::FaultClass;

/// How long a check or reset in flight counts as good as done for a waiter.
pub(super) const COVER: Duration = Duration::from_millis(250);

impl Reference {
    pub(super) fn check_action(&mut self, action: &Action) -> Verdict {
        match action {
            Action::Grant { waiter, conn } => self.grants(*waiter, *conn),
            Action::Reject { waiter, reason } => self.rejects(*waiter, reason),
            Action::Connect { conn, host, deadline } => self.connects(*conn, usize::from(host.0), *deadline),
            Action::Validate { conn, how, deadline } => self.validates(*conn, *how, *deadline),
            Action::Reset { conn, how, deadline } => self.resets(*conn, *how, *deadline),
            Action::Close { conn, reason, how, deadline } => self.closes(*conn, *reason, *how, *deadline),
            Action::Notice(notice) => self.says(notice),
        }
    }

    fn grants(&mut self, waiter: WaiterId, id: ConnId) -> Verdict {
        let now = self.now;
        let Some(place) = self.line.iter().position(|other| other.id == waiter) else {
            ensure!(false, OneAnswer, "{waiter:?} got {id} and did not wait");
            return Ok(());
        };
        if self.line.len() > 1 {
            self.evidence.saw(Guarantee::Fifo);
        }
        ensure!(place == 0, Fifo, "{waiter:?} got {id}, and {:?} came before it", self.line[0].id);
        let waiter = self.line.remove(0);
        self.evidence.saw(Guarantee::OneAnswer);
        ensure!(now < waiter.deadline || now == waiter.arrival, OneAnswer, "{:?} got {id} too late", waiter.id);
        ensure!(self.has_started(), BoundedEnd, "{:?} got {id} from a pool that is not open", waiter.id);
        ensure!(!self.paused, OneAnswer, "{:?} got {id} from a pool that is paused", waiter.id);
        self.is_fit(id)?;
        let since = now;
        let lease = Lease { waiter, since, reports: 0, leak_due: leak_due(since, waiter.leak_after, now) };
        if let Some(conn) = self.find(id) {
            conn.is = Is::Lent(lease);
        }
        self.tally.grants += 1;
        self.tally.acquisitions += 1;
        Ok(())
    }

    /// Fresh and Sound: what may be lent as it is.
    fn is_fit(&mut self, id: ConnId) -> Verdict {
        let Some(conn) = self.conns.iter().find(|conn| conn.id == id).cloned() else {
            ensure!(false, OneHolder, "{id} is lent and does not exist");
            return Ok(());
        };
        self.evidence.saw(Guarantee::OneHolder);
        ensure!(!matches!(conn.is, Is::Lent(_)), OneHolder, "{id} is lent twice");
        ensure!(conn.is == Is::Idle, Sound, "{id} is lent and is {:?}", conn.is);
        ensure!(conn.sound, Sound, "{id} is lent and was not proved since a sibling died");
        ensure!(self.is_proved(&conn), Sound, "{id} is lent and was proved at {:?}", conn.proved);
        ensure!(!self.is_certainly_worn(&conn), Fresh, "{id} is lent and should be retired");
        if conn.queries > 0 {
            self.evidence.saw(Guarantee::Fresh);
            self.evidence.saw(Guarantee::Sound);
        }
        let better = |other: &&Conn| self.is_surely_lendable(other) && other.idle_since > conn.idle_since;
        let better = self.conns.iter().find(better);
        ensure!(better.is_none(), Fresh, "{id} is lent, idle longer than {better:?}: a surplus must age");
        Ok(())
    }

    fn rejects(&mut self, id: WaiterId, reason: &Reject) -> Verdict {
        let now = self.now;
        let Some(place) = self.line.iter().position(|other| other.id == id) else {
            ensure!(false, OneAnswer, "{id:?} was rejected and did not wait");
            return Ok(());
        };
        let waiter = self.line.remove(place);
        self.evidence.saw(Guarantee::OneAnswer);
        let waited = now - waiter.arrival;
        match reason {
            Reject::Timeout(report) => {
                self.troubled = true;
                ensure!(waiter.deadline <= now, OneAnswer, "{id:?} timed out before {:?}", waiter.deadline);
                ensure!(self.down.is_none(), FastTruth, "{id:?} timed out, and the truth is an outage");
                ensure!(report.waited == waited, TrueNumbers, "{id:?} waited {waited:?}, not {:?}", report.waited);
                let ahead = report.position as usize;
                ensure!(ahead == place, TrueNumbers, "{place} were ahead of {id:?}, not {ahead}");
                let lent = self.count(|is| matches!(is, Is::Lent(_))).min(5) as usize;
                ensure!(report.holders.len() == lent, TrueNumbers, "{lent} hold, not {:?}", report.holders);
                ensure!(report.holders.is_sorted_by_key(|holder| holder.since), TrueNumbers, "the longest come first");
            }
            Reject::WouldBlock => {
                ensure!(waiter.deadline <= waiter.arrival, OneAnswer, "{id:?} would have waited");
                let is_free = |conn: &Conn| self.is_surely_lendable(conn);
                let free = self.serves() && place == 0 && self.conns.iter().any(is_free);
                ensure!(!free, NoStranding, "{id:?} got nothing, and something is free");
            }
            Reject::QueueFull { max_waiting } => {
                ensure!(*max_waiting == self.config.max_waiting, TrueNumbers, "the limit is not {max_waiting}");
                ensure!(self.line.len() as u32 >= *max_waiting, OneAnswer, "only {} wait", self.line.len());
            }
            Reject::Closed => ensure!(!self.is_open(), FastTruth, "{id:?} was told that the pool is closed"),
            Reject::Unavailable(report) => {
                self.evidence.saw(Guarantee::FastTruth);
                ensure!(report.waited == waited, TrueNumbers, "{id:?} waited {waited:?}, not {:?}", report.waited);
                let is_hopeless = |host: &super::Host| {
                    matches!(host.standing, Standing::Bad(FaultClass::Permanent) | Standing::Unclear)
                };
                let patience = waiter.arrival + self.config.outage_grace;
                let over = patience <= now || waiter.deadline <= now || self.hosts.iter().all(is_hopeless);
                ensure!(self.start_failed || over, FastTruth, "{id:?} was told of an outage before {patience:?}");
                ensure!(self.start_failed || self.maybe_down, FastTruth, "{id:?} was told of an outage that is none");
                ensure!(self.start_failed || self.sound() == 0, FastTruth, "{id:?} was told of an outage that is over");
                ensure!(report.next_attempt.is_none_or(|at| at >= now), TrueNumbers, "the next attempt is past");
            }
        }
        self.nudge |= waiter.arrival == now && !matches!(reason, Reject::Timeout(_));
        match reason {
            Reject::Timeout(_) => self.tally.timeouts += 1,
            _ => self.tally.rejected += 1,
        }
        Ok(())
    }

    fn connects(&mut self, id: ConnId, host: usize, deadline: Instant) -> Verdict {
        let now = self.now;
        ensure!(self.has_started(), BoundedEnd, "{id} is opened by a pool that is not open");
        ensure!(host < self.hosts.len(), ThePoolOwnsConnects, "{id} goes to host {host}");
        self.is_connect_wanted(id)?;
        self.may_connect_to(id, host)?;
        let timeout = self.config.connect_timeout;
        ensure!(deadline == now + timeout, Punctual, "{id} may take until {deadline:?}, not {timeout:?}");
        let taken = self.conns.iter().find(|conn| conn.id.slot == id.slot);
        ensure!(taken.is_none(), OneHolder, "{id} takes the slot of {taken:?}");
        let before = self.generations.insert(id.slot, id.generation);
        ensure!(before.is_none_or(|before| before < id.generation), OneHolder, "{id} was there before");
        let place = self.conns.partition_point(|other| other.id.slot < id.slot);
        let is = Is::Connecting { deadline };
        let (opened, proved, idle_since) = (now, now, now);
        let conn = Conn {
            id,
            host,
            is,
            begun: now,
            opened,
            proved,
            idle_since,
            used: false,
            queries: 0,
            sound: false,
            rested: false,
            doomed: false,
        };
        self.conns.insert(place, conn);
        self.tally.connects += 1;
        let (total, max) = (self.total(), self.max);
        ensure!(total <= max, Cap, "{id} makes {total}, and max_size is {max}");
        let (connecting, most) = (self.connecting(), self.config.max_connecting);
        ensure!(connecting <= most, QuietOutage, "{connecting} connects at once, not {most}");
        Ok(())
    }

    /// No over-creation: min_size, a waiter that nothing under way will serve, or an outage that must be ended.
    fn is_connect_wanted(&mut self, id: ConnId) -> Verdict {
        self.evidence.saw(Guarantee::ThePoolOwnsConnects);
        let connecting = self.connecting();
        let renewing = |conn: &&Conn| conn.is == Is::Idle && self.is_perhaps_renewing(conn);
        let lasting = self.open() - self.conns.iter().filter(renewing).count() as u32;
        let uncovered = self.demand().saturating_sub(self.covering());
        let is_bad = self.hosts.iter().all(|host| host.standing != Standing::Good);
        let ends_outage = connecting == 0 && (self.maybe_down || (self.sound() == 0 && is_bad));
        ensure!(
            lasting + connecting < self.min || uncovered > connecting || ends_outage,
            ThePoolOwnsConnects,
            "{id} is opened: {lasting} last, {connecting} connecting, {uncovered} wait, min_size {}",
            self.min
        );
        Ok(())
    }

    /// Checks and resets that will serve a waiter, unless one of them takes too long.
    pub(super) fn covering(&self) -> u32 {
        let young = |since: Instant| self.now - since < COVER;
        let under_way = |is: &Is| match is {
            Is::Checking { since, .. } | Is::Resetting { since, .. } => Some(young(*since)),
            _ => None,
        };
        let all: Vec<bool> = self.conns.iter().filter_map(|conn| under_way(&conn.is)).collect();
        if all.iter().all(|young| *young) { all.len() as u32 } else { 0 }
    }

    /// Quiet outage: one at a time to a host that failed, and not before its time.
    fn may_connect_to(&mut self, id: ConnId, host: usize) -> Verdict {
        let demand = self.demand() > 0 && !self.is_strict_start();
        self.relax_when_alone();
        let standing = self.hosts[host].standing;
        let to_host = |conn: &&Conn| conn.host == host && matches!(conn.is, Is::Connecting { .. });
        let in_flight = self.conns.iter().filter(to_host).count();
        if let Standing::Bad(_) = standing {
            self.evidence.saw(Guarantee::QuietOutage);
            ensure!(in_flight == 0, QuietOutage, "{id} is one of {} to a host that failed", in_flight + 1);
            let not_before = self.hosts[host].not_before(demand, &self.config);
            ensure!(not_before <= self.now, QuietOutage, "{id} comes before {not_before:?}: {:?}", self.hosts[host]);
            let good = self.hosts.iter().any(|host| host.standing == Standing::Good);
            ensure!(!good || self.sound() == 0, QuietOutage, "{id} goes to a bad host, and another is good");
        }
        let is_down = self.down.is_some() && self.sound() == 0;
        ensure!(!is_down || in_flight == 0, QuietOutage, "{id} is one of {} in an outage", in_flight + 1);
        Ok(())
    }

    fn validates(&mut self, id: ConnId, how: Check, deadline: Instant) -> Verdict {
        let (now, timeout) = (self.now, self.config.validation_timeout);
        ensure!(deadline == now + timeout, Punctual, "a check may take until {deadline:?}, not {timeout:?}");
        let Some(conn) = self.find(id) else {
            ensure!(false, OneHolder, "{id} is checked and does not exist");
            return Ok(());
        };
        ensure!(conn.is == Is::Idle, Sound, "{id} is checked and is {:?}", conn.is);
        conn.is = Is::Checking { how, since: now, deadline, doubted: false };
        Ok(())
    }

    fn resets(&mut self, id: ConnId, how: ResetHow, deadline: Instant) -> Verdict {
        let now = self.now;
        let mut latest = now + self.config.reset_timeout;
        if let Phase::Ending { deadline, .. } = self.phase {
            latest = latest.min(deadline);
        }
        ensure!(deadline == latest, Punctual, "a reset may take until {deadline:?}, not {latest:?}");
        let Some(conn) = self.find(id) else {
            ensure!(false, OneHolder, "{id} is reset and does not exist");
            return Ok(());
        };
        ensure!(conn.is == Is::Returned(how), Sound, "{id} is reset ({how:?}) and is {:?}", conn.is);
        conn.is = Is::Resetting { since: now, deadline, doubted: false };
        Ok(())
    }

    fn closes(&mut self, id: ConnId, reason: CloseReason, how: CloseHow, deadline: Instant) -> Verdict {
        let now = self.now;
        let Some(conn) = self.conns.iter().find(|conn| conn.id == id).cloned() else {
            ensure!(false, OneHolder, "{id} is closed and does not exist");
            return Ok(());
        };
        let mut latest = now + self.config.close_timeout.max(Duration::from_nanos(1));
        if let Phase::Ending { hard, .. } = self.phase {
            latest = latest.min(hard.max(now + Duration::from_nanos(1)));
        }
        ensure!(deadline == latest, Punctual, "a close may take until {deadline:?}, not {latest:?}");
        ensure!(!matches!(conn.is, Is::Closing { .. }), OneHolder, "{id} is closed twice");
        self.may_close(&conn, reason)?;
        let abrupt = matches!(conn.is, Is::Connecting { .. } | Is::Lent(_) | Is::Resetting { .. })
            || matches!(conn.is, Is::Condemned(reason) if reason != CloseReason::Discarded);
        let is_right = (how == CloseHow::Abort) == abrupt;
        ensure!(is_right, Sound, "{id} is closed ({how:?}) and is {:?}", conn.is);
        if let Some(conn) = self.find(id) {
            conn.is = Is::Closing { deadline };
        }
        self.tally.closed += 1;
        Ok(())
    }

    fn may_close(&mut self, conn: &Conn, reason: CloseReason) -> Verdict {
        let (now, id) = (self.now, conn.id);
        if let Is::Condemned(right) = conn.is {
            ensure!(reason == right, TrueNumbers, "{id} is closed for {reason:?}, not {right:?}");
            return Ok(());
        }
        if let Is::Lent(_) = conn.is {
            let over = matches!(self.phase, Phase::Ending { deadline, .. } if deadline <= now);
            ensure!(over, OneHolder, "{id} is taken away from its holder");
            ensure!(self.forced.take() == Some(id), BoundedEnd, "{id} is cut off without a warning");
        }
        let lifetime = self.config.max_connection_lifetime;
        let holds = match reason {
            CloseReason::Shutdown => !self.is_open(),
            CloseReason::Shrink => self.open() + self.connecting() > self.max,
            CloseReason::Recycle => conn.doomed,
            CloseReason::Lifetime => !lifetime.is_zero() && now >= conn.opened + lifetime.mul_f64(0.899),
            CloseReason::QueryLimit => self.has_served_enough(conn),
            CloseReason::IdleTimeout => return self.may_reap(conn),
            _ => false,
        };
        ensure!(holds, Fresh, "{id} is closed for {reason:?}, which is not so: {conn:?}");
        if matches!(reason, CloseReason::Recycle | CloseReason::Lifetime | CloseReason::QueryLimit) {
            self.evidence.saw(Guarantee::Fresh);
            let waits = self.waits_for_replacement(|host| host.standing == Standing::Good);
            ensure!(!waits, Fresh, "{id} is retired before it is replaced");
            let closing = self.count(|is| matches!(is, Is::Closing { .. }));
            let in_turn = closing < self.config.max_connecting || !conn.rested;
            ensure!(in_turn, Fresh, "{id} is retired while {closing} others are");
        }
        Ok(())
    }

    /// A surplus that was unused for too long; what is being replaced is none.
    fn may_reap(&mut self, conn: &Conn) -> Verdict {
        let limit = self.config.max_idle_time;
        let id = conn.id;
        let unused = conn.is == Is::Idle && !limit.is_zero() && conn.idle_since + limit <= self.now;
        ensure!(unused, MinRestored, "{id} is closed as unused since {:?}", conn.idle_since);
        ensure!(self.open() > self.min, MinRestored, "{id} is closed as a surplus with {} open", self.open());
        let older = |other: &&Conn| other.is == Is::Idle && other.idle_since < conn.idle_since;
        let older = self.conns.iter().find(older);
        ensure!(older.is_none(), MinRestored, "{id} is closed as unused, and {older:?} is unused for longer");
        Ok(())
    }

    fn says(&mut self, notice: &Notice) -> Verdict {
        let now = self.now;
        match notice {
            Notice::Initialized { .. } => {
                ensure!(self.sound() >= self.min || self.phase != Phase::Starting { lazy: false }, FastTruth, "ready");
                self.phase = Phase::Running;
            }
            Notice::InitFailed { .. } => {
                self.start_failed = true;
                self.shut_down(now);
            }
            Notice::StateChanged { from, to, .. } => {
                ensure!(*from == self.state, FastTruth, "from {from:?}, and it was {:?}", self.state);
                ensure!(is_legal(*from, *to), FastTruth, "no pool goes from {from:?} to {to:?}");
                self.state = *to;
            }
            Notice::ConnectivityLost { .. } => {
                ensure!(self.sound() == 0, FastTruth, "down, and something is sound");
                (self.down, self.maybe_down) = (Some(now), true);
            }
            Notice::ForcedClose { holder } => self.forced = Some(holder.conn),
            Notice::AcquireSlow { waited, .. } => {
                self.troubled = true;
                ensure!(*waited >= self.config.acquire_slow, TrueNumbers, "{waited:?} is not slow");
            }
            Notice::LeakSuspected { holder, report } => self.suspects(holder.conn, *report)?,
            Notice::LeakResolved { holder } => {
                let place = self.resolved.iter().position(|id| *id == holder.conn);
                ensure!(place.is_some(), TrueNumbers, "no leak of {} was resolved", holder.conn);
                self.resolved.retain(|id| *id != holder.conn);
            }
            Notice::Recycled { conn, age, .. } => {
                let opened = self.find(*conn).map(|conn| conn.opened);
                ensure!(opened.is_some_and(|opened| now - opened == *age), TrueNumbers, "{conn} is not {age:?} old");
            }
            Notice::Terminated { .. } => {
                ensure!(!self.is_open(), BoundedEnd, "an end that nobody asked for");
                self.phase = Phase::Over;
                self.conns.clear();
            }
            _ => {}
        }
        Ok(())
    }

    fn suspects(&mut self, id: ConnId, report: u32) -> Verdict {
        let now = self.now;
        self.troubled = true;
        let Some(Conn { is: Is::Lent(lease), .. }) = self.find(id) else {
            ensure!(false, TrueNumbers, "{id} is suspected of a leak and is not lent");
            return Ok(());
        };
        let due = lease.leak_due;
        lease.reports += 1;
        lease.leak_due = leak_due(lease.since, lease.waiter.leak_after, now);
        let reports = lease.reports;
        self.tally.leaks_suspected += u64::from(reports == 1);
        ensure!(due <= now, TrueNumbers, "{id} is suspected before {due:?}");
        ensure!(report == reports, TrueNumbers, "{id} is reported the {reports}th time, not the {report}th");
        Ok(())
    }
}

/// Whether a pool goes from one state to the other.
fn is_legal(from: State, to: State) -> bool {
    use State::{Degraded, Healthy, Initializing, Recovering, ShuttingDown, Terminated, Unhealthy};
    let works = |state| matches!(state, Healthy | Degraded | Unhealthy | Recovering);
    match (from, to) {
        (Initializing, Healthy | Terminated | ShuttingDown) | (ShuttingDown, Terminated) => true,
        (Healthy | Degraded, Recovering) => false,
        (from, to) => works(from) && (works(to) || to == ShuttingDown) && from != to,
    }
}
