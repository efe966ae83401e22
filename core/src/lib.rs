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
pub mod report;
pub mod runtime;
pub mod time;
