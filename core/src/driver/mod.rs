//! Runs the pool machine over a runtime.

mod channel;
#[cfg(test)]
pub(crate) mod fake;

pub use channel::Channel;
