//! What is run: the pool machine, or something around it.

use pgweir_core::pool::{Action, Counts, Event, Health, Machine, Stats};
use pgweir_core::time::Instant;

/// A pool machine, as a run uses it. It is [`Machine`]; a test of the oracle wraps it and does something wrong.
pub trait Subject {
    /// Takes one event and appends what is to be done.
    fn handle(&mut self, now: Instant, event: Event, actions: &mut Vec<Action>);
    /// When it wants a tick at the latest.
    fn deadline(&self) -> Option<Instant>;
    /// Connections by state, and waiters.
    fn counts(&self) -> Counts;
    /// All numbers.
    fn stats(&self, now: Instant) -> Stats;
    /// Whether work can be done.
    fn health(&self, now: Instant) -> Health;
}

impl Subject for Machine {
    fn handle(&mut self, now: Instant, event: Event, actions: &mut Vec<Action>) {
        Machine::handle(self, now, event, actions);
    }

    fn deadline(&self) -> Option<Instant> {
        Machine::deadline(self).map(|(at, _)| at)
    }

    fn counts(&self) -> Counts {
        Machine::counts(self)
    }

    fn stats(&self, now: Instant) -> Stats {
        Machine::stats(self, now)
    }

    fn health(&self, now: Instant) -> Health {
        Machine::health(self, now)
    }
}
