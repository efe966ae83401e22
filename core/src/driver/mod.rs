//! Runs the pool machine over a runtime.

mod channel;

pub use channel::Channel;
