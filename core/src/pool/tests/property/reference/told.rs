//! What an event means, before the machine has said anything.

use std::time::Duration;

use crate::pool::{Check, CloseReason, ConnId, Event, Fate, FaultClass, ResetHow, WaiterId};
use crate::time::Instant;

use super::{Is, Lease, Phase, Reference, Verdict, Waiter, ensure};
use crate::config::ValidationPolicy;

/// A shutdown outlasts its deadline by this much at most.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

impl Reference {
    pub(super) fn tell(&mut self, event: &Event) -> Verdict {
        for conn in &mut self.conns {
            conn.rested = conn.is == Is::Idle;
        }
        if let Event::Cancel { waiter } = event {
            self.cancelled(*waiter);
        }
        self.expire();
        match event {
            Event::Start { lazy } if self.phase == Phase::New => self.phase = Phase::Starting { lazy: *lazy },
            Event::Acquire { waiter, deadline, leak_after, .. } => {
                let leak_after = self.leak_limit(*leak_after);
                self.joins(Waiter { id: *waiter, arrival: self.now, deadline: *deadline, leak_after })?;
            }
            Event::Release { conn, fate, queries, .. } => self.released(*conn, *fate, *queries),
            Event::CheckFailed { conn, .. } => self.check_failed(*conn)?,
            Event::Connected { conn, .. } => self.connected(*conn),
            Event::ConnectFailed { conn, fault } => self.connect_failed(*conn, fault.class),
            Event::Validated { conn } => self.validated(*conn),
            Event::ValidationFailed { conn, .. } if self.is_in(*conn, |is| matches!(is, Is::Checking { .. })) => {
                self.dies(*conn, CloseReason::ValidationFailed);
            }
            Event::Lost { conn, .. } if self.is_in(*conn, |is| matches!(is, Is::Idle | Is::Checking { .. })) => {
                self.dies(*conn, CloseReason::Broken);
            }
            Event::Reset { conn } => self.was_reset(*conn),
            Event::ResetFailed { conn, fault } => self.reset_failed(*conn, fault.class),
            Event::Closed { conn } if self.is_in(*conn, |is| matches!(is, Is::Closing { .. })) => self.vacate(*conn),
            Event::Shutdown { deadline } => self.shut_down(*deadline),
            event if self.is_open() => self.ordered(event),
            _ => {}
        }
        Ok(())
    }

    /// Orders that a pool which ends does not take any more.
    fn ordered(&mut self, event: &Event) {
        match event {
            Event::Pause => self.paused = true,
            Event::Resume => self.paused = false,
            Event::Recycle => self.conns.iter_mut().for_each(|conn| conn.doomed = true),
            Event::Resize { min_size, max_size } => {
                let max = (*max_size).max(1);
                let min = (*min_size).min(max);
                if (min, max) != (self.min, self.max) {
                    (self.min, self.max) = (min, max);
                    self.allowed = self.total().max(max);
                }
            }
            _ => {}
        }
    }

    fn is_in(&self, id: ConnId, pick: impl Fn(&Is) -> bool) -> bool {
        self.conns.iter().any(|conn| conn.id == id && pick(&conn.is))
    }

    /// Everything whose time has come.
    fn expire(&mut self) {
        let due: Vec<(ConnId, Is)> = self.conns.iter().map(|conn| (conn.id, conn.is)).collect();
        for (id, is) in due {
            match is {
                Is::Connecting { deadline } if deadline <= self.now => self.connect_late(id),
                Is::Checking { deadline, .. } if deadline <= self.now => self.dies(id, CloseReason::ValidationFailed),
                Is::Resetting { deadline, .. } if deadline <= self.now => {
                    self.reset_failed(id, FaultClass::Transient);
                }
                Is::Closing { deadline } if deadline <= self.now => self.vacate(id),
                _ => {}
            }
        }
    }

    /// A connection is dead. If it was in good standing, its siblings are in doubt.
    fn dies(&mut self, id: ConnId, reason: CloseReason) {
        let now = self.now;
        (self.troubled, self.cause) = (true, true);
        let Some(conn) = self.find(id) else { return };
        let was_sound = conn.sound;
        let (host, opened) = (conn.host, conn.opened);
        conn.is = Is::Condemned(if was_sound { reason } else { CloseReason::Suspect });
        if was_sound {
            self.doubt();
        }
        if now - opened < self.config.backoff_initial {
            self.hosts[host].lost_young(now);
        }
    }

    fn doubt(&mut self) {
        for conn in &mut self.conns {
            conn.sound = false;
            if let Is::Checking { doubted, .. } | Is::Resetting { doubted, .. } = &mut conn.is {
                *doubted = true;
            }
        }
    }

    fn vacate(&mut self, id: ConnId) {
        self.conns.retain(|conn| conn.id != id);
        self.hosts.iter_mut().for_each(super::Host::relax_if_full);
    }

    fn joins(&mut self, waiter: Waiter) -> Verdict {
        let place = self.line.partition_point(|other| other.id < waiter.id);
        let is_new = self.line.get(place).is_none_or(|other| other.id != waiter.id);
        ensure!(is_new, OneAnswer, "{:?} waits twice", waiter.id);
        self.line.insert(place, waiter);
        Ok(())
    }

    fn cancelled(&mut self, id: WaiterId) {
        let before = self.line.len();
        self.line.retain(|waiter| waiter.id != id);
        self.tally.cancelled += (before - self.line.len()) as u64;
    }

