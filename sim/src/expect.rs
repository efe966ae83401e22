//! What was expected beside what was seen.

use std::fmt::Display;
use std::time::Duration;

use pgweir_core::pool::State;
use pgweir_core::time::Instant;

use crate::record::{Attempt, OutageSeen, Record};
use crate::scenario::{AttemptsExpected, HealthExpected, Range, Scalar, Scenario, show};

/// One expectation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The key in the scenario file.
    pub key: String,
    /// What was expected.
    pub expected: String,
    /// What was seen.
    pub seen: String,
    /// Whether it holds.
    pub holds: bool,
}

/// How far a time may be off unless the file says so.
const TOLERANCE: Duration = Duration::from_millis(100);
/// What an answer and a late timer may add to a gap.
const GAP_SLACK: Duration = Duration::from_millis(10);

/// Compares everything that a scenario expects.
pub(crate) fn compare(scenario: &Scenario, record: &Record) -> Vec<Finding> {
    let mut findings = Findings { all: Vec::new(), scenario, record };
    findings.outages();
    findings.answers();
    for (index, expected) in scenario.expect.attempts.iter().enumerate() {
        findings.attempts(index, expected);
    }
    for (index, expected) in scenario.expect.health.iter().enumerate() {
        findings.health(index, expected);
    }
    findings.states();
    findings.leaks();
    findings.connections();
    findings.shutdown();
    findings.all
}

struct Findings<'a> {
    all: Vec<Finding>,
    scenario: &'a Scenario,
    record: &'a Record,
}

