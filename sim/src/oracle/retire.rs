//! Why connections end, and what must be tried in their place.

use std::time::Duration;

use pgweir_core::pool::{CloseReason, ConnId, FaultClass, Reject};
use pgweir_core::time::Instant;

use super::conns::Is;
use super::line::Asker;
use super::link::{Link, longest};
use super::{Oracle, Phase, Verdict, ensure};

/// How long a check or a reset under way is as good as a connection to those who wait.
const COVER: Duration = Duration::from_millis(250);
/// Lifetimes are shortened by up to a tenth: none ends before this share.
const SHORTEST_LIFE: f64 = 0.899;

impl Oracle {
    /// A connection is closed for a reason that there is. The pool owns its connects: nobody's going aborts one.
    pub(super) fn may_close(&self, now: Instant, id: ConnId, reason: CloseReason) -> Verdict {
        let Some(conn) = self.conns.get(id) else { return Ok(()) };
        let ends = matches!(self.phase, Phase::Ending { .. }) || self.seen.init_failed;
        let surplus = self.conns.open() + self.conns.connecting() > self.max_size;
        if let Is::Connecting { deadline, .. } = conn.is {
            let due = ends || surplus || now >= deadline;
            ensure!(due, "The pool owns connects", "the connect of {id} is given up before {deadline:?} ({reason:?})");
        }
        let lifetime = self.config.max_connection_lifetime();
        let (age, unused) = (now - conn.opened, now - conn.idle_since);
        let is_so = match reason {
            CloseReason::IdleTimeout => self.conns.open() > self.min_size && unused >= self.config.max_idle_time(),
            CloseReason::Lifetime => !lifetime.is_zero() && age >= lifetime.mul_f64(SHORTEST_LIFE),
            CloseReason::QueryLimit => self.has_served_enough(conn),
            CloseReason::Recycle => conn.recycle != self.conns.recycle,
            CloseReason::Shrink => surplus,
            CloseReason::Shutdown => ends,
            CloseReason::Unwanted => false,
            _ => conn.is == Is::Dead,
        };
        ensure!(is_so, "Fresh", "{id} is closed for {reason:?}, which is not so: it is {:?}", conn.is);
        match reason {
            CloseReason::Lifetime | CloseReason::Recycle | CloseReason::QueryLimit => self.may_replace(id),
            _ => Ok(()),
        }
    }

    /// Where it can be had the replacement comes first, and what was idle is replaced a few at a time.
    fn may_replace(&self, id: ConnId) -> Verdict {
        let (closing, most) = (self.conns.closing(), self.config.max_connecting());
        let in_turn = closing < most || self.step.returned == Some(id);
        ensure!(in_turn, "Fresh", "{id} is retired while {closing} others are closing, {most} at most");
        let coming = self.conns.connecting() > 0 || self.conns.total() < self.max_size;
        let reachable = self.links.iter().any(Link::is_surely_good);
        let early = self.conns.open() <= self.min_size && coming && reachable;
        ensure!(!early, "Fresh", "{id} is retired before its replacement is there");
        Ok(())
    }

    /// Attempts never stop: where a connection is missing or waited for, one is opened, at the latest when the schedule's
    /// longest delay has passed.
    pub(super) fn goes_on_trying(&mut self, now: Instant) -> Verdict {
        let conns = &self.conns;
        // Who waits may hope for a check or a reset, but for no longer than this.
        let covered = conns.validating() + conns.resetting() > 0 && !conns.is_kept_waiting(now, COVER + self.late);
        let waits = self.line.live() > 0 && !self.paused && !covered;
        let needed = self.phase == Phase::Open
            && !self.seen.init_failed
            && conns.connecting() == 0
            && conns.total() < self.max_size
            && (conns.open() < self.min_size || waits);
        if !needed {
            self.needed_since = None;
            return Ok(());
        }
        let since = *self.needed_since.get_or_insert(now);
        let good = self.links.iter().any(Link::is_surely_good);
        let patience = if good { Duration::ZERO } else { longest(&self.config) + self.late + Duration::from_millis(1) };
        ensure!(
            now - since < patience || (now == since && !good),
            "Min restored",
            "a connection is needed since {since:?} and none is opened: {} open, min_size {}, {} wait",
            self.conns.open(),
            self.min_size,
            self.line.live()
        );
        Ok(())
    }

    /// A fault that does not pass by itself is told at once.
    pub(super) fn is_not_kept_in_the_dark(&self) -> Verdict {
        let undecided = self.conns.idle() + self.conns.validating() + self.conns.resetting();
        let hopeless = self.links.iter().all(|link| link.latest() == Some(FaultClass::Permanent));
        let told = !hopeless || self.conns.sound() > 0 || undecided > 0 || self.phase != Phase::Open;
        ensure!(told, "Fast truth", "{} wait for a server that will not have them", self.line.live());
        Ok(())
    }

    /// What a refused acquire is told along with it.
    pub(super) fn is_well_reported(&self, now: Instant, asker: &Asker, reason: &Reject) -> Verdict {
        let waited = now - asker.arrival;
        match reason {
            Reject::Timeout(report) => {
                ensure!(report.waited == waited, "True numbers", "waited {waited:?}, told {:?}", report.waited);
                let sorted = report.holders.is_sorted_by_key(|holder| holder.since);
                let most = report.holders.len() == (self.conns.lent() as usize).min(5);
                ensure!(sorted && most, "True numbers", "a timeout names {:?} as holders", report.holders);
                for holder in &report.holders {
                    let is = self.conns.is(holder.conn);
                    let holds = matches!(is, Is::Lent(lease) if lease.since == holder.since);
                    ensure!(holds, "True numbers", "{holder:?} is said to hold a connection that is {is:?}");
                }
            }
            Reject::Unavailable(report) => {
                ensure!(report.waited == waited, "True numbers", "waited {waited:?}, told {:?}", report.waited);
                let patience = asker.arrival.max(report.since) + self.config.outage_grace();
                let hopeless = self.links.iter().all(|link| link.latest() == Some(FaultClass::Permanent));
                let over = now >= patience || now >= asker.deadline || hopeless || self.seen.init_failed;
                ensure!(over, "Fast truth", "{:?} is told of an outage before {patience:?}", asker.id);
                let next = report.next_attempt.is_none_or(|next| next >= now);
                ensure!(next, "Fast truth", "the next attempt is said to be due at {:?}", report.next_attempt);
                let trying = report.next_attempt.is_some() || self.conns.connecting() > 0 || self.seen.init_failed;
                ensure!(trying, "Fast truth", "no attempt is announced and none is under way");
            }
            Reject::WouldBlock | Reject::QueueFull { .. } | Reject::Closed => {}
        }
        Ok(())
    }
}
