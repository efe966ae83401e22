//! From a file's text to a valid scenario: everything that serde cannot see is found here, each thing with its place.

use std::time::Duration;

use pgweir_core::config::PoolConfig;
use pgweir_core::pool::{State, Status};
use serde::Deserialize;

use super::error::Problem;
use super::expect::{AttemptsExpected, Expect, HealthExpected};
use super::step::{StepText, What};
use super::values::{self, Dist, Range, Scalar, show};
use super::{Group, Scenario, ServerSpec, Step};
use crate::yaml::{self, Part, Raw};

/// Longer runs are not outages any more.
const LONGEST: Duration = Duration::from_secs(31 * 24 * 3600);
/// More requests than this take minutes of real time.
const MOST_REQUESTS: f64 = 50e6;
const MOST_CLIENTS: u32 = 100_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScenarioText {
    name: String,
    #[serde(default)]
    about: String,
    #[serde(default = "super::one")]
    seed: u64,
    #[serde(deserialize_with = "values::duration")]
    duration: Duration,
    #[serde(default)]
    lazy: bool,
    #[serde(default = "a_little", deserialize_with = "values::duration")]
    timers_late_by: Duration,
    #[serde(default)]
    pool: Option<Raw>,
    #[serde(default)]
    server: ServerSpec,
    workload: Vec<Group>,
    #[serde(default)]
    timeline: Vec<StepText>,
    expect: Expect,
}

fn a_little() -> Duration {
    Duration::from_micros(50)
}

pub(super) fn scenario(text: &str) -> Result<Scenario, Vec<Problem>> {
    let read: ScenarioText = yaml::read(text).map_err(|misread| {
        let yaml::Misread { line, column, key, problem } = misread;
        vec![Problem { line, column, key, problem }]
    })?;
    let mut check = Check { text, problems: Vec::new() };
    let pool = check.pool(read.pool);
    let timeline = check.timeline(read.timeline);
    let mut scenario = Scenario {
        name: read.name,
        about: read.about.trim().to_owned(),
        seed: read.seed,
        duration: read.duration,
        lazy: read.lazy,
        timers_late_by: read.timers_late_by,
        pool: pool.unwrap_or_default(),
        server: read.server,
        workload: read.workload,
        timeline,
        expect: read.expect,
    };
    check.whole(&scenario);
    check.server(&scenario.server);
    for (index, group) in scenario.workload.iter().enumerate() {
        check.group(index, group, &scenario);
    }
    check.requests(&scenario);
    check.steps(&scenario);
    Expectations { check: &mut check, scenario: &scenario, expect: &scenario.expect }.all();
    if check.problems.is_empty() {
        scenario.timeline.sort_by_key(|step| step.at);
        Ok(scenario)
    } else {
        check.problems.sort_by_key(|problem| (problem.line, problem.column));
        Err(check.problems)
    }
}

struct Check<'a> {
    text: &'a str,
    problems: Vec<Problem>,
}

macro_rules! path {
    ($($part:expr),*) => { &[$(Part::from($part)),*] };
}

