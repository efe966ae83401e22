//! All counters.

use serde::Serialize;

use super::rows::HostRow;
use super::{LastError, Scale, Summary, ms};
use crate::pool::{CloseReason, Fault, FaultClass, HostStatus, State, Stats};
use crate::time::Instant;

/// All counters of a pool, from one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PoolStats {
    /// When the snapshot was taken.
    pub timestamp: String,
    /// When the pool was made.
    pub pool_created_at: String,
    /// The pool's state.
    pub state: State,
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
    /// Connections that are kept open.
    pub min_size: u32,
    /// Connections at most.
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
    /// Leases that were ever suspected of a leak.
    pub total_suspected_leaks: u64,
    /// Round trips that proved a connection.
    pub validations: u64,
    /// When a connection was last proved by a round trip.
    pub last_health_check: Option<String>,
    /// The last fault of any kind.
    pub last_error: Option<String>,
    /// What the pool made of it.
    pub last_error_class: Option<FaultClass>,
    /// The server's code, if it said why.
    pub last_error_sqlstate: Option<String>,
    /// When that was.
    pub last_error_time: Option<String>,
    /// Time from acquire to grant, of every grant: of those that were taken back too.
    pub wait: Summary,
    /// Time from grant to release.
    #[serde(rename = "use")]
    pub usage: Summary,
    /// Time from the start of a connect to its success.
    pub create: Summary,
    /// Each host.
    pub hosts: Vec<HostRow>,
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

impl PoolStats {
    pub(crate) fn new(
        stats: &Stats,
        state: State,
        last_error: Option<&(Fault, Instant)>,
        hosts: &[HostStatus],
        scale: &Scale<'_>,
    ) -> Self {
        let (counts, totals, wall) = (&stats.counts, &stats.totals, scale.wall);
        let LastError { error, class, sqlstate, time } = LastError::new(last_error, wall);
        let closed = CloseReason::ALL.iter().map(|&reason| ByReason { reason, count: totals.closed.get(reason) });
        let failures =
            FaultClass::ALL.iter().map(|&class| ByClass { class, count: totals.connect_failures.get(class) });
        PoolStats {
            timestamp: wall.iso(stats.at),
            pool_created_at: wall.iso(stats.created),
            state,
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
            total_suspected_leaks: totals.leaks_suspected,
            validations: totals.validations,
            last_health_check: totals.last_check.map(|at| wall.iso(at)),
            last_error: error,
            last_error_class: class,
            last_error_sqlstate: sqlstate,
            last_error_time: time,
            wait: Summary::new(&totals.wait),
            usage: Summary::new(&totals.usage),
            create: Summary::new(&totals.create),
            hosts: hosts.iter().map(|host| HostRow::new(host, scale)).collect(),
        }
    }
}
