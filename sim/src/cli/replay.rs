//! `replay`: journals.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use pgweir_core::journal::{Journal, Replay, Step};
use pgweir_core::time::Instant;
use pgweir_sim::replay::{Moment, Summary, View};

use super::{FAILED, complain};

/// Runs a journal again and proves that the machine does the same. Ends with 0 if it does, 1 at the first deviation, 2
/// if the file cannot be used.
///
/// T is a moment: 12.5s after the beginning, -5s before the end, or a time such as 2026-01-31T12:00:00Z.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A journal: of a pool, or of a simulated run (run --journal).
    file: PathBuf,
    /// Show the machine at this moment; with --trace also all that led there.
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    until: Option<Moment>,
    /// Show the machine at this moment, and what happened around it.
    #[arg(long, value_name = "T", allow_hyphen_values = true, conflicts_with = "until")]
    around: Option<Moment>,
    /// How far around, before and after.
    #[arg(long, value_name = "D", default_value = "1s", value_parser = humantime::parse_duration)]
    window: Duration,
    /// Show every event (>) and action (<).
    #[arg(long)]
    trace: bool,
}

impl Arguments {
    pub(super) fn run(self) -> io::Result<ExitCode> {
        let journal = match read(&self.file) {
            Ok(journal) => journal,
            Err(problem) => return Ok(complain(&problem)),
        };
        let mut out = io::BufWriter::new(io::stdout().lock());
        let code = self.show(&journal, &mut out)?;
        out.flush()?;
        Ok(code)
    }

    fn show(&self, journal: &Journal, out: &mut impl Write) -> io::Result<ExitCode> {
        let summary = Summary::new(journal);
        match (self.until, self.around) {
            (Some(until), _) => {
                let until = until.of(journal);
                let shown = if self.trace { Some((Instant::ZERO, until)) } else { None };
                look(journal, until, until, shown, out)?;
            }
            (None, Some(around)) => {
                let around = around.of(journal);
                let (from, to) = (around.saturating_sub(self.window), around + self.window);
                let shown = if self.trace { (Instant::ZERO, Instant::MAX) } else { (from, to) };
                look(journal, around, shown.1, Some(shown), out)?;
            }
            (None, None) if self.trace => {
                look(journal, Instant::MAX, Instant::MAX, Some((Instant::ZERO, Instant::MAX)), out)?;
            }
            (None, None) => {}
        }
        writeln!(out, "{}", self.file.display())?;
        writeln!(out, "{summary}")?;
        Ok(if summary.deviation().is_some() { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
    }
}

fn read(file: &Path) -> Result<Journal, String> {
    let problem = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let bytes = std::fs::read(file).map_err(|error| problem(&error))?;
    Journal::read(&bytes).map_err(|error| problem(&error))
}

/// Runs to `to`; shows the steps that are in `shown`, and the machine as it is at `at`, before what comes later.
fn look(
    journal: &Journal,
    at: Instant,
    to: Instant,
    shown: Option<(Instant, Instant)>,
    out: &mut impl Write,
) -> io::Result<()> {
    let begin = journal.start().now();
    let mut replay = Replay::new(journal);
    let mut viewed = at == Instant::MAX;
    loop {
        let next = replay.peek().map_or(Instant::MAX, |entry| entry.at);
        if !viewed && next > at {
            viewed = true;
            writeln!(out, "{}", View::new(journal, replay.machine(), at))?;
        }
        if next > to {
            return Ok(());
        }
        let Some(step) = replay.step() else { return Ok(()) };
        if shown.is_some_and(|(from, to)| (from..=to).contains(&step.entry.at)) {
            write_step(&step, begin, out)?;
        }
        if !step.agrees() {
            return Ok(());
        }
    }
}

fn write_step(step: &Step<'_>, begin: Instant, out: &mut impl Write) -> io::Result<()> {
    let offset = Instant::ZERO + (step.entry.at - begin);
    writeln!(out, "{offset:?} > {:?}", step.entry.event)?;
    for action in step.actions {
        writeln!(out, "{offset:?} <   {action:?}")?;
    }
    Ok(())
}
