//! The swarm: a scenario from every seed.
//!
//! [`draw`] makes a valid scenario of a number: every knob of the pool, the workload, the network and the server comes
//! from it, and so does a timeline of faults. A run of it has a phase in which anything may happen and every guarantee is
//! checked after every step; then the server is well again and everybody must get an answer, min_size must be restored,
//! and after the shutdown nothing may be left. What the seeds met is counted: see [`Coverage`].
//!
//! A seed that fails is saved with [`Scenario::to_yaml`](crate::Scenario::to_yaml) and run like any other file.

mod coverage;
mod draw;
mod timeline;

use pgweir_core::config::PoolConfig;
use pgweir_core::pool::Machine;
use pgweir_core::time::Instant;

pub use coverage::Coverage;
pub use draw::draw;

use crate::run::{Failure, Outcome, Subject, run_subject, run_traced};

/// Runs a seed's scenario and notes in `coverage` what it met.
///
/// # Errors
/// A guarantee that did not hold, with the last steps.
pub fn run_seed(seed: u64, coverage: &mut Coverage) -> Result<Outcome, Box<Failure>> {
    let make = |config: &PoolConfig, seed| Machine::new(config, seed, Instant::ZERO);
    let scenario = draw(seed);
    let mut met = coverage::Met::default();
    let Ok(outcome) = run_traced(&scenario, seed, make, &mut met) else {
        // The same again, for its last steps.
        return run_subject(&scenario, seed, make);
    };
    met.scenario(&scenario, &outcome);
    coverage.add(&met);
    Ok(outcome)
}

/// As [`run_seed`], over something around the machine.
///
/// # Errors
/// As [`run_seed`].
pub fn run_seed_of<S: Subject>(seed: u64, make: impl FnMut(&PoolConfig, u64) -> S) -> Result<Outcome, Box<Failure>> {
    run_subject(&draw(seed), seed, make)
}
