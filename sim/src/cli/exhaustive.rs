//! `exhaustive`: every sequence of events up to a length.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant as WallClock;

use clap::{Args, value_parser};
use pgweir_sim::exhaustive::Small;

use super::FAILED;

/// Pools of these sizes are looked at unless one is asked for: connections, waiters.
const SIZES: [(u32, u32); 4] = [(1, 1), (1, 2), (2, 2), (3, 3)];

/// Tells small pools everything that can happen to them, in every order, and checks every guarantee after each event and
/// that each state heals. Ends with 1 if one does not hold, with the shortest sequence that shows it.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Events in a sequence, at most.
    #[arg(long, default_value_t = 6, value_parser = value_parser!(u32).range(1..=30))]
    depth: u32,
    /// Only the pool with so many connections.
    #[arg(long, requires = "waiters", value_parser = value_parser!(u32).range(1..=8))]
    connections: Option<u32>,
    /// And so many acquires that wait at once.
    #[arg(long, requires = "connections", value_parser = value_parser!(u32).range(1..=8))]
    waiters: Option<u32>,
}

impl Arguments {
    pub(super) fn run(self) -> io::Result<ExitCode> {
        let one = self.connections.zip(self.waiters);
        let mut out = io::stdout();
        for (connections, waiters) in one.map_or(SIZES.to_vec(), |size| vec![size]) {
            let begun = WallClock::now();
            match (Small { connections, waiters, depth: self.depth }).explore() {
                Ok(found) => writeln!(
                    out,
                    "{connections} connections, {waiters} waiters, depth {}: {} states, {} transitions, in {:.1?}\n  \
                     by depth {:?}; each heals within {} events and {:?}",
                    self.depth,
                    found.states,
                    found.transitions,
                    begun.elapsed(),
                    found.layers,
                    found.longest_healing,
                    found.slowest_healing,
                )?,
                Err(counterexample) => {
                    writeln!(out, "{connections} connections, {waiters} waiters: {counterexample}")?;
                    return Ok(ExitCode::from(FAILED));
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
