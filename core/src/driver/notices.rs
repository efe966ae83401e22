//! Turns the machine's notices into tracing events with stable names and fields, and its rejections into errors.

use std::panic::Location;
use std::time::Duration;

use super::sites::Sites;
use crate::error::{AcquireError, AcquireTimeout, LeaseInfo, Unavailable};
use crate::pool::{CloseReason, ConnId, Counts, Fault, Holder, Notice, Reject, State};
use crate::time::Instant;

/// Something to log once the lock is released.
pub(crate) enum Report {
    /// A notice, with the source line it speaks of.
    Notice(Notice, Option<&'static Location<'static>>),
    /// An acquire that failed.
    Rejected(AcquireError),
}

/// Looks up the source line that a notice speaks of.
pub(crate) fn resolve(notice: Notice, sites: &Sites) -> Report {
    let site = match &notice {
        Notice::LeakSuspected { holder, .. } | Notice::LeakResolved { holder } | Notice::ForcedClose { holder } => {
            Some(holder.site)
        }
        Notice::AcquireSlow { site, .. } => Some(*site),
        _ => None,
    };
    Report::Notice(notice, site.and_then(|site| sites.location(site)))
}

/// The error that a caller gets.
pub(crate) fn acquire_error(reason: Reject, now: Instant, lease: impl Fn(&Holder) -> LeaseInfo) -> AcquireError {
    match reason {
        Reject::Timeout(report) => AcquireError::Timeout(Box::new(AcquireTimeout {
            waited: report.waited,
            phase: report.phase,
            counts: report.counts,
            position: report.position,
            last_fault: report.last_fault,
            holders: report.holders.iter().map(lease).collect(),
        })),
        Reject::Unavailable(report) => AcquireError::Unavailable(Box::new(Unavailable {
            cause: report.cause,
            attempts: report.attempts,
            lasting: now - report.since,
            next_attempt_in: report.next_attempt.map(|at| at - now),
            waited: report.waited,
        })),
        Reject::WouldBlock => AcquireError::WouldBlock,
        Reject::QueueFull { max_waiting } => AcquireError::QueueFull { max_waiting },
        Reject::Closed => AcquireError::Closed,
    }
}

impl Report {
    /// Emits the event. Runs without the lock.
    pub(crate) fn emit(&self) {
        match self {
            Report::Rejected(error) => emit_rejection(error),
            Report::Notice(notice, location) => {
                let location = location.map(tracing::field::display);
                emit_connection(notice);
                emit_lease(notice, location);
                emit_outage(notice);
                emit_lifecycle(notice);
            }
        }
    }
}

/// Whether anybody listens to each acquire and release: the hot path pays for this question only.
#[inline]
pub(crate) fn lease_events() -> bool {
    tracing::enabled!(tracing::Level::DEBUG)
}

pub(crate) fn acquired(conn: ConnId, waited: Duration, counts: &Counts) {
    tracing::debug!(
        name: "pgweir.lease.acquired",
        %conn,
        wait_us = us(waited),
        total = counts.total,
        active = counts.active,
        idle = counts.idle,
        waiting = counts.waiting,
        "connection acquired"
    );
}

pub(crate) fn released(conn: ConnId, held: Duration, queries: u64) {
    tracing::debug!(name: "pgweir.lease.released", %conn, held_ms = ms(held), queries, "connection released");
}

fn emit_rejection(error: &AcquireError) {
    match error {
        AcquireError::Timeout(report) => tracing::error!(
            name: "pgweir.acquire.timeout",
            waited_ms = ms(report.waited),
            phase = ?report.phase,
            total = report.counts.total,
            active = report.counts.active,
            idle = report.counts.idle,
            waiting = report.counts.waiting,
            max = report.counts.max,
            position = report.position,
            "acquire timed out: {error}"
        ),
        // One line per caller would be a storm of its own; the outage has its events.
        error => tracing::debug!(name: "pgweir.acquire.rejected", "acquire rejected: {error}"),
    }
}

fn emit_connection(notice: &Notice) {
    match notice {
        Notice::Opened { conn, took } => {
            tracing::debug!(name: "pgweir.connection.opened", %conn, duration_ms = ms(*took), "connection opened");
        }
        Notice::ConnectFailed { conn, fault, took } => tracing::warn!(
            name: "pgweir.connection.failed",
            %conn,
            class = ?fault.class,
            sqlstate = sqlstate(fault),
            cause = %fault.message,
            duration_ms = ms(*took),
            "connect failed: {fault}"
        ),
        Notice::Validated { conn, took } => {
            tracing::debug!(name: "pgweir.connection.validated", %conn, duration_us = us(*took), "connection validated");
        }
        Notice::ValidationFailed { conn, fault } => tracing::warn!(
            name: "pgweir.connection.invalid",
            %conn,
            class = ?fault.class,
            sqlstate = sqlstate(fault),
            cause = %fault.message,
            "connection failed its check and is replaced: {fault}"
        ),
        Notice::Recycled { conn, age, reason } => tracing::info!(
            name: "pgweir.connection.recycled",
            %conn,
            age_ms = ms(*age),
            reason = close_reason(*reason),
            "connection recycled: {}",
            close_reason(*reason)
        ),
        Notice::Shrunk { from, to } => {
            tracing::info!(name: "pgweir.pool.shrunk", from, to, "pool shrunk from {from} to {to} connections");
        }
        _ => {}
    }
}

