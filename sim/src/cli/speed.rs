//! `speed`: how fast the machine is on this computer.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant as WallClock};

use clap::{Args, value_parser};
use pgweir_sim::{Speed, Stream};

use super::{FAILED, complain};

/// Measures how many events a second one pool takes on one core: replayed from a recording, and in the simulator
/// without its checks.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How many events, about.
    #[arg(long, default_value_t = 2_000_000, value_parser = value_parser!(u64).range(10_000..=100_000_000))]
    events: u64,
    /// How often each is measured; the median counts.
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// The seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Ends with 1 unless both make this many million events a second.
    #[arg(long)]
    at_least: Option<f64>,
}

impl Arguments {
    pub(super) fn run(self) -> io::Result<ExitCode> {
        match self.measure() {
            Ok(code) => Ok(code),
            Err(Problem::Io(error)) => Err(error),
            Err(Problem::Run(problem)) => Ok(complain(&problem)),
        }
    }

    fn measure(&self) -> Result<ExitCode, Problem> {
        let stream = Stream::record(self.events as usize, self.seed).map_err(Problem::Run)?;
        let replay = self.rounds(|| Ok(stream.replay()))?;
        let simulation = self.rounds(|| Speed::simulate(self.events, self.seed))?;
        let mut out = io::stdout();
        let mut enough = true;
        for (name, (speed, took)) in [("replayed", replay), ("simulated", simulation)] {
            let rate = speed.events as f64 / took.as_secs_f64() / 1e6;
            let each = took.as_nanos() as f64 / speed.events as f64;
            let rounds = self.rounds;
            writeln!(
                out,
                "{name}: {rate:.2} million events a second, {each:.0} ns each ({} events, median of {rounds} rounds)",
                speed.events
            )?;
            enough &= self.at_least.is_none_or(|least| rate >= least);
        }
        Ok(if enough { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
    }

    /// The median of the rounds.
    fn rounds(&self, mut round: impl FnMut() -> Result<Speed, String>) -> Result<(Speed, Duration), Problem> {
        let mut all = Vec::new();
        for _ in 0..self.rounds {
            let begun = WallClock::now();
            let speed = round().map_err(Problem::Run)?;
            all.push((begun.elapsed(), speed));
        }
        all.sort_by_key(|(took, _)| *took);
        let (took, speed) = all[all.len() / 2];
        Ok((speed, took))
    }
}

enum Problem {
    Io(io::Error),
    Run(String),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Problem::Io(error)
    }
}
