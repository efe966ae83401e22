//! Scenario files: a pool, a workload, a server, a timeline of faults, and what is expected of it all.
//!
//! A [`Scenario`] is always valid: it comes from a seed ([`draw`](crate::swarm::draw)) or from [`Scenario::from_yaml`], which refuses unknown keys, impossible values
//! and expectations that contradict each other, each with its place. The fields of the structures here are the keys of
//! the files. Durations are written `500ms`, `30s`, `5m`; where one says "distribution", `{uniform: [1ms, 9ms]}`,
//! `{exponential: 5ms}`, `{lognormal: {median: 2ms, p99: 50ms}}` and `{choice: [[0.95, 2ms], [0.05, 200ms]]}` will do as
//! well.
//!
//! A step of the timeline may say `host: b`, where the server has several, and `every: 20s, times: 3` to happen again.

mod check;
mod dist;
mod error;
mod expect;
mod step;
mod values;

use std::time::Duration;

use pgweir_core::config::PoolConfig;
use serde::{Deserialize, Serialize};

pub use dist::Dist;
pub use error::{BadScenario, Problem};
pub use expect::{
    Answers, AttemptsExpected, ConnectionsExpected, Expect, HealthExpected, LeaksExpected, ServerExpected,
    ShutdownExpected, WaitsExpected,
};
pub use step::{Crash, Cut, Demote, Kill, Partition, Resize, Restart, Sessions, Step, Suspend, What};
pub use values::{Range, Scalar, Written};
pub(crate) use values::{scale, show};

/// A whole scenario.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Scenario {
    /// What reports call it.
    pub name: String,
    /// What it is about, for people.
    pub about: String,
    /// Where all randomness comes from, unless a run is given another seed. Default: 1.
    pub seed: u64,
    /// How long it lasts, in virtual time. What is under way then is finished, the server brought back, and the pool
    /// shut down, so that a run always ends with everything answered and closed.
    #[serde(serialize_with = "values::write_duration")]
    pub duration: Duration,
    /// Whether the pool starts without waiting for its first connections, and without giving up. Default: false.
    pub lazy: bool,
    /// How late a timer of the pool may be. Default: 50 µs.
    #[serde(serialize_with = "values::write_duration")]
    pub timers_late_by: Duration,
    /// The pool's configuration, as in `pool` of a configuration file.
    pub pool: PoolConfig,
    /// The server.
    pub server: ServerSpec,
    /// Who uses the pool.
    pub workload: Vec<Group>,
    /// What happens, in order.
    pub timeline: Vec<Step>,
    /// What must come of it.
    pub expect: Expect,
}

/// The server at the beginning.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ServerSpec {
    /// Its hosts, in the order of the pool's configuration; each is as the other keys say. Default: one primary.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostSpec>,
    /// What it does with new connections. Default: up.
    pub state: ServerState,
    /// How long one login takes: a distribution. Default: 5 ms.
    pub connect: Dist,
    /// How many logins the server works on at once; others wait for their turn. Default: 2, which with 5 ms each is
    /// 400 a second.
    pub logins_at_once: u32,
    /// How long a round trip takes: a distribution. Default: 200 to 500 µs.
    pub round_trip: Dist,
    /// Sessions it allows. Default: 100.
    pub max_connections: u32,
    /// Sessions that others hold. Default: 0.
    pub other_sessions: u32,
}

impl Default for ServerSpec {
    fn default() -> Self {
        ServerSpec {
            hosts: Vec::new(),
            state: ServerState::Up,
            connect: Dist::Fixed(Duration::from_millis(5)),
            logins_at_once: 2,
            round_trip: Dist::Uniform(Duration::from_micros(200), Duration::from_micros(500)),
            max_connections: 100,
            other_sessions: 0,
        }
    }
}

/// One host of a server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct HostSpec {
    /// What steps and reports call it.
    pub name: String,
    /// What it is at the beginning. Default: primary.
    #[serde(default)]
    pub role: HostRole,
}

/// What a host is. A pool wants to write: a standby turns it away after the login, as `target_session_attrs` asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HostRole {
    /// It takes writes.
    #[default]
    Primary,
    /// It does not.
    Standby,
}

/// What a server does with new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// It takes them.
    Up,
    /// It answers 57P03, "the database system is starting up".
    Starting,
    /// It answers 57P03, "the database system is shutting down".
    Stopping,
    /// Nobody listens: refused.
    Down,
}

