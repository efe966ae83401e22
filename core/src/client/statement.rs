//! Prepared statements and what can stand in their place.

use std::fmt;
use std::sync::Arc;

use postgres_types::Type;

use crate::pg::{self, Column};

/// A prepared statement.
///
/// It was prepared on one connection and is prepared again, by itself, on each other one that it is used on: so it can
/// be kept beside a pool. While it is held it stays prepared where it was made.
#[derive(Clone)]
pub struct Statement {
    pub(crate) prepared: Arc<pg::Statement>,
    /// The parameter types that were asked for, to prepare it elsewhere.
    pub(crate) types: Arc<[Type]>,
}

impl Statement {
    /// Its text.
    pub fn sql(&self) -> &str {
        self.prepared.sql()
    }

    /// The types of its parameters.
    pub fn params(&self) -> &[Type] {
        self.prepared.params()
    }

    /// The columns of its rows; empty if it returns none.
    pub fn columns(&self) -> &[Column] {
        self.prepared.columns()
    }
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statement")
            .field("params", &self.params())
            .field("columns", &self.columns())
            .finish_non_exhaustive()
    }
}

/// What can be run: SQL text (prepared through the connection's statement cache) or a [`Statement`]. Sealed.
pub trait ToStatement: sealed::Source + Sync {}

impl ToStatement for str {}
impl ToStatement for String {}
impl ToStatement for Statement {}
impl<T: ToStatement + ?Sized> ToStatement for &T {}

pub(crate) use sealed::Text;

mod sealed {
    use postgres_types::Type;

    use super::Statement;

    /// Where a statement comes from.
    #[derive(Clone, Copy, Debug)]
    pub struct Text<'a> {
        pub sql: &'a str,
        pub types: &'a [Type],
        /// Known to be prepared somewhere.
        pub prepared: Option<&'a std::sync::Arc<crate::pg::Statement>>,
    }

    pub trait Source {
        fn text(&self) -> Text<'_>;
    }

    impl Source for str {
        fn text(&self) -> Text<'_> {
            Text { sql: self, types: &[], prepared: None }
        }
    }

    impl Source for String {
        fn text(&self) -> Text<'_> {
            self.as_str().text()
        }
    }

    impl Source for Statement {
        fn text(&self) -> Text<'_> {
            Text { sql: self.sql(), types: &self.types, prepared: Some(&self.prepared) }
        }
    }

    impl<T: Source + ?Sized> Source for &T {
        fn text(&self) -> Text<'_> {
            T::text(self)
        }
    }
}
