//! What may be tried against a server that does not answer.

use std::time::Duration;

use pgweir_core::config::PoolConfig;
use pgweir_core::pool::FaultClass;
use pgweir_core::time::Instant;

use super::{Verdict, ensure};

/// The server, as its answers to connects show it.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// The last failure that no success has answered.
    fault: Option<Failure>,
    /// When a young connection last died.
    young_lost: Option<Instant>,
}

#[derive(Debug)]
struct Failure {
    /// When: of a batch that started together, the first counts.
    at: Instant,
    class: FaultClass,
}

/// A connection that dies younger than this may count as a failed connect.
const YOUNG: Duration = Duration::from_secs(60);

impl Link {
    pub(super) fn succeeded(&mut self) {
        self.fault = None;
    }

    /// A connect that started then failed; without a class it took too long.
    pub(super) fn failed(&mut self, now: Instant, started: Instant, class: Option<FaultClass>) {
        let class = class.unwrap_or(FaultClass::Transient);
        let at = match &self.fault {
            Some(failure) if started < failure.at => failure.at,
            Some(_) => now,
            None => self.young_lost.filter(|lost| started < *lost).unwrap_or(now),
        };
        self.fault = Some(Failure { at, class });
    }

    /// A connection died.
    pub(super) fn lost(&mut self, now: Instant, opened: Instant) {
        if now - opened < YOUNG {
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
        let Some(Failure { at, class }) = &self.fault else { return Ok(()) };
        let other = in_flight.find(|since| since > at);
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
            now - *at >= soonest,
            "Quiet outage, prompt recovery",
            "a connect {:?} after a failure ({class:?}) that asks for {soonest:?}",
            now - *at
        );
        Ok(())
    }
}
