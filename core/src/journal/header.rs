//! What a journal says of itself.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::PoolConfig;
use crate::time::{Instant, Wall};

/// Where a journal comes from.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Header {
    /// The version of pgweir that wrote it. Another version may decide otherwise: a deviation is then no surprise.
    pub version: String,
    /// The configuration in force at the beginning.
    pub config: PoolConfig,
    /// Dates the times.
    pub wall: Wall,
    /// What it was written for.
    pub why: Why,
    /// When it was asked for; for one that is written as it goes, when it was begun.
    pub written: Instant,
}

impl Header {
    /// The time since the Unix epoch at `at`.
    pub fn unix(&self, at: Instant) -> Duration {
        self.wall.unix(at)
    }
}

/// What a journal was written for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Why {
    /// The program asked for it.
    Demand,
    /// The pool turned unhealthy.
    Unhealthy,
    /// An acquire timed out.
    Timeout,
    /// Everything is written.
    Continuous,
    /// A simulated run.
    Simulated {
        /// The scenario's name.
        scenario: String,
        /// The run's seed.
        seed: u64,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Demand => f.write_str("on demand"),
            Why::Unhealthy => f.write_str("when the pool turned unhealthy"),
            Why::Timeout => f.write_str("when an acquire timed out"),
            Why::Continuous => f.write_str("continuously"),
            Why::Simulated { scenario, seed } => write!(f, "by a simulation of {scenario:?} with seed {seed}"),
        }
    }
}

/// A source line that acquires.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Site {
    /// As the compiler names it.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

impl From<&std::panic::Location<'_>> for Site {
    fn from(location: &std::panic::Location<'_>) -> Self {
        Site { file: location.file().to_owned(), line: location.line(), column: location.column() }
    }
}
