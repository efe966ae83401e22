//! What a scenario is expected to come to.
//!
//! The guarantees of the pool (one answer per acquire, first come first served, and so on) are not written here: they
//! are checked after every step of every run.

use std::time::Duration;

use pgweir_core::pool::{State, Status};
use serde::{Deserialize, Serialize};

use super::values::{self, Range};

/// What is expected; what is not mentioned may be anything.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Expect {
    /// From the beginning of each outage until the pool says that it is down, at most.
    #[serde(
        deserialize_with = "values::some_duration",
        serialize_with = "values::write_some_duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub noticed_within: Option<Duration>,
    /// From the moment that the server takes connections again until min_size are open, at most.
    #[serde(
        deserialize_with = "values::some_duration",
        serialize_with = "values::write_some_duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub recovered_within: Option<Duration>,
    /// From the moment that the server takes connections again until an acquire succeeds, at most.
    #[serde(
        deserialize_with = "values::some_duration",
        serialize_with = "values::write_some_duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub first_grant_within: Option<Duration>,
    /// What became of the requests.
    #[serde(skip_serializing_if = "values::is_default")]
    pub answers: Answers,
    /// How long acquires waited that were granted.
    #[serde(skip_serializing_if = "values::is_default")]
    pub waits: WaitsExpected,
    /// Connect attempts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptsExpected>,
    /// Health at some moments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub health: Vec<HealthExpected>,
    /// The states that the pool went through, from the first to the last within `duration`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub states: Option<Vec<State>>,
    /// Leak reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaks: Option<LeaksExpected>,
    /// The pool's connections.
    #[serde(skip_serializing_if = "values::is_default")]
    pub connections: ConnectionsExpected,
    /// What the server saw.
    #[serde(skip_serializing_if = "values::is_default")]
    pub server: ServerExpected,
    /// What the shutdown in the timeline came to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shutdown: Option<ShutdownExpected>,
}

/// Requests by outcome. Every request has exactly one.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Answers {
    /// All of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Range<u64>>,
    /// Granted, used, given back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<Range<u64>>,
    /// The connection ended under its caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<Range<u64>>,
    /// No connection within the acquire's time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timed_out: Option<Range<u64>>,
    /// Told that the database is down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<Range<u64>>,
    /// Refused because max_waiting others waited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_full: Option<Range<u64>>,
    /// `try_get` with nothing ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would_block: Option<Range<u64>>,
    /// Told that the pool is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed: Option<Range<u64>>,
    /// Dropped by their caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancelled: Option<Range<u64>>,
    /// Cut off by a shutdown while they used their connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut_off: Option<Range<u64>>,
}

/// How long acquires waited that were granted.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct WaitsExpected {
    /// The median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50: Option<Range<Duration>>,
    /// The 99th percentile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99: Option<Range<Duration>>,
    /// The longest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Range<Duration>>,
}

/// Connect attempts that start within a window.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct AttemptsExpected {
    /// Where the window begins. Default: 0.
    #[serde(default, deserialize_with = "values::duration", serialize_with = "values::write_duration")]
    pub from: Duration,
    /// Where it ends. Default: the end.
    #[serde(
        default,
        deserialize_with = "values::some_duration",
        serialize_with = "values::write_some_duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub until: Option<Duration>,
    /// How many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<Range<u64>>,
    /// How many under way at once, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_once: Option<u64>,
    /// When each of them starts, in order.
    #[serde(
        default,
        deserialize_with = "values::durations",
        serialize_with = "values::write_durations",
        skip_serializing_if = "Option::is_none"
    )]
    pub times: Option<Vec<Duration>>,
    /// How far a time may be off. Default: 100 ms.
    #[serde(
        default,
        deserialize_with = "values::some_duration",
        serialize_with = "values::write_some_duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub within: Option<Duration>,
    /// From the end of each to the start of the next, in order; the pool's backoff_jitter is allowed for.
    #[serde(
        default,
        deserialize_with = "values::durations",
        serialize_with = "values::write_durations",
        skip_serializing_if = "Option::is_none"
    )]
    pub gaps: Option<Vec<Duration>>,
}

/// Health at one moment.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct HealthExpected {
    /// When.
    #[serde(deserialize_with = "values::duration", serialize_with = "values::write_duration")]
    pub at: Duration,
    /// Whether work can be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// The pool's state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// All connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Range<u64>>,
    /// Idle connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<Range<u64>>,
    /// Lent connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<Range<u64>>,
    /// Acquires in the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Range<u64>>,
    /// Leases suspected of a leak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaks: Option<Range<u64>>,
}

/// Leak reports.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct LeaksExpected {
    /// Leases that were suspected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspected: Option<Range<u64>>,
    /// Reports about them: each is reported again at doubling intervals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reports: Option<Range<u64>>,
    /// Suspected leases that came back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Range<u64>>,
    /// How long the first of them had been held when it was reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_held: Option<Range<Duration>>,
}

/// The pool's connections.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ConnectionsExpected {
    /// Opened within `duration`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened: Option<Range<u64>>,
    /// At once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak: Option<Range<u64>>,
}

/// What the server saw.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ServerExpected {
    /// Connection attempts that it refused or did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Range<u64>>,
    /// Sessions of the pool at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_sessions: Option<Range<u64>>,
    /// Logins that were under way or waited for their turn at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_logins: Option<Range<u64>>,
}

/// What a shutdown came to.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ShutdownExpected {
    /// Leases that came back in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished: Option<Range<u64>>,
    /// Leases that were cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forced: Option<Range<u64>>,
    /// Queued acquires that were rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Range<u64>>,
    /// How long it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took: Option<Range<Duration>>,
}
