//! Names and their addresses.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Net;
use super::settings::check_dist;
use crate::rng::Rng;
use crate::scenario::Dist;

/// The resolver.
pub(super) struct Dns {
    names: BTreeMap<String, Entry>,
    latency: Dist,
    rng: Rng,
}

#[derive(Default)]
struct Entry {
    addresses: Vec<IpAddr>,
    fault: Option<io::ErrorKind>,
    /// Queries are not answered.
    silent: bool,
}

/// How long a resolver waits for an answer before it says so, as glibc's does with its defaults and two servers.
const GIVES_UP: Duration = Duration::from_secs(20);

impl Dns {
    pub(super) fn new(rng: Rng) -> Self {
        let latency = Dist::Uniform(Duration::from_micros(50), Duration::from_micros(500));
        Dns { names: BTreeMap::new(), latency, rng }
    }

    pub(super) fn add(&mut self, name: &str, address: IpAddr) {
        self.names.entry(name.to_owned()).or_default().addresses.push(address);
    }
}

impl Net {
    /// How long a query for `name` takes that begins now.
    pub(crate) fn resolving_lasts(&self, name: &str) -> Duration {
        let mut state = self.lock_state();
        let dns = &mut state.dns;
        if dns.names.get(name).is_some_and(|entry| entry.silent) {
            return GIVES_UP;
        }
        dns.latency.draw(&mut dns.rng)
    }

    /// The answer to a query that ends now.
    ///
    /// # Errors
    /// For unknown names, and where a test says so.
    pub(crate) fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        match self.lock_state().dns.names.get(name) {
            None => Err(io::Error::new(io::ErrorKind::NotFound, format!("no host is called {name:?}"))),
            Some(Entry { silent: true, .. }) => Err(io::ErrorKind::TimedOut.into()),
            Some(Entry { fault: Some(kind), .. }) => Err((*kind).into()),
            Some(entry) => Ok(entry.addresses.clone()),
        }
    }

    /// How long queries take.
    #[track_caller]
    pub(crate) fn set_resolver_latency(&self, latency: Dist) {
        check_dist("the resolver's latency", latency);
        self.lock_state().dns.latency = latency;
    }
}

/// A name in the simulated DNS, to change what it stands for.
#[derive(Clone, Debug)]
pub struct Name {
    net: Arc<Net>,
    name: String,
}

impl Name {
    pub(crate) fn new(net: Arc<Net>, name: &str) -> Self {
        Name { net, name: name.to_owned() }
    }

    /// From now on it stands for these hosts, in this order: a list of standbys, or the new primary after a failover.
    ///
    /// # Panics
    /// If one of them is no host of the simulation.
    #[track_caller]
    pub fn points_to(&self, hosts: &[&str]) -> &Self {
        let mut state = self.net.lock_state();
        let addresses = hosts.iter().map(|host| {
            let index = state.find(host);
            let known = state.by_address.iter().find(|(_, machine)| Some(**machine) == index);
            known.map_or_else(|| panic!("no host is called {host:?}"), |(address, _)| *address)
        });
        let addresses = addresses.collect();
        state.dns.names.entry(self.name.clone()).or_default().addresses = addresses;
        drop(state);
        self
    }

    /// Queries fail with this error.
    pub fn fails(&self, kind: io::ErrorKind) -> &Self {
        self.entry(|entry| entry.fault = Some(kind))
    }

    /// Queries are not answered: they time out after 20 s.
    pub fn silent(&self) -> &Self {
        self.entry(|entry| entry.silent = true)
    }

    /// Queries are answered again.
    pub fn heal(&self) -> &Self {
        self.entry(|entry| (entry.fault, entry.silent) = (None, false))
    }

    fn entry(&self, change: impl FnOnce(&mut Entry)) -> &Self {
        change(self.net.lock_state().dns.names.entry(self.name.clone()).or_default());
        self
    }
}
