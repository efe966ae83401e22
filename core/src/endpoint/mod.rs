//! Health, statistics and metrics over HTTP, for load balancers, Prometheus and whoever is on call.
//!
#![doc = include_str!("../../docs/endpoint.md")]

mod accept;
mod connection;
mod hub;
mod io;
mod listen;
mod pages;
mod patience;
mod service;

use std::fmt;
use std::future::poll_fn;
use std::io::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use self::accept::Accept;
use self::hub::Hub;
pub use self::listen::{Listen, Listener};
use self::patience::{Limits, Patience};
use self::service::Pages;
use crate::driver::{Observe, Pool};
use crate::manager::Manager;
use crate::runtime::Runtime;

/// An HTTP endpoint that is being set up.
#[must_use = "it answers nothing until `serve`"]
pub struct Endpoint<R> {
    runtime: R,
    address: String,
    pools: Vec<(String, Box<dyn Observe>)>,
    limits: Limits,
}

/// Where an endpoint listens if nothing else is said: at the loopback interface only.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:9187";

impl<R: Listen> Default for Endpoint<R> {
    fn default() -> Self {
        Endpoint::bind(DEFAULT_ADDRESS)
    }
}

impl<R: Listen> Endpoint<R> {
    /// An endpoint at `address`, a host and a port, on the current runtime. Port 0 lets the operating system choose.
    ///
    /// Nothing that it says is secret, but it asks nobody who they are: an address that others can reach is for networks
    /// that keep strangers out.
    ///
    /// # Panics
    /// As [`Runtime::current`] does.
    pub fn bind(address: impl Into<String>) -> Self {
        Endpoint::bind_on(R::current(), address)
    }

    /// As [`bind`](Endpoint::bind), on this runtime.
    pub fn bind_on(runtime: R, address: impl Into<String>) -> Self {
        let seconds = Duration::from_secs;
        let patience = Patience { head: seconds(10), answer: seconds(10), idle: seconds(75) };
        let limits = Limits { connections: 256, patience };
        Endpoint { runtime, address: address.into(), pools: Vec::new(), limits }
    }

    /// Shows `pool` under this name. The endpoint does not keep it open: when its last handle is dropped it shuts down,
    /// and is shown as terminated.
    pub fn pool<P: Runtime, M: Manager>(mut self, name: impl Into<String>, pool: &Pool<P, M>) -> Self {
        self.pools.push((name.into(), Box::new(pool.observer())));
        self
    }

    /// Connections at once; one that comes when there are as many is closed. Default: 256.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.limits.connections = connections;
        self
    }

    /// How long a client may take to send a request's head. Default: 10 s.
    pub fn head_timeout(mut self, timeout: Duration) -> Self {
        self.limits.patience.head = timeout;
        self
    }

    /// How long a client may take to read an answer. Default: 10 s.
    pub fn answer_timeout(mut self, timeout: Duration) -> Self {
        self.limits.patience.answer = timeout;
        self
    }

    /// How long a connection may stay open without a request. Default: 75 s, longer than Prometheus's usual interval of a
    /// minute.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.limits.patience.idle = timeout;
        self
    }

    /// Listens, and answers in the background until the handle is dropped.
    ///
    /// # Errors
    /// [`ServeError`]: no pool, two pools of one name, or an address that cannot be listened at.
    pub async fn serve(self) -> Result<Serving, ServeError> {
        self.check_names()?;
        let addresses = resolve(&self.runtime, &self.address).await.map_err(|source| self.refused(source))?;
        let mut last = Error::from(std::io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            match self.runtime.listen(address) {
                Ok(listener) => return self.start(listener),
                Err(error) => last = error,
            }
        }
        Err(self.refused(last))
    }

    fn start(self, listener: R::Listener) -> Result<Serving, ServeError> {
        let local_addr = listener.local_addr().map_err(|source| self.refused(source))?;
        let hub = Arc::new(Hub::default());
        let pages = Arc::new(Pages { pools: self.pools });
        let accept = Accept::new(self.runtime.clone(), listener, pages, self.limits, hub.clone());
        self.runtime.spawn("pgweir-endpoint", accept);
        Ok(Serving { local_addr, hub })
    }

    fn check_names(&self) -> Result<(), ServeError> {
        if self.pools.is_empty() {
            return Err(ServeError::NoPool);
        }
        for (index, (name, _)) in self.pools.iter().enumerate() {
            if self.pools[..index].iter().any(|(other, _)| other == name) {
                return Err(ServeError::SameName(name.clone()));
            }
        }
        Ok(())
    }

    fn refused(&self, source: Error) -> ServeError {
        ServeError::Listen { address: self.address.clone(), source }
    }
}

/// The addresses behind `host:port`.
async fn resolve<R: Runtime>(runtime: &R, address: &str) -> Result<Vec<SocketAddr>, Error> {
    if let Ok(address) = address.parse() {
        return Ok(vec![address]);
    }
    let invalid = || Error::new(std::io::ErrorKind::InvalidInput, "not a host and a port, such as 127.0.0.1:9187");
    let (host, port) = address.rsplit_once(':').ok_or_else(invalid)?;
    if host.is_empty() || host.contains(':') {
        return Err(invalid());
    }
    let port = port.parse().map_err(|_| invalid())?;
    runtime.resolve(host, port).await
}

impl<R: fmt::Debug> fmt::Debug for Endpoint<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.pools.iter().map(|(name, _)| name).collect();
        let mut debug = f.debug_struct("Endpoint");
        debug.field("address", &self.address).field("pools", &names).field("limits", &self.limits);
        debug.finish_non_exhaustive()
    }
}

/// Why an endpoint does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// It would have nothing to show.
    #[error("the endpoint has no pool to show: add one with `pool`")]
    NoPool,
    /// Two of its pools have the same name.
    #[error("the endpoint has two pools named `{0}`: give each a name of its own")]
    SameName(String),
    /// The address cannot be listened at.
    #[error("the endpoint cannot listen at {address}: {source}")]
    Listen {
        /// Which.
        address: String,
        /// What the resolver or the operating system says.
        source: Error,
    },
}

/// An endpoint at work. Dropping it stops it: nothing more is accepted, and what is being answered is finished in the
/// background.
#[derive(Debug)]
#[must_use = "dropping it stops the endpoint"]
pub struct Serving {
    local_addr: SocketAddr,
    hub: Arc<Hub>,
}

impl Serving {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Stops: accepts nothing more, finishes what is being answered, closes every connection, and waits for that. It takes
    /// no longer than a client may take for a request and its answer.
    pub async fn stop(self) {
        self.hub.stop();
        poll_fn(|cx| self.hub.poll_empty(cx)).await;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.hub.stop();
    }
}
