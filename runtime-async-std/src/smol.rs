//! pgweir on smol.
//!
//! ```no_run
//! use pgweir_async_std::smol::Pool;
//!
//! smol::block_on(async {
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

/// The default manager: PostgreSQL connections on smol.
pub type Postgres = pgweir_core::client::Postgres<Smol>;
/// A pool on smol; of PostgreSQL connections unless another manager is named.
pub type Pool<M = Postgres> = pgweir_core::driver::Pool<Smol, M>;
/// Opens a [`Pool`].
pub type PoolBuilder<M = Postgres> = pgweir_core::driver::PoolBuilder<Smol, M>;
/// An acquire under way.
pub type Acquire<M = Postgres> = pgweir_core::driver::Acquire<Smol, M>;
/// A connection on loan.
pub type Lease<M = Postgres> = pgweir_core::driver::Lease<Smol, M>;
/// A PostgreSQL connection, as a lease shows it.
pub type Client = pgweir_core::client::Client<Smol>;
/// Health, statistics and metrics over HTTP: see [`pgweir_core::endpoint`].
#[cfg(feature = "endpoint")]
pub type Endpoint = pgweir_core::endpoint::Endpoint<Smol>;
/// Publishes a pool's metrics through the facade crate `metrics`: see [`pgweir_core::metrics`].
#[cfg(feature = "metrics")]
pub type Publisher<M = Postgres> = pgweir_core::metrics::Publisher<Smol, M>;

/// smol's global executor: tasks can be spawned from any thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Smol;

crate::async_io::runtime!(Smol, |task| ::smol::spawn(task).detach());
