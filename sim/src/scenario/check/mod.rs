//! From a file's text to a valid scenario: everything that serde cannot see is found here, each thing with its place.

mod expectations;
mod steps;

use std::time::Duration;

use pgweir_core::config::PoolConfig;
use serde::Deserialize;

use super::dist::Dist;
use super::error::Problem;
use super::expect::Expect;
use super::step::StepText;
use super::values::{self, show};
use super::{Group, HostRole, Scenario, ServerSpec};
use crate::yaml::{self, Part, Raw};
use expectations::Expectations;

/// Longer runs are not outages any more.
const LONGEST: Duration = Duration::from_secs(31 * 24 * 3600);
/// More requests than this take minutes of real time.
const MOST_REQUESTS: f64 = 50e6;
const MOST_CLIENTS: u32 = 100_000;
/// As many as a pool takes.
const MOST_HOSTS: usize = 64;

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
    let mut check = Check { text, problems: Vec::new(), places: Vec::new() };
    let pool = check.pool(read.pool, read.server.hosts.len());
    let timeline = check.timeline(read.timeline, read.duration);
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
    /// Which step of the text each step of the timeline comes from.
    places: Vec<usize>,
}

macro_rules! place {
    ($($part:expr),*) => { &[$($crate::yaml::Part::from($part)),*] };
}
use place;

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
    fn pool(&mut self, raw: Option<Raw>, hosts: usize) -> Option<PoolConfig> {
        let hosts = hosts.clamp(1, MOST_HOSTS) as u16;
        let Some(raw) = raw else { return PoolConfig::builder().hosts(hosts).build().ok() };
        let problem = match yaml::read_raw::<PoolConfig>(raw.clone()) {
            Ok(pool) => {
                let written = yaml::entries(&raw).iter().any(|(key, _)| key == "hosts");
                self.require(!written || pool.hosts() == hosts, place!["pool", "hosts"], || {
                    format!("must be {hosts}, as many as `server.hosts` has; it can be left out")
                });
                return pool.to_builder().hosts(hosts).build().ok();
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
                self.say(place!["pool", key.as_str()], own);
            }
        }
        if !found {
            let first = problem.split(' ').next().unwrap_or_default();
            match entries.iter().find(|(key, _)| key == first) {
                Some((key, _)) => self.say(place!["pool", key.as_str()], problem),
                None => self.say(place!["pool"], problem),
            }
        }
        None
    }

    fn whole(&mut self, scenario: &Scenario) {
        let duration = scenario.duration;
        self.require(!duration.is_zero() && duration <= LONGEST, place!["duration"], || {
            format!("`{}` must be more than 0 and at most 31 days", show(duration))
        });
        self.require(scenario.timers_late_by <= Duration::from_secs(1), place!["timers_late_by"], || {
            "must be at most 1s: what is later is a stopped process".into()
        });
        self.require(!scenario.name.trim().is_empty(), place!["name"], || "must not be empty".into());
    }

    fn server(&mut self, server: &ServerSpec) {
        self.require((1..=100_000).contains(&server.max_connections), place!["server", "max_connections"], || {
            format!("`{}` must be 1 to 100,000", server.max_connections)
        });
        self.require((1..=10_000).contains(&server.logins_at_once), place!["server", "logins_at_once"], || {
            format!("`{}` must be 1 to 10,000", server.logins_at_once)
        });
        self.require(server.hosts.len() <= MOST_HOSTS, place!["server", "hosts"], || {
            format!("{} are more than {MOST_HOSTS}", server.hosts.len())
        });
        for (index, host) in server.hosts.iter().enumerate() {
            let path = place!["server", "hosts", index, "name"];
            self.require(!host.name.trim().is_empty(), path, || "must not be empty".into());
            let known = server.hosts[..index].iter().any(|other| other.name == host.name);
            self.require(!known, path, || format!("another host is called `{}`", host.name));
        }
        let standby = !server.hosts.is_empty() && server.hosts.iter().all(|host| host.role == HostRole::Standby);
        self.require(!standby, place!["server", "hosts"], || "one of them must be the primary at the beginning".into());
        self.ends(place!["server", "connect"], &server.connect);
        self.ends(place!["server", "round_trip"], &server.round_trip);
    }

    fn ends(&mut self, path: &[Part], dist: &Dist) {
        self.require(dist.ends() && dist.mean() <= LONGEST, path, || {
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
                self.require(group.burst == 1, &at("burst"), || "is for an open loop: `every`".into());
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
                self.require((1..=MOST_CLIENTS).contains(&group.burst), &at("burst"), || {
                    format!("`{}` must be 1 to {MOST_CLIENTS}", group.burst)
                });
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
        self.share(&at("discard"), group.discard);
        self.require(group.abandon + group.broken + group.discard <= 1.0, &at("broken"), || {
            "`abandon`, `broken` and `discard` together are more than all leases".into()
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
        self.require(group.ramp <= until.saturating_sub(group.from), &at("ramp"), || {
            format!("`{}` is longer than the group makes requests", show(group.ramp))
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
                (None, Some(every)) => f64::from(group.burst) * seconds / every.mean().as_secs_f64().max(1e-9),
                (None, None) => 0.0,
            }
        };
        let total: f64 = scenario.workload.iter().map(requests).sum();
        self.require(total <= MOST_REQUESTS, place!["workload"], || {
            format!("would make about {:.0} million requests, more than 50 million: is a unit wrong?", total / 1e6)
        });
    }
}
