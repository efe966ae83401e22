//! One error type per operation of the pool. Queries have their own (`client::Error`), configuration too.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use crate::pool::{ConnId, Counts, Fault, WaitPhase};
use crate::time::Instant;

/// Why an acquire got no connection.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// The deadline passed. The pool may be too small, a lease may be held too long, or the database may be slow to
    /// accept: the report tells which.
    #[error(transparent)]
    Timeout(Box<AcquireTimeout>),
    /// The database is down, or refuses this pool.
    #[error(transparent)]
    Unavailable(Box<Unavailable>),
    /// No connection was ready, and the caller did not want to wait.
    #[error("no connection is free at this moment; use get() to wait for one")]
    WouldBlock,
    /// As many acquires as allowed wait already.
    #[error(
        "{max_waiting} acquires are queued already (max_waiting): shed load earlier, raise max_size, or raise max_waiting"
    )]
    QueueFull {
        /// The limit.
        max_waiting: u32,
    },
    /// The pool is shutting down or closed.
    #[error("the pool is closed: it gives out no more connections")]
    Closed,
}

impl AcquireError {
    /// Whether a later acquire may succeed without anybody's help.
    pub fn is_transient(&self) -> bool {
        match self {
            AcquireError::Timeout(_) | AcquireError::WouldBlock | AcquireError::QueueFull { .. } => true,
            AcquireError::Unavailable(outage) => outage.cause.class != crate::pool::FaultClass::Permanent,
            AcquireError::Closed => false,
        }
    }
}

/// All that is known when an acquire times out.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AcquireTimeout {
    /// How long it waited.
    pub waited: Duration,
    /// The source line that asked.
    pub location: Option<&'static Location<'static>>,
    /// What for.
    pub phase: WaitPhase,
    /// The pool at that moment.
    pub counts: Counts,
    /// How many acquires were ahead of this one.
    pub position: u32,
    /// The last connect failure that no later success has answered.
    pub last_fault: Option<Fault>,
    /// Who holds connections, the longest first, at most five.
    pub holders: Vec<LeaseInfo>,
}

impl AcquireTimeout {
    /// What to try.
    pub fn suggestion(&self) -> &'static str {
        match self.phase {
            WaitPhase::Reconnecting => "the database cannot be reached: see the last error",
            WaitPhase::Connecting if self.last_fault.is_some() => "connections fail to open: see the last error",
            WaitPhase::Connecting => "connections take long to open: raise min_size, or look at the server's load",
            WaitPhase::Validating => "connections take long to check or reset: look at the server and the network",
            WaitPhase::Paused => "the pool is paused: call resume()",
            WaitPhase::InQueue if self.counts.total < self.counts.max => {
                "the server allows fewer connections than max_size: see the last error"
            }
            WaitPhase::InQueue => {
                "all connections are in use: hold leases for a shorter time (see the holders), or raise max_size"
            }
        }
    }
}

impl std::error::Error for AcquireTimeout {}

impl fmt::Display for AcquireTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { total, idle, active, waiting, max, connecting, .. } = self.counts;
        write!(
            f,
            "no connection within {:.1?} ({}, position {} in the queue; total {total}/{max}, active {active}, idle {idle}, \
             connecting {connecting}, waiting {waiting})",
            self.waited,
            phase(self.phase),
            self.position + 1,
        )?;
        if let Some(fault) = &self.last_fault {
            write!(f, "; last connect error: {fault}")?;
        }
        for (n, holder) in self.holders.iter().enumerate() {
            write!(f, "{} {holder}", if n == 0 { "; longest held:" } else { "," })?;
        }
        write!(f, "; {}", self.suggestion())
    }
}

fn phase(phase: WaitPhase) -> &'static str {
    match phase {
        WaitPhase::InQueue => "waiting for a lease to end",
        WaitPhase::Connecting => "waiting for a connection to open",
        WaitPhase::Validating => "waiting for a connection to be checked",
        WaitPhase::Reconnecting => "waiting for the database to come back",
        WaitPhase::Paused => "waiting for the pool to be resumed",
    }
}

/// Who holds a connection.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LeaseInfo {
    /// The connection.
    pub conn: ConnId,
    /// Its process id on the server, if known: as in `pg_stat_activity`.
    pub backend_pid: Option<i32>,
    /// The source line that acquired it.
    pub location: Option<&'static Location<'static>>,
    /// The name of the tracing span that it was acquired in.
    pub span: Option<&'static str>,
    /// Since when, on the pool's own clock.
    pub since: Instant,
    /// For how long.
    pub held: Duration,
    /// Queries run so far, if they are counted.
    pub queries: Option<u64>,
}

impl fmt::Display for LeaseInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.location {
            Some(location) => write!(f, "{location} for {:.1?}", self.held)?,
            None => write!(f, "an unknown source line for {:.1?}", self.held)?,
        }
        match self.backend_pid {
            Some(pid) => write!(f, " (backend {pid})"),
            None => Ok(()),
        }
    }
}

/// The database is down, or refuses this pool.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Unavailable {
    /// The last connect failure.
    pub cause: Fault,
    /// Connect attempts since the outage began.
    pub attempts: u32,
    /// How long it lasts.
    pub lasting: Duration,
    /// How long until the next attempt; `None` while one is in flight.
    pub next_attempt_in: Option<Duration>,
    /// How long this acquire waited.
    pub waited: Duration,
}

impl std::error::Error for Unavailable {}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the database is unavailable: {} ({} connect attempts in {:.1?}, ",
            self.cause, self.attempts, self.lasting
        )?;
        match self.next_attempt_in {
            Some(delay) => write!(f, "next in {delay:.1?})"),
            None => write!(f, "one in flight)"),
        }
    }
}

/// Why a pool could not be opened.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// min_size connections could not be opened; each attempt's error is there.
    #[error("{}", InitAttempts(.attempts))]
    Init {
        /// The errors, oldest first.
        attempts: Vec<Fault>,
    },
    /// The pool was closed before it was ready.
    #[error("the pool was closed before it was ready")]
    Closed,
}

struct InitAttempts<'a>(&'a [Fault]);

impl fmt::Display for InitAttempts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the pool could not open its first connections")?;
        for (n, fault) in self.0.iter().enumerate() {
            write!(f, "{} attempt {}: {fault}", if n == 0 { ":" } else { ";" }, n + 1)?;
        }
        Ok(())
    }
}
