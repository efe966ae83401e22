//! Pools of tokio-postgres clients.
//!
//! For services that use tokio-postgres already, with deadpool-postgres or bb8-postgres: the queries stay as they are, the
//! pool is pgweir's. The [migration guide](crate::migration) has each of their names beside ours. It is also the worked
//! example of a manager of one's own (see [`pgweir_core::manager`]).
//!
//! A [`Client`] derefs to [`tokio_postgres::Client`] and has deadpool-postgres's `prepare_cached` and `transaction`
//! besides:
//!
//! ```no_run
//! use pgweir_core::config::PoolConfig;
//! use pgweir_tokio::tokio_postgres::{Client, Manager, Pool, builder};
//! use tokio_postgres::NoTls;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let manager = Manager::new("postgres://app:secret@localhost/shop".parse()?, NoTls);
//! let pool: Pool = builder(manager, PoolConfig::builder().max_size(16).build()?).open().await?;
//!
//! let mut client: Client = pool.get().await?;
//! let statement = client.prepare_cached("SELECT name FROM item WHERE id = $1").await?;
//! let name: String = client.query_one(&statement, &[&42_i32]).await?.get(0);
//! let transaction = client.transaction().await?;
//! transaction.execute("UPDATE item SET price = price + 1 WHERE name = $1", &[&name]).await?;
//! transaction.commit().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What the pool knows of a client
//!
//! tokio-postgres keeps to itself whether answers are still to come and whether a transaction is open. So the pool opens
//! the sockets itself and watches the messages that pass, encrypted connections included: when a lease ends cleanly, the
//! connection is lent again without a round trip, and otherwise what still runs is cancelled and what is open is rolled
//! back first.
//!
//! # What differs from tokio-postgres's own `connect`
//!
//! - Of several hosts the pool chooses, by their state; `load_balance_hosts` is not looked at.
//! - Cancel tokens are [`CancelToken`]s of this module: they are void when their lease ends.
//! - A [`tokio_postgres::RowStream`] or `CopyInSink` that is kept beyond its lease keeps the connection from the next
//!   user; after reset_timeout the connection is closed.
//! - Notifications are not passed on. Use [`pgweir_tokio::Client`](crate::Client) to listen.

mod cache;
mod cancel;
mod client;
mod connector;
mod drain;
mod fault;
mod generic;
mod link;
mod manager;
mod traffic;
mod transaction;
mod wire;

use pgweir_core::config::PoolConfig;

pub use cache::StatementCache;
pub use cancel::CancelToken;
pub use client::ClientWrapper;
pub use generic::GenericClient;
pub use manager::Manager;
pub use transaction::{Transaction, TransactionBuilder};
pub use wire::Wire;

/// A pool of tokio-postgres clients.
pub type Pool = crate::Pool<Manager>;
/// Opens a [`Pool`].
pub type PoolBuilder = crate::PoolBuilder<Manager>;
/// A client on loan: through [`ClientWrapper`] a [`tokio_postgres::Client`].
pub type Client = crate::Lease<Manager>;

/// A builder of a pool of what `manager` opens, on the manager's runtime.
pub fn builder(manager: Manager, config: PoolConfig) -> PoolBuilder {
    PoolBuilder::new(manager.runtime().clone(), manager, config)
}
