//! A run for people: what became of the requests, the connect attempts, the states, a picture of the connections over
//! time, and whether the expectations hold.

use std::fmt;
use std::time::Duration;

use pgweir_core::pool::State;
use pgweir_core::time::Instant;

use super::lines::{COLUMNS, Paint, fold, moment, paint, sparkline};
use crate::chart::{Chart, PARTS, Part};
use crate::record::Record;
use crate::run::Outcome;
use crate::scenario::{Scenario, show};

/// Lines of attempts and states, at most.
const MOST_LINES: usize = 16;

/// Writes a report; shown with `{}`.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    scenario: &'a Scenario,
    outcome: &'a Outcome,
    coloured: bool,
}

impl<'a> Report<'a> {
    /// A report of `outcome`, which came of `scenario`.
    pub fn new(scenario: &'a Scenario, outcome: &'a Outcome) -> Self {
        Report { scenario, outcome, coloured: false }
    }

    /// The same in colours, for a terminal.
    #[must_use]
    pub fn coloured(self, coloured: bool) -> Self {
        Report { coloured, ..self }
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { scenario, outcome, coloured } = *self;
        let record = &outcome.record;
        writeln!(f, "{} (seed {}, digest {})", outcome.name, outcome.seed, outcome.digest)?;
        for line in scenario.about.lines() {
            writeln!(f, "  {}", line.trim())?;
        }
        chart(f, scenario, record, coloured)?;
        answers(f, record)?;
        attempts(f, record)?;
        states(f, record, coloured)?;
        rest(f, record)?;
        findings(f, outcome, coloured)
    }
}

fn heading(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    writeln!(f, "\n  {text}")
}

