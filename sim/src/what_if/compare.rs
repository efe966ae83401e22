//! What was recorded, what its simulation came to, and what another configuration would have: side by side.

use std::time::Duration;

use super::Measures;
use crate::scenario::show;

/// One figure.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Figure {
    Count(u64),
    Time(Duration),
    /// There was nothing to measure.
    None,
}

impl Figure {
    /// For comparisons: counts as they are, times in seconds.
    fn number(self) -> Option<f64> {
        match self {
            Figure::Count(count) => Some(count as f64),
            Figure::Time(time) => Some(time.as_secs_f64()),
            Figure::None => None,
        }
    }

    fn text(self) -> String {
        match self {
            Figure::Count(count) => count.to_string(),
            Figure::Time(time) => show(time),
            Figure::None => "-".to_owned(),
        }
    }
}

/// When a figure of the simulation is too far from the recorded one to be trusted.
#[derive(Clone, Copy, Debug)]
enum Tolerance {
    /// 5 % of the requests, and at least 5.
    Requests,
    /// A quarter of the larger, and at least 2.
    Count,
    /// Half of the larger, and at least 10 ms.
    Wait,
    /// Half of the larger, and at least 1 s.
    Outage,
    /// It is no measure of the simulation.
    Any,
}

struct Measure {
    name: &'static str,
    figure: fn(&Measures) -> Figure,
    tolerance: Tolerance,
    /// Whether the row is shown even if it is zero everywhere.
    always: bool,
}

const fn row(name: &'static str, figure: fn(&Measures) -> Figure, tolerance: Tolerance, always: bool) -> Measure {
    Measure { name, figure, tolerance, always }
}

fn time(time: Option<Duration>) -> Figure {
    time.map_or(Figure::None, Figure::Time)
}

fn wait(measures: &Measures, percent: f64) -> Figure {
    if measures.waits.count() == 0 { Figure::None } else { Figure::Time(measures.waits.percentile(percent)) }
}

const ROWS: [Measure; 24] = [
    row("requests", |m| Figure::Count(m.requests), Tolerance::Any, true),
    row("granted", |m| Figure::Count(m.granted), Tolerance::Requests, true),
    row("timed out", |m| Figure::Count(m.timed_out), Tolerance::Requests, true),
    row("unavailable", |m| Figure::Count(m.unavailable), Tolerance::Requests, true),
    row("queue full", |m| Figure::Count(m.queue_full), Tolerance::Requests, false),
    row("would block", |m| Figure::Count(m.would_block), Tolerance::Requests, false),
    row("closed", |m| Figure::Count(m.closed), Tolerance::Requests, false),
    row("cancelled", |m| Figure::Count(m.cancelled), Tolerance::Requests, false),
    row("broken", |m| Figure::Count(m.broken), Tolerance::Requests, false),
    row("wait p50", |m| wait(m, 50.0), Tolerance::Wait, true),
    row("wait p99", |m| wait(m, 99.0), Tolerance::Wait, true),
    // One request decides it.
    row("wait at most", |m| wait(m, 100.0), Tolerance::Any, true),
    row("connections opened", |m| Figure::Count(m.opened), Tolerance::Count, true),
    row("connect attempts", |m| Figure::Count(m.attempts), Tolerance::Count, true),
    row("attempts failed", |m| Figure::Count(m.attempts_failed), Tolerance::Count, true),
    row("connections at most", |m| Figure::Count(m.peak_open), Tolerance::Count, true),
    row("lent at most", |m| Figure::Count(m.peak_lent), Tolerance::Count, true),
    row("waiting at most", |m| Figure::Count(m.peak_waiting), Tolerance::Any, true),
    row("outages", |m| Figure::Count(m.outages), Tolerance::Count, false),
    row("first grant after", |m| time(m.first_grant), Tolerance::Outage, false),
    row("recovered after", |m| time(m.recovery), Tolerance::Outage, false),
    row("time unhealthy", |m| Figure::Time(m.unhealthy), Tolerance::Outage, false),
    row("time degraded", |m| Figure::Time(m.degraded), Tolerance::Any, false),
    row("leaks suspected", |m| Figure::Count(m.leaks), Tolerance::Count, false),
];

