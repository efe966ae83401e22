//! One line per lease, per waiter, per host.

use serde::Serialize;

use super::{LastError, Scale, ms};
use crate::error::LeaseInfo;
use crate::pool::{FaultClass, HostStatus, Role};
use crate::time::Instant;

/// A lease: who holds a connection.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct HolderRow {
    /// The connection's id, as in the log.
    pub conn: String,
    /// Its process id on the server, as in `pg_stat_activity`.
    pub backend_pid: Option<i32>,
    /// For how long it has been held.
    pub held_ms: f64,
    /// Since when.
    pub since: String,
    /// The source line that acquired it.
    pub location: Option<String>,
    /// The name of the tracing span it was acquired in.
    pub span: Option<&'static str>,
    /// Queries run so far.
    pub queries: Option<u64>,
}

impl HolderRow {
    pub(super) fn new(lease: &LeaseInfo, scale: &Scale<'_>) -> Self {
        HolderRow {
            conn: lease.conn.to_string(),
            backend_pid: lease.backend_pid,
            held_ms: ms(lease.held),
            since: scale.wall.iso(lease.since),
            location: lease.location.map(ToString::to_string),
            span: lease.span,
            queries: lease.queries,
        }
    }
}

/// An acquire in the queue.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct WaiterRow {
    /// Its place in the queue, from 1.
    pub position: usize,
    /// For how long it has waited.
    pub waited_ms: f64,
    /// Since when.
    pub since: String,
    /// How long it will go on waiting at most; null for ever.
    pub gives_up_in_ms: Option<f64>,
    /// The source line that asked.
    pub location: Option<String>,
}

/// An acquire in the queue, with its source line.
pub(crate) type Waiting = (crate::pool::Queued, Option<&'static std::panic::Location<'static>>);

impl WaiterRow {
    pub(super) fn new(ahead: usize, (waiter, location): &Waiting, scale: &Scale<'_>) -> Self {
        WaiterRow {
            position: ahead + 1,
            waited_ms: ms(scale.now - waiter.since),
            since: scale.wall.iso(waiter.since),
            gives_up_in_ms: (waiter.deadline < Instant::MAX).then(|| ms(waiter.deadline - scale.now)),
            location: location.map(ToString::to_string),
        }
    }
}

/// A host.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct HostRow {
    /// Where it is.
    pub host: String,
    /// What it was when a connection was last opened there.
    pub role: Role,
    /// Whether the last attempt to connect to it went well, or none was made yet.
    pub reachable: bool,
    /// Connections open to it.
    pub connections: u32,
    /// Connections being opened to it.
    pub connecting: u32,
    /// Connects begun.
    pub attempts: u64,
    /// Connects that failed.
    pub failures: u64,
    /// The last failed connect or lost connection.
    pub last_error: Option<String>,
    /// What the pool made of it.
    pub last_error_class: Option<FaultClass>,
    /// The server's code, if it said why.
    pub last_error_sqlstate: Option<String>,
    /// When that was.
    pub last_error_time: Option<String>,
}

impl HostRow {
    pub(super) fn new(status: &HostStatus, scale: &Scale<'_>) -> Self {
        let LastError { error, class, sqlstate, time } = LastError::new(status.last_error.as_ref(), scale.wall);
        HostRow {
            host: scale.host_name(status.host).to_owned(),
            role: status.role,
            reachable: status.reachable,
            connections: status.connections,
            connecting: status.connecting,
            attempts: status.attempts,
            failures: status.failures,
            last_error: error,
            last_error_class: class,
            last_error_sqlstate: sqlstate,
            last_error_time: time,
        }
    }
}
