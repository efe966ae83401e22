//! What a transaction is begun with.

use std::fmt::Write as _;

/// How far a transaction is kept apart from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IsolationLevel {
    /// In PostgreSQL the same as read committed.
    ReadUncommitted,
    /// Each statement sees what was committed before it began.
    ReadCommitted,
    /// All statements see what was committed before the first of them began.
    RepeatableRead,
    /// As if the transactions ran one after the other; may fail with SQLSTATE 40001, then run it again.
    Serializable,
}

/// The options of a BEGIN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) isolation: Option<IsolationLevel>,
    pub(crate) read_only: Option<bool>,
    pub(crate) deferrable: Option<bool>,
}

impl Options {
    /// The statement. What is not set is left to the session's defaults.
    pub(crate) fn begin(self) -> String {
        let mut sql = String::from("BEGIN");
        let mut separator = ' ';
        let mut add = |mode: &str| {
            let _ = write!(sql, "{separator}{mode}");
            separator = ',';
        };
        if let Some(level) = self.isolation {
            add(match level {
                IsolationLevel::ReadUncommitted => "ISOLATION LEVEL READ UNCOMMITTED",
                IsolationLevel::ReadCommitted => "ISOLATION LEVEL READ COMMITTED",
                IsolationLevel::RepeatableRead => "ISOLATION LEVEL REPEATABLE READ",
                IsolationLevel::Serializable => "ISOLATION LEVEL SERIALIZABLE",
            });
        }
        if let Some(read_only) = self.read_only {
            add(if read_only { "READ ONLY" } else { "READ WRITE" });
        }
        if let Some(deferrable) = self.deferrable {
            add(if deferrable { "DEFERRABLE" } else { "NOT DEFERRABLE" });
        }
        sql
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begin_says_what_was_asked_for_and_no_more() {
        assert_eq!(Options::default().begin(), "BEGIN");
        let options = Options { read_only: Some(true), ..Options::default() };
        assert_eq!(options.begin(), "BEGIN READ ONLY");
        let options =
            Options { isolation: Some(IsolationLevel::Serializable), read_only: Some(true), deferrable: Some(true) };
        assert_eq!(options.begin(), "BEGIN ISOLATION LEVEL SERIALIZABLE,READ ONLY,DEFERRABLE");
    }
}
