//! The pool, and the schema in its database.

use std::sync::Arc;

use pgweir_core::pool::FaultClass;
use pgweir_tokio::{Config, Lease, OpenError, Pool};
use tokio::sync::OnceCell;

use crate::errors::Failure;

const SCHEMA: &str = include_str!("schema.sql");

/// The pool, with the schema made on first use.
#[derive(Clone)]
pub(crate) struct Database {
    pool: Pool,
    schema: Arc<OnceCell<()>>,
}

impl Database {
    /// Opens the pool. A database that is down is no reason not to serve: then the pool goes on trying, and says so to
    /// callers and in its health.
    ///
    /// # Errors
    /// Where trying again will not help: a wrong password, a database that does not exist.
    pub(crate) async fn open(config: Config) -> Result<Database, OpenError> {
        let pool = match Pool::builder(config.clone()).open().await {
            Ok(pool) => pool,
            Err(error) if is_permanent(&error) => return Err(error),
            Err(error) => {
                tracing::warn!(
                    name: "code_search.database.absent",
                    cause = %error,
                    "the database is down: serving without it until it is back"
                );
                Pool::builder(config).open_lazy()
            }
        };
        Ok(Database { pool, schema: Arc::default() })
    }

    /// The pool itself.
    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// A connection to a database that has the schema.
    pub(crate) async fn get(&self) -> Result<Lease, Failure> {
        let mut lease = self.pool.get().await?;
        // Concurrent callers wait for the first; if it fails the next one tries.
        let made = self.schema.get_or_try_init(async || lease.batch_execute(SCHEMA).await).await;
        made?;
        Ok(lease)
    }
}

fn is_permanent(error: &OpenError) -> bool {
    match error {
        OpenError::Init { attempts } => attempts.last().is_some_and(|fault| fault.class == FaultClass::Permanent),
        _ => false,
    }
}
