//! The checks that need the whole picture: what may be lent, what is wanted, who is stranded, what is late.

use pgweir_core::config::ValidationPolicy;
use pgweir_core::pool::{ConnId, Counts, State};
use pgweir_core::time::Instant;

use super::conns::{Conn, Is};
use super::link::Link;
use super::{Oracle, Phase, Verdict, Violation, ensure};

/// Lifetimes are shortened by up to a tenth, so a connection is certainly good before this share of its lifetime.
const CERTAIN_LIFE: f64 = 0.899;
/// And from this share on a replacement may be sought.
const RENEWAL: f64 = 0.849;

impl Oracle {
    /// Fresh and Sound: what is lent has been proved as the policy asks, after the last doubt, and is not worn out.
    pub(super) fn is_lendable(&self, now: Instant, id: ConnId) -> Verdict {
        let Some(conn) = self.conns.get(id) else {
            ensure!(false, "One holder", "{id} is lent and does not exist");
            return Ok(());
        };
        match conn.is {
            Is::Idle => {}
            Is::Lent(lease) => ensure!(false, "One holder", "{id} is lent and {:?} has it", lease.waiter),
            Is::Returned | Is::Resetting { .. } => ensure!(false, "Sound", "{id} is lent and was not reset"),
            is => ensure!(false, "Sound", "{id} is lent and is {is:?}"),
        }
        ensure!(
            conn.suspicion == self.conns.suspicion,
            "Sound",
            "{id} is lent and was not proved since a sibling died"
        );
        ensure!(conn.recycle == self.conns.recycle, "Fresh", "{id} is lent and was to be recycled");
        let lifetime = self.config.max_connection_lifetime();
        let age = now - conn.opened;
        ensure!(lifetime.is_zero() || age < lifetime, "Fresh", "{id} is lent at the age of {age:?}");
        ensure!(!self.has_served_enough(conn), "Fresh", "{id} is lent after {} queries", conn.queries);
        ensure!(self.is_proved(now, conn), "Sound", "{id} is lent and was last proved at {:?}", conn.proved);
        Ok(())
    }

    fn is_proved(&self, now: Instant, conn: &Conn) -> bool {
        let recent = |at: Instant| now - at <= self.config.validation_interval();
        match self.config.validation() {
            ValidationPolicy::Interval => recent(conn.idle_since.max(conn.proved)),
            ValidationPolicy::Always => !conn.used && recent(conn.proved),
            ValidationPolicy::Suspect => true,
        }
    }

    /// Whether it has served max_queries: it stays at most until its replacement is there.
    pub(super) fn has_served_enough(&self, conn: &Conn) -> bool {
        let limit = self.config.max_queries();
        limit > 0 && conn.queries >= limit
    }

    /// No over-creation: somebody must need a connect.
    pub(super) fn is_wanted(&self, now: Instant, id: ConnId) -> Verdict {
        let connecting = self.conns.connecting();
        let renewal = self.config.max_connection_lifetime().mul_f64(RENEWAL);
        let aged = |conn: &Conn| !renewal.is_zero() && now - conn.opened >= renewal;
        let worn = |conn: &Conn| conn.recycle != self.conns.recycle || self.has_served_enough(conn) || aged(conn);
        let is_worn = |(_, conn): &(ConnId, &Conn)| conn.is == Is::Idle && worn(conn);
        let lasting = || self.conns.open() - self.conns.iter().filter(is_worn).count() as u32;
        let waiting = if self.paused { 0 } else { self.line.live() + u32::from(self.step.nudge) };
        // Of several hosts one that nothing speaks against yet is tried as soon as another has failed.
        let trouble = self.down || self.links.iter().any(Link::is_bad);
        let down = self.conns.sound() == 0 && trouble;
        let wanted = waiting > connecting || (down && connecting == 0) || lasting() + connecting < self.min_size;
        ensure!(
            wanted,
            "The pool owns connects",
            "{id} is opened: {waiting} wait, {} open, {connecting} connecting, min_size {}",
            self.conns.open(),
            self.min_size
        );
        Ok(())
    }

    /// Sound: what is in doubt is asked, a few at a time, though nobody wants it.
    pub(super) fn asks_the_doubtful(&self, now: Instant) -> Verdict {
        let conns = &self.conns;
        let busy = conns.validating() >= self.config.max_connecting();
        if self.phase != Phase::Open || self.seen.init_failed || busy || conns.sound() == conns.open() {
            return Ok(());
        }
        let life = self.config.max_connection_lifetime().mul_f64(CERTAIN_LIFE);
        let is_asked = |conn: &Conn| {
            let worn = conn.recycle != conns.recycle || (!life.is_zero() && now - conn.opened >= life);
            conn.is != Is::Idle || conn.suspicion == conns.suspicion || worn || self.has_served_enough(conn)
        };
        let left = conns.iter().find(|(_, conn)| !is_asked(conn));
        ensure!(left.is_none(), "Sound", "{left:?} is in doubt and is not asked");
        Ok(())
    }

