//! `run`: scenario files.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant as WallClock;

use clap::Args;
use pgweir_core::config::PoolConfig;
use pgweir_core::pool::Machine;
use pgweir_core::time::Instant;
use pgweir_sim::replay::run_recorded;
use pgweir_sim::report::{Page, failure_section, scenario_section};
use pgweir_sim::whole::run_whole;
use pgweir_sim::{Failure, Lines, NoTrace, Outcome, Report, Scenario, Trace, run, run_traced};

use super::{FAILED, complain, is_coloured, write_page};

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
    /// Write the run's journal to this file, for replay. Takes one scenario.
    #[arg(long, value_name = "OUT")]
    journal: Option<PathBuf>,
    /// On the whole stack: the pool, its driver and its client, on a simulated network, against the simulated PostgreSQL.
    #[arg(long, conflicts_with_all = ["trace", "journal"])]
    whole_stack: bool,
    /// Write a page with charts to this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

type Ran = Result<Outcome, Box<Failure>>;

impl Arguments {
    pub(super) fn run(self) -> io::Result<ExitCode> {
        if self.journal.is_some() && self.files.len() > 1 {
            return Ok(complain(&"--journal takes one scenario, since it writes one journal"));
        }
        self.run_files()
    }

    fn run_files(&self) -> io::Result<ExitCode> {
        let mut scenarios = Vec::new();
        let mut bad = None;
        for file in &self.files {
            match read(file) {
                Ok(scenario) => scenarios.push((file, scenario)),
                Err(problem) => bad = Some(complain(&problem)),
            }
        }
        if let Some(code) = bad {
            return Ok(code);
        }
        let mut failed = 0;
        let mut page = Page { title: "pgweir scenarios".to_owned(), sections: Vec::new() };
        for (file, scenario) in &scenarios {
            let seed = self.seed.unwrap_or(scenario.seed);
            let result = self.run_one(file, scenario, seed)?;
            if !result.as_ref().is_ok_and(Outcome::passed) {
                failed += 1;
            }
            if self.html.is_some() {
                page.sections.push(match &result {
                    Ok(outcome) => scenario_section(scenario, outcome),
                    Err(failure) => failure_section(&scenario.about, failure),
                });
            }
        }
        if scenarios.len() > 1 {
            writeln!(io::stdout(), "{} of {} scenarios passed", scenarios.len() - failed, scenarios.len())?;
        }
        if let Some(file) = &self.html {
            if let [section] = &page.sections[..] {
                page.title = section.title.clone();
            }
            let written = write_page(file, &page)?;
            if written != ExitCode::SUCCESS {
                return Ok(written);
            }
        }
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
    }

    /// Runs one and shows it.
    fn run_one(&self, file: &Path, scenario: &Scenario, seed: u64) -> io::Result<Ran> {
        let coloured = is_coloured(io::stdout().is_terminal());
        let mut out = io::BufWriter::new(io::stdout().lock());
        let begun = WallClock::now();
        let result = if self.trace {
            let mut lines = Lines::new(&mut out);
            let result = self.run_traced(scenario, seed, &mut lines)?;
            lines.finish()?;
            result
        } else if self.journal.is_some() {
            self.run_traced(scenario, seed, &mut NoTrace)?
        } else if self.whole_stack {
            run_whole(scenario, seed)
        } else {
            run(scenario, seed)
        };
        let took = begun.elapsed();
        let how = if self.whole_stack { "--whole-stack" } else { "--trace" };
        let again = || format!("again: pgweir-sim run {} --seed {seed} {how}", file.display());
        let passed = match &result {
            Ok(outcome) => {
                show(&mut out, scenario, outcome, self.quiet, coloured)?;
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
        Ok(result)
    }

    /// Runs one under the eyes of `trace`, and writes its journal if that is wanted.
    fn run_traced<T: Trace>(
        &self,
        scenario: &Scenario,
        seed: u64,
        trace: &mut T,
    ) -> io::Result<Result<Outcome, Box<Failure>>> {
        let Some(file) = &self.journal else {
            let make = |config: &PoolConfig, seed| Machine::new(config, seed, Instant::ZERO);
            return Ok(run_traced(scenario, seed, make, trace));
        };
        let (result, journal) = run_recorded(scenario, seed, trace);
        std::fs::write(file, journal).map_err(|error| io::Error::other(format!("{}: {error}", file.display())))?;
        Ok(result)
    }
}

fn read(file: &Path) -> Result<Scenario, String> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|error| format!("{name}: {error}"))?;
    Scenario::from_yaml(&name, &text).map_err(|bad| bad.to_string())
}

fn show(out: &mut impl Write, scenario: &Scenario, outcome: &Outcome, quiet: bool, coloured: bool) -> io::Result<()> {
    if !quiet {
        return writeln!(out, "{}", Report::new(scenario, outcome).coloured(coloured));
    }
    for finding in outcome.findings.iter().filter(|finding| !finding.holds) {
        writeln!(out, "  {}: expected {}, seen {}", finding.key, finding.expected, finding.seen)?;
    }
    Ok(())
}
