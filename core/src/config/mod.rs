//! Validated configuration.

mod pool;

pub use pool::{PoolConfig, ValidationPolicy};
