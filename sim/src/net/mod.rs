//! The simulated network: [`Host`]s at addresses, and what lies between them and the clients.
//!
//! Bytes travel in segments that take the time of their [`Path`], in order; reads and writes are cut short at random.
//! What happens to a path, a test says with a [`HostNet`]: latency, partition, black hole, reset, refusal.

mod dns;
mod faults;
mod handle;
mod host;
mod link;
mod settings;
mod state;
mod stream;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::task::Waker;

use pgweir_core::runtime::Address;
use pgweir_core::time::Instant;

use self::state::{Call, State};
use crate::executor::{Executor, Outside, lock};

pub use dns::Name;
pub use faults::HostNet;
pub use handle::HostHandle;
pub use host::{Accept, Host, LinkId, Output};
pub use link::Direction;
pub use settings::Path;
pub(crate) use settings::check_dist;
pub(crate) use stream::Connecting;
pub use stream::SimStream;

/// The network of one run.
pub(crate) struct Net {
    executor: Arc<Executor>,
    state: Mutex<State>,
    /// Reused by every call of a host.
    outputs: Mutex<Vec<(LinkId, Output)>>,
}

impl Net {
    pub(crate) fn new(executor: Arc<Executor>, path: Path) -> Self {
        let state = Mutex::new(State::new(executor.clone(), path));
        Net { executor, state, outputs: Mutex::default() }
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The host with this name.
    pub(crate) fn host(self: &Arc<Self>, name: &str) -> Option<HostNet> {
        let machine = self.lock_state().find(name)?;
        Some(HostNet::new(self.clone(), machine))
    }

    /// Begins to connect.
    ///
    /// # Errors
    /// Of a Unix-domain socket that is not there.
    pub(crate) fn begin_connect(&self, address: &Address) -> io::Result<LinkId> {
        let mut state = lock(&self.state);
        let (machine, service, options) = match address {
            Address::Tcp(address, options) => {
                let machine = state.by_address.get(&address.ip()).copied().unwrap_or_default();
                let service = state.by_port.get(&(machine, address.port())).copied();
                (machine, service, Some(*options))
            }
            Address::Unix(path) => {
                let Some((machine, service)) = state.by_path.get(path).copied() else {
                    return Err(io::ErrorKind::NotFound.into());
                };
                (machine, Some(service), None)
            }
        };
        Ok(state.connect(machine, service, options))
    }

    /// Calls a host and carries out what it does.
    fn call<H: Host + ?Sized, R, S>(
        &self,
        service: usize,
        host: &Mutex<H>,
        what: impl FnOnce(&mut H, Instant) -> R,
        settle: impl FnOnce(&mut State, R) -> S,
    ) -> S {
        let now = self.executor.now();
        let mut outputs = std::mem::take(&mut *lock(&self.outputs));
        let (result, deadline) = {
            let mut host = match host.try_lock() {
                Ok(host) => host,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => panic!("a host was called while it was at work"),
            };
            let result = what(&mut host, now);
            host.drain(&mut outputs);
            (result, host.deadline())
        };
        let settled = {
            let mut state = lock(&self.state);
            let settled = settle(&mut state, result);
            for (link, output) in outputs.drain(..) {
                state.output(link, output);
            }
            state.plan(service, deadline);
            settled
        };
        *lock(&self.outputs) = outputs;
        settled
    }

    /// Tells a host what has happened to a link.
    fn deliver(&self, service: usize, link: LinkId, call: Call) {
        let host = lock(&self.state).services[service].host.clone();
        match call {
            Call::Accept => self.call(
                service,
                &*host,
                |host, now| host.accept(now, link),
                |state, answer| {
                    state.accepted(link, answer);
                    state.settle(link);
                },
            ),
            Call::Receive(bytes) => self.call(
                service,
                &*host,
                |host, now| {
                    host.receive(now, link, &bytes);
                    bytes
                },
                State::recycle,
            ),
            Call::End => self.call(service, &*host, |host, now| host.end(now, link), |_, ()| ()),
            Call::Reset => self.call(service, &*host, |host, now| host.reset(now, link), |_, ()| ()),
            Call::Congested(congested) => {
                self.call(service, &*host, |host, now| host.congested(now, link, congested), |_, ()| ());
            }
            Call::Tick => self.call(service, &*host, |host, now| host.tick(now), |_, ()| ()),
        }
    }
}

impl Outside for Net {
    fn next_at(&self) -> Instant {
        lock(&self.state).queue.next_at()
    }

    fn step(&self) {
        let mut wakes = Vec::new();
        let call = lock(&self.state).step(&mut wakes);
        wakes.into_iter().for_each(Waker::wake);
        if let Some((service, link, call)) = call {
            self.deliver(service, link, call);
        }
    }
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net").finish_non_exhaustive()
    }
}
