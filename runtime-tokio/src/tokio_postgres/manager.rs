//! The manager itself.

use std::any::TypeId;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use pgweir_core::config::{self, ResetPolicy, TcpOptions};
use pgweir_core::manager::{Returned, Session, Stop, dial, shortly_before};
use pgweir_core::pool::{Fate, Fault, FaultClass, HostId, ResetHow, Role, ServerFacts};
use pgweir_core::runtime::{Abort, Address, Runtime};
use pgweir_core::time::Instant;
use tokio::sync::Semaphore;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Config, NoTls};

use super::cache::StatementCache;
use super::cancel::Canceller;
use super::client::ClientWrapper;
use super::connector::{Connect, Tls};
use super::drain;
use super::fault;
use super::link::Link;
use super::traffic::Traffic;
use super::wire::Wire;
use crate::TokioRuntime;

/// Cancel requests of one pool that are under way at a time: each is a connection that counts against the server's
/// max_connections for its short life.
const MAX_CANCELS: usize = 4;

/// Statements that a connection keeps unless it is told otherwise.
const STATEMENTS: usize = 256;

/// Opens, checks, resets and closes the connections of a pool of tokio-postgres clients.
pub struct Manager {
    runtime: TokioRuntime,
    config: Config,
    targets: Result<Vec<Target>, Fault>,
    connect: Arc<dyn Connect>,
    permits: Arc<Semaphore>,
    reset: ResetPolicy,
    on_connect_sql: Option<String>,
    statements: usize,
}

/// One of the configured hosts.
struct Target {
    host: config::Host,
    /// The name that the server's certificate must have.
    domain: Arc<str>,
}

impl Manager {
    /// A manager of connections as configured, on the runtime that the calling code runs on. `tls` is
    /// [`NoTls`](tokio_postgres::NoTls), or a connector such as those of postgres-native-tls and tokio-postgres-rustls.
    ///
    /// # Panics
    /// Outside tokio; [`Manager::new_on`] takes the runtime as an argument.
    pub fn new<T>(config: Config, tls: T) -> Self
    where
        T: MakeTlsConnect<Wire> + Clone + Send + Sync + 'static,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Wire>>::Future: Send + 'static,
    {
        Manager::new_on(TokioRuntime::current(), config, tls)
    }

    /// As [`Manager::new`], on `runtime`.
    pub fn new_on<T>(runtime: TokioRuntime, mut config: Config, tls: T) -> Self
    where
        T: MakeTlsConnect<Wire> + Clone + Send + Sync + 'static,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Wire>>::Future: Send + 'static,
    {
        // tokio-postgres knows by itself that NoTls cannot; wrapped, as the connectors are here, it would try.
        if TypeId::of::<T>() == TypeId::of::<NoTls>() && config.get_ssl_mode() == SslMode::Prefer {
            config.ssl_mode(SslMode::Disable);
        }
        Manager {
            runtime,
            targets: targets(&config),
            config,
            connect: Arc::new(Tls(tls)),
            permits: Arc::new(Semaphore::new(MAX_CANCELS)),
            reset: ResetPolicy::Nothing,
            on_connect_sql: None,
            statements: STATEMENTS,
        }
    }

    /// What is cleared of a session when its lease ends cleanly. Default: nothing.
    #[must_use]
    pub fn with_reset_policy(mut self, reset: ResetPolicy) -> Self {
        self.reset = reset;
        self
    }

    /// Runs these statements in every new session, and again after a reset by [`ResetPolicy::DiscardAll`].
    #[must_use]
    pub fn with_on_connect_sql(mut self, sql: impl Into<String>) -> Self {
        self.on_connect_sql = Some(sql.into());
        self
    }

    /// Prepared statements that each connection keeps for
    /// [`prepare_cached`](super::ClientWrapper::prepare_cached). Default: 256. Zero keeps none.
    #[must_use]
    pub fn with_statement_cache_size(mut self, size: usize) -> Self {
        self.statements = size;
        self
    }

    pub(super) fn runtime(&self) -> &TokioRuntime {
        &self.runtime
    }

