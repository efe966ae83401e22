//! What may be tried against a server that does not answer.

use pgweir_core::config::PoolConfig;
use pgweir_core::pool::FaultClass;
use pgweir_core::time::Instant;

use super::{Verdict, ensure};

/// The server, as its answers to connects show it.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// The last failure that no success has answered.
    fault: Option<Failure>,
    /// When a young connection died, the first of a series: the schedule may have begun then.
    young_lost: Option<Instant>,
}

#[derive(Debug)]
struct Failure {
    /// When: of a batch that started together, the first counts.
    at: Instant,
    /// Since when the schedule may have been running.
    since: Instant,
    class: FaultClass,
}

impl Link {
    pub(super) fn succeeded(&mut self) {
        self.fault = None;
    }

    /// A connect that started then failed; without a class it took too long.
    pub(super) fn failed(&mut self, now: Instant, started: Instant, class: Option<FaultClass>, config: &PoolConfig) {
        let longest = config.backoff_max().mul_f64(1.0 + config.backoff_jitter());
        let class = class.unwrap_or(FaultClass::Transient);
        self.fault = Some(match self.fault.take() {
            // The schedule is set; but a full server may be asked again whenever there is room.
            Some(failure) if started <= failure.at && class != FaultClass::Capacity => failure,
            Some(failure) if started <= failure.at => Failure { class, ..failure },
            Some(_) => Failure { at: now, since: now, class },
            None => match self.young_lost.filter(|lost| now - *lost <= longest && class != FaultClass::Capacity) {
                Some(since) => Failure { at: now, since, class: FaultClass::Transient },
                None => Failure { at: now, since: now, class },
            },
        });
    }

    /// A connection died. If it was young, the pool may count that as a failed connect.
    pub(super) fn lost(&mut self, now: Instant, opened: Instant, config: &PoolConfig) {
        let is_series = |lost: Instant| now - lost <= config.backoff_max();
        if now - opened < config.backoff_initial() && !self.young_lost.is_some_and(is_series) {
            self.young_lost = Some(now);
        }
    }

    pub(super) fn is_bad(&self) -> bool {
        self.fault.is_some()
    }

    /// While the server is down, connects come one at a time and not sooner than the schedule or demand allow.
    pub(super) fn may_start(
        &self,
        now: Instant,
        mut in_flight: impl Iterator<Item = Instant>,
        config: &PoolConfig,
    ) -> Verdict {
        let Some(Failure { at, since, class }) = &self.fault else { return Ok(()) };
        let other = in_flight.find(|started| started > at);
        ensure!(other.is_none(), "Quiet outage, prompt recovery", "a second connect since the failure at {at:?}");
        let demand = config.demand_probe_interval();
        let soonest = match class {
            // A connection of ours that goes makes room at once.
            FaultClass::Capacity => return Ok(()),
            FaultClass::Permanent => config.backoff_max(),
            _ if demand.is_zero() => config.backoff_initial(),
            _ => config.backoff_initial().min(demand),
        };
        let soonest = soonest.mul_f64((1.0 - config.backoff_jitter()) * 0.999);
        ensure!(
            now - *since >= soonest,
            "Quiet outage, prompt recovery",
            "a connect {:?} after a failure ({class:?}) that asks for {soonest:?}",
            now - *since
        );
        Ok(())
    }
}
