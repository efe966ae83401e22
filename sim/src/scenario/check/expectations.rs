//! Expectations that contradict each other, or that nothing in the scenario could meet.

use std::time::Duration;

use pgweir_core::pool::State;

use super::{Check, place};
use crate::oracle::agree;
use crate::scenario::expect::{AttemptsExpected, Expect, HealthExpected};
use crate::scenario::step::What;
use crate::scenario::values::{Range, Scalar, show};
use crate::scenario::{Scenario, Step};
use crate::yaml::Part;

pub(super) struct Expectations<'a, 'b> {
    pub(super) check: &'a mut Check<'b>,
    pub(super) scenario: &'a Scenario,
    pub(super) expect: &'a Expect,
}

impl Expectations<'_, '_> {
    pub(super) fn all(&mut self) {
        self.outages();
        self.answers();
        self.waits();
        for (index, attempts) in self.expect.attempts.iter().enumerate() {
            self.attempts(index, attempts);
        }
        for (index, health) in self.expect.health.iter().enumerate() {
            self.health(index, health);
        }
        self.states();
        self.leaks();
        self.connections();
        self.shutdown();
    }

    fn outages(&mut self) {
        let expect = self.expect;
        let wanted = [
            ("noticed_within", expect.noticed_within),
            ("recovered_within", expect.recovered_within),
            ("first_grant_within", expect.first_grant_within),
        ];
        let last = last_outage(self.scenario);
        for (key, time) in wanted {
            let Some(time) = time else { continue };
            let path = place!["expect", key];
            let sleeps = self.scenario.timeline.iter().all(|step| matches!(step.what, What::Suspend(_)));
            match last.filter(|_| key != "noticed_within" || !sleeps) {
                None => self.check.say(path, "there is no outage in the timeline: nothing can be measured"),
                Some(back) if back.saturating_add(time) > self.scenario.duration => self.check.say(
                    path,
                    format!(
                        "the server is back at {}, but the scenario ends at {}: that is too early to see it",
                        show(back),
                        show(self.scenario.duration)
                    ),
                ),
                Some(_) => {}
            }
        }
    }

    fn range<T: Scalar + PartialOrd>(&mut self, path: &[Part], range: &Option<Range<T>>) {
        if let Some(range) = range.filter(Range::is_empty) {
            self.check.say(path, format!("nothing can be {range}: at_least is more than at_most"));
        }
    }

    fn answers(&mut self) {
        let answers = &self.expect.answers;
        let parts = [
            ("succeeded", &answers.succeeded),
            ("broken", &answers.broken),
            ("timed_out", &answers.timed_out),
            ("unavailable", &answers.unavailable),
            ("queue_full", &answers.queue_full),
            ("would_block", &answers.would_block),
            ("closed", &answers.closed),
            ("cancelled", &answers.cancelled),
            ("cut_off", &answers.cut_off),
        ];
        self.range(place!["expect", "answers", "started"], &answers.started);
        for (key, range) in parts {
            self.range(place!["expect", "answers", key], range);
        }
        let least: u64 = parts.iter().filter_map(|(_, range)| range.and_then(|range| range.at_least)).sum();
        if let Some(most) = answers.started.and_then(|range| range.at_most)
            && least > most
        {
            let problem = format!("at most {most} requests cannot have {least} answers: the others add up to that");
            self.check.say(place!["expect", "answers", "started"], problem);
        }
        let no_limit = self.scenario.workload.iter().all(|group| group.timeout != Some(Duration::ZERO));
        if no_limit && answers.would_block.and_then(|range| range.at_least).unwrap_or(0) > 0 {
            self.check
                .say(place!["expect", "answers", "would_block"], "no group has `timeout: 0`: nobody calls try_get");
        }
    }

