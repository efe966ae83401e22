//! `swarm`: a scenario from every seed, until one fails.

mod whole;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant as WallClock, SystemTime, UNIX_EPOCH};

use clap::Args;
use pgweir_core::pool::Machine;
use pgweir_core::time::Instant;
use pgweir_sim::swarm::{self, Coverage};
use pgweir_sim::{Digest, Failure, Lines, Report, run_traced};

use super::{FAILED, complain};

/// Draws a scenario from every seed and runs it: faults first, then all is well and everybody must get an answer. Every
/// guarantee is checked after every step. Ends with 0 if all seeds pass and 1 with the first that does not.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first of them, or `random`.
    #[arg(long, default_value = "1")]
    first: First,
    /// Only this one, with a report.
    #[arg(long, conflicts_with_all = ["seeds", "first", "jobs"])]
    seed: Option<u64>,
    /// With --seed: show every event (>), action (<) and happening (*).
    #[arg(long, requires = "seed")]
    trace: bool,
    /// On the whole stack: the pool, its driver and its client, on a simulated network, against the simulated PostgreSQL.
    #[arg(long, conflicts_with_all = ["jobs", "trace"])]
    whole_stack: bool,
    /// How many seeds are run at the same time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    jobs: u32,
    /// Where the scenario of the seed that fails, or of --seed, is written to, to be edited and run.
    #[arg(long)]
    save: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug)]
enum First {
    Seed(u64),
    Random,
}

impl FromStr for First {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "random" => Ok(First::Random),
            text => text.parse().map(First::Seed).map_err(|_| "must be a number of 0 or more, or `random`".to_owned()),
        }
    }
}

impl First {
    fn seed(self) -> u64 {
        match self {
            First::Seed(seed) => seed,
            // Each time another one, and short enough to be typed.
            First::Random => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                (since.as_millis() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24
            }
        }
    }
}

impl Arguments {
    pub(super) fn run(self) -> io::Result<ExitCode> {
        if self.whole_stack {
            let (first, seeds) = self.seed.map_or_else(|| (self.first.seed(), self.seeds), |seed| (seed, 1));
            return whole::run(first, seeds, self.save.as_deref());
        }
        match self.seed {
            Some(seed) => one(seed, self.trace, self.save.as_deref()),
            None => many(self.first.seed(), self.seeds, self.jobs, self.save.as_deref()),
        }
    }
}

fn one(seed: u64, trace: bool, save: Option<&Path>) -> io::Result<ExitCode> {
    let scenario = swarm::draw(seed);
    if let Some(code) = keep(seed, save) {
        return Ok(code);
    }
    let mut out = io::BufWriter::new(io::stdout().lock());
    writeln!(out, "{}", scenario.to_yaml())?;
    if trace {
        let mut lines = Lines::new(&mut out);
        // What comes of it is shown below.
        let _ = run_traced(&scenario, seed, |config, seed| Machine::new(config, seed, Instant::ZERO), &mut lines);
        lines.finish()?;
    }
    let mut coverage = Coverage::default();
    match swarm::run_seed(seed, &mut coverage) {
        Ok(outcome) => {
            writeln!(out, "{}", Report::new(&scenario, &outcome))?;
            writeln!(out, "passed seed {seed}: {} events, digest {}", outcome.events, outcome.digest)?;
            out.flush()?;
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => {
            tell(&mut out, &failure)?;
            out.flush()?;
            Ok(ExitCode::from(FAILED))
        }
    }
}

/// What all jobs have come to.
#[derive(Default)]
struct Sum {
    coverage: Coverage,
    digests: Vec<(u64, Digest)>,
    events: u64,
    lasted: Duration,
    failure: Option<(u64, Box<Failure>)>,
}

fn many(first: u64, seeds: u64, jobs: u32, save: Option<&Path>) -> io::Result<ExitCode> {
    writeln!(io::stdout(), "{seeds} seeds from {first}, every guarantee after every step")?;
    let begun = WallClock::now();
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let sum = Mutex::new(Sum::default());
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for number in 0..jobs {
            let (next, failed, sum, done) = (&next, &failed, &sum, &done);
            scope.spawn(move || {
                work(first, seeds, next, failed, sum, done, begun, number == 0 && io::stderr().is_terminal());
            });
        }
    });
    if io::stderr().is_terminal() {
        write!(io::stderr(), "\r\x1b[K")?;
    }
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    report(&sum, begun.elapsed(), first, save)
}