    fn leak_limit(&self, wish: Option<Duration>) -> Duration {
        let limit = wish.unwrap_or(self.config.leak_detection_timeout);
        if self.config.enable_leak_detection && !limit.is_zero() { limit } else { Duration::MAX }
    }

    fn released(&mut self, id: ConnId, fate: Fate, queries: u64) {
        let (now, resets, policy) = (self.now, self.config.reset_on_release, self.config.validation);
        let Some(conn) = self.find(id) else { return };
        let Is::Lent(lease) = conn.is else { return };
        conn.is = Is::Idle;
        if fate != Fate::Unused {
            conn.queries += queries;
            conn.used = true;
            // Under this policy the idle clock runs from after the last check.
            let least = if policy == ValidationPolicy::Always { conn.proved + Duration::from_nanos(1) } else { now };
            conn.idle_since = now.max(least);
        }
        match fate {
            Fate::Clean if resets => conn.is = Is::Returned(ResetHow::Policy),
            Fate::Dirty => conn.is = Is::Returned(ResetHow::Drain),
            Fate::Discarded => conn.is = Is::Condemned(CloseReason::Discarded),
            Fate::Broken => self.dies(id, CloseReason::Broken),
            Fate::Clean | Fate::Unused => {}
        }
        self.lease_ends(id, &lease);
        if fate == Fate::Unused {
            self.tally.acquisitions -= 1;
            self.tally.cancelled += 1;
        } else {
            self.tally.releases += 1;
            self.tally.queries += queries;
        }
    }

    fn lease_ends(&mut self, id: ConnId, lease: &Lease) {
        if lease.reports > 0 {
            self.resolved.push(id);
        }
    }

    fn check_failed(&mut self, id: ConnId) -> Verdict {
        let Some(Is::Lent(lease)) = self.find(id).map(|conn| conn.is) else { return Ok(()) };
        self.lease_ends(id, &lease);
        self.tally.acquisitions -= 1;
        self.dies(id, CloseReason::ValidationFailed);
        self.joins(lease.waiter)
    }

    fn connected(&mut self, id: ConnId) {
        let now = self.now;
        let Some(conn) = self.find(id) else { return };
        let Is::Connecting { .. } = conn.is else { return };
        conn.is = Is::Idle;
        (conn.opened, conn.proved, conn.idle_since) = (now, now, now);
        conn.sound = true;
        let (host, begun) = (conn.host, conn.begun);
        self.hosts[host].succeeded(begun);
        self.tally.opened += 1;
    }

    fn connect_failed(&mut self, id: ConnId, class: FaultClass) {
        let Some(place) = self.conns.iter().position(|conn| conn.id == id) else { return };
        if let Is::Connecting { .. } = self.conns[place].is {
            let conn = self.conns.remove(place);
            self.host_failed(conn.host, conn.begun, class);
        }
    }

    fn connect_late(&mut self, id: ConnId) {
        let Some(conn) = self.find(id) else { return };
        conn.is = Is::Condemned(CloseReason::ConnectTimeout);
        let (host, begun) = (conn.host, conn.begun);
        self.host_failed(host, begun, FaultClass::Transient);
    }

    fn host_failed(&mut self, host: usize, begun: Instant, class: FaultClass) {
        (self.troubled, self.cause) = (true, true);
        self.tally.connect_failures += 1;
        let alone = self.open() == 0 || self.is_strict_start();
        self.hosts[host].failed(self.now, begun, class, alone);
    }

    fn validated(&mut self, id: ConnId) {
        let now = self.now;
        let Some(conn) = self.find(id) else { return };
        let Is::Checking { how, doubted, .. } = conn.is else { return };
        conn.is = Is::Idle;
        if how == Check::RoundTrip {
            conn.proved = now.max(conn.idle_since);
            conn.used = false;
            conn.sound = !doubted;
            self.tally.validations += 1;
            self.hosts.iter_mut().for_each(super::Host::relax);
        }
    }

    fn was_reset(&mut self, id: ConnId) {
        let now = self.now;
        let Some(conn) = self.find(id) else { return };
        let Is::Resetting { doubted, .. } = conn.is else { return };
        conn.is = Is::Idle;
        (conn.proved, conn.idle_since) = (now, now);
        conn.used = false;
        conn.sound = !doubted;
        self.hosts.iter_mut().for_each(super::Host::relax);
    }

    fn reset_failed(&mut self, id: ConnId, class: FaultClass) {
        let Some(conn) = self.find(id) else { return };
        let Is::Resetting { .. } = conn.is else { return };
        conn.is = Is::Condemned(CloseReason::ResetFailed);
        self.troubled = true;
        if class == FaultClass::WrongRole {
            self.cause = true;
            self.doubt();
        }
    }

    pub(super) fn shut_down(&mut self, deadline: Instant) {
        let hard = deadline.max(self.now) + self.config.close_timeout.min(SHUTDOWN_GRACE);
        self.phase = match self.phase {
            Phase::Over => Phase::Over,
            Phase::Ending { deadline: old, hard: old_hard } => {
                Phase::Ending { deadline: old.min(deadline), hard: old_hard.min(hard) }
            }
            _ => Phase::Ending { deadline, hard },
        };
        (self.down, self.maybe_down) = (None, false);
    }
}
