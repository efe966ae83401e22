//! Prepared statements and the bounded cache of them.

use std::sync::Arc;

use postgres_types::{Oid, Type};

/// Which connection a statement or portal belongs to: names mean something else on another one.
#[derive(Clone, Debug, Default)]
pub(super) struct Owner(Arc<()>);

impl PartialEq for Owner {
    fn eq(&self, other: &Owner) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// A statement that the server has parsed on one connection. While one is held it stays prepared there, whether or not
/// the cache has let it go.
#[derive(Debug)]
pub struct Statement {
    pub(super) owner: Owner,
    /// Empty for the unnamed statement.
    pub(super) name: Box<str>,
    pub(super) sql: Arc<str>,
    pub(super) declared: Box<[Oid]>,
    pub(super) params: Box<[Type]>,
    pub(super) columns: Arc<[Column]>,
}

impl Statement {
    /// Its text.
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// The types of its parameters.
    pub fn params(&self) -> &[Type] {
        &self.params
    }

    /// The columns of its rows; empty if it returns none.
    pub fn columns(&self) -> &Arc<[Column]> {
        &self.columns
    }

    /// Types among parameters and columns that are neither built in nor known from
    /// [`Connection::learn_type`](super::Connection::learn_type): stand-ins with an empty name. Look them up in
    /// pg_type, learn them, then call [`Connection::resolve`](super::Connection::resolve).
    pub fn unknown_types(&self) -> Vec<Oid> {
        unimplemented!()
    }
}

/// A column of a result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Column {
    /// Its name.
    pub name: Box<str>,
    /// Its type; with an empty name if the type is not known.
    pub type_: Type,
    /// The type's modifier, for instance a length; -1 if it has none.
    pub type_modifier: i32,
    /// The table it comes from, 0 if from none.
    pub table_oid: Oid,
    /// Its attribute number there, 0 if from none.
    pub column_id: i16,
    /// Whether its values are in binary format; text otherwise.
    pub binary: bool,
}

/// How the statement cache did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CacheStats {
    /// Statements in it.
    pub len: usize,
    /// Found.
    pub hits: u64,
    /// Not found.
    pub misses: u64,
    /// Pushed out by others.
    pub evictions: u64,
}