    fn tcp(&self) -> TcpOptions {
        let config = &self.config;
        let mut tcp = TcpOptions::default();
        tcp.keepalives = Some(config.get_keepalives());
        tcp.keepalives_idle = Some(config.get_keepalives_idle());
        tcp.keepalives_interval = config.get_keepalives_interval();
        tcp.keepalives_count = config.get_keepalives_retries();
        tcp.user_timeout = config.get_tcp_user_timeout().copied().filter(|timeout| !timeout.is_zero());
        tcp
    }

    /// One attempt at one address: connects, logs in, sets up.
    async fn attempt(&self, address: Address, domain: Arc<str>) -> Result<(ClientWrapper, ServerFacts), Fault> {
        let connected = self.runtime.connect(&address).await;
        let stream = connected.map_err(|error| Fault::plain(FaultClass::Transient, error.to_string()))?;
        let (wire, socket) = Wire::new(stream);
        let traffic = Arc::new(Mutex::new(Traffic::new()));
        let (client, connection) = self.connect.log_in(&self.config, &domain, wire, Arc::clone(&traffic)).await?;
        let (link, task) = Link::new(connection, traffic, socket);
        self.runtime.spawn("pgweir tokio-postgres", task);
        let canceller = Canceller {
            runtime: self.runtime.clone(),
            connect: Arc::clone(&self.connect),
            token: client.cancel_token(),
            domain,
            address,
            permits: Arc::clone(&self.permits),
            gate: Mutex::default(),
        };
        let statement_cache = Arc::new(StatementCache::new(self.statements));
        let canceller = Arc::new(canceller);
        let mut client = ClientWrapper { link, client, canceller, used_gate: None, took_writes: true, statement_cache };
        let facts = self.set_up(&mut client).await?;
        Ok((client, facts))
    }

    async fn set_up(&self, client: &mut ClientWrapper) -> Result<ServerFacts, Fault> {
        client.took_writes = client.takes_writes().await?;
        self.check_attributes(client).await?;
        if let Some(sql) = &self.on_connect_sql {
            let failed = |error| fault::prefixed("the on_connect statements failed", &error);
            client.batch_execute(sql).await.map_err(failed)?;
        }
        let left_open = "on_connect left a transaction open: end it there";
        self.at_rest(client, FaultClass::Permanent, left_open)?;
        let role = if client.took_writes { Role::Primary } else { Role::Standby };
        Ok(ServerFacts { backend_pid: client.backend_pid(), role })
    }

    async fn check_attributes(&self, client: &mut ClientWrapper) -> Result<(), Fault> {
        let took_writes = client.took_writes;
        match self.config.get_target_session_attrs() {
            TargetSessionAttrs::ReadWrite => {
                client.check_attributes(config::TargetSessionAttrs::ReadWrite, took_writes).await
            }
            TargetSessionAttrs::ReadOnly if took_writes => {
                Err(Fault::plain(FaultClass::WrongRole, "target_session_attrs is not met: the session takes writes"))
            }
            _ => Ok(()),
        }
    }

    /// What the pool asked of a session itself is not counted as its user's, and leaves nothing open.
    fn at_rest(&self, client: &ClientWrapper, class: FaultClass, otherwise: &str) -> Result<(), Fault> {
        let (clean, _) = self.state(client)?;
        if clean { Ok(()) } else { Err(Fault::new(class, otherwise)) }
    }

    /// Whether the session is clean, and how many requests it has served since the last look.
    fn state(&self, client: &ClientWrapper) -> Result<(bool, u64), Fault> {
        client.link.turn()?;
        Ok(client.link.traffic(|traffic| (traffic.is_clean(), traffic.take_requests())))
    }
}

impl pgweir_core::manager::Manager for Manager {
    type Connection = ClientWrapper;

    async fn connect(&self, host: HostId, deadline: Instant) -> Result<(ClientWrapper, ServerFacts), Fault> {
        let targets = self.targets.as_ref().map_err(Clone::clone)?;
        let Some(Target { host, domain }) = targets.get(usize::from(host.0)) else {
            return Err(Fault::plain(FaultClass::Permanent, format!("there is no host number {}", host.0)));
        };
        let mut deadline = shortly_before(&self.runtime, deadline);
        if let Some(timeout) = self.config.get_connect_timeout() {
            deadline = deadline.min(self.runtime.now() + *timeout);
        }
        let attempt = |address| self.attempt(address, Arc::clone(domain));
        let (connected, _) = dial(&self.runtime, host, self.tcp(), deadline, attempt).await?;
        Ok(connected)
    }