impl Check<'_> {
    fn say(&mut self, path: &[Part], problem: impl Into<String>) {
        let (line, column) = yaml::locate(self.text, path);
        self.problems.push(Problem { line, column, key: yaml::spell(path), problem: problem.into() });
    }

    fn require(&mut self, holds: bool, path: &[Part], problem: impl FnOnce() -> String) {
        if !holds {
            self.say(path, problem());
        }
    }

    /// The pool's configuration is read by its own rules. Their messages name fields, not places: a field that is wrong
    /// by itself is found by trying it alone.
    fn pool(&mut self, raw: Option<Raw>) -> Option<PoolConfig> {
        let raw = raw?;
        let problem = match yaml::read_raw::<PoolConfig>(raw.clone()) {
            Ok(pool) => {
                self.require(pool.hosts() == 1, path!["pool", "hosts"], || {
                    "must be 1: a scenario has one server".into()
                });
                return Some(pool);
            }
            Err(problem) => problem,
        };
        let alone = |key: &str, value: Raw| yaml::read_raw::<PoolConfig>(yaml::single(key, value)).err();
        let entries = yaml::entries(&raw);
        let mut found = false;
        for (key, value) in &entries {
            if let Some(own) = alone(key, value.clone())
                && problem.contains(&own)
            {
                found = true;
                self.say(path!["pool", key.as_str()], own);
            }
        }
        if !found {
            let first = problem.split(' ').next().unwrap_or_default();
            match entries.iter().find(|(key, _)| key == first) {
                Some((key, _)) => self.say(path!["pool", key.as_str()], problem),
                None => self.say(path!["pool"], problem),
            }
        }
        None
    }

    fn timeline(&mut self, steps: Vec<StepText>) -> Vec<Step> {
        let mut timeline = Vec::new();
        for (index, step) in steps.into_iter().enumerate() {
            let at = step.at;
            let mut all = step.all();
            match all.pop() {
                Some(what) if all.is_empty() => timeline.push(Step { at, what }),
                Some(what) => self.say(
                    path!["timeline", index],
                    format!("`{}` and `{}` at one step: give each its own", all[0].key(), what.key()),
                ),
                None => self.say(
                    path!["timeline", index],
                    "nothing happens: write for example `crash: {recovering: 5s}` or `recycle: {}`",
                ),
            }
        }
        timeline
    }

    fn whole(&mut self, scenario: &Scenario) {
        let duration = scenario.duration;
        self.require(!duration.is_zero() && duration <= LONGEST, path!["duration"], || {
            format!("`{}` must be more than 0 and at most 31 days", show(duration))
        });
        self.require(scenario.timers_late_by <= Duration::from_secs(1), path!["timers_late_by"], || {
            "must be at most 1s: what is later is a stopped process".into()
        });
        self.require(!scenario.name.trim().is_empty(), path!["name"], || "must not be empty".into());
    }

    fn server(&mut self, server: &ServerSpec) {
        self.require((1..=100_000).contains(&server.max_connections), path!["server", "max_connections"], || {
            format!("`{}` must be 1 to 100,000", server.max_connections)
        });
        self.require((1..=10_000).contains(&server.logins_at_once), path!["server", "logins_at_once"], || {
            format!("`{}` must be 1 to 10,000", server.logins_at_once)
        });
        self.ends(path!["server", "connect"], &server.connect);
        self.ends(path!["server", "round_trip"], &server.round_trip);
    }

    fn ends(&mut self, path: &[Part], dist: &Dist) {
        self.require(dist.mean() <= LONGEST, path, || {
            "must end: use `silence` for a server that does not answer".into()
        });
    }

    fn share(&mut self, path: &[Part], share: f64) {
        self.require((0.0..=1.0).contains(&share), path, || format!("`{share}` must be a share from 0 to 1"));
    }

    fn group(&mut self, index: usize, group: &Group, scenario: &Scenario) {
        let at = |key: &str| [Part::from("workload"), Part::from(index), Part::from(key)];
        match (group.clients, &group.every) {
            (Some(clients), None) => {
                self.require((1..=MOST_CLIENTS).contains(&clients), &at("clients"), || {
                    format!("`{clients}` must be 1 to {MOST_CLIENTS}")
                });
                self.require(
                    group.think.mean().saturating_add(group.hold.mean()) >= Duration::from_nanos(100),
                    &at("hold"),
                    || {
                        "clients that neither think nor hold make requests without end: give `think` or `hold` a time"
                            .into()
                    },
                );
            }
            (None, Some(every)) => {
                self.require(every.mean() >= Duration::from_nanos(100), &at("every"), || {
                    "must be at least 100ns in the mean".into()
                });
                self.require(group.think == super::no_time(), &at("think"), || {
                    "is for `clients`: an open loop does not wait for its answers".into()
                });
            }
            (Some(_), Some(_)) => {
                self.say(&at("every"), "is for an open loop and `clients` for a closed one: give one of the two");
            }
            (None, None) => {
                let path = [Part::from("workload"), Part::from(index)];
                self.say(&path, "who makes requests? Give `clients: 20` or `every: {exponential: 10ms}`");
            }
        }
        self.share(&at("abandon"), group.abandon);
        self.share(&at("broken"), group.broken);
        self.require(group.abandon + group.broken <= 1.0, &at("broken"), || {
            "`abandon` and `broken` together are more than all leases".into()
        });
        if let Some(cancel) = &group.cancel {
            let path = [Part::from("workload"), index.into(), "cancel".into(), "share".into()];
            self.share(&path, cancel.share);
        }
        let until = group.until.unwrap_or(scenario.duration);
        self.require(until <= scenario.duration, &at("until"), || {
            format!("`{}` is after the scenario's end ({})", show(until), show(scenario.duration))
        });
        self.require(group.from < until, &at("from"), || {
            format!("`{}` must be before the group's end ({})", show(group.from), show(until))
        });
        self.require(!group.command_timeout.is_zero(), &at("command_timeout"), || "must be more than 0".into());
    }

    /// A scenario that would take for ever is a slip of a unit.
    fn requests(&mut self, scenario: &Scenario) {
        let requests = |group: &Group| {
            let seconds = group.until.unwrap_or(scenario.duration).saturating_sub(group.from).as_secs_f64();
            match (group.clients, &group.every) {
                (Some(clients), _) => {
                    let cycle = group.think.mean().saturating_add(group.hold.mean()).as_secs_f64();
                    f64::from(clients) * seconds / cycle.max(1e-9)
                }
                (None, Some(every)) => seconds / every.mean().as_secs_f64().max(1e-9),
                (None, None) => 0.0,
            }
        };
        let total: f64 = scenario.workload.iter().map(requests).sum();
        self.require(total <= MOST_REQUESTS, path!["workload"], || {
            format!("would make about {:.0} million requests, more than 50 million: is a unit wrong?", total / 1e6)
        });
    }

    fn steps(&mut self, scenario: &Scenario) {
        let mut shut_down: Option<Duration> = None;
        let mut busy: Vec<(&'static str, Duration)> = Vec::new();
        let mut order: Vec<usize> = (0..scenario.timeline.len()).collect();
        order.sort_by_key(|index| scenario.timeline[*index].at);
        for index in order {
            let Step { at, what } = &scenario.timeline[index];
            let (key, lasts) = (what.key(), what.lasts());
            let here = path!["timeline", index, key];
            self.require(*at < scenario.duration, path!["timeline", index, "at"], || {
                format!("`{}` must be before the scenario's end ({})", show(*at), show(scenario.duration))
            });
            let of_pool = matches!(what, What::Shutdown(_) | What::Resize(_) | What::Pause(_) | What::Recycle);
            if let Some(end) = shut_down.filter(|_| of_pool) {
                self.say(here, format!("the pool is shut down at {} already", show(end)));
            }
            match what {
                What::Shutdown(_) => shut_down = shut_down.or(Some(*at)),
                What::Kill(kill) => self.share(path!["timeline", index, key, "share"], kill.share),
                What::MaxConnections(allowed) => {
                    self.require(*allowed > 0, here, || "must be at least 1; use `refuse_logins` for none".into());
                }
                What::Connect(dist) | What::RoundTrip(dist) => self.ends(here, dist),
                What::Resize(size) => {
                    self.require(
                        size.max_size > 0 && size.min_size <= size.max_size && size.max_size <= 10_000,
                        here,
                        || "max_size must be 1 to 10,000 and at least min_size".into(),
                    );
                }
                What::Silence(_) | What::RefuseLogins(_) | What::Pause(_) => {
                    self.require(!lasts.is_zero(), here, || "`for` must be more than 0".into());
                    if let Some((_, until)) = busy.iter().find(|(other, until)| *other == key && until > at) {
                        self.say(here, format!("the one before lasts until {}", show(*until)));
                    }
                    busy.push((key, at.saturating_add(lasts)));
                }
                What::Restart(_) | What::Crash(_) | What::OtherSessions(_) | What::Recycle => {}
            }
        }
    }
}

