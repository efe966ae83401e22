//! Transactions with a statement cache.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use tokio_postgres::types::Type;
use tokio_postgres::{Error, IsolationLevel, Statement};

use super::cache::StatementCache;
use super::cancel::{CancelToken, Canceller};

/// A [`tokio_postgres::Transaction`], through [`Deref`], with its connection's statement cache. It is rolled back when it
/// is dropped without having been committed.
pub struct Transaction<'a> {
    transaction: tokio_postgres::Transaction<'a>,
    canceller: Arc<Canceller>,
    /// The connection's.
    pub statement_cache: Arc<StatementCache>,
}

impl<'a> Transaction<'a> {
    pub(super) fn new(
        transaction: tokio_postgres::Transaction<'a>,
        cache: &Arc<StatementCache>,
        canceller: &Arc<Canceller>,
    ) -> Self {
        Transaction { transaction, canceller: Arc::clone(canceller), statement_cache: Arc::clone(cache) }
    }

    /// As [`tokio_postgres::Transaction::prepare`], but prepares each text once per connection.
    ///
    /// # Errors
    /// The server's, or the connection's end.
    pub async fn prepare_cached(&self, query: &str) -> Result<Statement, Error> {
        self.statement_cache.prepare(self.transaction.client(), query).await
    }

    /// As [`tokio_postgres::Transaction::prepare_typed`], but prepares each text with each list of types once per
    /// connection.
    ///
    /// # Errors
    /// The server's, or the connection's end.
    pub async fn prepare_typed_cached(&self, query: &str, types: &[Type]) -> Result<Statement, Error> {
        self.statement_cache.prepare_typed(self.transaction.client(), query, types).await
    }

    /// As [`tokio_postgres::Transaction::commit`].
    ///
    /// # Errors
    /// The server's, or the connection's end: then it is not known whether it was committed.
    pub async fn commit(self) -> Result<(), Error> {
        self.transaction.commit().await
    }

    /// As [`tokio_postgres::Transaction::rollback`].
    ///
    /// # Errors
    /// The server's, or the connection's end.
    pub async fn rollback(self) -> Result<(), Error> {
        self.transaction.rollback().await
    }

    /// As [`tokio_postgres::Transaction::transaction`], with the statement cache: a savepoint.
    ///
    /// # Errors
    /// The server's, or the connection's end.
    pub async fn transaction(&mut self) -> Result<Transaction<'_>, Error> {
        Ok(Transaction::new(self.transaction.transaction().await?, &self.statement_cache, &self.canceller))
    }

    /// As [`tokio_postgres::Transaction::savepoint`], with the statement cache.
    ///
    /// # Errors
    /// The server's, or the connection's end.
    pub async fn savepoint(&mut self, name: impl Into<String>) -> Result<Transaction<'_>, Error> {
        Ok(Transaction::new(self.transaction.savepoint(name).await?, &self.statement_cache, &self.canceller))
    }

    /// As [`ClientWrapper::cancel_token`](super::ClientWrapper::cancel_token).
    pub fn cancel_token(&self) -> CancelToken {
        self.canceller.token()
    }
}

impl<'a> Deref for Transaction<'a> {
    type Target = tokio_postgres::Transaction<'a>;

    fn deref(&self) -> &tokio_postgres::Transaction<'a> {
        &self.transaction
    }
}

impl<'a> DerefMut for Transaction<'a> {
    fn deref_mut(&mut self) -> &mut tokio_postgres::Transaction<'a> {
        &mut self.transaction
    }
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("statement_cache", &self.statement_cache).finish_non_exhaustive()
    }
}

/// A [`tokio_postgres::TransactionBuilder`] whose transaction has the connection's statement cache.
#[must_use = "call start to begin the transaction"]
pub struct TransactionBuilder<'a> {
    builder: tokio_postgres::TransactionBuilder<'a>,
    cache: Arc<StatementCache>,
    canceller: Arc<Canceller>,
}

impl<'a> TransactionBuilder<'a> {
    pub(super) fn new(
        builder: tokio_postgres::TransactionBuilder<'a>,
        cache: &Arc<StatementCache>,
        canceller: &Arc<Canceller>,
    ) -> Self {
        TransactionBuilder { builder, cache: Arc::clone(cache), canceller: Arc::clone(canceller) }
    }

    /// The isolation level.
    pub fn isolation_level(self, level: IsolationLevel) -> Self {
        TransactionBuilder { builder: self.builder.isolation_level(level), ..self }
    }

    /// Whether it only reads.
    pub fn read_only(self, read_only: bool) -> Self {
        TransactionBuilder { builder: self.builder.read_only(read_only), ..self }
    }

    /// Whether it waits for a moment at which it cannot fail to serialise (with serialisable and read-only).
    pub fn deferrable(self, deferrable: bool) -> Self {
        TransactionBuilder { builder: self.builder.deferrable(deferrable), ..self }
    }

    /// Begins it.
    ///
    /// # Errors
    /// The server's, or the connection's end.
    pub async fn start(self) -> Result<Transaction<'a>, Error> {
        Ok(Transaction::new(self.builder.start().await?, &self.cache, &self.canceller))
    }
}

impl fmt::Debug for TransactionBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionBuilder").finish_non_exhaustive()
    }
}