    /// Fresh: what must not be lent any more is not kept for nothing. It is closed, or its replacement is on its way.
    pub(super) fn lets_go_of_the_worn(&mut self, now: Instant) -> Verdict {
        let (conns, lifetime) = (&self.conns, self.config.max_connection_lifetime());
        let seen_to = conns.connecting() + conns.closing() > 0;
        if seen_to || now < conns.worn_from || self.phase != Phase::Open || self.seen.init_failed {
            return Ok(());
        }
        let worn_from = |conn: &Conn| match lifetime {
            _ if conn.recycle != conns.recycle || self.has_served_enough(conn) => Instant::ZERO,
            lifetime if lifetime.is_zero() => Instant::MAX,
            lifetime => conn.opened + lifetime,
        };
        let left = conns.iter().find(|(_, conn)| conn.is == Is::Idle && worn_from(conn) <= now);
        ensure!(left.is_none(), "Fresh", "{left:?} is worn out, and is neither closed nor replaced");
        // One that is opened after this lives longer.
        let next = if lifetime.is_zero() { Instant::MAX } else { now + lifetime };
        let open = conns.iter().filter(|(_, conn)| conn.is != Is::Vacant);
        self.conns.worn_from = open.map(|(_, conn)| worn_from(conn)).min().unwrap_or(next).min(next);
        Ok(())
    }

    /// True numbers: the pool's counts are those of the connections and acquires that there are.
    pub(super) fn are_true(&self, counts: Counts) -> Verdict {
        let conns = &self.conns;
        for (what, said, true_number) in [
            ("total", counts.total, conns.total()),
            ("idle", counts.idle, conns.idle()),
            ("active", counts.active, conns.lent()),
            ("connecting", counts.connecting, conns.connecting()),
            ("validating", counts.validating, conns.validating()),
            ("resetting", counts.resetting, conns.resetting()),
            ("closing", counts.closing, conns.closing()),
            ("waiting", counts.waiting, self.line.live()),
            ("max", counts.max, self.max_size),
        ] {
            ensure!(said == true_number, "True numbers", "{what} is {true_number}, and the pool says {said}");
        }
        Ok(())
    }

    /// Nothing that must have happened by now is outstanding.
    pub(super) fn is_punctual(&mut self, now: Instant) -> Verdict {
        self.leaves_nothing_due_before(now.saturating_sub(self.late))
    }

    /// Nothing falls due before the pool is to be woken: that would be noticed only if something else happens, and a
    /// search in which time passes from one such moment to the next would not see it.
    pub(crate) fn wakes_in_time(&mut self, wakes: Option<Instant>) -> Verdict {
        let checked = self.leaves_nothing_due_before(wakes.unwrap_or(Instant::MAX));
        checked.map_err(|Violation { guarantee, detail }| {
            let when = wakes.map_or_else(|| "never".to_owned(), |at| format!("at {at:?}"));
            Violation { guarantee, detail: format!("{detail} (foreseen: the pool is woken {when})") }
        })
    }

    fn leaves_nothing_due_before(&mut self, due: Instant) -> Verdict {
        if let Some(asker) = self.line.overdue(due) {
            ensure!(false, "One answer", "{:?} has no answer at its deadline {:?}", asker.id, asker.deadline);
        }
        if let (Some(down_since), Some(first)) = (self.down_since, self.line.first()) {
            let patience = first.arrival.max(down_since) + self.config.outage_grace();
            ensure!(due <= patience, "Fast truth", "{:?} still waits for a database that is down", first.id);
        }
        if let Some((id, is)) = self.conns.overdue(due) {
            ensure!(false, "Bounded", "{id} is still {is:?}");
        }
        if let Some((id, lease)) = self.conns.unreported(due) {
            ensure!(false, "True numbers", "{id} is held since {:?} and no leak was reported", lease.since);
        }
        if let Phase::Ending { deadline, hard } = self.phase {
            ensure!(due <= hard, "Bounded end", "not terminated at {due:?}, {hard:?} was the end");
            ensure!(due <= deadline || self.conns.lent() == 0, "Bounded end", "a lease outlives {deadline:?}");
            ensure!(self.line.live() == 0, "Bounded end", "{} acquires wait for a pool that ends", self.line.live());
        }
        Ok(())
    }

    /// No stranding: who waits is not kept from a connection that could be lent, and somebody works on the rest.
    pub(super) fn is_not_stranded(&self, now: Instant) -> Verdict {
        if self.paused || self.phase != Phase::Open {
            return Ok(());
        }
        if self.conns.idle() > 0 {
            let life = self.config.max_connection_lifetime().mul_f64(CERTAIN_LIFE);
            let free = self
                .conns
                .iter()
                .find(|(id, conn)| (life.is_zero() || now - conn.opened < life) && self.is_lendable(now, *id).is_ok());
            ensure!(free.is_none(), "No stranding", "{} wait and {free:?} is free", self.line.live());
        }
        let busy = self.conns.lent() + self.conns.connecting() + self.conns.validating();
        let hope = busy + self.conns.resetting() + self.conns.closing();
        // Connects may be held back by the schedule, but only after a failure.
        let held_back = self.are_links_bad() || self.conns.sound() == 0;
        ensure!(hope > 0 || held_back, "No stranding", "{} wait and nothing is done", self.line.live());
        Ok(())
    }
}

/// Whether a pool goes from one state to the other. It recovers only from an outage, and an outage is unhealthy.
pub(crate) fn is_legal(from: State, to: State) -> bool {
    use State::{Degraded, Healthy, Initializing, Recovering, ShuttingDown, Terminated, Unhealthy};
    match from {
        Initializing => matches!(to, Healthy | Terminated | ShuttingDown),
        Healthy | Degraded => from != to && matches!(to, Healthy | Degraded | Unhealthy | ShuttingDown),
        Unhealthy | Recovering => {
            from != to && matches!(to, Healthy | Degraded | Unhealthy | Recovering | ShuttingDown)
        }
        ShuttingDown => to == Terminated,
        Terminated => false,
    }
}