fn emit_lease(notice: &Notice, location: Option<tracing::field::DisplayValue<&'static Location<'static>>>) {
    match notice {
        Notice::AcquireSlow { conn, waited, .. } => tracing::warn!(
            name: "pgweir.acquire.slow",
            %conn,
            wait_ms = ms(*waited),
            location,
            "acquire was slow: it waited {waited:.1?}"
        ),
        Notice::LeakSuspected { holder, report } => tracing::warn!(
            name: "pgweir.leak.suspected",
            conn = %holder.conn,
            held_ms = ms(holder.held),
            report,
            location,
            "Potential connection leak detected: connection {} is held for {:.1?}",
            holder.conn,
            holder.held
        ),
        Notice::LeakResolved { holder } => tracing::info!(
            name: "pgweir.leak.resolved",
            conn = %holder.conn,
            held_ms = ms(holder.held),
            location,
            "a suspected leak came back after {:.1?}",
            holder.held
        ),
        Notice::ForcedClose { holder } => tracing::warn!(
            name: "pgweir.shutdown.forced",
            conn = %holder.conn,
            held_ms = ms(holder.held),
            location,
            "the shutdown's deadline passed: a connection held for {:.1?} was cut off",
            holder.held
        ),
        _ => {}
    }
}

fn emit_outage(notice: &Notice) {
    match notice {
        Notice::ConnectivityLost { cause } => tracing::error!(
            name: "pgweir.connectivity.lost",
            class = ?cause.class,
            sqlstate = sqlstate(cause),
            cause = %cause.message,
            "connectivity lost: {cause}"
        ),
        Notice::ReconnectScheduled { attempt, delay } => tracing::warn!(
            name: "pgweir.reconnect.scheduled",
            attempt,
            delay_ms = ms(*delay),
            "reconnect attempt {attempt} in {delay:.1?}"
        ),
        Notice::Recovered { counts, attempts, outage } => tracing::info!(
            name: "pgweir.connectivity.recovered",
            total = counts.total,
            max = counts.max,
            attempts,
            outage_ms = ms(*outage),
            "Connection pool recovered: {}/{} connections available",
            counts.idle + counts.active,
            counts.max
        ),
        Notice::StateChanged { from, to, reason } if matches!(to, State::Degraded | State::Unhealthy) => {
            tracing::warn!(name: "pgweir.state.changed", ?from, ?to, reason, "pool is {}: {reason}", state(*to));
        }
        Notice::StateChanged { from, to, reason } => {
            tracing::info!(name: "pgweir.state.changed", ?from, ?to, reason, "pool is {}: {reason}", state(*to));
        }
        _ => {}
    }
}

fn emit_lifecycle(notice: &Notice) {
    match notice {
        Notice::InitStarted => tracing::info!(name: "pgweir.init.started", "initialisation started"),
        Notice::Initialized { took, counts } => tracing::info!(
            name: "pgweir.init.done",
            min_size = counts.min,
            max_size = counts.max,
            duration_ms = ms(*took),
            "Connection pool initialized: min_size={}, max_size={}",
            counts.min,
            counts.max
        ),
        Notice::InitFailed { attempts } => tracing::error!(
            name: "pgweir.init.failed",
            attempts = attempts.len(),
            cause = attempts.last().map(tracing::field::display),
            "initialisation failed after {} attempts",
            attempts.len()
        ),
        Notice::Resized { min, max } => {
            tracing::info!(name: "pgweir.pool.resized", min_size = min, max_size = max, "pool resized to {min}..{max}");
        }
        Notice::Paused => tracing::info!(name: "pgweir.pool.paused", "pool paused"),
        Notice::Resumed => tracing::info!(name: "pgweir.pool.resumed", "pool resumed"),
        Notice::RecycleStarted { connections } => tracing::info!(
            name: "pgweir.pool.recycle",
            connections,
            "replacing all {connections} connections"
        ),
        Notice::ShutdownStarted { counts, .. } => tracing::info!(
            name: "pgweir.shutdown.started",
            active = counts.active,
            waiting = counts.waiting,
            "shutdown started: {} leases may finish",
            counts.active
        ),
        Notice::Terminated { report } => tracing::info!(
            name: "pgweir.shutdown.done",
            finished = report.finished,
            forced = report.forced,
            rejected = report.rejected,
            duration_ms = ms(report.duration),
            "shutdown complete"
        ),
        _ => {}
    }
}

fn ms(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

fn us(duration: Duration) -> u64 {
    duration.as_micros().try_into().unwrap_or(u64::MAX)
}

fn sqlstate(fault: &Fault) -> Option<&str> {
    fault.sqlstate.as_ref().map(|code| code.code())
}

/// The name of a state, as in reports.
fn state(state: State) -> &'static str {
    match state {
        State::Initializing => "initializing",
        State::Healthy => "healthy",
        State::Degraded => "degraded",
        State::Unhealthy => "unhealthy",
        State::Recovering => "recovering",
        State::ShuttingDown => "shutting_down",
        State::Terminated => "terminated",
    }
}

fn close_reason(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::IdleTimeout => "idle_timeout",
        CloseReason::Lifetime => "lifetime",
        CloseReason::QueryLimit => "query_limit",
        CloseReason::Recycle => "recycle",
        CloseReason::Suspect => "suspect",
        CloseReason::ValidationFailed => "validation_failed",
        CloseReason::Broken => "broken",
        CloseReason::ResetFailed => "reset_failed",
        CloseReason::ConnectTimeout => "connect_timeout",
        CloseReason::Shrink => "shrink",
        CloseReason::Shutdown => "shutdown",
        CloseReason::Unwanted => "unwanted",
        CloseReason::Discarded => "discarded",
    }
}
