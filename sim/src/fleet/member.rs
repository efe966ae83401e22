//! What a fleet is made of: pgweir's machine, or the pool that it is contrasted with.

use pgweir_core::config::PoolConfig;
use pgweir_core::pool::{Action, Counts, Event, Machine};
use pgweir_core::time::Instant;

/// A pool, as a fleet drives it.
pub(super) trait Member {
    fn new(config: &PoolConfig, seed: u64, now: Instant) -> Self;
    fn handle(&mut self, now: Instant, event: Event, actions: &mut Vec<Action>);
    /// When it wants a tick at the latest.
    fn deadline(&self) -> Instant;
    fn counts(&self) -> Counts;
}

impl Member for Machine {
    fn new(config: &PoolConfig, seed: u64, now: Instant) -> Self {
        Machine::new(config, seed, now)
    }

    #[inline]
    fn handle(&mut self, now: Instant, event: Event, actions: &mut Vec<Action>) {
        Machine::handle(self, now, event, actions);
    }

    #[inline]
    fn deadline(&self) -> Instant {
        Machine::deadline(self).map_or(Instant::MAX, |(at, _)| at)
    }

    #[inline]
    fn counts(&self) -> Counts {
        Machine::counts(self)
    }
}