impl Findings<'_> {
    fn add(&mut self, key: impl Into<String>, expected: impl Display, seen: impl Display, holds: bool) {
        self.all.push(Finding { key: key.into(), expected: expected.to_string(), seen: seen.to_string(), holds });
    }

    fn range<T: Scalar + PartialOrd>(&mut self, key: impl Into<String>, range: Option<Range<T>>, seen: T) {
        if let Some(range) = range {
            self.add(key, range, seen.spell(), range.holds(seen));
        }
    }

    fn outages(&mut self) {
        let (expect, record) = (&self.scenario.expect, self.record);
        let since = |from: Option<Instant>, to: Option<Instant>| Some(to?.saturating_since(from?));
        type Measure<'a> = &'a dyn Fn(&OutageSeen) -> Option<Duration>;
        let measures: [(&str, Option<Duration>, Measure<'_>); 3] = [
            ("noticed_within", expect.noticed_within, &|seen| since(Some(seen.from), seen.noticed)),
            ("recovered_within", expect.recovered_within, &|seen| since(seen.back, seen.recovered)),
            ("first_grant_within", expect.first_grant_within, &|seen| since(seen.back, seen.granted)),
        ];
        for (key, expected, measure) in measures {
            let Some(most) = expected else { continue };
            let times: Vec<Option<Duration>> = record.outages.iter().map(measure).collect();
            let holds = !times.is_empty() && times.iter().all(|time| time.is_some_and(|time| time <= most));
            let spelt: Vec<String> = times.iter().map(|time| time.map_or("never".to_owned(), show)).collect();
            self.add(key, format!("at most {}", show(most)), spelt.join(", "), holds);
        }
    }

    fn answers(&mut self) {
        let (expected, tally) = (&self.scenario.expect.answers, &self.record.tally);
        for (key, range, seen) in [
            ("started", expected.started, tally.started),
            ("succeeded", expected.succeeded, tally.succeeded),
            ("broken", expected.broken, tally.broken),
            ("timed_out", expected.timed_out, tally.timed_out),
            ("unavailable", expected.unavailable, tally.unavailable),
            ("queue_full", expected.queue_full, tally.queue_full),
            ("would_block", expected.would_block, tally.would_block),
            ("closed", expected.closed, tally.closed),
            ("cancelled", expected.cancelled, tally.cancelled),
            ("cut_off", expected.cut_off, tally.cut_off),
        ] {
            self.range(format!("answers.{key}"), range, seen);
        }
        let (expected, waits) = (&self.scenario.expect.waits, &self.record.waits);
        self.range("waits.p50", expected.p50, waits.percentile(50.0));
        self.range("waits.p99", expected.p99, waits.percentile(99.0));
        self.range("waits.max", expected.max, waits.max());
    }

    fn attempts(&mut self, index: usize, expected: &AttemptsExpected) {
        let from = Instant::ZERO + expected.from;
        let until = Instant::ZERO + expected.until.unwrap_or(self.scenario.duration);
        let seen: Vec<&Attempt> =
            self.record.attempts.iter().filter(|attempt| attempt.at >= from && attempt.at < until).collect();
        let key = |name: &str| format!("attempts[{index}].{name}");
        self.range(key("count"), expected.count, seen.len() as u64);
        if let Some(most) = expected.at_once {
            let seen = most_at_once(&seen);
            self.add(key("at_once"), format!("at most {most}"), seen, seen <= most);
        }
        if let Some(times) = &expected.times {
            let within = expected.within.unwrap_or(TOLERANCE);
            let close = |(attempt, time): (&&Attempt, &Duration)| {
                let seen = attempt.at - Instant::ZERO;
                seen.abs_diff(*time) <= within
            };
            let holds = seen.len() == times.len() && seen.iter().zip(times).all(close);
            let spelt = list(seen.iter().map(|attempt| attempt.at - Instant::ZERO));
            self.add(key("times"), format!("{} ± {}", list(times.iter().copied()), show(within)), spelt, holds);
        }
        if let Some(gaps) = &expected.gaps {
            let between = |pair: &[&Attempt]| Some(pair[1].at.saturating_since(pair[0].ended?));
            let seen: Vec<Duration> = seen.windows(2).filter_map(between).collect();
            let jitter = self.scenario.pool.backoff_jitter();
            let close = |(seen, gap): (&Duration, &Duration)| seen.abs_diff(*gap) <= gap.mul_f64(jitter) + GAP_SLACK;
            let holds = seen.len() == gaps.len() && seen.iter().zip(gaps).all(close);
            let expected = format!("{} ± {:.0} %", list(gaps.iter().copied()), jitter * 100.0);
            self.add(key("gaps"), expected, list(seen.into_iter()), holds);
        }
    }

    fn health(&mut self, index: usize, expected: &HealthExpected) {
        let key = |name: &str| format!("health[{index}].{name} at {}", show(expected.at));
        let Some(seen) = &self.record.looks[index] else {
            return self.add(key("status"), "health", "nothing", false);
        };
        if let Some(status) = expected.status {
            let reasons: Vec<String> = seen.reasons.iter().map(ToString::to_string).collect();
            let spelt = match reasons.is_empty() {
                true => format!("{:?}", seen.status),
                false => format!("{:?} ({})", seen.status, reasons.join("; ")),
            };
            self.add(key("status"), format!("{status:?}"), spelt, seen.status == status);
        }
        if let Some(state) = expected.state {
            self.add(key("state"), format!("{state:?}"), format!("{:?}", seen.state), seen.state == state);
        }
        for (name, range, seen) in [
            ("total", expected.total, seen.counts.total),
            ("idle", expected.idle, seen.counts.idle),
            ("active", expected.active, seen.counts.active),
            ("waiting", expected.waiting, seen.counts.waiting),
            ("leaks", expected.leaks, seen.leak_count),
        ] {
            self.range(key(name), range, u64::from(seen));
        }
    }

    fn states(&mut self) {
        let Some(expected) = &self.scenario.expect.states else { return };
        let within = self.record.states.iter().take(self.record.states_within);
        let seen: Vec<State> = std::iter::once(State::Initializing).chain(within.map(|(_, state, _)| *state)).collect();
        let spell = |states: &[State]| states.iter().map(|state| format!("{state:?}")).collect::<Vec<_>>().join(", ");
        self.add("states", spell(expected), spell(&seen), *expected == seen);
    }

    fn leaks(&mut self) {
        let Some(expected) = &self.scenario.expect.leaks else { return };
        let reports = &self.record.leaks;
        let suspected = reports.iter().filter(|report| report.report == 1).count();
        self.range("leaks.suspected", expected.suspected, suspected as u64);
        self.range("leaks.reports", expected.reports, reports.len() as u64);
        self.range("leaks.resolved", expected.resolved, self.record.leaks_resolved);
        if let Some(range) = expected.first_held {
            match reports.first() {
                Some(report) => self.range("leaks.first_held", Some(range), report.held),
                None => self.add("leaks.first_held", range, "no report", false),
            }
        }
    }

    fn connections(&mut self) {
        let (expect, record) = (&self.scenario.expect, self.record);
        self.range("connections.opened", expect.connections.opened, record.opened);
        self.range("connections.peak", expect.connections.peak, u64::from(record.peak));
        self.range("server.refused", expect.server.refused, record.refused);
        self.range("server.peak_sessions", expect.server.peak_sessions, record.peak_sessions);
        self.range("server.peak_logins", expect.server.peak_logins, record.peak_logins);
    }

    fn shutdown(&mut self) {
        let Some(expected) = &self.scenario.expect.shutdown else { return };
        let Some((report, true)) = &self.record.shutdown else {
            return self.add("shutdown", "a shutdown", "the pool ended by itself", false);
        };
        self.range("shutdown.finished", expected.finished, u64::from(report.finished));
        self.range("shutdown.forced", expected.forced, u64::from(report.forced));
        self.range("shutdown.rejected", expected.rejected, u64::from(report.rejected));
        self.range("shutdown.took", expected.took, report.duration);
    }
}

fn list(times: impl Iterator<Item = Duration>) -> String {
    /// More are not read.
    const MOST: usize = 20;
    let all: Vec<String> = times.map(show).collect();
    match all.len() {
        0 => "none".to_owned(),
        n if n > MOST => format!("{}, and {} more", all[..MOST].join(", "), n - MOST),
        _ => all.join(", "),
    }
}

/// Attempts that were under way at the same time, at most.
fn most_at_once(attempts: &[&Attempt]) -> u64 {
    let starts = attempts.iter().map(|attempt| (attempt.at, 1));
    let ends = attempts.iter().filter_map(|attempt| attempt.ended.map(|end| (end, -1)));
    let mut changes: Vec<(Instant, i64)> = starts.chain(ends).collect();
    // An end before a start at the same moment.
    changes.sort_unstable();
    let mut under_way = 0;
    let mut most = 0;
    for (_, change) in changes {
        under_way += change;
        most = most.max(under_way);
    }
    most.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_at_once_are_counted() {
        let attempt = |from: u64, to: u64| Attempt {
            at: Instant::from_secs(from),
            ended: Some(Instant::from_secs(to)),
            fault: None,
        };
        let all = [attempt(1, 3), attempt(2, 4), attempt(3, 5), attempt(9, 10)];
        assert_eq!(most_at_once(&all.iter().collect::<Vec<_>>()), 2);
        assert_eq!(most_at_once(&[]), 0);
    }
}
