//! Turns the machine's notices into tracing events with stable names and fields, and its rejections into errors.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::origin::Stack;
use super::shared::State;
use crate::error::{AcquireError, AcquireTimeout, LeaseInfo, Unavailable};
use crate::manager::Manager;
use crate::pool::{self, ConnId, Counts, Fault, Notice, Reject};
use crate::report::Scale;
use crate::time::Instant;

/// Something to log once the lock is released.
pub(crate) enum Report {
    /// A notice that speaks of no lease.
    Notice(Notice),
    /// An acquire that took long, with the source line that asked.
    Slow(ConnId, Duration, Option<&'static Location<'static>>),
    /// A notice that speaks of a lease, with all that is known of that.
    Lease(Notice, LeaseInfo, Option<Arc<Stack>>),
    /// An acquire that failed.
    Rejected(AcquireError),
}

impl<M: Manager> State<M> {
    /// Adds to a notice what only the driver knows.
    pub(crate) fn report(&self, notice: Notice) -> Report {
        match notice {
            Notice::AcquireSlow { conn, site, waited } => Report::Slow(conn, waited, self.sites.location(site)),
            Notice::LeakSuspected { ref holder, .. }
            | Notice::LeakResolved { ref holder }
            | Notice::ForcedClose { ref holder } => {
                let (lease, stack) = (self.lease(holder), self.stack(holder));
                Report::Lease(notice, lease, stack)
            }
            notice => Report::Notice(notice),
        }
    }

