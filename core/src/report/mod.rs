//! What a pool says of itself, as documents for operators.
//!
#![doc = include_str!("../../docs/reports.md")]

mod debug;
mod event;
mod health;
mod histogram;
mod rows;
mod stats;

pub use debug::DebugReport;
pub(crate) use debug::Parts as DebugParts;
pub(crate) use event::describe;
pub(crate) use health::HOLDERS;
pub use health::{DatabaseHealth, HealthReport, OutageReport, PoolCounts};
pub use histogram::{BOUNDS, Bucket, Summary};
pub(crate) use rows::Waiting;
pub use rows::{HolderRow, HostRow, WaiterRow};
pub use stats::{ByClass, ByReason, PoolStats};

use std::time::Duration;

use crate::pool::{Fault, HostId};
use crate::time::{Instant, Wall};

/// What is needed to show ids and moments to people.
pub(crate) struct Scale<'a> {
    pub(crate) now: Instant,
    pub(crate) wall: Wall,
    pub(crate) hosts: &'a [String],
}

impl Scale<'_> {
    pub(crate) fn host_name(&self, host: HostId) -> &str {
        self.hosts.get(usize::from(host.0)).map_or("", String::as_str)
    }
}

/// The last fault, in the four fields that every document has for it.
struct LastError {
    error: Option<String>,
    class: Option<crate::pool::FaultClass>,
    sqlstate: Option<String>,
    time: Option<String>,
}

impl LastError {
    fn new(last: Option<&(Fault, Instant)>, wall: Wall) -> Self {
        let fault = last.map(|(fault, _)| fault);
        LastError {
            error: fault.map(ToString::to_string),
            class: fault.map(|fault| fault.class),
            sqlstate: fault.and_then(|fault| fault.sqlstate).map(|code| code.to_string()),
            time: last.map(|(_, at)| wall.iso(*at)),
        }
    }
}

/// Milliseconds, exact to the nanosecond.
fn ms(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e6
}
