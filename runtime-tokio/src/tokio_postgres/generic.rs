//! Code that does not care whether it is given a client or a transaction.

use std::future::Future;

use tokio_postgres::types::{BorrowToSql, ToSql, Type};
use tokio_postgres::{Error, Row, RowStream, Statement, ToStatement};

use super::Client;
use super::client::ClientWrapper;
use super::transaction::Transaction;

mod sealed {
    pub trait Sealed {}
}

/// A client or a transaction, for code that takes either, as deadpool-postgres has it. Nobody else can implement it.
///
/// The errors of all methods are the server's, or the connection's end.
pub trait GenericClient: Sync + sealed::Sealed {
    /// As [`tokio_postgres::Client::execute`].
    fn execute<T>(&self, query: &T, params: &[&(dyn ToSql + Sync)]) -> impl Future<Output = Result<u64, Error>> + Send
    where
        T: ?Sized + ToStatement + Sync + Send;

    /// As [`tokio_postgres::Client::execute_raw`].
    fn execute_raw<T, P, I>(&self, query: &T, params: I) -> impl Future<Output = Result<u64, Error>> + Send
    where
        T: ?Sized + ToStatement + Sync + Send,
        P: BorrowToSql,
        I: IntoIterator<Item = P> + Sync + Send,
        I::IntoIter: ExactSizeIterator;

    /// As [`tokio_postgres::Client::query`].
    fn query<T>(
        &self,
        query: &T,
        params: &[&(dyn ToSql + Sync)],
    ) -> impl Future<Output = Result<Vec<Row>, Error>> + Send
    where
        T: ?Sized + ToStatement + Sync + Send;

    /// As [`tokio_postgres::Client::query_one`].
    fn query_one<T>(
        &self,
        query: &T,
        params: &[&(dyn ToSql + Sync)],
    ) -> impl Future<Output = Result<Row, Error>> + Send
    where
        T: ?Sized + ToStatement + Sync + Send;

    /// As [`tokio_postgres::Client::query_opt`].
    fn query_opt<T>(
        &self,
        query: &T,
        params: &[&(dyn ToSql + Sync)],
    ) -> impl Future<Output = Result<Option<Row>, Error>> + Send
    where
        T: ?Sized + ToStatement + Sync + Send;

    /// As [`tokio_postgres::Client::query_raw`].
    fn query_raw<T, P, I>(&self, query: &T, params: I) -> impl Future<Output = Result<RowStream, Error>> + Send
    where
        T: ?Sized + ToStatement + Sync + Send,
        P: BorrowToSql,
        I: IntoIterator<Item = P> + Sync + Send,
        I::IntoIter: ExactSizeIterator;

    /// As [`tokio_postgres::Client::prepare`].
    fn prepare(&self, query: &str) -> impl Future<Output = Result<Statement, Error>> + Send;

    /// As [`tokio_postgres::Client::prepare_typed`].
    fn prepare_typed(&self, query: &str, types: &[Type]) -> impl Future<Output = Result<Statement, Error>> + Send;

    /// As [`ClientWrapper::prepare_cached`].
    fn prepare_cached(&self, query: &str) -> impl Future<Output = Result<Statement, Error>> + Send;

    /// As [`ClientWrapper::prepare_typed_cached`].
    fn prepare_typed_cached(
        &self,
        query: &str,
        types: &[Type],
    ) -> impl Future<Output = Result<Statement, Error>> + Send;

    /// As [`tokio_postgres::Client::batch_execute`].
    fn batch_execute(&self, query: &str) -> impl Future<Output = Result<(), Error>> + Send;

    /// As [`ClientWrapper::transaction`]; in a transaction, a savepoint.
    fn transaction(&mut self) -> impl Future<Output = Result<Transaction<'_>, Error>> + Send;
}

macro_rules! generic_client {
    ($($type:ty: by $methods:ty),*) => {
        $(impl sealed::Sealed for $type {}

        impl GenericClient for $type {
            async fn execute<T>(&self, query: &T, params: &[&(dyn ToSql + Sync)]) -> Result<u64, Error>
            where
                T: ?Sized + ToStatement + Sync + Send,
            {
                (**self).execute(query, params).await
            }

            async fn execute_raw<T, P, I>(&self, query: &T, params: I) -> Result<u64, Error>
            where
                T: ?Sized + ToStatement + Sync + Send, P: BorrowToSql, I: IntoIterator<Item = P> + Sync + Send, I::IntoIter: ExactSizeIterator,
            {
                (**self).execute_raw(query, params).await
            }

            async fn query<T>(&self, query: &T, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error>
            where
                T: ?Sized + ToStatement + Sync + Send,
            {
                (**self).query(query, params).await
            }

            async fn query_one<T>(&self, query: &T, params: &[&(dyn ToSql + Sync)]) -> Result<Row, Error>
            where
                T: ?Sized + ToStatement + Sync + Send,
            {
                (**self).query_one(query, params).await
            }

            async fn query_opt<T>(&self, query: &T, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, Error>
            where
                T: ?Sized + ToStatement + Sync + Send,
            {
                (**self).query_opt(query, params).await
            }

            async fn query_raw<T, P, I>(&self, query: &T, params: I) -> Result<RowStream, Error>
            where
                T: ?Sized + ToStatement + Sync + Send, P: BorrowToSql, I: IntoIterator<Item = P> + Sync + Send, I::IntoIter: ExactSizeIterator,
            {
                (**self).query_raw(query, params).await
            }

            async fn prepare(&self, query: &str) -> Result<Statement, Error>            {
                (**self).prepare(query).await
            }

            async fn prepare_typed(&self, query: &str, types: &[Type]) -> Result<Statement, Error>            {
                (**self).prepare_typed(query, types).await
            }

            async fn prepare_cached(&self, query: &str) -> Result<Statement, Error>            {
                <$methods>::prepare_cached(self, query).await
            }

            async fn prepare_typed_cached(&self, query: &str, types: &[Type]) -> Result<Statement, Error>            {
                <$methods>::prepare_typed_cached(self, query, types).await
            }

            async fn batch_execute(&self, query: &str) -> Result<(), Error>            {
                (**self).batch_execute(query).await
            }

            async fn transaction(&mut self) -> Result<Transaction<'_>, Error> {
                <$methods>::transaction(self).await
            }
        })*
    };
}

generic_client!(ClientWrapper: by ClientWrapper, Client: by ClientWrapper, Transaction<'_>: by Transaction<'_>);