/// Callers that do the same.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Group {
    /// What reports call it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// A closed loop: this many callers, each with one request at a time. Either this or `every`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<u32>,
    /// An open loop: a new request so long after the last began, whatever has become of that: a distribution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Dist>,
    /// How many requests an open loop makes at once each time. Default: 1.
    #[serde(default = "one_at_once", skip_serializing_if = "is_one")]
    pub burst: u32,
    /// How long it takes until all take part: clients begin one after the other, and an open loop gets faster evenly.
    /// Default: 0.
    #[serde(
        default,
        deserialize_with = "values::duration",
        serialize_with = "values::write_duration",
        skip_serializing_if = "Duration::is_zero"
    )]
    pub ramp: Duration,
    /// How long a client of a closed loop pauses between requests: a distribution. After a request that was refused at
    /// once it is 1 ms at least. Default: 0.
    #[serde(default = "no_time", skip_serializing_if = "is_no_time")]
    pub think: Dist,
    /// How long a connection is held: a distribution.
    pub hold: Dist,
    /// How long an acquire waits instead of the pool's acquire_timeout; 0 is `try_get`.
    #[serde(
        default,
        deserialize_with = "values::some_duration",
        serialize_with = "values::write_some_duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub timeout: Option<Duration>,
    /// Queries sent per lease. Default: 1.
    #[serde(default = "one")]
    pub queries: u64,
    /// When the first request is made. Default: 0.
    #[serde(default, deserialize_with = "values::duration", serialize_with = "values::write_duration")]
    pub from: Duration,
    /// When the last is made. Default: the end.
    #[serde(
        default,
        deserialize_with = "values::some_duration",
        serialize_with = "values::write_some_duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub until: Option<Duration>,
    /// The share of leases dropped in the middle of a query or transaction: they come back dirty. Default: 0.
    #[serde(default, skip_serializing_if = "values::is_default")]
    pub abandon: f64,
    /// The share of leases that come back broken though the server is well. Default: 0.
    #[serde(default, skip_serializing_if = "values::is_default")]
    pub broken: f64,
    /// The share of leases that come back alive, but with the wish that they be closed. Default: 0.
    #[serde(default, skip_serializing_if = "values::is_default")]
    pub discard: f64,
    /// Requests whose future is dropped, wherever it is then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<Cancel>,
    /// Leases held for too long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaks: Option<Leaks>,
    /// The acquires' own leak limit instead of the pool's; 0 is none.
    #[serde(
        default,
        deserialize_with = "values::some_duration",
        serialize_with = "values::write_some_duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub leak_after: Option<Duration>,
    /// When a query that gets no answer is given up. Default: 60 s.
    #[serde(default = "a_minute", deserialize_with = "values::duration", serialize_with = "values::write_duration")]
    pub command_timeout: Duration,
}

/// Requests whose future is dropped.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Cancel {
    /// Which share of the requests.
    pub share: f64,
    /// How long after they were made: a distribution.
    pub after: Dist,
}

/// Leases held for too long.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Leaks {
    /// The first this many leases of the group.
    pub count: u32,
    /// For so long, instead of `hold`; `forever` is possible: a distribution.
    pub hold: Dist,
}

fn no_time() -> Dist {
    Dist::Fixed(Duration::ZERO)
}

fn is_no_time(dist: &Dist) -> bool {
    *dist == no_time()
}

fn one() -> u64 {
    1
}

fn one_at_once() -> u32 {
    1
}

// serde asks with a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_one(number: &u32) -> bool {
    *number == 1
}

fn a_minute() -> Duration {
    Duration::from_secs(60)
}

impl Scenario {
    /// Reads a scenario. `file` is what errors call it.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with line, column, key and what is expected there.
    pub fn from_yaml(file: &str, text: &str) -> Result<Scenario, BadScenario> {
        check::scenario(text).map_err(|problems| BadScenario { file: file.to_owned(), problems })
    }

    /// The text of a file that [`Scenario::from_yaml`] reads as this scenario.
    pub fn to_yaml(&self) -> String {
        crate::yaml::write(self).expect("a scenario has nothing that YAML has not")
    }

    /// The server's hosts, by position; one primary if none is named.
    pub(crate) fn hosts(&self) -> Vec<HostSpec> {
        match self.server.hosts.as_slice() {
            [] => vec![HostSpec { name: "db".to_owned(), role: HostRole::Primary }],
            hosts => hosts.to_vec(),
        }
    }

    /// Whether requests are made at `at`.
    pub(crate) fn is_open(&self, group: &Group, at: Duration) -> bool {
        at < self.duration && at >= group.from && group.until.is_none_or(|until| at < until)
    }
}
