//! What the pool says of its health, against what there is.

use std::time::Duration;

use pgweir_core::pool::{FaultClass, Health, Reason, State, Status};
use pgweir_core::time::Instant;

use super::link::{Link, longest};
use super::{Oracle, Phase, Verdict, ensure};

/// How long a fault or a slow acquire is remembered.
const MEMORY: Duration = Duration::from_secs(60);

impl Oracle {
    /// Busy is not sick, and sick is not well.
    pub(crate) fn is_well_said(&self, now: Instant, health: &Health) -> Verdict {
        let (status, state) = (health.status, health.state);
        ensure!(state == self.state, "Busy is not sick", "health has {state:?}, and {:?} was announced", self.state);
        let reasons = health.reasons.is_empty() == (status == Status::Healthy);
        ensure!(reasons, "Busy is not sick", "{status:?} for these reasons: {:?}", health.reasons);
        // How many acquires were slow is a ratio, and is looked at again with the next thing that happens.
        let recent = |at: Option<Instant>, memory: Duration| at.is_some_and(|at| now - at <= memory);
        let slow = recent(self.seen.slow_at, MEMORY + self.late);
        ensure!(slow || agree(status, state), "Busy is not sick", "{status:?} in state {state:?}");
        ensure!(
            health.leak_count == self.suspects,
            "True numbers",
            "{} leases are suspected, and health says {}",
            self.suspects,
            health.leak_count
        );
        if self.phase != Phase::Open || self.seen.init_failed {
            let over = status == Status::Unhealthy || self.phase == Phase::New;
            ensure!(over, "Busy is not sick", "{status:?} in the phase {:?}", self.phase);
            return Ok(());
        }
        let down = health.reasons.iter().any(|reason| matches!(reason, Reason::Down { .. }));
        ensure!(!down || self.conns.sound() == 0, "Busy is not sick", "down, with {} connections", self.conns.sound());
        let full = self.links.iter().all(|link| link.latest() == Some(FaultClass::Capacity));
        let serves = full && self.conns.sound() > 0 && state != State::Initializing;
        ensure!(!serves || status != Status::Unhealthy, "Busy is not sick", "unhealthy because the server is full");
        if state == State::Initializing {
            return Ok(());
        }
        let worried = self.suspects > 0 || self.paused || recent(self.seen.fault_at, MEMORY - Duration::from_nanos(1));
        ensure!(!worried || status != Status::Healthy, "Busy is not sick", "healthy, with faults or leaks or paused");
        if status == Status::Healthy {
            return Ok(());
        }
        // Whatever went wrong longer ago was tried again since.
        let memory = MEMORY + longest(&self.config) + self.late;
        let calm = self.suspects == 0 && !self.paused && !slow && !recent(self.seen.trouble_at, memory);
        let calm = calm && !self.links.iter().all(Link::is_bad);
        ensure!(!calm, "Busy is not sick", "{status:?}: {:?}", health.reasons);
        Ok(())
    }
}

/// Whether a pool in `state` can have `status`.
pub(crate) fn agree(status: Status, state: State) -> bool {
    match state {
        State::Healthy => status == Status::Healthy,
        State::Degraded => status == Status::Degraded,
        State::Recovering | State::Initializing => status != Status::Healthy,
        State::Unhealthy | State::ShuttingDown | State::Terminated => status == Status::Unhealthy,
    }
}
