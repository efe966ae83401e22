//! Validated configuration.

mod connect;
mod pool;

pub use connect::{ConnectConfig, Host, ResetPolicy, Secret, SessionOptions};
pub use pool::{PoolConfig, ValidationPolicy};
