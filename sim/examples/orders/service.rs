//! A small service: orders in a database. It does not know whether it runs on tokio or in a simulation, since all it
//! has to do with a runtime is its pool's type.

use std::time::Duration;

use pgweir_core::client::{PoolError, Postgres};
use pgweir_core::driver::Pool;
use pgweir_core::error::AcquireError;
use pgweir_core::runtime::Runtime;

/// The service.
#[derive(Clone, Debug)]
pub struct Orders<R: Runtime> {
    pool: Pool<R, Postgres<R>>,
    runtime: R,
}

/// What the service tells its own callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderError {
    /// "503, try again soon": nothing was done.
    Unavailable(String),
    /// "500": it is not known whether it was done. Asking again with the same number is safe.
    Unknown(String),
}

/// How often an order is tried.
const TRIES: u32 = 3;
/// The pause before it is tried again.
const PAUSE: Duration = Duration::from_millis(200);

impl<R: Runtime> Orders<R> {
    /// A service over this pool.
    pub fn new(runtime: R, pool: Pool<R, Postgres<R>>) -> Self {
        Orders { pool, runtime }
    }

    /// Makes the table.
    pub async fn set_up(&self) -> Result<(), PoolError> {
        let mut client = self.pool.get().await?;
        client.batch_execute("CREATE TABLE orders (id int8 PRIMARY KEY, item text)").await?;
        Ok(())
    }

    /// Places an order, once however often it is asked for. A connection that dies in the middle costs its caller a
    /// moment, not an error; a database that is down is no reason to wait.
    pub async fn place(&self, id: i64, item: &str) -> Result<(), OrderError> {
        let mut last = String::new();
        for _ in 0..TRIES {
            match self.try_to_place(id, item).await {
                Ok(()) => return Ok(()),
                Err(PoolError::Acquire(error @ (AcquireError::Unavailable(_) | AcquireError::Timeout(_)))) => {
                    return Err(OrderError::Unavailable(error.to_string()));
                }
                Err(error) => last = error.to_string(),
            }
            self.runtime.timer(self.runtime.now() + PAUSE).await;
        }
        Err(OrderError::Unknown(last))
    }

    async fn try_to_place(&self, id: i64, item: &str) -> Result<(), PoolError> {
        let mut client = self.pool.get().await?;
        let mut transaction = client.transaction().await?;
        // It may have been placed by a try whose answer was lost.
        if transaction.query_opt("SELECT item FROM orders WHERE id = $1", &[&id]).await?.is_none() {
            transaction.execute("INSERT INTO orders VALUES ($1, $2)", &[&id, &item]).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// What was ordered.
    pub async fn find(&self, id: i64) -> Result<Option<String>, PoolError> {
        let mut client = self.pool.get().await?;
        let row = client.query_opt("SELECT item FROM orders WHERE id = $1", &[&id]).await?;
        Ok(row.map(|row| row.get(0)))
    }

    /// Ends the service.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}
