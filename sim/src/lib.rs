//! Connection pools through outages, on a virtual clock, reproducibly from a seed.
//!
//! A [`Scenario`] describes a pool, a workload, a server and what happens to them; [`run`] runs pgweir's pool machine
//! through it and checks every guarantee of the pool after every step, from outside. An hour takes a second or less,
//! and the same seed gives the same run everywhere: compare [`Outcome::digest`].
//!
//! ```
//! use pgweir_sim::{Report, Scenario, run};
//!
//! let text = "
//! name: a short restart
//! duration: 30s
//! workload:
//!   - {clients: 20, think: {exponential: 20ms}, hold: {uniform: [1ms, 5ms]}}
//! timeline:
//!   - {at: 10s, restart: {down: 3s, starting: 1s}}
//! expect:
//!   first_grant_within: 1500ms
//!   recovered_within: 1500ms
//!   health:
//!     - {at: 12500ms, status: unhealthy}
//!     - {at: 20s, status: healthy}
//! ";
//! let scenario = Scenario::from_yaml("restart.yaml", text)?;
//! let outcome = run(&scenario, scenario.seed)?;
//! assert!(outcome.passed(), "{}", Report::new(&scenario, &outcome));
//! assert_eq!(outcome.digest, run(&scenario, scenario.seed)?.digest);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The binary runs scenario files: `pgweir-sim run FILE...`. It ends with 0 if every expectation holds, with 1 if one
//! does not, and with 2 if a file cannot be used.
//!
//! # The map
//!
//! `scenario` what a file says, `model` (the server) and `run` what happens, `oracle` what must hold meanwhile, `record` what is
//! kept, `expect` the comparison, `report` the picture, `swarm` a scenario from every seed, `replay` journals, `what_if`
//! their causes under another configuration; `rng`, `queue` and `yaml` serve them.

#![forbid(unsafe_code)]

mod expect;
mod model;
pub mod net;
mod oracle;
mod queue;
mod record;
pub mod replay;
mod report;
mod rng;
mod run;
pub mod scenario;
pub mod swarm;
mod trace;
pub mod what_if;
mod yaml;

pub use expect::Finding;
pub use oracle::Violation;
pub use pgweir_core::digest::{Digest, Never};
pub use record::{Attempt, Chart, Column, LeakReport, OutageSeen, Record, Spread, Tally};
pub use report::Report;
pub use run::{Failure, Outcome, Subject, run, run_subject, run_traced};
pub use scenario::{BadScenario, Scenario};
pub use trace::{Lines, NoTrace, Trace};
