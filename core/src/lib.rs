//! The core of pgweir: everything that is not a real socket.

pub mod client;
pub mod config;
pub mod digest;
pub mod driver;
#[cfg(feature = "endpoint")]
pub mod endpoint;
pub mod error;
pub mod journal;
pub mod logs;
pub mod manager;
pub mod metrics;
pub mod os;
pub mod pg;
pub mod pool;
#[doc = include_str!("../docs/production.md")]
pub mod production {}
#[doc = include_str!("../docs/proof.md")]
pub mod proof {}
pub mod report;
pub mod runtime;
#[cfg(all(test, not(pgweir_loom)))]
mod tests;
pub mod time;
