//! What a lease shows: a tokio-postgres client with a statement cache.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use pgweir_core::manager::{Gate, Session};
use pgweir_core::pool::Fault;
use tokio_postgres::types::Type;
use tokio_postgres::{Error, SimpleQueryMessage, Statement};

use super::cache::StatementCache;
use super::cancel::{CancelToken, Canceller};
use super::fault;
use super::link::Link;
use super::transaction::{Transaction, TransactionBuilder};

/// A [`tokio_postgres::Client`], through [`Deref`], whose statements can be cached and whose cancel tokens end with the
/// lease.
pub struct ClientWrapper {
    // Dropped first: it closes the socket, so that nothing is sent for what follows.
    pub(super) link: Link,
    pub(super) client: tokio_postgres::Client,
    pub(super) canceller: Arc<Canceller>,
    /// Of the lease that ended last, if its cancel tokens were used.
    pub(super) used_gate: Option<Arc<Gate>>,
    pub(super) took_writes: bool,
    /// The statements that [`prepare_cached`](ClientWrapper::prepare_cached) keeps.
    pub statement_cache: Arc<StatementCache>,
}

impl ClientWrapper {
    /// As [`tokio_postgres::Client::prepare`], but prepares each text once per connection.
    ///
    /// # Errors
    /// The server's, or the connection's end.
    pub async fn prepare_cached(&self, query: &str) -> Result<Statement, Error> {
        self.statement_cache.prepare(&self.client, query).await
    }

    /// As [`tokio_postgres::Client::prepare_typed`], but prepares each text with each list of types once per connection.
    ///
    /// # Errors
    /// The server's, or the connection's end.
    pub async fn prepare_typed_cached(&self, query: &str, types: &[Type]) -> Result<Statement, Error> {
        self.statement_cache.prepare_typed(&self.client, query, types).await
    }

    /// As [`tokio_postgres::Client::transaction`], with the statement cache.
    ///
    /// # Errors
    /// The server's, or the connection's end.
    ///
    /// # Cancellation
    /// Dropped half-way or not ended, the transaction is rolled back before the connection is lent again.
    pub async fn transaction(&mut self) -> Result<Transaction<'_>, Error> {
        let (cache, canceller) = (&self.statement_cache, &self.canceller);
        Ok(Transaction::new(self.client.transaction().await?, cache, canceller))
    }

    /// As [`tokio_postgres::Client::build_transaction`], with the statement cache.
    pub fn build_transaction(&mut self) -> TransactionBuilder<'_> {
        TransactionBuilder::new(self.client.build_transaction(), &self.statement_cache, &self.canceller)
    }

    /// A token that cancels what this lease runs, and nothing after it.
    pub fn cancel_token(&self) -> CancelToken {
        self.canceller.token()
    }

    /// The session's process id on the server.
    pub fn backend_pid(&self) -> i32 {
        self.link.traffic(|traffic| traffic.backend_pid())
    }
}

impl Deref for ClientWrapper {
    type Target = tokio_postgres::Client;

    fn deref(&self) -> &tokio_postgres::Client {
        &self.client
    }
}

impl DerefMut for ClientWrapper {
    fn deref_mut(&mut self) -> &mut tokio_postgres::Client {
        &mut self.client
    }
}

impl Session for ClientWrapper {
    async fn first_value(&mut self, sql: &str) -> Result<Option<String>, Fault> {
        let messages = self.client.simple_query(sql).await.map_err(|error| fault::of(&error))?;
        let row = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        Ok(row.and_then(|row| row.get(0)).map(str::to_owned))
    }
}

impl fmt::Debug for ClientWrapper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientWrapper")
            .field("backend_pid", &self.backend_pid())
            .field("statement_cache", &self.statement_cache)
            .finish_non_exhaustive()
    }
}
