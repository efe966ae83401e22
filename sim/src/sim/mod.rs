//! What a test sees of the simulator.

mod builder;
mod join;
mod seeds;
mod server;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::Duration;

use pgweir_core::runtime::Runtime;
use pgweir_core::time::Instant;

use crate::digest::Digest;
use crate::executor::{SimTimer, lock};
use crate::net::{Host, HostHandle, HostNet, Name};
use crate::runtime::SimRuntime;
use crate::scenario::Dist;

pub use builder::SimBuilder;
pub use join::JoinHandle;
pub use server::Server;

/// The environment variable that replays one seed.
pub(crate) const SEED_VARIABLE: &str = "PGWEIR_SIM_SEED";

/// A simulation: tasks, a virtual clock, and a network with hosts on it. Cheap to clone; all clones are the same one.
///
/// Nothing in it is left to chance: the seed decides in which order ready tasks run, how long segments travel, how
/// reads and writes are cut short and how late timers are. Two runs of a seed are the same, step by step, and have one
/// [`digest`](Sim::digest).
///
/// ```
/// use std::time::Duration;
/// use pgweir_sim::Sim;
///
/// let sim = Sim::new(7);
/// let answer = sim.run(async |sim| {
///     let task = sim.spawn({
///         let sim = sim.clone();
///         async move {
///             sim.sleep(Duration::from_secs(3600)).await;
///             42
///         }
///     });
///     task.await
/// });
/// assert_eq!((answer, sim.now().as_nanos()), (42, 3_600_000_000_000));
/// ```
#[derive(Clone, Debug)]
pub struct Sim {
    runtime: SimRuntime,
    servers: Servers,
}

/// The servers by name.
#[derive(Clone, Debug, Default)]
struct Servers(Arc<Mutex<BTreeMap<String, Server>>>);

impl Servers {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Server>> {
        lock(&self.0)
    }
}

/// A time limit has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl std::fmt::Display for Elapsed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the time limit has passed")
    }
}

impl std::error::Error for Elapsed {}

impl Sim {
    /// A simulation with everything at its default. The environment variable `PGWEIR_SIM_SEED`, if it is set, takes the
    /// place of `seed`: a failed run says how it is repeated.
    ///
    /// # Panics
    /// If the variable is set to something else than a number.
    #[track_caller]
    pub fn new(seed: u64) -> Self {
        Sim::builder().seed(seed).build()
    }

    /// A simulation with settings of its own.
    pub fn builder() -> SimBuilder {
        SimBuilder::default()
    }

    /// Runs `main`, and with it all tasks, until it is ready. Then the other tasks are dropped, in the order in which
    /// they were spawned. A simulation runs once.
    ///
    /// # Panics
    /// With the seed and how to run it again: if `main` or a task panics; if nothing can happen any more while `main`
    /// waits (a stall); if tasks are polled without end while no time passes (a livelock); when the time limit passes.
    pub fn run<T>(&self, main: impl AsyncFnOnce(Sim) -> T) -> T {
        let _entered = self.runtime.enter();
        self.runtime.executor.run(main(self.clone()), &*self.runtime.net)
    }

    /// Runs `check` with a simulation for each of `seeds`: all of them, until one panics. `PGWEIR_SIM_SEED`, if it is
    /// set, takes their place.
    ///
    /// # Panics
    /// As soon as `check` does, with the seed; if `PGWEIR_SIM_SEED` is set to something else than a number.
    #[track_caller]
    pub fn seeds(seeds: impl IntoIterator<Item = u64>, check: impl FnMut(Sim)) {
        seeds::each(seeds, check);
    }

    /// Runs `task` in the background. A task that panics ends the run.
    pub fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.spawn_named("task", task)
    }

    /// As [`spawn`](Sim::spawn); the name appears in what a failed run says.
    pub fn spawn_named<T: Send + 'static>(
        &self,
        name: &'static str,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        JoinHandle::spawn(&self.runtime.executor, name, task)
    }

    /// The virtual time since the beginning of the run.
    pub fn now(&self) -> Instant {
        self.runtime.now()
    }

    /// Waits, exactly so long: the test's own timers have no slack.
    pub async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.now() + duration).await;
    }

    /// Waits until then.
    pub async fn sleep_until(&self, deadline: Instant) {
        SimTimer::exact(self.runtime.executor.clone(), deadline).await;
    }

    /// Gives `future` so long.
    ///
    /// # Errors
    /// When it was not ready then; it is dropped.
    pub async fn timeout<T>(&self, duration: Duration, future: impl Future<Output = T>) -> Result<T, Elapsed> {
        let mut timer = SimTimer::exact(self.runtime.executor.clone(), self.now() + duration);
        let mut future = pin!(future);
        std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => std::pin::Pin::new(&mut timer).poll(cx).map(|()| Err(Elapsed)),
        })
        .await
    }

    /// A laptop sleeps: until the time has passed no task is polled and no timer fires, while the network and the hosts
    /// go on. Then everything that has come and that is due is there at once.
    pub async fn suspend(&self, duration: Duration) {
        let until = self.now() + duration;
        self.runtime.executor.sleep_until(until);
        self.sleep_until(until).await;
    }

    /// Sets the wall clock, which only [`Runtime::unix_time`] shows, to this time since the Unix epoch. It goes on from
    /// there; at the beginning of a run it is 2026-01-01, 00:00 UTC.
    pub fn set_wall_clock(&self, unix_time: Duration) {
        self.runtime.set_wall_clock(unix_time);
    }

    /// Puts `host` on the network, at a name and a port. The name gets an address of its own, and a place in the DNS.
    ///
    /// # Panics
    /// If another host has them.
    #[track_caller]
    pub fn host<H: Host + 'static>(&self, name: &str, port: u16, host: H) -> HostHandle<H> {
        HostHandle::listen(&self.runtime.net, name, port, host)
    }

    /// The network's side of the host with this name.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn net(&self, name: &str) -> HostNet {
        self.runtime.net.host(name).unwrap_or_else(|| panic!("no host is called {name:?}"))
    }

    /// A name in the simulated DNS, which need not be a host's.
    pub fn dns(&self, name: &str) -> Name {
        Name::new(self.runtime.net.clone(), name)
    }

    /// How long queries to the DNS take; by default 50 to 500 µs.
    ///
    /// # Panics
    /// If nothing can be drawn from it.
    #[track_caller]
    pub fn set_dns_latency(&self, latency: Dist) {
        self.runtime.net.set_resolver_latency(latency);
    }

    /// The runtime, for a pool that is built outside of [`run`](Sim::run).
    pub fn runtime(&self) -> &SimRuntime {
        &self.runtime
    }

    /// The seed of this simulation.
    pub fn seed(&self) -> u64 {
        self.runtime.executor.seed()
    }

    /// The digest of every step so far: which task was polled, which timer fired, what arrived when, and how long it
    /// was. Contents do not count, for some of them (nonces, keys) are drawn outside.
    pub fn digest(&self) -> Digest {
        self.runtime.executor.digest()
    }
}
