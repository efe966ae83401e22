//! Transactions and savepoints that roll back when they are dropped.

use std::borrow::Cow;
use std::fmt;
use std::ops::{Deref, DerefMut};

use super::connection::Client;
use super::error::Error;
use super::isolation::{IsolationLevel, Options};
use crate::pg::TransactionStatus;
use crate::runtime::Runtime;

impl<R: Runtime> Client<R> {
    /// Begins a transaction with the session's defaults; within a transaction, a savepoint.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn transaction(&mut self) -> Result<Transaction<'_, R>, Error> {
        self.build_transaction().start().await
    }

    /// Begins a transaction with options.
    pub fn build_transaction(&mut self) -> TransactionBuilder<'_, R> {
        TransactionBuilder { client: self, options: Options::default() }
    }

    /// Sets a savepoint within a transaction: what is done on the result can be undone alone. The name needs no
    /// quoting.
    ///
    /// # Errors
    /// What the server says, 25P01 if no transaction is open.
    pub async fn savepoint(&mut self, name: &str) -> Result<Transaction<'_, R>, Error> {
        let name = format!("\"{}\"", name.replace('"', "\"\""));
        self.nested(name).await
    }

    async fn nested(&mut self, name: String) -> Result<Transaction<'_, R>, Error> {
        // Dropped in here, the savepoint may exist, but nothing was done after it: there is nothing to undo.
        self.batch_execute(&format!("SAVEPOINT {name}")).await?;
        Ok(Transaction { client: self, savepoint: Some(name), open: true })
    }
}

/// What a transaction is to be like. What is not set is left to the session's defaults.
#[must_use = "nothing is begun before start()"]
pub struct TransactionBuilder<'a, R: Runtime> {
    client: &'a mut Client<R>,
    options: Options,
}

impl<'a, R: Runtime> TransactionBuilder<'a, R> {
    /// Sets the isolation level.
    pub fn isolation_level(mut self, level: IsolationLevel) -> Self {
        self.options.isolation = Some(level);
        self
    }

    /// Sets whether writing is refused.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.options.read_only = Some(read_only);
        self
    }

    /// Sets whether a serializable read-only transaction waits until it cannot fail.
    pub fn deferrable(mut self, deferrable: bool) -> Self {
        self.options.deferrable = Some(deferrable);
        self
    }

    /// Begins it.
    ///
    /// # Errors
    /// What the server or the connection says; [`Error::InTransaction`] for options within a transaction.
    pub async fn start(self) -> Result<Transaction<'a, R>, Error> {
        let TransactionBuilder { client, options } = self;
        client.quiesce().await?;
        if client.transaction_status() != TransactionStatus::Idle {
            if options != Options::default() {
                return Err(Error::InTransaction);
            }
            client.savepoints += 1;
            let name = format!("pgweir_{}", client.savepoints);
            return client.nested(name).await;
        }
        // The guard comes first: a BEGIN whose future is dropped must not leave its transaction to the next request.
        let transaction = Transaction { client, savepoint: None, open: true };
        transaction.client.batch_execute(&options.begin()).await?;
        Ok(transaction)
    }
}

/// A transaction, or a savepoint in one. Use it as the [`Client`] it derefs to.
///
/// Dropped without [`Transaction::commit`] it is rolled back: before the next request on the connection, or by the pool
/// when the lease ends.
pub struct Transaction<'a, R: Runtime> {
    client: &'a mut Client<R>,
    savepoint: Option<String>,
    open: bool,
}

impl<R: Runtime> Transaction<'_, R> {
    /// Makes what was done permanent; for a savepoint, a part of the transaction around it.
    ///
    /// When the future is dropped the commit may still happen: whether it did can only be seen in the data.
    ///
    /// # Errors
    /// What the server or the connection says; [`Error::RolledBack`] if the server rolled back instead, because a
    /// statement had failed.
    pub async fn commit(mut self) -> Result<(), Error> {
        let sql = match &self.savepoint {
            None => Cow::Borrowed("COMMIT"),
            Some(name) => Cow::Owned(format!("RELEASE SAVEPOINT {name}")),
        };
        // A savepoint's release that is dropped half-way is left to happen; a COMMIT is followed by a ROLLBACK, which
        // does nothing after it and cleans up where it was never sent.
        self.open = self.savepoint.is_none();
        let tag = match self.client.command(&sql).await {
            Ok(tag) => tag,
            Err(error) => {
                // A COMMIT that the server refused (a deferred constraint) has ended the transaction.
                self.open = self.client.in_doubt();
                return Err(error);
            }
        };
        self.open = false;
        if self.savepoint.is_none() && &tag[..] != b"COMMIT" {
            return Err(Error::RolledBack);
        }
        Ok(())
    }

    /// Undoes what was done; also if the future is dropped, then before the next request.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn rollback(mut self) -> Result<(), Error> {
        self.open = false;
        self.client.rollback = Some(self.undo());
        self.client.finish_rollback().await
    }

    fn undo(&self) -> Cow<'static, str> {
        match &self.savepoint {
            None => Cow::Borrowed("ROLLBACK"),
            Some(name) => Cow::Owned(format!("ROLLBACK TO SAVEPOINT {name};RELEASE SAVEPOINT {name}")),
        }
    }
}

impl<R: Runtime> Deref for Transaction<'_, R> {
    type Target = Client<R>;
    fn deref(&self) -> &Client<R> {
        self.client
    }
}

impl<R: Runtime> DerefMut for Transaction<'_, R> {
    fn deref_mut(&mut self) -> &mut Client<R> {
        self.client
    }
}

impl<R: Runtime> fmt::Debug for Transaction<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("client", &self.client).field("savepoint", &self.savepoint).finish()
    }
}

impl<R: Runtime> Drop for Transaction<'_, R> {
    fn drop(&mut self) {
        if self.open {
            // A savepoint's undoing that is still unsent goes before this one: the later one includes it.
            self.client.rollback = Some(self.undo());
        }
    }
}
