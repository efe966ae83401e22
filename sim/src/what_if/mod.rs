//! What if the pool had been configured otherwise? A recorded stretch of a pool's life is taken apart into what caused it,
//! and that is simulated again: under the recorded configuration, to see how far the simulation is to be trusted, and under
//! another one.
//!
//! # What is measured
//! Read out of a [`History`], exactly: when each request was made, from where, how long it was ready to wait, how long it
//! held its connection, in what state it gave it back, when its caller gave it up; how long connects, checks, resets and
//! closes took (each simulated one takes as long as one drawn from those); what was done to the pool (resize, pause,
//! recycle, shutdown), and when.
//!
//! # What is estimated
//! A pool sees its server only when it looks, and another configuration looks at other moments:
//! - A time in which connects failed begins with the first that failed, or with the sessions that ended within the second
//!   before it. It ended somewhere between the last failure and the beginning of the next connect that succeeded:
//!   [`OutageEnd`] says where; both bounds are shown. Each connect meanwhile fails as the recorded ones did at that time.
//!   A pool that was down when the history begins is down from before it.
//! - A time without any answer begins with the first question that got none, and ended between the moment at which the
//!   last such question was given up and the next answer.
//! - Sessions ended at the fewest moments that explain every connection that was found dead, each as late as possible.
//!   The same share of the sessions that are open then ends again. A connection that only its own user found broken,
//!   while most others lived on, and without a word of the server (SQLSTATE class 57), breaks by its user's doing: it
//!   breaks again.
//! - When the server said that it had too many sessions (class 53), it allows as many as the pool had then, until more
//!   succeeded.
//!
//! # What is assumed
//! - **Requests come when they came.** Callers that would have come earlier or later, had they waited less or more, are
//!   not modelled: a loop of callers that each wait for the last answer would offer more load to a faster pool, and less
//!   to a slower one. Retries of requests that failed come as recorded, even if what they retry succeeds now.
//! - **A connection is held as long as it was.** More connections do not make queries slower here; in a database that is
//!   at its limit they do. A request that got no connection holds one, if it gets one now, as long as a drawn other of
//!   its site; one that was cut off by its connection's end or by the end of the history, as long as a drawn longer one.
//! - A caller that gave up waiting gives up at the same time, unless it has its connection by then. A request that waited
//!   for the pool's acquire_timeout waits for the other one's now.
//! - Several hosts are simulated as one, which fails while every host that was tried fails.
//!
//! # What not to conclude
//! Nothing about throughput of the database, nothing from a row that the calibration marks as off, and nothing from a
//! difference that is smaller than the range over several seeds. A smaller max_size looks too good where the recorded
//! holds contain the slowness of a crowded server, and a larger one too good where it would crowd it.
//!
//! # Calibration
//! The recorded figures stand beside those of the simulation under the recorded configuration. A row is marked as off if
//! they differ by more than: for outcomes of requests, 5 % of the requests and 5; for counts of connections, a quarter of
//! the larger and 2; for waits, half of the larger and 10 ms; for times of outages, half of the larger and 1 s.

mod answer;
mod compare;
mod extract;
mod history;
mod measure;
mod plan;
pub(crate) mod recording;
#[cfg(test)]
mod tests;

use pgweir_core::config::PoolConfig;
use pgweir_core::pool::Machine;
use pgweir_core::time::Instant;

pub use answer::Answer;
pub use compare::Row;
pub use history::{Deviation, History, Recorder, Step};
pub use measure::Measures;

use crate::run::{Failure, run_recording};
use crate::settings::differences;
use crate::trace::Tail;
use measure::Meter;
use plan::Plan;

/// Steps shown with a failure.
const TAIL: usize = 30;

/// When a time of trouble is taken to have ended, of the moments that are possible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutageEnd {
    /// Right after the last failure.
    Earliest,
    /// Midway.
    #[default]
    Middle,
    /// Right before the next success.
    Latest,
}

/// How to simulate again.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// Where all draws come from. Default: 1.
    pub seed: u64,
    /// How many seeds, this one and the following. Default: 1.
    pub seeds: u32,
    /// How often each request is made, on average; the repetitions come before the next recorded request. Default: 1.
    /// It applies to the changed run only.
    pub load: f64,
    /// When times of trouble are taken to have ended. Default: midway.
    pub outage_end: OutageEnd,
}

impl Default for Options {
    fn default() -> Self {
        Options { seed: 1, seeds: 1, load: 1.0, outage_end: OutageEnd::default() }
    }
}

/// Simulates a history again, under its own configuration and, if it differs or the load does, under `config`.
///
/// # Errors
/// A guarantee of the pool that did not hold in a simulation, with the last steps.
pub fn what_if(history: &History, config: &PoolConfig, options: &Options) -> Result<Answer, Box<Failure>> {
    let extract = extract::extract(history);
    let plan = Plan::new(history, &extract, options.outage_end, 1.0);
    let (before, after) = (one_host(history.config()), one_host(config));
    let changes = differences(&before, &after);
    let recorded = Meter::of(history, &plan.backs());
    let simulated = simulate(&plan, &before, options)?;
    let changed = if changes.is_empty() && options.load == 1.0 {
        Vec::new()
    } else {
        simulate(&Plan::new(history, &extract, options.outage_end, options.load), &after, options)?
    };
    let resized = changes.iter().any(|(name, ..)| name == "min_size" || name == "max_size");
    Ok(Answer {
        rows: compare::rows(&recorded, &simulated, &changed),
        notes: answer::notes(history, &extract, &plan, resized),
        changes,
        recorded,
        simulated,
        changed,
    })
}

/// A simulated pool has one server.
fn one_host(config: &PoolConfig) -> PoolConfig {
    // A valid configuration is valid with fewer hosts.
    config.to_builder().hosts(1).build().unwrap_or_else(|_| config.clone())
}

fn simulate(plan: &Plan<'_>, config: &PoolConfig, options: &Options) -> Result<Vec<Measures>, Box<Failure>> {
    let seeds = (0..u64::from(options.seeds.max(1))).map(|number| options.seed.wrapping_add(number));
    seeds.map(|seed| simulate_once(plan, config, seed)).collect()
}

fn simulate_once(plan: &Plan<'_>, config: &PoolConfig, seed: u64) -> Result<Measures, Box<Failure>> {
    let rerun = plan.rerun(config, seed);
    let make = |config: &PoolConfig, seed| Machine::new(config, seed, Instant::ZERO);
    let mut meter = rerun.meter();
    match run_recording(&rerun.scenario, &rerun.recording, seed, make, &mut meter) {
        Ok(_) => Ok(meter.finish()),
        Err(mut failure) => {
            // The same again, this time with its last steps.
            let mut tail = Tail::new(TAIL);
            if run_recording(&rerun.scenario, &rerun.recording, seed, make, &mut tail).is_err() {
                failure.last = tail.into_lines();
            }
            Err(failure)
        }
    }
}
