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
//! A [`Sim`] runs more than the machine: the unchanged pool, driver and client, with the code that uses them, on a seeded
//! executor, a virtual clock and a network in memory ([`net`]). Put a [`net::Host`] on it, use the types of [`stack`] in
//! the place of a shim's, and do to the network what a test is about.
//!
//! The binary runs scenario files: `pgweir-sim run FILE...`. It ends with 0 if every expectation holds, with 1 if one
//! does not, and with 2 if a file cannot be used. `pgweir-sim replay FILE` runs a journal again, of a real pool or of a
//! simulated run: 0 if the machine does the same, 1 if it does not.
//!
//! # The map
//!
//! One machine: `scenario` what a file says, `model` (the server) and `run` what happens, `oracle` what must hold
//! meanwhile, `record` and `chart` what is kept, `expect` the comparison, `report` the pictures; `swarm` a scenario from
//! every seed. Many machines: `fleet`. Every sequence of events: `exhaustive`. From a journal: `replay` it, or ask `what_if`. How fast: `speed`. `rng`, `queue`,
//! `settings` and `yaml` serve them.
//!
//! The whole stack: `sim` what a test sees, `runtime` the Runtime behind it, `executor` tasks and time, `net` streams,
//! names and faults, `stack` the pool and the client on it, `server` the simulated PostgreSQL.

#![forbid(unsafe_code)]

mod chart;
mod executor;
pub mod exhaustive;
mod expect;
pub mod fleet;
#[doc = include_str!("../docs/outage.md")]
pub mod guide {}
mod model;
pub mod net;
mod oracle;
mod queue;
mod record;
pub mod replay;
pub mod report;
mod rng;
mod run;
mod runtime;
pub mod scenario;
pub mod server;
mod settings;
mod sim;
mod speed;
pub mod stack;
pub mod swarm;
mod trace;
pub mod what_if;
pub mod whole;
mod wish;
mod yaml;

pub use chart::{Chart, Part, Shares};
pub use executor::SimTimer;
pub use expect::Finding;
pub use oracle::Violation;
pub use pgweir_core::digest::{Digest, Never};
pub use pgweir_core::time::Instant;
pub use record::{Attempt, LeakReport, OutageSeen, Record, Spread, Tally};
pub use report::Report;
pub use run::{Failure, Outcome, Subject, run, run_subject, run_traced};
pub use runtime::SimRuntime;
pub use scenario::{BadScenario, Scenario};
pub use settings::{BadSetting, Setting, with_settings};
pub use sim::{Elapsed, JoinHandle, Server, Sim, SimBuilder};
pub use speed::{Speed, Stream};
pub use trace::{Lines, NoTrace, Trace};
