//! The machine at a moment.

use std::fmt;

use pgweir_core::journal::Journal;
use pgweir_core::pool::Machine;
use pgweir_core::time::Instant;

use crate::scenario::show;

/// Holders of connections, at most.
const MOST_LINES: usize = 50;

/// A machine at a moment, with the source lines of a journal; shown with `{}`.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    journal: &'a Journal,
    machine: &'a Machine,
    at: Instant,
}

impl<'a> View<'a> {
    /// `machine`, which came of `journal`, at `at`.
    pub fn new(journal: &'a Journal, machine: &'a Machine, at: Instant) -> Self {
        View { journal, machine, at }
    }
}

impl fmt::Display for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let View { journal, machine, at } = *self;
        let wall = journal.header().wall;
        writeln!(f, "at {} ({})", show(at - journal.start().now()), wall.iso(at))?;
        let health = machine.health(at);
        writeln!(f, "  state       {:?}, {:?}, the database is {:?}", health.state, health.status, health.database)?;
        for reason in &health.reasons {
            writeln!(f, "              {reason}")?;
        }
        let counts = health.counts;
        writeln!(
            f,
            "  connections {} of {} to {}: {} idle, {} active, {} connecting, {} validating, {} resetting, {} closing",
            counts.total,
            counts.min,
            counts.max,
            counts.idle,
            counts.active,
            counts.connecting,
            counts.validating,
            counts.resetting,
            counts.closing
        )?;
        match machine.waiting_since() {
            Some(since) => writeln!(f, "  waiting     {}, the first for {}", counts.waiting, show(at - since))?,
            None => writeln!(f, "  waiting     0")?,
        }
        if let Some(outage) = &health.outage {
            writeln!(
                f,
                "  outage      for {}, attempts {}: {}",
                show(at - outage.since),
                outage.attempts,
                outage.cause
            )?;
            match outage.next_attempt {
                Some(next) => writeln!(f, "              next attempt in {}", show(next - at))?,
                None => writeln!(f, "              an attempt is under way")?,
            }
        }
        if let Some((fault, when)) = machine.last_fault() {
            writeln!(f, "  last fault  {} before: {fault}", show(at - when))?;
        }
        match machine.deadline() {
            Some((due, kind)) => writeln!(f, "  deadline    {kind:?} in {}", show(due - at))?,
            None => writeln!(f, "  deadline    none")?,
        }
        self.holders(f)
    }
}

impl View<'_> {
    fn holders(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let holders = self.machine.holders(self.at, usize::MAX);
        for (index, holder) in holders.iter().take(MOST_LINES).enumerate() {
            let title = if index == 0 { "held" } else { "" };
            let line = self.journal.site(holder.site).map_or_else(|| "an unknown line".to_owned(), ToString::to_string);
            writeln!(f, "  {title:<11} {} for {} from {line}", holder.conn, show(holder.held))?;
        }
        match holders.len().saturating_sub(MOST_LINES) {
            0 => Ok(()),
            more => writeln!(f, "              and {more} more"),
        }
    }
}
