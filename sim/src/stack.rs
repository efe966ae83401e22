//! The pool, the driver and the client with [`SimRuntime`] filled in: what a service's tests use in the place of
//! `pgweir_tokio`.

use crate::SimRuntime;

pub use pgweir_core::client::{Row, Statement};
pub use pgweir_core::config::Config;
pub use pgweir_core::error::{AcquireError, OpenError};
pub use pgweir_core::pool::{Counts, ShutdownReport};

/// The default manager: PostgreSQL connections in the simulator.
pub type Postgres = pgweir_core::client::Postgres<SimRuntime>;
/// A pool in the simulator; of PostgreSQL connections unless another manager is named.
pub type Pool<M = Postgres> = pgweir_core::driver::Pool<SimRuntime, M>;
/// Opens a [`Pool`].
pub type PoolBuilder<M = Postgres> = pgweir_core::driver::PoolBuilder<SimRuntime, M>;
/// An acquire under way.
pub type Acquire<M = Postgres> = pgweir_core::driver::Acquire<SimRuntime, M>;
/// A connection on loan.
pub type Lease<M = Postgres> = pgweir_core::driver::Lease<SimRuntime, M>;
/// A PostgreSQL connection, as a lease shows it.
pub type Client = pgweir_core::client::Client<SimRuntime>;
