//! Whether the machine has done what it must, and what it says of itself is true.

use crate::pool::{Event, FaultClass, Machine, State, Status};
use crate::time::Instant;

use super::super::guarantee::Guarantee;
use super::host::{Host, Standing};
use super::{Conn, Is, Phase, Reference, Verdict, ensure};

impl Reference {
    /// After the actions: nothing may be left undone.
    pub(super) fn is_done(&mut self, event: &Event, deadline: Instant) -> Verdict {
        self.remember_trouble();
        self.is_nothing_forgotten(event)?;
        self.is_within_bounds()?;
        match self.phase {
            Phase::Ending { deadline, hard } => self.is_ending_well(deadline, hard),
            Phase::Over => {
                ensure!(self.line.is_empty(), BoundedEnd, "{:?} waits for a pool that has ended", self.line);
                Ok(())
            }
            Phase::New => Ok(()),
            Phase::Starting { .. } | Phase::Running => {
                self.is_nobody_stranded(deadline)?;
                self.is_refilled(deadline)?;
                self.is_doubt_asked()?;
                self.is_surplus_gone()?;
                self.is_outage_told()
            }
        }
    }

    fn remember_trouble(&mut self) {
        if self.sound() > 0 {
            (self.down, self.maybe_down) = (None, false);
            self.forgive();
        }
        self.relax_when_alone();
    }

    /// A full server while nothing of ours is open is one that is down, from the moment on when the last one goes.
    pub(super) fn relax_when_alone(&mut self) {
        if self.open() == 0 {
            self.hosts.iter_mut().for_each(Host::relax_if_full);
        }
    }

    fn is_nothing_forgotten(&mut self, event: &Event) -> Verdict {
        let left = self.conns.iter().find(|conn| matches!(conn.is, Is::Returned(_) | Is::Condemned(_)));
        ensure!(left.is_none(), Sound, "nothing was done about {left:?}");
        if let Event::Touched { conn } = event {
            let looked_at = |other: &Conn| other.id != *conn || other.is != Is::Idle || !other.rested;
            ensure!(self.conns.iter().all(looked_at), Sound, "{conn} has something to say, and nobody looks");
        }
        ensure!(self.forced.is_none(), BoundedEnd, "{:?} is said to be cut off and is not", self.forced);
        ensure!(self.resolved.is_empty(), TrueNumbers, "nobody was told that {:?} came back", self.resolved);
        let late = |conn: &&Conn| matches!(conn.is, Is::Lent(lease) if lease.leak_due <= self.now);
        let late = self.conns.iter().find(late);
        ensure!(late.is_none(), TrueNumbers, "nobody was told that {late:?} is held too long");
        let overdue = self.line.iter().find(|waiter| waiter.deadline <= self.now);
        ensure!(overdue.is_none(), OneAnswer, "{overdue:?} still waits");
        Ok(())
    }

    fn is_within_bounds(&mut self) -> Verdict {
        let (total, allowed) = (self.total(), self.allowed);
        if total == self.max {
            self.evidence.saw(Guarantee::Cap);
        }
        ensure!(total <= allowed, Cap, "{total} connections where {allowed} are allowed");
        let above = self.open() + self.connecting() > self.max;
        let idle = |conn: &&Conn| matches!(conn.is, Is::Idle | Is::Connecting { .. });
        let left = self.conns.iter().find(idle);
        ensure!(!above || !self.has_started() || left.is_none(), Cap, "above max_size with {left:?}");
        let most = self.config.max_waiting;
        ensure!(self.line.len() as u32 <= most.max(1) || self.line_may_be_longer(), Cap, "more than {most} wait");
        Ok(())
    }

    /// Waiters that come back from a failed check keep their place, beyond max_waiting too.
    fn line_may_be_longer(&self) -> bool {
        self.troubled
    }

    fn is_ending_well(&mut self, deadline: Instant, hard: Instant) -> Verdict {
        self.evidence.saw(Guarantee::BoundedEnd);
        ensure!(self.line.is_empty(), BoundedEnd, "{:?} waits for a pool that ends", self.line);
        let kept = self.conns.iter().find(|conn| match conn.is {
            Is::Lent(_) | Is::Resetting { .. } => deadline <= self.now,
            Is::Closing { .. } => false,
            _ => true,
        });
        ensure!(kept.is_none(), BoundedEnd, "{kept:?} is kept by a pool that ends");
        ensure!(self.now < hard, BoundedEnd, "it goes on after {hard:?}");
        ensure!(!self.conns.is_empty(), BoundedEnd, "nothing is open and it goes on");
        Ok(())
    }

