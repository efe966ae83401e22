//! Runs the pool machine over a runtime: the one concurrent layer.
//!
//! One lock guards the machine and the connections that are at home (`shared`). An acquire or a release is one event
//! under that lock, posted by the task that wants it; everything that takes time is done by one background task
//! (`task`). A lease's holder drives its own socket: there is no task and no channel per connection.

mod acquire;
mod channel;
mod command;
mod deadline;
mod effects;
#[cfg(test)]
pub(crate) mod fake;
mod holders;
mod hooks;
mod lease;
mod lending;
#[cfg(all(test, pgweir_loom))]
mod loom;
mod member;
mod notices;
mod observe;
mod origin;
mod pool;
mod recorder;
mod shared;
mod signal;
mod sites;
mod sync;
mod task;
#[cfg(all(test, not(pgweir_loom)))]
mod tests;
mod waiting;

#[cfg(not(pgweir_loom))]
const _: () = assert!(option_env!("PGWEIR_LOOM").is_none(), "RUSTFLAGS replace what `cargo loom` sets: unset them");

pub use crate::report::{DebugReport, HealthReport, PoolStats};
pub use acquire::Acquire;
pub use channel::Channel;
pub(crate) use deadline::within;
pub use hooks::{Hook, HookError, HookFuture};
pub use lease::Lease;
pub use observe::{Observe, Observer};
pub use pool::{Pool, PoolBuilder};
