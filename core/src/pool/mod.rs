//! The pool machine: every decision of the pool, as plain data and without I/O.

mod event;
mod notice;

pub use event::{
    Action, Check, CloseHow, CloseReason, ConnId, Event, Fate, Fault, FaultClass, HostId, ResetHow, Role, ServerFacts,
    SiteId, SqlState, WaiterId,
};
pub use notice::{Counts, Holder, Notice, OutageReport, Reject, ShutdownReport, State, TimeoutReport, WaitPhase};