    /// No stranding: who waits is not kept from what is free, and something is done about the rest.
    fn is_nobody_stranded(&mut self, deadline: Instant) -> Verdict {
        if self.paused || self.line.is_empty() {
            return Ok(());
        }
        self.evidence.saw(Guarantee::NoStranding);
        let free = self.conns.iter().find(|conn| self.is_surely_lendable(conn));
        ensure!(free.is_none(), NoStranding, "{:?} wait and {free:?} is free", self.line);
        let room = self.max.saturating_sub(self.total());
        let slack = self.config.max_connecting.saturating_sub(self.connecting());
        let uncovered = (self.line.len() as u32).saturating_sub(self.covering() + self.connecting());
        if uncovered == 0 || room == 0 || slack == 0 {
            return Ok(());
        }
        let held_back = self.is_held_back();
        ensure!(held_back, NoStranding, "{uncovered} wait, {room} could be opened and nothing is done");
        self.is_tried_again(deadline, Guarantee::NoStranding)
    }

    /// Min restored: what is missing is being opened, or will be.
    fn is_refilled(&mut self, deadline: Instant) -> Verdict {
        let missing = self.min.saturating_sub(self.open() + self.connecting());
        let room = self.total() < self.max && self.connecting() < self.config.max_connecting;
        if missing == 0 || !room {
            return Ok(());
        }
        self.evidence.saw(Guarantee::MinRestored);
        ensure!(self.is_held_back(), MinRestored, "{missing} are missing and nothing is done");
        self.is_tried_again(deadline, Guarantee::MinRestored)
    }

    /// Whether a failure may keep the next connect waiting.
    fn is_held_back(&self) -> bool {
        (self.sound() == 0 && self.cause) || self.hosts.iter().all(|host| host.standing != Standing::Good)
    }

    /// A connect is in flight, or the next one is due within the longest delay.
    fn is_tried_again(&mut self, deadline: Instant, guarantee: Guarantee) -> Verdict {
        let latest = self.hosts.iter().map(|host| host.not_after(&self.config)).max().unwrap_or_default();
        let latest = latest.max(self.now + self.config.backoff_max.mul_f64(1.101));
        if self.connecting() == 0 && deadline > latest {
            let what = format!("the next connect is not due before {deadline:?}, later than {latest:?}");
            return Err(super::super::guarantee::Broken { guarantee, what });
        }
        Ok(())
    }

    /// Sound: what is in doubt is asked, a few at a time.
    fn is_doubt_asked(&mut self) -> Verdict {
        if self.count(|is| matches!(is, Is::Checking { .. })) >= self.config.max_connecting {
            return Ok(());
        }
        let left = |conn: &&Conn| conn.is == Is::Idle && !conn.sound && !self.is_perhaps_worn(conn);
        let left = self.conns.iter().find(left);
        ensure!(left.is_none(), Sound, "{left:?} is in doubt, and nobody asks");
        Ok(())
    }

    fn is_surplus_gone(&mut self) -> Verdict {
        let renewing = self.conns.iter().filter(|conn| self.is_perhaps_renewing(conn)).count() as u32;
        let limit = self.config.max_idle_time;
        if self.open() > self.min + renewing && !limit.is_zero() {
            let unused = |conn: &&Conn| conn.is == Is::Idle && conn.idle_since + limit <= self.now;
            let unused = self.conns.iter().find(unused);
            ensure!(unused.is_none(), MinRestored, "{unused:?} is a surplus and stays");
        }
        let busy = self.count(|is| matches!(is, Is::Closing { .. })) >= self.config.max_connecting;
        let waits = self.waits_for_replacement(|host| !matches!(host.standing, Standing::Bad(_)));
        if !waits && !busy {
            let worn = |conn: &&Conn| conn.is == Is::Idle && self.is_certainly_worn(conn);
            let worn = self.conns.iter().find(worn);
            ensure!(worn.is_none(), Fresh, "{worn:?} should be retired and stays");
        }
        Ok(())
    }

    /// Fast truth: an outage is said to be one, and nobody waits for it longer than outage_grace.
    fn is_outage_told(&mut self) -> Verdict {
        let grace = self.config.outage_grace;
        if let Some(since) = self.down {
            let kept = self.line.iter().find(|waiter| waiter.arrival.max(since) + grace <= self.now);
            ensure!(kept.is_none(), FastTruth, "{kept:?} still waits for a database that is down");
            let hopeless = |host: &Host| host.standing == Standing::Bad(FaultClass::Permanent);
            let is_hopeless = self.hosts.iter().all(hopeless);
            ensure!(!is_hopeless || self.line.is_empty(), FastTruth, "{:?} wait without hope", self.line);
        }
        let full = |host: &Host| matches!(host.standing, Standing::Bad(FaultClass::Capacity) | Standing::Unclear);
        let wanted = self.min > 0 || !self.line.is_empty();
        let dry = self.sound() == 0 && self.cause && wanted && !self.is_strict_start();
        if !dry || self.maybe_down || self.hosts.iter().any(full) {
            self.dry_since = None;
            return Ok(());
        }
        let since = *self.dry_since.get_or_insert(self.now);
        ensure!(self.now - since < grace || grace.is_zero(), FastTruth, "dry since {since:?} and not said to be down");
        let bad = |host: &Host| matches!(host.standing, Standing::Bad(_));
        let undecided = self.count(|is| matches!(is, Is::Idle | Is::Checking { .. } | Is::Resetting { .. }));
        let is_down = self.hosts.iter().all(bad) && undecided == 0;
        ensure!(!is_down, FastTruth, "every host failed, nothing is open, and it is not said to be down");
        Ok(())
    }