    async fn validate(&self, client: &mut ClientWrapper) -> Result<(), Fault> {
        client.check_role(client.took_writes).await?;
        client.link.traffic(|traffic| traffic.take_requests());
        Ok(())
    }

    async fn reset(&self, client: &mut ClientWrapper, how: ResetHow, _deadline: Instant) -> Result<(), Fault> {
        if how == ResetHow::Drain {
            drain::settle(client).await?;
        }
        if let Some(sql) = self.reset.statements(self.on_connect_sql.as_deref()) {
            let failed = |error| fault::prefixed("the reset statements failed", &error);
            client.batch_execute(&sql).await.map_err(failed)?;
        }
        self.at_rest(client, FaultClass::Transient, "the reset statements left a transaction open")
    }

    fn peek(&self, client: &mut ClientWrapper) -> Result<(), Fault> {
        client.link.peek()
    }

    fn poll_idle(&self, client: &mut ClientWrapper, cx: &mut Context<'_>) -> Poll<Fault> {
        client.link.poll_end(cx)
    }

    fn returned(&self, client: &mut ClientWrapper) -> Returned {
        client.used_gate = client.canceller.end_lease();
        match self.state(client) {
            Ok((clean, queries)) => {
                let fate = if clean && client.used_gate.is_none() { Fate::Clean } else { Fate::Dirty };
                Returned { fate, queries, fault: None }
            }
            Err(fault) => {
                let queries = client.link.traffic(|traffic| traffic.take_requests());
                Returned { fate: Fate::Broken, queries, fault: Some(Box::new(fault)) }
            }
        }
    }

    async fn close(&self, client: ClientWrapper) {
        let ClientWrapper { link, client, .. } = client;
        // Its end is the word for tokio-postgres to say goodbye.
        drop(client);
        link.end().await;
    }

    fn hosts(&self) -> u16 {
        self.targets.as_ref().map_or(1, |targets| u16::try_from(targets.len()).unwrap_or(u16::MAX))
    }

    fn host_name(&self, host: HostId) -> String {
        let target = self.targets.as_ref().ok().and_then(|targets| targets.get(usize::from(host.0)));
        target.map_or_else(String::new, |target| target.host.to_string())
    }

    fn query_count(&self, client: &ClientWrapper) -> Option<Arc<AtomicU64>> {
        Some(client.link.traffic(|traffic| traffic.request_count()))
    }

    fn resets(&self) -> bool {
        self.reset != ResetPolicy::Nothing
    }

    fn abort_handle(&self, client: &ClientWrapper) -> Option<Arc<dyn Abort>> {
        Some(client.link.abort_handle())
    }

    fn stop_handle(&self, client: &ClientWrapper) -> Option<Arc<dyn Stop>> {
        Some(client.canceller.clone())
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").field("config", &self.config).field("reset", &self.reset).finish_non_exhaustive()
    }
}

/// The hosts in order, each with its port and the name in its certificate.
fn targets(config: &Config) -> Result<Vec<Target>, Fault> {
    let refused = |why: String| Err(Fault::new(FaultClass::Permanent, why));
    let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let count = hosts.len().max(addresses.len());
    if count == 0 {
        return refused("the configuration has neither a host nor a hostaddr".to_owned());
    }
    if !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len() {
        return refused(format!("{} hosts do not go with {} hostaddrs", hosts.len(), addresses.len()));
    }
    if ports.len() > 1 && ports.len() != count {
        return refused(format!("{} ports do not go with {count} hosts", ports.len()));
    }
    let target = |n: usize| {
        let port = ports.get(n).or(ports.first()).copied().unwrap_or(5432);
        target(hosts.get(n), addresses.get(n), port)
    };
    Ok((0..count).map(target).collect())
}

fn target(host: Option<&Host>, address: Option<&IpAddr>, port: u16) -> Target {
    let domain = match host {
        Some(Host::Tcp(name)) => name.as_str(),
        _ => "",
    };
    let host = match (address, host) {
        (None, Some(Host::Unix(directory))) => config::Host::Unix { directory: directory.clone(), port },
        (Some(address), _) => config::Host::Tcp { host: address.to_string(), port },
        (None, _) => config::Host::Tcp { host: domain.to_owned(), port },
    };
    Target { host, domain: domain.into() }
}
