//! A manager whose connections cost nothing: what remains is the pool.

use std::sync::Arc;
use std::task::{Context, Poll};

use pgweir_core::manager::{Manager, Returned};
use pgweir_core::pool::{Fate, Fault, HostId, ResetHow, ServerFacts};
use pgweir_core::runtime::Abort;
use pgweir_core::time::Instant;

/// Opens numbers.
#[derive(Debug, Default)]
pub struct NoopManager;

impl Manager for NoopManager {
    type Connection = u64;

    async fn connect(&self, _host: HostId, _deadline: Instant) -> Result<(u64, ServerFacts), Fault> {
        Ok((0, ServerFacts::default()))
    }

    async fn validate(&self, _connection: &mut u64) -> Result<(), Fault> {
        Ok(())
    }

    async fn reset(&self, _connection: &mut u64, _how: ResetHow, _deadline: Instant) -> Result<(), Fault> {
        Ok(())
    }

    fn peek(&self, _connection: &mut u64) -> Result<(), Fault> {
        Ok(())
    }

    fn poll_idle(&self, _connection: &mut u64, _cx: &mut Context<'_>) -> Poll<Fault> {
        Poll::Pending
    }

    fn returned(&self, connection: &mut u64) -> Returned {
        *connection += 1;
        Returned { fate: Fate::Clean, queries: 1, fault: None }
    }

    async fn close(&self, _connection: u64) {}

    fn abort_handle(&self, _connection: &u64) -> Option<Arc<dyn Abort>> {
        None
    }
}

/// The same for deadpool.
impl deadpool::managed::Manager for NoopManager {
    type Type = u64;
    type Error = std::convert::Infallible;

    async fn create(&self) -> Result<u64, Self::Error> {
        Ok(0)
    }

    async fn recycle(
        &self,
        connection: &mut u64,
        _metrics: &deadpool::managed::Metrics,
    ) -> deadpool::managed::RecycleResult<Self::Error> {
        *connection += 1;
        Ok(())
    }
}

/// The same for bb8.
impl bb8::ManageConnection for NoopManager {
    type Connection = u64;
    type Error = std::convert::Infallible;

    async fn connect(&self) -> Result<u64, Self::Error> {
        Ok(0)
    }

    async fn is_valid(&self, connection: &mut u64) -> Result<(), Self::Error> {
        *connection += 1;
        Ok(())
    }

    fn has_broken(&self, _connection: &mut u64) -> bool {
        false
    }
}
