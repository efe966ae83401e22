//! [`Runtime`] for the simulator.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pgweir_core::runtime::{Address, Runtime};
use pgweir_core::time::Instant;

use crate::executor::{Executor, SimTimer, lock, stream};
use crate::net::{Net, SimStream};
use crate::rng::Rng;

/// The simulator's runtime: virtual time, seeded scheduling, and a network in memory. Get it with
/// [`Sim::runtime`](crate::Sim::runtime), or inside a run with [`SimRuntime::current`].
#[derive(Clone)]
pub struct SimRuntime {
    pub(crate) executor: Arc<Executor>,
    pub(crate) net: Arc<Net>,
    pub(crate) wall: Arc<Wall>,
}

/// The wall clock, and where pools get their seeds.
pub(crate) struct Wall {
    /// How far the clock was stepped, in nanoseconds. It shows no time before the epoch: it is never set to one.
    offset: Mutex<i128>,
    seeds: Mutex<Rng>,
}

/// 2026-01-01, 00:00 UTC: when every run begins.
const BEGIN: Duration = Duration::from_secs(1_767_225_600);

thread_local! {
    static CURRENT: RefCell<Option<SimRuntime>> = const { RefCell::new(None) };
}

impl SimRuntime {
    pub(crate) fn new(executor: Arc<Executor>, net: Arc<Net>) -> Self {
        let seeds = Mutex::new(Rng::new(executor.seed(), stream::SEEDS));
        SimRuntime { executor, net, wall: Arc::new(Wall { offset: Mutex::default(), seeds }) }
    }

    /// Makes this the current runtime of the thread until the guard is dropped.
    pub(crate) fn enter(&self) -> Entered {
        Entered(CURRENT.replace(Some(self.clone())))
    }

    pub(crate) fn set_wall_clock(&self, unix_time: Duration) {
        let virtual_nanos = BEGIN.as_nanos() as i128 + i128::from(self.now().as_nanos());
        *lock(&self.wall.offset) = unix_time.as_nanos() as i128 - virtual_nanos;
    }
}

/// Puts back what was current before.
pub(crate) struct Entered(Option<SimRuntime>);

impl Drop for Entered {
    fn drop(&mut self) {
        let left = CURRENT.replace(self.0.take());
        drop(left);
    }
}

impl Runtime for SimRuntime {
    type Stream = SimStream;
    type Timer = SimTimer;

    fn current() -> Self {
        CURRENT.with_borrow(Option::clone).expect("called within Sim::run, on its thread")
    }

    #[inline]
    fn now(&self) -> Instant {
        self.executor.now()
    }

    fn unix_time(&self) -> Duration {
        let nanos = BEGIN.as_nanos() as i128 + i128::from(self.now().as_nanos()) + *lock(&self.wall.offset);
        Duration::new((nanos / 1_000_000_000) as u64, (nanos % 1_000_000_000) as u32)
    }

    fn seed(&self) -> u64 {
        lock(&self.wall.seeds).next()
    }

    fn timer(&self, deadline: Instant) -> SimTimer {
        SimTimer::new(self.executor.clone(), deadline)
    }

    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.executor.spawn(name, task);
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let lasts = self.net.resolving_lasts(host);
        SimTimer::exact(self.executor.clone(), self.now() + lasts).await;
        let addresses = self.net.addresses(host)?;
        Ok(addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect())
    }

    async fn connect(&self, address: &Address) -> io::Result<SimStream> {
        let link = self.net.begin_connect(address)?;
        crate::net::Connecting::new(self.net.clone(), link).await
    }
}

impl fmt::Debug for SimRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimRuntime").field("executor", &self.executor).finish_non_exhaustive()
    }
}
