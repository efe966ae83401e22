//! A scenario on the whole stack: the pool, its driver and its client as a service has them, on a network in memory,
//! against the simulated PostgreSQL.
//!
//! The same files as for the machine alone, the same workload, the same expectations; but here requests are queries,
//! leases are dropped in the middle of real transactions, connections are made of bytes, and what an outage does to them
//! is what the server does to its sockets. Three judges watch: one sees what callers and server see; the oracle of
//! the machine-level runs sees the events and actions that the pool recorded in its journal; and the journal is run
//! again, which must come to the same.

mod judge;
mod knobs;
mod look;
mod request;
mod timeline;
mod watch;
mod world;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::oracle::Violation;
use crate::run::{Failure, Outcome};
use crate::scenario::{Dist, Scenario};
use crate::{Sim, expect, swarm};
pub use knobs::Knobs;
use world::World;

/// Runs a scenario on the whole stack.
///
/// # Errors
/// A guarantee that did not hold. Expectations that did not hold are no error here: see [`Outcome::findings`].
pub fn run_whole(scenario: &Scenario, seed: u64) -> Result<Outcome, Box<Failure>> {
    run_whole_with(scenario, seed, &Knobs::default())
}

/// Runs a seed of the swarm on the whole stack: its scenario, its network, and how its clients log in.
///
/// # Errors
/// As [`run_whole`].
pub fn run_whole_seed(seed: u64) -> Result<Outcome, Box<Failure>> {
    run_whole_with(&swarm::draw(seed), seed, &Knobs::draw(seed))
}

/// As [`run_whole`], with a network of its own.
///
/// # Errors
/// As [`run_whole`].
pub fn run_whole_with(scenario: &Scenario, seed: u64, knobs: &Knobs) -> Result<Outcome, Box<Failure>> {
    let slack = Dist::Uniform(std::time::Duration::ZERO, scenario.timers_late_by);
    let sim = Sim::builder().exact_seed(seed).timer_slack(slack).path(|path| knobs.network(path)).build();
    let world = World::new(&sim, scenario, knobs);
    let result = catch_unwind(AssertUnwindSafe(|| {
        sim.run(async |_| world::run(&world).await);
        judge::judge(&world)
    }));
    let failed = |violation: Violation, at| {
        let last = world.last_words();
        Err(Box::new(Failure { name: scenario.name.clone(), seed, at, violation, last }))
    };
    if let Some((at, violation)) = world.first_wrong() {
        world.state().last = judge::last_steps(&world.tape.bytes(), at);
        return failed(violation, at);
    }
    let judged = match result {
        Ok(Ok(judged)) => judged,
        Ok(Err((at, violation))) => return failed(violation, at),
        Err(panic) => return failed(Violation { guarantee: "No panic", detail: said(&*panic) }, sim.now()),
    };
    let record = world.record_with(judged.record);
    Ok(Outcome {
        name: scenario.name.clone(),
        seed,
        findings: expect::compare(scenario, &record),
        stats: judged.stats,
        digest: judged.digest,
        events: judged.events,
        lasted: sim.now() - pgweir_core::time::Instant::ZERO,
        record,
    })
}

fn said(panic: &(dyn Any + Send)) -> String {
    crate::executor::message(panic).to_owned()
}

/// Shared by the tasks of a run.
type Shared = Arc<World>;
