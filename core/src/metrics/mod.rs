//! A pool's numbers for a monitoring system.
//!
#![doc = include_str!("../../docs/metrics.md")]

#[cfg(feature = "metrics")]
mod publish;
mod sample;
mod snapshot;
mod table;
#[cfg(test)]
mod tests;
mod text;

#[cfg(feature = "metrics")]
pub use publish::Publisher;
pub use sample::{Kind, Label, Metric};
pub use snapshot::Snapshot;
pub use table::{POOL_NAME, TABLE};
pub use text::{Format, text};
