//! Statistics and health as operators read them: wall-clock times in ISO 8601, durations in milliseconds with the unit in
//! the name.

use std::time::Duration;

use serde::Serialize;

use crate::pool::{CloseReason, DatabaseStatus, FaultClass, Health, Histogram, State, Stats, Status};
use crate::time::{Instant, Wall};

/// All counters of a pool, from one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PoolStats {
    /// When the snapshot was taken.
    pub timestamp: String,
    /// When the pool was made.
    pub pool_created_at: String,
    /// Connections in any state: idle, active and the four transitional ones.
    pub total: u32,
    /// Ready to be lent.
    pub idle: u32,
    /// Lent.
    pub active: u32,
    /// Acquires in the queue.
    pub waiting: u32,
    /// Being opened.
    pub connecting: u32,
    /// Being checked.
    pub validating: u32,
    /// Being made fit for reuse.
    pub resetting: u32,
    /// Being closed.
    pub closing: u32,
    /// The bounds in force.
    pub min_size: u32,
    /// The bounds in force.
    pub max_size: u32,
    /// Acquires that got a connection.
    pub total_acquisitions: u64,
    /// Leases that came back.
    pub total_releases: u64,
    /// Mean time from acquire to grant.
    pub avg_acquisition_time_ms: f64,
    /// Most connections lent at once.
    pub peak_active_connections: u32,
    /// Most waiters at once.
    pub peak_waiting: u32,
    /// Longest time from acquire to grant.
    pub peak_wait_time_ms: f64,
    /// Acquires whose deadline passed.
    pub timeouts: u64,
    /// Acquires dropped before they had an answer.
    pub cancelled: u64,
    /// Acquires rejected for another reason.
    pub rejected: u64,
    /// Queries sent over all leases that came back.
    pub queries: u64,
    /// Connections opened.
    pub opened: u64,
    /// Connections closed, by reason; reasons that never occurred are left out.
    pub closed: Vec<ByReason>,
    /// Connect attempts.
    pub connect_attempts: u64,
    /// Connect attempts that followed a failure.
    pub reconnect_attempts: u64,
    /// Failed connects, by class; classes that never occurred are left out.
    pub connect_failures: Vec<ByClass>,
    /// Leases suspected of a leak now.
    pub suspected_leaks: u32,
    /// When a connection was last proved by a round trip.
    pub last_health_check: Option<String>,
    /// The last fault of any kind.
    pub last_error: Option<String>,
    /// When that was.
    pub last_error_time: Option<String>,
    /// Time from acquire to grant.
    pub wait: Summary,
    /// Time from grant to release.
    #[serde(rename = "use")]
    pub usage: Summary,
    /// Time from the start of a connect to its success.
    pub create: Summary,
}

/// A count by close reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ByReason {
    /// Why.
    pub reason: CloseReason,
    /// How often.
    pub count: u64,
}

/// A count by fault class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ByClass {
    /// What kind.
    pub class: FaultClass,
    /// How often.
    pub count: u64,
}

/// A histogram in five figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// How many.
    pub count: u64,
    /// Half took at most this.
    pub p50_ms: f64,
    /// 95 of 100 took at most this.
    pub p95_ms: f64,
    /// 99 of 100 took at most this.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl PoolStats {
    pub(crate) fn new(stats: &Stats, last_error: Option<(String, Instant)>, wall: Wall) -> Self {
        let (counts, totals) = (&stats.counts, &stats.totals);
        let closed = CloseReason::ALL.iter().map(|&reason| ByReason { reason, count: totals.closed.get(reason) });
        let failures =
            FaultClass::ALL.iter().map(|&class| ByClass { class, count: totals.connect_failures.get(class) });
        PoolStats {
            timestamp: wall.iso(stats.at),
            pool_created_at: wall.iso(stats.created),
            total: counts.total,
            idle: counts.idle,
            active: counts.active,
            waiting: counts.waiting,
            connecting: counts.connecting,
            validating: counts.validating,
            resetting: counts.resetting,
            closing: counts.closing,
            min_size: counts.min,
            max_size: counts.max,
            total_acquisitions: totals.acquisitions,
            total_releases: totals.releases,
            avg_acquisition_time_ms: ms(totals.wait.mean()),
            peak_active_connections: totals.peak_active,
            peak_waiting: totals.peak_waiting,
            peak_wait_time_ms: ms(totals.wait.max()),
            timeouts: totals.timeouts,
            cancelled: totals.cancelled,
            rejected: totals.rejected,
            queries: totals.queries,
            opened: totals.opened,
            closed: closed.filter(|by| by.count > 0).collect(),
            connect_attempts: totals.connects,
            reconnect_attempts: totals.reconnects,
            connect_failures: failures.filter(|by| by.count > 0).collect(),
            suspected_leaks: stats.leaks,
            last_health_check: totals.last_check.map(|at| wall.iso(at)),
            last_error_time: last_error.as_ref().map(|(_, at)| wall.iso(*at)),
            last_error: last_error.map(|(error, _)| error),
            wait: Summary::new(&totals.wait),
            usage: Summary::new(&totals.usage),
            create: Summary::new(&totals.create),
        }
    }
}

impl Summary {
    fn new(histogram: &Histogram) -> Self {
        Summary {
            count: histogram.count(),
            p50_ms: ms(histogram.percentile(50.0)),
            p95_ms: ms(histogram.percentile(95.0)),
            p99_ms: ms(histogram.percentile(99.0)),
            max_ms: ms(histogram.max()),
        }
    }
}

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
}

/// The counts that the health report shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PoolCounts {
    /// Connections in any state.
    pub total: u32,
    /// Ready to be lent.
    pub idle: u32,
    /// Lent.
    pub active: u32,
    /// Acquires in the queue.
    pub waiting: u32,
}

impl HealthReport {
    pub(crate) fn new(health: &Health, wall: Wall) -> Self {
        let counts = &health.counts;
        HealthReport {
            status: health.status,
            state: health.state,
            timestamp: wall.iso(health.at),
            database: DatabaseHealth {
                status: health.database,
                pool: PoolCounts {
                    total: counts.total,
                    idle: counts.idle,
                    active: counts.active,
                    waiting: counts.waiting,
                },
                latency_ms: health.latency.map(ms),
                last_error: health.last_error.as_ref().map(|(fault, _)| fault.to_string()),
            },
            uptime_seconds: health.uptime.as_secs_f64(),
            leak_count: health.leak_count,
            reasons: health.reasons.iter().map(ToString::to_string).collect(),
        }
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
