//! The simulated network.

mod host;

pub use host::{Accept, Host, LinkId, Output};