    /// The error that a caller gets.
    pub(crate) fn acquire_error(&self, reason: Reject, now: Instant) -> AcquireError {
        match reason {
            Reject::Timeout(report) => AcquireError::Timeout(Box::new(AcquireTimeout {
                waited: report.waited,
                location: self.sites.location(report.site),
                phase: report.phase,
                counts: report.counts,
                position: report.position,
                last_fault: report.last_fault,
                holders: report.holders.iter().map(|holder| self.lease(holder)).collect(),
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
}

impl Report {
    /// The source line whose leases are worth a closer look from now on.
    pub(crate) fn suspects(&self) -> Option<&'static Location<'static>> {
        match self {
            Report::Lease(Notice::LeakSuspected { .. }, lease, _) => lease.location,
            _ => None,
        }
    }

    /// Emits the event. Runs without the lock.
    pub(crate) fn emit(&self, scale: &Scale<'_>) {
        match self {
            Report::Rejected(error) => emit_rejection(error),
            Report::Slow(conn, waited, location) => tracing::warn!(
                name: "pgweir.acquire.slow",
                %conn,
                wait_ms = ms(*waited),
                location = location.map(tracing::field::display),
                "acquire was slow: it waited {waited:.1?}"
            ),
            Report::Lease(notice, lease, stack) => emit_lease(notice, lease, stack.as_deref(), scale),
            Report::Notice(notice) => {
                emit_connection(notice, scale);
                emit_outage(notice, scale);
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
            location = report.location.map(tracing::field::display),
            phase = report.phase.as_str(),
            total = report.counts.total,
            active = report.counts.active,
            idle = report.counts.idle,
            connecting = report.counts.connecting,
            waiting = report.counts.waiting,
            max = report.counts.max,
            position = report.position,
            last_error = report.last_fault.as_ref().map(tracing::field::display),
            holders = %Holders(&report.holders),
            suggestion = report.suggestion(),
            "acquire timed out: {error}"
        ),
        // One line per caller would be a storm of its own; the outage has its events.
        error => tracing::debug!(name: "pgweir.acquire.rejected", "acquire rejected: {error}"),
    }
}

/// The longest leases, in a field.
struct Holders<'a>(&'a [LeaseInfo]);

impl fmt::Display for Holders<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, holder) in self.0.iter().enumerate() {
            write!(f, "{}{} at {holder}", if n == 0 { "" } else { ", " }, holder.conn)?;
        }
        Ok(())
    }
}

fn emit_connection(notice: &Notice, scale: &Scale<'_>) {
    match notice {
        Notice::Opened { conn, host, took } => tracing::debug!(
            name: "pgweir.connection.opened",
            %conn,
            host = scale.host_name(*host),
            duration_ms = ms(*took),
            "connection opened"
        ),
        Notice::ConnectFailed { conn, host, fault, took } => tracing::warn!(
            name: "pgweir.connection.failed",
            %conn,
            host = scale.host_name(*host),
            class = fault.class.as_str(),
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
            class = fault.class.as_str(),
            sqlstate = sqlstate(fault),
            cause = %fault.message,
            "connection failed its check and is replaced: {fault}"
        ),
        Notice::Recycled { conn, age, reason } => tracing::info!(
            name: "pgweir.connection.recycled",
            %conn,
            age_ms = ms(*age),
            reason = reason.as_str(),
            "connection recycled: {}",
            reason.as_str()
        ),
        Notice::Shrunk { from, to } => {
            tracing::info!(name: "pgweir.pool.shrunk", from, to, "pool shrunk from {from} to {to} connections");
        }
        _ => {}
    }
}

fn emit_lease(notice: &Notice, lease: &LeaseInfo, stack: Option<&Stack>, scale: &Scale<'_>) {
    let LeaseInfo { conn, backend_pid, held, queries, span, .. } = lease;
    let location = lease.location.map(tracing::field::display);
    match notice {
        Notice::LeakSuspected { report, .. } => tracing::warn!(
            name: "pgweir.leak.suspected",
            %conn,
            backend_pid,
            held_ms = ms(*held),
            since = scale.wall.iso(lease.since),
            queries,
            report,
            location,
            span,
            stack = stack.map(Stack::text),
            "Potential connection leak detected: connection {conn} is held for {held:.1?}"
        ),
        Notice::LeakResolved { .. } => tracing::info!(
            name: "pgweir.leak.resolved",
            %conn,
            backend_pid,
            held_ms = ms(*held),
            since = scale.wall.iso(lease.since),
            location,
            span,
            "a suspected leak came back after {held:.1?}"
        ),
        Notice::ForcedClose { .. } => tracing::warn!(
            name: "pgweir.shutdown.forced",
            %conn,
            backend_pid,
            held_ms = ms(*held),
            since = scale.wall.iso(lease.since),
            queries,
            location,
            span,
            "the shutdown's deadline passed: a connection held for {held:.1?} was cut off"
        ),
        _ => {}
    }
}

fn emit_outage(notice: &Notice, scale: &Scale<'_>) {
    match notice {
        Notice::ConnectivityLost { cause, state } => tracing::error!(
            name: "pgweir.connectivity.lost",
            state = state.as_str(),
            class = cause.class.as_str(),
            sqlstate = sqlstate(cause),
            cause = %cause.message,
            "connectivity lost: {cause}"
        ),
        Notice::ReconnectScheduled { host, attempt, delay } => tracing::warn!(
            name: "pgweir.reconnect.scheduled",
            host = scale.host_name(*host),
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
        Notice::StateChanged { from, to, reason } => {
            let (from, to) = (from.as_str(), to.as_str());
            if matches!(notice, Notice::StateChanged { to: pool::State::Degraded | pool::State::Unhealthy, .. }) {
                tracing::warn!(name: "pgweir.state.changed", from, to, reason, "pool is {to}: {reason}");
            } else {
                tracing::info!(name: "pgweir.state.changed", from, to, reason, "pool is {to}: {reason}");
            }
        }
        _ => {}
    }
}

fn emit_lifecycle(notice: &Notice) {
    match notice {
        Notice::InitStarted { min, max, acquire_timeout } => tracing::info!(
            name: "pgweir.init.started",
            min_size = min,
            max_size = max,
            acquire_timeout_ms = ms(*acquire_timeout),
            "initialisation started"
        ),
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
