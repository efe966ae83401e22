//! Queries, transactions and rows over a connection, and [`Postgres`], which lets a pool have such connections.
//!
//! The vocabulary is tokio-postgres's, on `&mut self`: whoever holds the lease is alone with the connection, writes to
//! its socket and reads from it; there is no connection task in between.

mod cancel;
mod connect;
mod connection;
mod drain;
mod error;
mod isolation;
mod limit;
mod pipeline;
mod pool;
mod postgres;
mod query;
mod row;
mod simple;
mod statement;
mod timer;
mod transaction;
mod types;

pub use crate::pg::{CacheStats, Column, CopyDirection, DbError, Params, Position, Severity, TransactionStatus};
pub use cancel::CancelToken;
pub use connect::{Credentials, Login, LoginFuture};
pub use connection::{Client, Notification};
pub use error::Error;
pub use isolation::IsolationLevel;
pub use pipeline::Outcome;
pub use pool::{ConnectError, PoolError};
pub use postgres::Postgres;
pub use query::RowStream;
pub use row::{Row, RowIndex, SimpleRow};
pub use simple::SimpleQueryMessage;
pub use statement::{Statement, ToStatement};
pub use transaction::{Transaction, TransactionBuilder};