    fn waits(&mut self) {
        let waits = &self.expect.waits;
        for (key, range) in [("p50", &waits.p50), ("p99", &waits.p99), ("max", &waits.max)] {
            self.range(place!["expect", "waits", key], range);
        }
        for (low, less, high, more) in [
            ("p50", &waits.p50, "p99", &waits.p99),
            ("p99", &waits.p99, "max", &waits.max),
            ("p50", &waits.p50, "max", &waits.max),
        ] {
            let (least, most) = (less.and_then(|range| range.at_least), more.and_then(|range| range.at_most));
            if let (Some(least), Some(most)) = (least, most)
                && least > most
            {
                let problem = format!("{low} is to be at least {} and {high} at most {}", show(least), show(most));
                self.check.say(place!["expect", "waits", low], problem);
            }
        }
    }

    fn attempts(&mut self, index: usize, expected: &AttemptsExpected) {
        let at = |key: &str| [Part::from("expect"), "attempts".into(), index.into(), key.into()];
        let until = expected.until.unwrap_or(self.scenario.duration);
        let check = &mut *self.check;
        check.require(expected.from < until && until <= self.scenario.duration, &at("from"), || {
            format!("from `{}` to `{}` is no part of the scenario", show(expected.from), show(until))
        });
        let lengths = [
            ("times", expected.times.as_ref().map(Vec::len)),
            ("gaps", expected.gaps.as_ref().map(|gaps| gaps.len() + 1)),
        ];
        for (key, length) in lengths {
            let (Some(length), Some(count)) = (length, expected.count) else { continue };
            check.require(count.holds(length as u64), &at(key), || {
                format!("makes {length} attempts, but `count` is {count}")
            });
        }
        if let [(_, Some(times)), (_, Some(gaps))] = lengths {
            check.require(times == gaps, &at("gaps"), || format!("makes {gaps} attempts, but `times` has {times}"));
        }
        if let Some(times) = &expected.times {
            check.require(times.is_sorted(), &at("times"), || "must be in order".into());
            let inside = times.iter().all(|time| (expected.from..until).contains(time));
            check.require(inside, &at("times"), || "must be between `from` and `until`".into());
        }
        check.require(expected.within.is_none() || expected.times.is_some(), &at("within"), || {
            "is for `times`, and there are none".into()
        });
        self.range(&at("count"), &expected.count);
        let says = expected.count.is_some() || expected.at_once.is_some();
        if !says && expected.times.is_none() && expected.gaps.is_none() {
            let path = place!["expect", "attempts", index];
            self.check.say(path, "expects nothing: give `count`, `at_once`, `times` or `gaps`");
        }
    }

    fn health(&mut self, index: usize, expected: &HealthExpected) {
        let at = |key: &str| [Part::from("expect"), "health".into(), index.into(), key.into()];
        let end = self.scenario.duration;
        self.check.require(expected.at <= end, &at("at"), || {
            format!("`{}` is after the scenario's end ({})", show(expected.at), show(end))
        });
        for (key, range) in [
            ("total", &expected.total),
            ("idle", &expected.idle),
            ("active", &expected.active),
            ("waiting", &expected.waiting),
            ("leaks", &expected.leaks),
        ] {
            self.range(&at(key), range);
        }
        if let (Some(status), Some(state)) = (expected.status, expected.state) {
            self.check.require(agree(status, state), &at("status"), || {
                format!("a pool in state {state:?} is never {status:?}")
            });
        }
        if let (Some(state), Some(states)) = (expected.state, &self.expect.states) {
            self.check
                .require(states.contains(&state), &at("state"), || format!("{state:?} is not among `expect.states`"));
        }
        for other in self.expect.health[..index].iter().filter(|other| other.at == expected.at) {
            let differs = |one: bool, key: &str| one.then(|| key.to_owned());
            let status = other.status.is_some() && expected.status.is_some() && other.status != expected.status;
            let state = other.state.is_some() && expected.state.is_some() && other.state != expected.state;
            if let Some(key) = differs(status, "status").or_else(|| differs(state, "state")) {
                self.check.say(&at(&key), format!("another one is expected at {} above", show(expected.at)));
            }
        }
    }

