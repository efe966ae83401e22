//! pgweir on async-std.
//!
//! async-std is no longer developed (RUSTSEC-2025-0052). This file is all that depends on it; smol is the way on.
//!
//! ```no_run
//! use pgweir_async_std::async_std::Pool;
//!
//! async_std::task::block_on(async {
//!     let pool = Pool::connect("postgres://app:secret@localhost/shop").await?;
//!     let row = pool.get().await?.query_one("SELECT count(*) FROM item", &[]).await?;
//!     println!("{} items", row.get::<_, i64>(0));
//!     Ok::<_, Box<dyn std::error::Error>>(())
//! })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

pub use pgweir_core::client::{Row, Statement};
pub use pgweir_core::config::Config;
pub use pgweir_core::error::{AcquireError, OpenError};
pub use pgweir_core::pool::{Counts, ShutdownReport};

/// The default manager: PostgreSQL connections on async-std.
pub type Postgres = pgweir_core::client::Postgres<AsyncStd>;
/// A pool on async-std; of PostgreSQL connections unless another manager is named.
pub type Pool<M = Postgres> = pgweir_core::driver::Pool<AsyncStd, M>;
/// Opens a [`Pool`].
pub type PoolBuilder<M = Postgres> = pgweir_core::driver::PoolBuilder<AsyncStd, M>;
/// An acquire under way.
pub type Acquire<M = Postgres> = pgweir_core::driver::Acquire<AsyncStd, M>;
/// A connection on loan.
pub type Lease<M = Postgres> = pgweir_core::driver::Lease<AsyncStd, M>;
/// A PostgreSQL connection, as a lease shows it.
pub type Client = pgweir_core::client::Client<AsyncStd>;
/// Health, statistics and metrics over HTTP: see [`pgweir_core::endpoint`].
#[cfg(feature = "endpoint")]
pub type Endpoint = pgweir_core::endpoint::Endpoint<AsyncStd>;
/// Publishes a pool's metrics through the facade crate `metrics`: see [`pgweir_core::metrics`].
#[cfg(feature = "metrics")]
pub type Publisher<M = Postgres> = pgweir_core::metrics::Publisher<AsyncStd, M>;

/// async-std's global executor: tasks can be spawned from any thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsyncStd;

crate::async_io::runtime!(AsyncStd, |task| drop(::async_std::task::spawn(task)));
