//! What may be tried against a server that does not answer.

use std::time::Duration;

use pgweir_core::config::PoolConfig;
use pgweir_core::pool::FaultClass;
use pgweir_core::time::Instant;

use super::{Verdict, ensure};

/// The server, as its answers to connects show it.
#[derive(Clone, Debug, Default)]
pub(super) struct Link {
    /// The last failure that no success has answered.
    fault: Option<Failure>,
    /// When young connections died lately: the schedule may have begun with any of them.
    young_lost: Vec<Instant>,
    /// A refusal that successes of connects from before it may or may not have answered.
    doubt: Option<Failure>,
}

#[derive(Clone, Debug)]
struct Failure {
    /// When: of a batch that started together, the first counts.
    at: Instant,
    /// Since when the schedule may have been running.
    since: Instant,
    class: FaultClass,
    /// Of the last of the batch.
    latest: FaultClass,
}

/// The longest delay between two attempts.
pub(super) fn longest(config: &PoolConfig) -> Duration {
    config.backoff_max().mul_f64(1.0 + config.backoff_jitter())
}

impl Link {
    /// A connect that started then succeeded. If the server said that it is full after that, it may have taken the last
    /// place.
    pub(super) fn succeeded(&mut self, started: Instant) {
        self.young_lost.retain(|lost| *lost >= started);
        let failure = self.fault.take().or(self.doubt.take());
        self.doubt = failure.filter(|failure| failure.class == FaultClass::Capacity && started <= failure.at);
    }

    /// What the last failure was, if no success has answered it.
    pub(super) fn latest(&self) -> Option<FaultClass> {
        self.fault.as_ref().map(|failure| failure.latest)
    }

    /// Whether nothing speaks against it, by any reading. A young connection's death does until a later connect succeeds:
    /// there may be none for long, where another host is good.
    pub(super) fn is_surely_good(&self) -> bool {
        self.fault.is_none() && self.doubt.is_none() && self.young_lost.is_empty()
    }

    /// A connect that started then failed; without a class it took too long.
    pub(super) fn failed(&mut self, now: Instant, started: Instant, class: Option<FaultClass>, config: &PoolConfig) {
        let longest = longest(config);
        let class = class.unwrap_or(FaultClass::Transient);
        let failure = |since, class| Failure { at: now, since, class, latest: class };
        let batch = |failure: &Failure| started <= failure.at && now - failure.at <= longest;
        let doubt = self.doubt.take().map(|failure| failure.since);
        let young = self.young_lost.iter().copied().find(|lost| now - *lost <= longest);
        self.fault = Some(match self.fault.take() {
            // The schedule is set, and may be over when the last of the batch fails. A full server may be asked again
            // whenever there is room, and one that failed otherwise than for good sooner than was said at first.
            Some(failure)
                if batch(&failure) && (class == FaultClass::Capacity || failure.class == FaultClass::Permanent) =>
            {
                Failure { class, latest: class, ..failure }
            }
            Some(failure) if batch(&failure) => Failure { latest: class, ..failure },
            Some(_) => failure(now, class),
            // The schedule may have begun with either.
            None => match doubt.into_iter().chain(young).min().filter(|_| class != FaultClass::Capacity) {
                Some(since) => Failure { latest: class, ..failure(since, FaultClass::Transient) },
                None => failure(now, class),
            },
        });
    }

    /// A connection died. If it was young, the pool may count that as a failed connect.
    pub(super) fn lost(&mut self, now: Instant, opened: Instant, config: &PoolConfig) {
        if now - opened >= config.backoff_initial() {
            return;
        }
        // Older ones do not matter any more.
        let longest = longest(config);
        self.young_lost.retain(|lost| now - *lost <= longest);
        self.young_lost.push(now);
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
        let Some(Failure { at, since, class, .. }) = &self.fault else { return Ok(()) };
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
