//! pgweir on tokio.
//!
//! Everything but sockets, timers and tasks is in [`pgweir_core`]; here are its types with tokio filled in. Coming from
//! another pool? The [migration guide](migration) has its names beside ours.

#[cfg(feature = "endpoint")]
mod endpoint;
mod runtime;
mod stream;
#[cfg(feature = "tokio-postgres")]
pub mod tokio_postgres;

#[cfg(feature = "endpoint")]
pub use endpoint::TokioListener;
pub use pgweir_core::client::{Row, Statement};
pub use pgweir_core::config::Config;
pub use pgweir_core::error::{AcquireError, OpenError};
pub use pgweir_core::pool::{Counts, ShutdownReport};
pub use runtime::{TokioRuntime, TokioTimer};
pub use stream::TokioStream;

/// Moving over from deadpool-postgres, bb8-postgres and sqlx's pool.
#[doc = include_str!("../docs/migration.md")]
pub mod migration {}

/// The default manager: PostgreSQL connections on tokio.
pub type Postgres = pgweir_core::client::Postgres<TokioRuntime>;
/// A pool on tokio; of PostgreSQL connections unless another manager is named.
pub type Pool<M = Postgres> = pgweir_core::driver::Pool<TokioRuntime, M>;
/// Opens a [`Pool`].
pub type PoolBuilder<M = Postgres> = pgweir_core::driver::PoolBuilder<TokioRuntime, M>;
/// An acquire under way.
pub type Acquire<M = Postgres> = pgweir_core::driver::Acquire<TokioRuntime, M>;
/// A connection on loan.
pub type Lease<M = Postgres> = pgweir_core::driver::Lease<TokioRuntime, M>;
/// A PostgreSQL connection, as a lease shows it.
pub type Client = pgweir_core::client::Client<TokioRuntime>;
/// Health, statistics and metrics over HTTP: see [`pgweir_core::endpoint`].
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use pgweir_tokio::{Endpoint, Pool};
///
/// let pool = Pool::connect("postgres://app@localhost/shop").await?;
/// let endpoint = Endpoint::bind("127.0.0.1:9187").pool("shop", &pool).serve().await?;
/// println!("http://{}/health", endpoint.local_addr());
/// endpoint.stop().await;
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "endpoint")]
pub type Endpoint = pgweir_core::endpoint::Endpoint<TokioRuntime>;
/// Publishes a pool's metrics through the facade crate `metrics`: see [`pgweir_core::metrics`].
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use pgweir_tokio::{Pool, Publisher};
///
/// let pool = Pool::connect("postgres://app@localhost/shop").await?;
/// Publisher::new("shop", &pool).publish_every(std::time::Duration::from_secs(10));
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "metrics")]
pub type Publisher<M = Postgres> = pgweir_core::metrics::Publisher<TokioRuntime, M>;

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
