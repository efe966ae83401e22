//! Whether work can be done, and why not.

use serde::Serialize;

use super::rows::{HolderRow, HostRow};
use super::{LastError, Scale, ms};
use crate::error::LeaseInfo;
use crate::pool::{self, Counts, DatabaseStatus, FaultClass, Health, HostStatus, State, Status};

/// Whether work can be done, and why not.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct HealthReport {
    /// healthy, degraded or unhealthy.
    pub status: Status,
    /// The pool's state.
    pub state: State,
    /// When this was true.
    pub timestamp: String,
    /// The database behind the pool.
    pub database: DatabaseHealth,
    /// How long the pool has existed.
    pub uptime_seconds: f64,
    /// Leases suspected of a leak now.
    pub leak_count: u32,
    /// Why the pool is not healthy; empty when it is.
    pub reasons: Vec<String>,
    /// The outage, while there is one.
    pub outage: Option<OutageReport>,
    /// Each host.
    pub hosts: Vec<HostRow>,
    /// Who has held a connection for longest, at most five.
    pub holders: Vec<HolderRow>,
}

/// The database, as far as the pool knows.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DatabaseHealth {
    /// connected, disconnected or connecting.
    pub status: DatabaseStatus,
    /// Connections and waiters.
    pub pool: PoolCounts,
    /// How long the last round trip of a check took.
    pub latency_ms: Option<f64>,
    /// The last fault of any kind.
    pub last_error: Option<String>,
    /// What the pool made of it.
    pub last_error_class: Option<FaultClass>,
    /// The server's code, if it said why.
    pub last_error_sqlstate: Option<String>,
    /// When that was.
    pub last_error_time: Option<String>,
}

/// The counts that the health report shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PoolCounts {
    /// Connections in any state.
    pub total: u32,
    /// Ready to be lent.
    pub idle: u32,
    /// Lent.
    pub active: u32,
    /// Acquires in the queue.
    pub waiting: u32,
    /// Connections that are kept open.
    pub min_size: u32,
    /// Connections at most.
    pub max_size: u32,
    /// Connections that are open or could be: less than `max_size` while connects fail or the server is full.
    pub serviceable: u32,
}

/// What is known of an outage.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct OutageReport {
    /// The last connect failure.
    pub cause: String,
    /// What the pool made of it.
    pub class: FaultClass,
    /// The server's code, if it said why.
    pub sqlstate: Option<String>,
    /// When the outage began.
    pub since: String,
    /// How long it lasts.
    pub duration_ms: f64,
    /// Connect attempts since it began.
    pub attempts: u32,
    /// How long until the next attempt; null while one is in flight.
    pub next_attempt_in_ms: Option<f64>,
}

/// Leases in a health report.
pub(crate) const HOLDERS: usize = 5;

impl HealthReport {
    pub(crate) fn new(health: &Health, hosts: &[HostStatus], holders: &[LeaseInfo], scale: &Scale<'_>) -> Self {
        let wall = scale.wall;
        let LastError { error, class, sqlstate, time } = LastError::new(health.last_error.as_ref(), wall);
        HealthReport {
            status: health.status,
            state: health.state,
            timestamp: wall.iso(health.at),
            database: DatabaseHealth {
                status: health.database,
                pool: PoolCounts::new(&health.counts, health.serviceable),
                latency_ms: health.latency.map(ms),
                last_error: error,
                last_error_class: class,
                last_error_sqlstate: sqlstate,
                last_error_time: time,
            },
            uptime_seconds: health.uptime.as_secs_f64(),
            leak_count: health.leak_count,
            reasons: health.reasons.iter().map(ToString::to_string).collect(),
            outage: health.outage.as_ref().map(|outage| OutageReport::new(outage, health, scale)),
            hosts: hosts.iter().map(|host| HostRow::new(host, scale)).collect(),
            holders: holders.iter().map(|lease| HolderRow::new(lease, scale)).collect(),
        }
    }
}

impl PoolCounts {
    fn new(counts: &Counts, serviceable: u32) -> Self {
        PoolCounts {
            total: counts.total,
            idle: counts.idle,
            active: counts.active,
            waiting: counts.waiting,
            min_size: counts.min,
            max_size: counts.max,
            serviceable,
        }
    }
}

impl OutageReport {
    fn new(outage: &pool::OutageReport, health: &Health, scale: &Scale<'_>) -> Self {
        OutageReport {
            cause: outage.cause.to_string(),
            class: outage.cause.class,
            sqlstate: outage.cause.sqlstate.map(|code| code.to_string()),
            since: scale.wall.iso(outage.since),
            duration_ms: ms(health.at - outage.since),
            attempts: outage.attempts,
            next_attempt_in_ms: outage.next_attempt.map(|at| ms(at - health.at)),
        }
    }
}
