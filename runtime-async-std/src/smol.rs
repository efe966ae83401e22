//! pgweir on smol.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use pgweir_core::client::Postgres;
use pgweir_core::os;
use pgweir_core::runtime::{Address, Runtime};
use pgweir_core::time::Instant;

use crate::async_io::{self, AsyncIoStream, AsyncIoTimer};

/// A PostgreSQL connection pool on smol.
pub type Pool = pgweir_core::driver::Pool<Smol, Postgres<Smol>>;
/// A connection on loan.
pub type Lease = pgweir_core::driver::Lease<Smol, Postgres<Smol>>;

/// smol's global executor: tasks can be spawned from any thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Smol;

impl Runtime for Smol {
    type Stream = AsyncIoStream;
    type Timer = AsyncIoTimer;

    fn current() -> Self {
        os::prepare_clock();
        Smol
    }

    fn now(&self) -> Instant {
        os::now()
    }

    fn unix_time(&self) -> Duration {
        os::unix_time()
    }

    fn seed(&self) -> u64 {
        os::seed()
    }

    fn timer(&self, deadline: Instant) -> AsyncIoTimer {
        AsyncIoTimer::new(deadline)
    }

    fn spawn(&self, _name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        ::smol::spawn(task).detach();
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        async_io::resolve(host, port).await
    }

    async fn connect(&self, address: &Address) -> io::Result<AsyncIoStream> {
        async_io::connect(address).await
    }
}