    fn states(&mut self) {
        let Some(states) = &self.expect.states else { return };
        let path = place!["expect", "states"];
        self.check.require(states.first() == Some(&State::Initializing), path, || {
            "must begin with `initializing`: every pool does".into()
        });
        for (index, pair) in states.windows(2).enumerate() {
            let path = place!["expect", "states", index + 1];
            self.check.require(crate::oracle::is_legal(pair[0], pair[1]), path, || {
                format!("{:?} never follows {:?}", pair[1], pair[0])
            });
        }
    }

    fn leaks(&mut self) {
        let Some(leaks) = &self.expect.leaks else { return };
        for (key, range) in
            [("suspected", &leaks.suspected), ("reports", &leaks.reports), ("resolved", &leaks.resolved)]
        {
            self.range(place!["expect", "leaks", key], range);
        }
        self.range(place!["expect", "leaks", "first_held"], &leaks.first_held);
        let least = |range: &Option<Range<u64>>| range.and_then(|range| range.at_least).unwrap_or(0);
        let most = |range: &Option<Range<u64>>| range.and_then(|range| range.at_most).unwrap_or(u64::MAX);
        if least(&leaks.suspected) > most(&leaks.reports) {
            self.check
                .say(place!["expect", "leaks", "reports"], "is less than `suspected`: each is reported at least once");
        }
        if least(&leaks.resolved) > most(&leaks.suspected) {
            self.check.say(place!["expect", "leaks", "resolved"], "is more than `suspected`");
        }
        let own = self.scenario.workload.iter().any(|group| group.leak_after.is_some());
        if least(&leaks.suspected) > 0 && self.scenario.pool.leak_after().is_none() && !own {
            self.check
                .say(place!["expect", "leaks", "suspected"], "leak detection is off in `pool`: nothing is suspected");
        }
    }

    fn connections(&mut self) {
        let connections = &self.expect.connections;
        self.range(place!["expect", "connections", "opened"], &connections.opened);
        self.range(place!["expect", "connections", "peak"], &connections.peak);
        let resized = self.scenario.timeline.iter().filter_map(|step| match step.what {
            What::Resize(size) => Some(size.max_size),
            _ => None,
        });
        let most = resized.fold(self.scenario.pool.max_size(), u32::max);
        if let Some(least) = connections.peak.and_then(|range| range.at_least)
            && least > u64::from(most)
        {
            let problem = format!("{least} connections are more than max_size ({most}) allows");
            self.check.say(place!["expect", "connections", "peak"], problem);
        }
        let server = &self.expect.server;
        for (key, range) in [
            ("refused", &server.refused),
            ("peak_sessions", &server.peak_sessions),
            ("peak_logins", &server.peak_logins),
        ] {
            self.range(place!["expect", "server", key], range);
        }
    }

    fn shutdown(&mut self) {
        let Some(shutdown) = &self.expect.shutdown else { return };
        for (key, range) in
            [("finished", &shutdown.finished), ("forced", &shutdown.forced), ("rejected", &shutdown.rejected)]
        {
            self.range(place!["expect", "shutdown", key], range);
        }
        self.range(place!["expect", "shutdown", "took"], &shutdown.took);
        let shuts_down = self.scenario.timeline.iter().any(|step| matches!(step.what, What::Shutdown(_)));
        self.check
            .require(shuts_down, place!["expect", "shutdown"], || "there is no `shutdown` in the timeline".into());
    }
}

/// When the last outage of the timeline is over, if there is one. With several hosts it is over when another one takes
/// over.
fn last_outage(scenario: &Scenario) -> Option<Duration> {
    let several = scenario.server.hosts.len() > 1;
    let over = |step: &Step| match step.what {
        What::Promote => Some(step.at),
        _ if !step.what.is_outage() => None,
        _ if several => Some(step.at),
        _ => Some(step.at.saturating_add(step.what.lasts())),
    };
    scenario.timeline.iter().any(|step| step.what.is_outage()).then_some(())?;
    scenario.timeline.iter().filter_map(over).max()
}