    pub(super) fn are_numbers_true(&mut self, machine: &Machine) -> Verdict {
        self.evidence.saw(Guarantee::TrueNumbers);
        let counts = machine.counts();
        let totals = machine.stats(self.now).totals;
        let tally = self.tally;
        let is = |pick: fn(&Is) -> bool| u64::from(self.count(pick));
        for (what, said, really) in [
            ("total", counts.total.into(), self.total().into()),
            ("idle", counts.idle.into(), is(|is| *is == Is::Idle)),
            ("active", counts.active.into(), is(|is| matches!(is, Is::Lent(_)))),
            ("connecting", counts.connecting.into(), is(|is| matches!(is, Is::Connecting { .. }))),
            ("validating", counts.validating.into(), is(|is| matches!(is, Is::Checking { .. }))),
            ("resetting", counts.resetting.into(), is(|is| matches!(is, Is::Resetting { .. }))),
            ("closing", counts.closing.into(), is(|is| matches!(is, Is::Closing { .. }))),
            ("waiting", counts.waiting.into(), self.line.len() as u64),
            ("min", counts.min.into(), self.min.into()),
            ("max", counts.max.into(), self.max.into()),
            ("acquisitions", totals.acquisitions, tally.acquisitions),
            ("waits recorded", totals.wait.count(), tally.grants),
            ("releases", totals.releases, tally.releases),
            ("usages recorded", totals.usage.count(), tally.releases),
            ("cancelled", totals.cancelled, tally.cancelled),
            ("timeouts", totals.timeouts, tally.timeouts),
            ("rejected", totals.rejected, tally.rejected),
            ("opened", totals.opened, tally.opened),
            ("connects", totals.connects, tally.connects),
            ("validations", totals.validations, tally.validations),
            ("leaks_suspected", totals.leaks_suspected, tally.leaks_suspected),
            ("queries", totals.queries, tally.queries),
            ("closed", totals.closed.total(), tally.closed),
            ("connect_failures", totals.connect_failures.total(), tally.connect_failures),
        ] {
            ensure!(said == really, TrueNumbers, "{what} is {really}, not {said}");
        }
        let first = machine.waiting_since();
        let really = self.line.first().map(|waiter| waiter.arrival);
        ensure!(first == really, TrueNumbers, "the first in line waits since {really:?}, not {first:?}");
        Ok(())
    }

    /// Busy is not sick: unhealthy means that no connection can be had, and trouble that never was is not seen.
    pub(super) fn is_health_true(&mut self, machine: &Machine) -> Verdict {
        let health = machine.health(self.now);
        let leaks = self.count(|is| matches!(is, Is::Lent(lease) if lease.reports > 0));
        ensure!(health.leak_count == leaks, TrueNumbers, "{leaks} leaks, not {}", health.leak_count);
        ensure!(health.state == self.state, TrueNumbers, "the state is {:?}, not {:?}", self.state, health.state);
        if !self.is_open() {
            ensure!(health.status == Status::Unhealthy, BusyIsNotSick, "an end that is {:?}", health.status);
        } else if self.down.is_some() {
            ensure!(health.status == Status::Unhealthy, FastTruth, "down and {:?}", health.status);
            ensure!(health.outage.is_some(), FastTruth, "down, and nobody is told why");
        } else if self.phase == Phase::Running {
            if leaks > 0 || self.paused {
                ensure!(health.status != Status::Healthy, BusyIsNotSick, "healthy, paused or leaking");
            }
            let good = self.hosts.iter().any(|host| host.standing == Standing::Good);
            if self.sound() > 0 && good {
                ensure!(health.status != Status::Unhealthy, BusyIsNotSick, "sick: {:?}", health.reasons);
            }
            if !self.troubled && !self.paused {
                self.evidence.saw(Guarantee::BusyIsNotSick);
                ensure!(health.status == Status::Healthy, BusyIsNotSick, "busy, and {:?}", health.reasons);
                ensure!(self.state == State::Healthy, BusyIsNotSick, "busy, and {:?}", self.state);
            }
        }
        Ok(())
    }
}