struct Expectations<'a, 'b> {
    check: &'a mut Check<'b>,
    scenario: &'a Scenario,
    expect: &'a Expect,
}

impl Expectations<'_, '_> {
    fn all(&mut self) {
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
        let outages = || self.scenario.timeline.iter().filter(|step| step.what.is_outage());
        let last = outages().map(|step| step.at.saturating_add(step.what.lasts())).max();
        for (key, time) in wanted {
            let Some(time) = time else { continue };
            let path = path!["expect", key];
            match last {
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
        self.range(path!["expect", "answers", "started"], &answers.started);
        for (key, range) in parts {
            self.range(path!["expect", "answers", key], range);
        }
        let least: u64 = parts.iter().filter_map(|(_, range)| range.and_then(|range| range.at_least)).sum();
        if let Some(most) = answers.started.and_then(|range| range.at_most)
            && least > most
        {
            let problem = format!("at most {most} requests cannot have {least} answers: the others add up to that");
            self.check.say(path!["expect", "answers", "started"], problem);
        }
        let no_limit = self.scenario.workload.iter().all(|group| group.timeout != Some(Duration::ZERO));
        if no_limit && answers.would_block.and_then(|range| range.at_least).unwrap_or(0) > 0 {
            self.check
                .say(path!["expect", "answers", "would_block"], "no group has `timeout: 0`: nobody calls try_get");
        }
    }

    fn waits(&mut self) {
        let waits = &self.expect.waits;
        for (key, range) in [("p50", &waits.p50), ("p99", &waits.p99), ("max", &waits.max)] {
            self.range(path!["expect", "waits", key], range);
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
                self.check.say(path!["expect", "waits", low], problem);
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
            let path = path!["expect", "attempts", index];
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
        let path = path!["expect", "states"];
        self.check.require(states.first() == Some(&State::Initializing), path, || {
            "must begin with `initializing`: every pool does".into()
        });
        for (index, pair) in states.windows(2).enumerate() {
            let path = path!["expect", "states", index + 1];
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
            self.range(path!["expect", "leaks", key], range);
        }
        self.range(path!["expect", "leaks", "first_held"], &leaks.first_held);
        let least = |range: &Option<Range<u64>>| range.and_then(|range| range.at_least).unwrap_or(0);
        let most = |range: &Option<Range<u64>>| range.and_then(|range| range.at_most).unwrap_or(u64::MAX);
        if least(&leaks.suspected) > most(&leaks.reports) {
            self.check
                .say(path!["expect", "leaks", "reports"], "is less than `suspected`: each is reported at least once");
        }
        if least(&leaks.resolved) > most(&leaks.suspected) {
            self.check.say(path!["expect", "leaks", "resolved"], "is more than `suspected`");
        }
        let own = self.scenario.workload.iter().any(|group| group.leak_after.is_some());
        if least(&leaks.suspected) > 0 && self.scenario.pool.leak_after().is_none() && !own {
            self.check
                .say(path!["expect", "leaks", "suspected"], "leak detection is off in `pool`: nothing is suspected");
        }
    }

    fn connections(&mut self) {
        let connections = &self.expect.connections;
        self.range(path!["expect", "connections", "opened"], &connections.opened);
        self.range(path!["expect", "connections", "peak"], &connections.peak);
        let resized = self.scenario.timeline.iter().filter_map(|step| match step.what {
            What::Resize(size) => Some(size.max_size),
            _ => None,
        });
        let most = resized.fold(self.scenario.pool.max_size(), u32::max);
        if let Some(least) = connections.peak.and_then(|range| range.at_least)
            && least > u64::from(most)
        {
            let problem = format!("{least} connections are more than max_size ({most}) allows");
            self.check.say(path!["expect", "connections", "peak"], problem);
        }
        let server = &self.expect.server;
        for (key, range) in [
            ("refused", &server.refused),
            ("peak_sessions", &server.peak_sessions),
            ("peak_logins", &server.peak_logins),
        ] {
            self.range(path!["expect", "server", key], range);
        }
    }

    fn shutdown(&mut self) {
        let Some(shutdown) = &self.expect.shutdown else { return };
        for (key, range) in
            [("finished", &shutdown.finished), ("forced", &shutdown.forced), ("rejected", &shutdown.rejected)]
        {
            self.range(path!["expect", "shutdown", key], range);
        }
        self.range(path!["expect", "shutdown", "took"], &shutdown.took);
        let shuts_down = self.scenario.timeline.iter().any(|step| matches!(step.what, What::Shutdown(_)));
        self.check.require(shuts_down, path!["expect", "shutdown"], || "there is no `shutdown` in the timeline".into());
    }
}

/// Whether a pool in `state` can have `status`.
fn agree(status: Status, state: State) -> bool {
    match state {
        State::Healthy => status == Status::Healthy,
        State::Degraded => status == Status::Degraded,
        State::Recovering | State::Initializing => status != Status::Healthy,
        State::Unhealthy | State::ShuttingDown | State::Terminated => status == Status::Unhealthy,
    }
}
