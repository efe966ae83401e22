//! What is wrong with a scenario file.

use std::fmt;

/// A scenario file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadScenario {
    /// The file.
    pub file: String,
    /// All that is wrong with it.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1; 0 if it is the file as a whole.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// The key, as in `timeline[2].crash.down`; empty at the top.
    pub key: String,
    /// What is wrong and what is expected.
    pub problem: String,
}

impl fmt::Display for BadScenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Problem { line, column, key, problem }) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&self.file)?;
            if *line > 0 {
                write!(f, ":{line}:{column}")?;
            }
            if !key.is_empty() {
                write!(f, ": {key}")?;
            }
            write!(f, ": {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for BadScenario {}