/// A row of the comparison, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Row {
    /// What it counts.
    pub name: &'static str,
    /// What was recorded.
    pub recorded: String,
    /// What the simulation of the recorded configuration came to. With several seeds: the median and, if they differ,
    /// the range.
    pub simulated: String,
    /// What the simulation of the other configuration came to, likewise; empty if there is none.
    pub changed: String,
    /// Whether the first two are too far apart.
    pub is_off: bool,
}

/// The comparison. What is zero or missing everywhere is left out, unless it is always of interest.
pub(super) fn rows(recorded: &Measures, simulated: &[Measures], changed: &[Measures]) -> Vec<Row> {
    let idle = |figure: Figure| matches!(figure, Figure::None | Figure::Count(0) | Figure::Time(Duration::ZERO));
    let mut rows = Vec::new();
    for measure in &ROWS {
        let figures = |all: &[Measures]| all.iter().map(measure.figure).collect::<Vec<Figure>>();
        let (before, simulated, changed) = ((measure.figure)(recorded), figures(simulated), figures(changed));
        if !measure.always && std::iter::once(&before).chain(&simulated).chain(&changed).all(|figure| idle(*figure)) {
            continue;
        }
        rows.push(Row {
            name: measure.name,
            recorded: before.text(),
            is_off: is_off(before, median(&simulated), measure.tolerance, recorded.requests),
            simulated: spread(simulated),
            changed: spread(changed),
        });
    }
    rows
}

fn is_off(recorded: Figure, simulated: Figure, tolerance: Tolerance, requests: u64) -> bool {
    let (before, after) = (recorded.number(), simulated.number());
    let larger = before.unwrap_or(0.0).max(after.unwrap_or(0.0));
    let allowed = match tolerance {
        Tolerance::Requests => (requests as f64 * 0.05).max(5.0),
        Tolerance::Count => (larger * 0.25).max(2.0),
        Tolerance::Wait => (larger * 0.5).max(0.01),
        Tolerance::Outage => (larger * 0.5).max(1.0),
        Tolerance::Any => return false,
    };
    match (before, after) {
        (Some(before), Some(after)) => (before - after).abs() > allowed,
        // One of them has nothing to measure.
        _ => larger > allowed,
    }
}

fn sorted(mut figures: Vec<Figure>) -> Vec<Figure> {
    figures.sort_by(|one, other| one.number().partial_cmp(&other.number()).unwrap_or(std::cmp::Ordering::Equal));
    figures
}

fn median(figures: &[Figure]) -> Figure {
    let figures = sorted(figures.to_vec());
    figures.get(figures.len() / 2).copied().unwrap_or(Figure::None)
}

fn spread(figures: Vec<Figure>) -> String {
    let figures = sorted(figures);
    match (figures.first(), figures.last()) {
        (Some(least), Some(most)) if least.text() != most.text() => {
            format!("{} ({} to {})", median(&figures).text(), least.text(), most.text())
        }
        (Some(only), _) => only.text(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_seeds_are_a_median_and_a_range() {
        let of = |list: &[u64]| spread(list.iter().map(|count| Figure::Count(*count)).collect());
        assert_eq!(of(&[7, 3, 5]), "5 (3 to 7)");
        assert_eq!(of(&[4, 4]), "4");
        assert_eq!(of(&[]), "");
        assert_eq!(spread(vec![Figure::Time(Duration::from_millis(5)), Figure::None]), "5ms (- to 5ms)");
    }

    #[test]
    fn far_off_is_what_the_rule_says() {
        let count = Figure::Count;
        assert!(!is_off(count(100), count(149), Tolerance::Requests, 1000));
        assert!(is_off(count(100), count(151), Tolerance::Requests, 1000));
        assert!(!is_off(count(8), count(10), Tolerance::Count, 1) && is_off(count(7), count(10), Tolerance::Count, 1));
        let millis = |millis| Figure::Time(Duration::from_millis(millis));
        assert!(
            !is_off(millis(1), millis(11), Tolerance::Wait, 1) && is_off(millis(1), millis(12), Tolerance::Wait, 1)
        );
        assert!(!is_off(millis(900), Figure::None, Tolerance::Outage, 1));
        assert!(is_off(Figure::None, millis(1100), Tolerance::Outage, 1));
        assert!(!is_off(count(0), count(1_000_000), Tolerance::Any, 1));
    }
}
