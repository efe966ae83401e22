//! What the machine tells people: why an acquire was rejected, and what an operator should see.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::{CloseReason, ConnId, Fault, HostId, SiteId, WaiterId};
use crate::time::Instant;

/// Why a waiter got no connection.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Reject {
    /// Its deadline passed.
    Timeout(Box<TimeoutReport>),
    /// `try_get` and none was ready.
    WouldBlock,
    /// The database is down or refuses us.
    Unavailable(Box<OutageReport>),
    /// max_waiting others were queued already.
    QueueFull {
        /// The limit.
        max_waiting: u32,
    },
    /// The pool is shutting down or closed.
    Closed,
}

/// All that is known when an acquire times out.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TimeoutReport {
    /// From the acquire to now.
    pub waited: Duration,
    /// Where it was asked.
    pub site: SiteId,
    /// What the waiter was waiting for.
    pub phase: WaitPhase,
    /// The pool at this moment.
    pub counts: Counts,
    /// How many live waiters were ahead.
    pub position: u32,
    /// The last connect failure that no later success has answered.
    pub last_fault: Option<Fault>,
    /// Who holds connections, the longest first, at most five.
    pub holders: Vec<Holder>,
}

/// What a waiter waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitPhase {
    /// All connections are lent.
    InQueue,
    /// A connection is being opened.
    Connecting,
    /// A connection is being checked or reset.
    Validating,
    /// The server cannot be reached: waiting for the next attempt.
    Reconnecting,
    /// The pool is paused.
    Paused,
}

/// What is known of an outage.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct OutageReport {
    /// The last connect failure.
    pub cause: Fault,
    /// Connect attempts since the outage began.
    pub attempts: u32,
    /// When the outage began.
    pub since: Instant,
    /// When the next attempt is due; `None` while one is in flight.
    pub next_attempt: Option<Instant>,
    /// How long this acquire waited.
    pub waited: Duration,
}

/// Connections by state, and waiters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// All below together.
    pub total: u32,
    /// Ready to be lent.
    pub idle: u32,
    /// Lent.
    pub active: u32,
    /// Being opened.
    pub connecting: u32,
    /// Being checked.
    pub validating: u32,
    /// Being made fit for reuse.
    pub resetting: u32,
    /// Being closed.
    pub closing: u32,
    /// Acquires in the queue.
    pub waiting: u32,
    /// The bound now in force.
    pub max: u32,
    /// The floor now in force.
    pub min: u32,
}

/// A lease, as others see it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Holder {
    /// Its connection.
    pub conn: ConnId,
    /// The connection's process id on the server, 0 if unknown.
    pub backend_pid: i32,
    /// The acquire that got it: tells one lease of a connection from the next.
    pub waiter: WaiterId,
    /// Where it was acquired.
    pub site: SiteId,
    /// When.
    pub since: Instant,
    /// For how long until now.
    pub held: Duration,
}

/// An acquire in the queue, as others see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Queued {
    /// Who.
    pub waiter: WaiterId,
    /// Where it asked.
    pub site: SiteId,
    /// When.
    pub since: Instant,
    /// When it gives up.
    pub deadline: Instant,
}

/// What an operator should see. The driver turns each into one tracing event.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Notice {
    /// The pool began to open its first connections.
    InitStarted {
        /// Connections that are to be open.
        min: u32,
        /// Connections at most.
        max: u32,
        /// How long an acquire waits at most.
        acquire_timeout: Duration,
    },
    /// min_size connections are ready.
    Initialized {
        /// From Start to now.
        took: Duration,
        /// The pool at this moment.
        counts: Counts,
    },
    /// min_size could not be reached: the pool terminates.
    InitFailed {
        /// Each attempt's error, oldest first.
        attempts: Vec<Fault>,
    },
    /// A connection was opened.
    Opened {
        /// Which.
        conn: ConnId,
        /// Where.
        host: HostId,
        /// How long it took.
        took: Duration,
    },
    /// A connect failed.
    ConnectFailed {
        /// Which.
        conn: ConnId,
        /// Where.
        host: HostId,
        /// Why.
        fault: Fault,
        /// How long it took.
        took: Duration,
    },
    /// A round trip proved a connection.
    Validated {
        /// Which.
        conn: ConnId,
        /// How long it took.
        took: Duration,
    },
    /// A connection failed its check and is replaced.
    ValidationFailed {
        /// Which.
        conn: ConnId,
        /// Why.
        fault: Fault,
    },
    /// A grant took longer than the slow threshold.
    AcquireSlow {
        /// Which connection it got.
        conn: ConnId,
        /// From where.
        site: SiteId,
        /// How long it waited.
        waited: Duration,
    },
    /// A connection was closed.
    Recycled {
        /// Which.
        conn: ConnId,
        /// How old it was.
        age: Duration,
        /// Why.
        reason: CloseReason,
    },
    /// Idle connections above min_size are gone.
    Shrunk {
        /// Connections before.
        from: u32,
        /// And after.
        to: u32,
    },
    /// No connection can be had any more.
    ConnectivityLost {
        /// Why.
        cause: Fault,
        /// The state until now.
        state: State,
    },
    /// The next connect attempt of an outage has its time.
    ReconnectScheduled {
        /// Where.
        host: HostId,
        /// Its number, from 1.
        attempt: u32,
        /// How long until then.
        delay: Duration,
    },
    /// min_size connections (or all that the server allows) work again.
    Recovered {
        /// The pool at this moment.
        counts: Counts,
        /// Connect attempts that the outage took.
        attempts: u32,
        /// How long it lasted.
        outage: Duration,
    },
    /// A lease is held beyond its time. Said at 1, 2, 4, ... times that.
    LeakSuspected {
        /// Who.
        holder: Holder,
        /// How often this lease was reported, from 1.
        report: u32,
    },
    /// A suspected lease came back.
    LeakResolved {
        /// Who.
        holder: Holder,
    },
    /// The state changed.
    StateChanged {
        /// From.
        from: State,
        /// To.
        to: State,
        /// Why, for people.
        reason: String,
    },
    /// The bounds changed.
    Resized {
        /// New floor.
        min: u32,
        /// New bound.
        max: u32,
    },
    /// Grants stopped.
    Paused,
    /// Grants go on.
    Resumed,
    /// All connections are to be replaced.
    RecycleStarted {
        /// How many.
        connections: u32,
    },
    /// Shutdown began.
    ShutdownStarted {
        /// The pool at this moment.
        counts: Counts,
        /// When leases are cut off.
        deadline: Instant,
    },
    /// A lease outlived the shutdown's deadline and was cut off.
    ForcedClose {
        /// Whose.
        holder: Holder,
    },
    /// The pool has ended: nothing is open any more.
    Terminated {
        /// What the shutdown did.
        report: ShutdownReport,
    },
}

/// The pool's state.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Opening the first min_size connections.
    Initializing,
    /// Work can be done.
    Healthy,
    /// Work can be done, but something is wrong.
    Degraded,
    /// No connection can be had.
    Unhealthy,
    /// The server is back; the pool refills.
    Recovering,
    /// Leases finish, nothing new is lent.
    ShuttingDown,
    /// The end.
    Terminated,
}

/// What a shutdown did.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ShutdownReport {
    /// Leases that came back in time.
    pub finished: u32,
    /// Leases that were cut off.
    pub forced: u32,
    /// Queued acquires that were rejected.
    pub rejected: u32,
    /// How long it took.
    pub duration: Duration,
}
