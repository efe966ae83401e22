//! What the benchmarks share: a manager that does nothing, and the arithmetic of ratios.
//!
//! This machine is shared and noisy, so a figure alone says little: every contender runs in turn, several rounds over,
//! and what counts is the median of the rounds and its ratio to a peer's from the same run.

mod noop;
mod rounds;

pub use noop::NoopManager;
pub use rounds::{Contender, Cpu, Table};
