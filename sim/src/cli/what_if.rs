//! `what-if`: a journal's causes, simulated again under another configuration.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use pgweir_core::journal::Journal;
use pgweir_core::pool::Event;
use pgweir_sim::report::{Page, failure_section, what_if_section};
use pgweir_sim::what_if::{History, Options, OutageEnd, what_if};
use pgweir_sim::{Setting, with_settings};

use super::{FAILED, complain, write_page};

/// Longer histories are no incidents any more.
const LONGEST: Duration = Duration::from_secs(31 * 24 * 3600);
/// More requests than this take minutes of real time.
const MOST_REQUESTS: f64 = 50e6;

/// Simulates what a journal recorded again, under another configuration, and shows both side by side. Ends with 0, with
/// 1 if a guarantee of the pool did not hold in a simulation, with 2 if the journal or a setting cannot be used.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The journal.
    file: PathBuf,
    /// Another setting, as field=value with the names and values of the configuration; several are possible.
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    settings: Vec<Setting>,
    /// Where all draws come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Simulate with so many seeds, and show the median and the range of each figure.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    seeds: u32,
    /// Make each request so often, on average, in the changed simulation.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = load)]
    scale_load: f64,
    /// When a time of trouble is taken to have ended, between the last failure and the next success.
    #[arg(long, value_enum, default_value_t = End::Middle)]
    outage_end: End,
    /// Write a page with the comparison to this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum End {
    Earliest,
    Middle,
    Latest,
}

impl From<End> for OutageEnd {
    fn from(end: End) -> Self {
        match end {
            End::Earliest => OutageEnd::Earliest,
            End::Middle => OutageEnd::Middle,
            End::Latest => OutageEnd::Latest,
        }
    }
}

fn load(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(load) if (0.0..=1000.0).contains(&load) => Ok(load),
        _ => Err("write a factor from 0 to 1000, such as 1.5".to_owned()),
    }
}

impl Arguments {
    pub(super) fn run(self) -> io::Result<ExitCode> {
        let name = self.file.display().to_string();
        let (journal, history) = match read(&self.file) {
            Ok(read) => read,
            Err(problem) => return Ok(complain(&format!("{name}: {problem}"))),
        };
        let config = match with_settings(history.config(), &self.settings) {
            Ok(config) => config,
            Err(bad) => return Ok(complain(&bad)),
        };
        let requests = requests(&history) as f64 * self.scale_load * f64::from(self.seeds);
        if requests > MOST_REQUESTS {
            let most = MOST_REQUESTS as u64;
            return Ok(complain(&format!(
                "{requests:.0} requests to simulate, at most {most} are possible: ask for less"
            )));
        }
        let mut options = Options::default();
        (options.seed, options.seeds) = (self.seed, self.seeds);
        (options.load, options.outage_end) = (self.scale_load, self.outage_end.into());
        let about = about(&name, &journal, &history);
        let mut out = io::stdout().lock();
        writeln!(out, "{}", about.join("\n  "))?;
        let title = format!("What if: {name}");
        let (section, code) = match what_if(&history, &config, &options) {
            Ok(answer) => {
                writeln!(out, "{answer}")?;
                (what_if_section(title, about.join("\n\n"), &answer), ExitCode::SUCCESS)
            }
            Err(failure) => {
                writeln!(out, "FAILED {failure}")?;
                (failure_section(&about.join("\n\n"), &failure), ExitCode::from(FAILED))
            }
        };
        drop(out);
        let Some(file) = &self.html else { return Ok(code) };
        let written = write_page(file, &Page { title: section.title.clone(), sections: vec![section] })?;
        Ok(if written == ExitCode::SUCCESS { code } else { written })
    }
}

fn read(file: &Path) -> Result<(Journal, History), String> {
    let bytes = std::fs::read(file).map_err(|error| error.to_string())?;
    let journal = Journal::read(&bytes).map_err(|error| error.to_string())?;
    let history = History::from_journal(&journal).map_err(|deviation| deviation.to_string())?;
    if history.steps().is_empty() {
        let loss = journal.loss().map_or(String::new(), |loss| format!(": {loss}"));
        return Err(format!("the journal has no entries that can be read{loss}"));
    }
    let lasted = history.ends() - history.begins();
    if lasted > LONGEST {
        return Err(format!("the journal spans {} days, more than 31", lasted.as_secs() / (24 * 3600)));
    }
    Ok((journal, history))
}

fn requests(history: &History) -> usize {
    history.steps().iter().filter(|step| matches!(step.event, Event::Acquire { .. })).count()
}

/// What the journal is, for people: a few lines.
fn about(name: &str, journal: &Journal, history: &History) -> Vec<String> {
    let header = journal.header();
    let (requests, events) = (requests(history), history.steps().len());
    let lasted = (history.ends() - history.begins()).as_secs_f64();
    let begun = header.wall.iso(history.begins());
    let mut lines = vec![
        format!("{name}: {lasted:.1} s, {requests} requests, {events} events"),
        format!("recorded {}, from {begun} on, by pgweir {}", header.why, header.version),
    ];
    lines.extend(journal.loss().map(|loss| format!("WARNING: {loss}")));
    lines
}