/// What a line of bars is called, and what it shows.
type Line = (&'static str, fn(&Part) -> u32);

fn chart(f: &mut fmt::Formatter<'_>, scenario: &Scenario, record: &Record, coloured: bool) -> fmt::Result {
    heading(
        f,
        &format!("0 to {}, each character {}", show(scenario.duration), show(scenario.duration / COLUMNS as u32)),
    )?;
    let parts = record.chart.parts();
    let values: [Line; 3] = [("open", Part::open), ("active", Part::active), ("waiting", Part::waiting)];
    for (name, value) in values {
        let columns = fold(parts.iter().map(value), PARTS);
        let most = columns.iter().copied().max().unwrap_or(0);
        writeln!(f, "    {name:>7} {} {most} at most", sparkline(&columns, most))?;
    }
    writeln!(f, "     health {}", health_line(&record.states, &record.chart, coloured))?;
    if !scenario.timeline.is_empty() {
        let (marks, legend) = marks(scenario, &record.chart);
        writeln!(f, "            {marks}")?;
        for line in legend {
            writeln!(f, "            {line}")?;
        }
    }
    let legend = [State::Healthy, State::Degraded, State::Recovering, State::Unhealthy];
    let legend = legend.map(|state| format!("{} {}", state_bar(state, coloured), format!("{state:?}").to_lowercase()));
    writeln!(f, "            health: {}", legend.join(", "))
}

/// The worst state in each column: the lower the worse.
fn health_line(states: &[(Instant, State, String)], chart: &Chart, coloured: bool) -> String {
    let mut columns = [None; COLUMNS];
    let mut state = State::Initializing;
    let mut from = 0;
    let after = chart.width() * PARTS as u32;
    for (at, next, _) in states.iter().filter(|(at, ..)| *at < Instant::ZERO + after) {
        let column = chart.column(*at, COLUMNS);
        for worst in &mut columns[from..=column] {
            *worst = (*worst).max(Some((badness(state), state)));
        }
        (state, from) = (*next, column);
        // What began in this column is in it too.
        columns[column] = columns[column].max(Some((badness(state), state)));
    }
    for worst in &mut columns[from..] {
        *worst = (*worst).max(Some((badness(state), state)));
    }
    columns.iter().map(|worst| worst.map_or(" ".to_owned(), |(_, state)| state_bar(state, coloured))).collect()
}

fn badness(state: State) -> u8 {
    match state {
        State::Terminated => 0,
        State::ShuttingDown => 1,
        State::Healthy => 2,
        State::Initializing => 3,
        State::Degraded => 4,
        State::Recovering => 5,
        State::Unhealthy => 6,
    }
}

fn state_paint(state: State) -> Paint {
    match state {
        State::Healthy => Paint::Green,
        State::Degraded => Paint::Yellow,
        State::Recovering => Paint::Cyan,
        State::Unhealthy => Paint::Red,
        State::Initializing | State::ShuttingDown | State::Terminated => Paint::Dim,
    }
}

fn state_bar(state: State, coloured: bool) -> String {
    let bar = match state {
        State::Healthy => "█",
        State::Degraded => "▅",
        State::Recovering => "▃",
        State::Unhealthy => "▁",
        State::Initializing | State::ShuttingDown => "-",
        State::Terminated => " ",
    };
    paint(coloured, state_paint(state), bar)
}

/// A letter under the chart for each step of the timeline, and what they mean.
fn marks(scenario: &Scenario, chart: &Chart) -> (String, Vec<String>) {
    let mut marks = vec![' '; COLUMNS];
    let mut legend = Vec::new();
    for (step, letter) in scenario.timeline.iter().zip(('a'..='z').cycle()) {
        marks[chart.column(Instant::ZERO + step.at, COLUMNS)] = letter;
        if legend.len() < MOST_LINES {
            legend.push(format!("{letter} {} {:?}", show(step.at), step.what));
        }
    }
    (marks.into_iter().collect::<String>().trim_end().to_owned(), legend)
}

fn answers(f: &mut fmt::Formatter<'_>, record: &Record) -> fmt::Result {
    let tally = &record.tally;
    heading(f, "requests")?;
    for (name, count) in tally.named() {
        if count > 0 || name == "started" {
            let share = count as f64 * 100.0 / tally.started.max(1) as f64;
            writeln!(f, "    {name:<12}{count:>10}  {share:>6.2} %")?;
        }
    }
    let waits = &record.waits;
    let percentiles = [50.0, 99.0].map(|percent| show(waits.percentile(percent)));
    writeln!(f, "    waited      p50 {}, p99 {}, at most {}", percentiles[0], percentiles[1], show(waits.max()))
}

fn attempts(f: &mut fmt::Formatter<'_>, record: &Record) -> fmt::Result {
    let failed = record.attempts.iter().filter(|attempt| attempt.fault.is_some()).count();
    heading(f, &format!("{} connect attempts, {failed} failed", record.attempts_total))?;
    let mut shown = 0;
    let mut index = 0;
    while let Some(first) = record.attempts.get(index) {
        // Attempts at the same time with the same end are one line.
        let text = |fault: &Option<_>| fault.as_ref().map_or("connected".to_owned(), ToString::to_string);
        let end = text(&first.fault);
        let alike = |other: &&crate::record::Attempt| other.at - first.at < SAME && text(&other.fault) == end;
        let count = record.attempts[index..].iter().take_while(alike).count();
        if shown == MOST_LINES {
            return writeln!(f, "    and {} more", record.attempts_total - index as u64);
        }
        let times = if count > 1 { format!("{count} × ") } else { String::new() };
        let took = first.ended.map_or(String::new(), |ended| format!(" after {}", show(ended - first.at)));
        writeln!(f, "    {:>10}  {times}{end}{took}", moment(first.at))?;
        index += count;
        shown += 1;
    }
    Ok(())
}

/// What begins within this is called the same time.
const SAME: Duration = Duration::from_millis(1);

fn states(f: &mut fmt::Formatter<'_>, record: &Record, coloured: bool) -> fmt::Result {
    heading(f, "states")?;
    for (at, state, reason) in record.states.iter().take(MOST_LINES) {
        let name = paint(coloured, state_paint(*state), &format!("{state:?}"));
        writeln!(f, "    {:>10}  {name}: {reason}", moment(*at))?;
    }
    match record.states.len().saturating_sub(MOST_LINES) {
        0 => Ok(()),
        more => writeln!(f, "    and {more} more"),
    }
}

fn rest(f: &mut fmt::Formatter<'_>, record: &Record) -> fmt::Result {
    if !record.leaks.is_empty() {
        heading(f, "leaks")?;
        for report in record.leaks.iter().take(MOST_LINES) {
            let (at, held) = (moment(report.at), show(report.held));
            writeln!(f, "    {at:>10}  held for {held}, report {}", report.report)?;
        }
        if record.leaks.len() > MOST_LINES {
            writeln!(f, "    and {} more", record.leaks.len() - MOST_LINES)?;
        }
    }
    if let Some((report, _)) = &record.shutdown {
        let (finished, forced, rejected) = (report.finished, report.forced, report.rejected);
        let took = show(report.duration);
        heading(f, &format!("shutdown: {finished} finished, {forced} forced, {rejected} rejected, in {took}"))?;
    }
    Ok(())
}

fn findings(f: &mut fmt::Formatter<'_>, outcome: &Outcome, coloured: bool) -> fmt::Result {
    heading(f, "expectations (and every guarantee, after every step)")?;
    for finding in &outcome.findings {
        let (mark, colour) = if finding.holds { ("ok  ", Paint::Green) } else { ("FAIL", Paint::Red) };
        let mark = paint(coloured, colour, mark);
        writeln!(f, "    {mark} {}: expected {}, seen {}", finding.key, finding.expected, finding.seen)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_shows_the_worst_of_each_column() {
        let chart = Chart::new(Duration::from_secs(COLUMNS as u64));
        let at = |millis, state| (Instant::from_millis(millis), state, String::new());
        let states = [
            at(500, State::Healthy),
            at(2_100, State::Unhealthy),
            at(2_200, State::Recovering),
            at(4_000, State::Healthy),
        ];
        let line = health_line(&states, &chart, false);
        assert_eq!(line, format!("-█▁▃▃{}", "█".repeat(COLUMNS - 5)));
        assert!(health_line(&[], &chart, true).starts_with("\x1b[2m-"));
    }
}
