//! The pool machine: every decision of the pool, as plain data and without I/O.
//!
//! [`Machine::handle`] takes [`Event`]s and appends [`Action`]s. One concern per file: `machine` the fields and the
//! entrance, `slot` the table, `waiters` the queue, `lend` acquires and releases, `connect` growth, `check` validation and
//! suspicion, `close` retiring and the end, `outage` start-up and recovery, `backoff` the reconnect schedule, `timer`
//! deadlines, `health`, `hosts` and `stats` what it says of itself, `names` in which words, `invariants` what must always
//! hold, `restored` what must hold of a machine that was read from somewhere.

mod backoff;
mod check;
mod close;
mod connect;
mod event;
mod health;
mod hosts;
mod invariants;
mod lend;
mod machine;
mod names;
mod notice;
mod outage;
mod restored;
mod slot;
mod stats;
#[cfg(all(test, not(pgweir_loom)))]
pub(crate) mod tests;
mod timer;
mod waiters;

pub use event::{
    Action, Check, CloseHow, CloseReason, ConnId, Event, Fate, Fault, FaultClass, HostId, ResetHow, Role, ServerFacts,
    SiteId, SqlState, WaiterId,
};
pub use health::{DatabaseStatus, Health, Reason, Status};
pub use hosts::HostStatus;
pub use machine::Machine;
pub use notice::{
    Counts, Holder, Notice, OutageReport, Queued, Reject, ShutdownReport, State, TimeoutReport, WaitPhase,
};
pub use stats::{Closed, ConnectFailures, Histogram, Stats, Totals};
pub use timer::TimerKind;
