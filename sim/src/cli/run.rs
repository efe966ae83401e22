//! `run`: scenario files.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant as WallClock;

use clap::Args;
use pgweir_core::pool::Machine;
use pgweir_core::time::Instant;
use pgweir_sim::{Lines, Outcome, Report, Scenario, run, run_traced};

use super::{FAILED, complain};

/// Runs scenario files. Ends with 0 if every expectation holds, 1 if one does not, 2 if a file cannot be used.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Scenarios in YAML.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The seed, instead of the files' own.
    #[arg(long)]
    seed: Option<u64>,
    /// Show every event (>), action (<) and happening (*).
    #[arg(long)]
    trace: bool,
    /// Show one line for each scenario, and what does not hold.
    #[arg(long, short)]
    quiet: bool,
}

impl Arguments {
    pub(super) fn run(self) -> io::Result<ExitCode> {
        run_files(&self.files, self.seed, self.trace, self.quiet)
    }
}

fn run_files(files: &[PathBuf], seed: Option<u64>, trace: bool, quiet: bool) -> io::Result<ExitCode> {
    let mut scenarios = Vec::new();
    let mut bad = None;
    for file in files {
        match read(file) {
            Ok(scenario) => scenarios.push((file, scenario)),
            Err(problem) => bad = Some(complain(&problem)),
        }
    }
    if let Some(code) = bad {
        return Ok(code);
    }
    let mut failed = 0;
    for (file, scenario) in &scenarios {
        let seed = seed.unwrap_or(scenario.seed);
        if !run_one(file, scenario, seed, trace, quiet)? {
            failed += 1;
        }
    }
    if scenarios.len() > 1 {
        writeln!(io::stdout(), "{} of {} scenarios passed", scenarios.len() - failed, scenarios.len())?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn read(file: &Path) -> Result<Scenario, String> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|error| format!("{name}: {error}"))?;
    Scenario::from_yaml(&name, &text).map_err(|bad| bad.to_string())
}

/// Runs one and says whether all was as expected.
fn run_one(file: &Path, scenario: &Scenario, seed: u64, trace: bool, quiet: bool) -> io::Result<bool> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let begun = WallClock::now();
    let result = if trace {
        let mut lines = Lines::new(&mut out);
        let result = run_traced(scenario, seed, |config, seed| Machine::new(config, seed, Instant::ZERO), &mut lines);
        lines.finish()?;
        result
    } else {
        run(scenario, seed)
    };
    let took = begun.elapsed();
    let again = || format!("again: pgweir-sim run {} --seed {seed} --trace", file.display());
    let passed = match &result {
        Ok(outcome) => {
            show(&mut out, scenario, outcome, quiet)?;
            let rate = outcome.events as f64 / took.as_secs_f64() / 1e6;
            let verdict = if outcome.passed() { "passed" } else { "FAILED" };
            let lasted = outcome.lasted.as_secs_f64();
            let (events, took) = (outcome.events, took.as_secs_f64());
            let name = &scenario.name;
            writeln!(
                out,
                "{verdict} {name}: {lasted:.0} s in {took:.2} s, {events} events, {rate:.2} million a second"
            )?;
            outcome.passed()
        }
        Err(failure) => {
            writeln!(out, "FAILED {failure}")?;
            false
        }
    };
    if !passed {
        writeln!(out, "  {}", again())?;
    }
    writeln!(out)?;
    out.flush()?;
    Ok(passed)
}

fn show(out: &mut impl Write, scenario: &Scenario, outcome: &Outcome, quiet: bool) -> io::Result<()> {
    if !quiet {
        return writeln!(out, "{}", Report::new(scenario, outcome));
    }
    for finding in outcome.findings.iter().filter(|finding| !finding.holds) {
        writeln!(out, "  {}: expected {}, seen {}", finding.key, finding.expected, finding.seen)?;
    }
    Ok(())
}
