//! Settings of a simulation.

use std::sync::Arc;
use std::time::Duration;

use pgweir_core::time::Instant;

use super::{Servers, Sim, seeds};
use crate::executor::Executor;
use crate::net::{Net, Path, check_dist};
use crate::runtime::SimRuntime;
use crate::scenario::Dist;

/// Settings of a [`Sim`].
#[derive(Clone, Debug)]
pub struct SimBuilder {
    seed: Seed,
    slack: Dist,
    path: Path,
    polls_per_instant: u64,
    time_limit: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Seed {
    OrEnvironment(u64),
    Exactly(u64),
}

impl Default for SimBuilder {
    fn default() -> Self {
        SimBuilder {
            seed: Seed::OrEnvironment(1),
            slack: Dist::Uniform(Duration::ZERO, Duration::from_millis(1)),
            path: Path::default(),
            polls_per_instant: 1_000_000,
            time_limit: Duration::from_secs(30 * 24 * 3600),
        }
    }
}

impl SimBuilder {
    /// The seed, unless the environment variable `PGWEIR_SIM_SEED` is set. By default 1.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        SimBuilder { seed: Seed::OrEnvironment(seed), ..self }
    }

    /// The seed, whatever the environment says: for a test that compares seeds.
    #[must_use]
    pub fn exact_seed(self, seed: u64) -> Self {
        SimBuilder { seed: Seed::Exactly(seed), ..self }
    }

    /// How late the runtime's timers are. By default up to 1 ms, as on tokio. They are never early.
    ///
    /// # Panics
    /// If nothing can be drawn from it.
    #[must_use]
    #[track_caller]
    pub fn timer_slack(self, slack: Dist) -> Self {
        check_dist("timer_slack", slack);
        SimBuilder { slack, ..self }
    }

    /// What the paths to hosts are like that are registered from now on.
    ///
    /// # Panics
    /// If it is an impossible one.
    #[must_use]
    #[track_caller]
    pub fn path(mut self, change: impl FnOnce(&mut Path)) -> Self {
        change(&mut self.path);
        self.path.check();
        self
    }

    /// After this many polls without any time passing the run is taken for a livelock. By default a million.
    #[must_use]
    pub fn polls_per_instant(self, polls: u64) -> Self {
        SimBuilder { polls_per_instant: polls, ..self }
    }

    /// How much virtual time a run may take. A pool's own timers go on for ever, so a test that waits for what never
    /// happens would never end. By default 30 days.
    #[must_use]
    pub fn time_limit(self, limit: Duration) -> Self {
        SimBuilder { time_limit: limit, ..self }
    }

    /// The simulation.
    ///
    /// # Panics
    /// If `PGWEIR_SIM_SEED` is looked at and set to something else than a number.
    #[track_caller]
    pub fn build(self) -> Sim {
        let seed = match self.seed {
            Seed::OrEnvironment(seed) => seeds::from_environment().unwrap_or(seed),
            Seed::Exactly(seed) => seed,
        };
        let time_limit = Instant::ZERO + self.time_limit;
        let executor = Arc::new(Executor::new(seed, self.slack, self.polls_per_instant, time_limit));
        let net = Arc::new(Net::new(executor.clone(), self.path));
        Sim { runtime: SimRuntime::new(executor, net), servers: Servers::default() }
    }
}