/// One job: takes seeds until there are none, or one has failed.
#[allow(clippy::too_many_arguments)]
fn work(
    first: u64,
    seeds: u64,
    next: &AtomicU64,
    failed: &AtomicBool,
    sum: &Mutex<Sum>,
    done: &AtomicU64,
    begun: WallClock,
    shows: bool,
) {
    let mut own = Coverage::default();
    let mut digests = Vec::new();
    let (mut events, mut lasted) = (0, Duration::ZERO);
    let mut failure = None;
    let mut shown = begun;
    while !failed.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= seeds {
            break;
        }
        let seed = first.wrapping_add(number);
        match swarm::run_seed(seed, &mut own) {
            Ok(outcome) => {
                digests.push((number, outcome.digest));
                events += outcome.events;
                lasted += outcome.lasted;
            }
            Err(found) => {
                failed.store(true, Ordering::Relaxed);
                failure = Some((number, found));
            }
        }
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        if shows && shown.elapsed() > Duration::from_millis(200) {
            shown = WallClock::now();
            let rate = done as f64 / begun.elapsed().as_secs_f64();
            // A progress line that cannot be written is not missed.
            let _ = write!(io::stderr(), "\r\x1b[K{done} of {seeds} seeds, {rate:.0} a second");
        }
    }
    let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
    sum.coverage.merge(&own);
    sum.digests.extend(digests);
    sum.events += events;
    sum.lasted += lasted;
    // Of several that failed at once, the first.
    if let Some((number, found)) = failure
        && sum.failure.as_ref().is_none_or(|(other, _)| number < *other)
    {
        sum.failure = Some((number, found));
    }
}

fn report(sum: &Sum, took: Duration, first: u64, save: Option<&Path>) -> io::Result<ExitCode> {
    let mut out = io::stdout().lock();
    writeln!(out, "\nhow many seeds met what\n{}", sum.coverage)?;
    let never = sum.coverage.never();
    if !never.is_empty() {
        writeln!(out, "never met: {}", never.join(", "))?;
    }
    let mut digests = sum.digests.clone();
    digests.sort_unstable();
    let mut digest = Digest::default();
    digests.iter().for_each(|(_, one)| digest.add(&one.to_string()));
    let seconds = took.as_secs_f64().max(1e-9);
    let seeds = sum.coverage.seeds();
    writeln!(
        out,
        "\n{seeds} seeds passed in {seconds:.1} s: {:.0} seeds a second, {:.0} virtual seconds a second, \
         {:.2} million events a second; digest {digest}",
        seeds as f64 / seconds,
        sum.lasted.as_secs_f64() / seconds,
        sum.events as f64 / seconds / 1e6
    )?;
    let Some((number, failure)) = &sum.failure else { return Ok(ExitCode::SUCCESS) };
    let seed = first.wrapping_add(*number);
    tell(&mut out, failure)?;
    Ok(keep(seed, save).unwrap_or(ExitCode::from(FAILED)))
}

fn tell(out: &mut impl Write, failure: &Failure) -> io::Result<()> {
    writeln!(out, "\nFAILED {failure}\n  again: pgweir-sim swarm --seed {} --trace", failure.seed)
}

/// Writes the scenario of a seed to a file; a code if that cannot be done.
fn keep(seed: u64, save: Option<&Path>) -> Option<ExitCode> {
    let path = save?;
    match std::fs::write(path, swarm::draw(seed).to_yaml()) {
        Ok(()) => None,
        Err(error) => Some(complain(&format_args!("{}: {error}", path.display()))),
    }
}
