//! A test's hold on a host.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pgweir_core::time::Instant;

use super::faults::HostNet;
use super::host::Host;
use super::{Net, Path};
use crate::scenario::Dist;

/// A host that is part of the simulation. The host stays in it when the handle is dropped.
pub struct HostHandle<H> {
    host: Arc<Mutex<H>>,
    net: Arc<Net>,
    service: usize,
    at: HostNet,
}

impl<H: Host + 'static> HostHandle<H> {
    /// # Panics
    /// If something listens there already.
    #[track_caller]
    pub(crate) fn listen(net: &Arc<Net>, name: &str, port: u16, host: H) -> Self {
        let host = Arc::new(Mutex::new(host));
        let mut state = net.lock_state();
        let machine = state.named(name);
        let taken = state.by_port.contains_key(&(machine, port));
        assert!(!taken, "{name}:{port} is taken by another host");
        let service = state.add_service(host.clone());
        state.by_port.insert((machine, port), service);
        drop(state);
        let handle = HostHandle { host, net: net.clone(), service, at: HostNet::new(net.clone(), machine) };
        handle.with(|_, _| ());
        handle
    }

    /// It listens at a Unix-domain socket too, by default with a latency of 20 µs. Libpq's name for it ends in
    /// `/.s.PGSQL.5432`.
    ///
    /// # Panics
    /// If something listens there already.
    #[track_caller]
    pub fn listen_unix(&self, path: impl Into<PathBuf>) -> HostNet {
        let path = path.into();
        let latency = Dist::Fixed(Duration::from_micros(20));
        let mut state = self.net.lock_state();
        assert!(!state.by_path.contains_key(&path), "{} is taken by another host", path.display());
        let settings = Path { to_host: latency, to_client: latency, bandwidth: None, ..state.path.clone() };
        let machine = state.add_machine(path.display().to_string(), settings);
        state.by_path.insert(path, (machine, self.service));
        drop(state);
        HostNet::new(self.net.clone(), machine)
    }

    /// Calls the host, tells it the time, and carries out what it does.
    ///
    /// # Panics
    /// From within a call of the same host.
    pub fn with<R>(&self, what: impl FnOnce(&mut H, Instant) -> R) -> R {
        self.net.call(self.service, &*self.host, what, |_, result| result)
    }

    /// The network's side of it.
    pub fn net(&self) -> &HostNet {
        &self.at
    }
}

impl<H> Clone for HostHandle<H> {
    fn clone(&self) -> Self {
        HostHandle { host: self.host.clone(), net: self.net.clone(), service: self.service, at: self.at.clone() }
    }
}

impl<H> fmt::Debug for HostHandle<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostHandle").field("name", &self.at.name()).finish_non_exhaustive()
    }
}
