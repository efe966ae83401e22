//! A run for people: what became of the requests, the connect attempts, the states, a picture of the connections over
//! time, and whether the expectations hold.

use std::fmt::{self, Write};
use std::time::Duration;

use pgweir_core::time::Instant;

use crate::record::{COLUMNS, Chart, Record};
use crate::run::Outcome;
use crate::scenario::{Scenario, show};

/// Lines of attempts and states, at most.
const MOST_LINES: usize = 16;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Writes a report; shown with `{}`.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    scenario: &'a Scenario,
    outcome: &'a Outcome,
}

impl<'a> Report<'a> {
    /// A report of `outcome`, which came of `scenario`.
    pub fn new(scenario: &'a Scenario, outcome: &'a Outcome) -> Self {
        Report { scenario, outcome }
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { scenario, outcome } = self;
        let record = &outcome.record;
        writeln!(f, "{} (seed {}, digest {})", outcome.name, outcome.seed, outcome.digest)?;
        for line in scenario.about.lines() {
            writeln!(f, "  {}", line.trim())?;
        }
        chart(f, scenario, record)?;
        answers(f, record)?;
        attempts(f, record)?;
        states(f, record)?;
        rest(f, record)?;
        findings(f, outcome)
    }
}

fn heading(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    writeln!(f, "\n  {text}")
}

fn chart(f: &mut fmt::Formatter<'_>, scenario: &Scenario, record: &Record) -> fmt::Result {
    heading(
        f,
        &format!("0 to {}, each character {}", show(scenario.duration), show(scenario.duration / COLUMNS as u32)),
    )?;
    let columns = record.chart.columns();
    for (name, values) in [
        ("open", columns.iter().map(|column| column.open).collect::<Vec<_>>()),
        ("active", columns.iter().map(|column| column.active).collect()),
        ("waiting", columns.iter().map(|column| column.waiting).collect()),
    ] {
        let most = values.iter().copied().max().unwrap_or(0);
        writeln!(f, "    {name:>7} {} {most} at most", sparkline(&values, most))?;
    }
    if !scenario.timeline.is_empty() {
        let (marks, legend) = marks(scenario, &record.chart);
        writeln!(f, "            {marks}")?;
        for line in legend {
            writeln!(f, "            {line}")?;
        }
    }
    Ok(())
}

/// Zero is a dot; every other value is at least the lowest bar.
pub(crate) fn sparkline(values: &[u32], most: u32) -> String {
    let bar = |value: u32| match value {
        0 => '·',
        value => BARS[((u64::from(value) * 8).div_ceil(u64::from(most)) as usize).clamp(1, 8) - 1],
    };
    values.iter().map(|value| bar(*value)).collect()
}

/// A letter under the chart for each step of the timeline, and what they mean.
fn marks(scenario: &Scenario, chart: &Chart) -> (String, Vec<String>) {
    let mut marks = vec![' '; COLUMNS];
    let mut legend = Vec::new();
    for (step, letter) in scenario.timeline.iter().zip(('a'..='z').cycle()) {
        marks[chart.column(Instant::ZERO + step.at)] = letter;
        if legend.len() < MOST_LINES {
            legend.push(format!("{letter} {} {:?}", show(step.at), step.what));
        }
    }
    (marks.into_iter().collect::<String>().trim_end().to_owned(), legend)
}

fn answers(f: &mut fmt::Formatter<'_>, record: &Record) -> fmt::Result {
    let tally = &record.tally;
    heading(f, "requests")?;
    for (name, count) in [
        ("started", tally.started),
        ("succeeded", tally.succeeded),
        ("broken", tally.broken),
        ("timed out", tally.timed_out),
        ("unavailable", tally.unavailable),
        ("queue full", tally.queue_full),
        ("would block", tally.would_block),
        ("closed", tally.closed),
        ("cancelled", tally.cancelled),
        ("cut off", tally.cut_off),
    ] {
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

fn states(f: &mut fmt::Formatter<'_>, record: &Record) -> fmt::Result {
    heading(f, "states")?;
    for (at, state, reason) in record.states.iter().take(MOST_LINES) {
        writeln!(f, "    {:>10}  {state:?}: {reason}", moment(*at))?;
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

fn findings(f: &mut fmt::Formatter<'_>, outcome: &Outcome) -> fmt::Result {
    heading(f, "expectations (and every guarantee, after every step)")?;
    for finding in &outcome.findings {
        let mark = if finding.holds { "ok  " } else { "FAIL" };
        writeln!(f, "    {mark} {}: expected {}, seen {}", finding.key, finding.expected, finding.seen)?;
    }
    Ok(())
}

/// A moment: seconds with three digits.
fn moment(at: Instant) -> String {
    let mut text = String::new();
    let nanos = at.as_nanos();
    // Writing to a string does not fail.
    let _ = write!(text, "{}.{:03}s", nanos / 1_000_000_000, nanos / 1_000_000 % 1_000);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_show_nothing_little_and_all() {
        assert_eq!(sparkline(&[0, 1, 5, 10], 10), "·▁▄█");
        assert_eq!(sparkline(&[0, 0], 0), "··");
        assert_eq!(sparkline(&[u32::MAX], u32::MAX), "█");
    }
}
