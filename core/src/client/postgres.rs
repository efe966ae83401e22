//! [`Postgres`]: the manager that lets a pool have PostgreSQL connections.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll, Waker};

use super::cancel;
use super::connect::{Credentials, Opening};
use super::connection::Client;
use super::drain;
use super::error::Error;
use super::limit::Limit;
use super::simple::SimpleQueryMessage;
use super::types::TypeCache;
use crate::config::{ConnectConfig, ResetPolicy};
use crate::driver::within;
use crate::manager::{Manager, Returned, Session, Stop, shortly_before};
use crate::pool::{Fate, Fault, FaultClass, HostId, ResetHow, Role, ServerFacts};
use crate::runtime::{Abort, Peek, Runtime, Stream};
use crate::time::Instant;

/// CancelRequests of one pool that are under way at a time: each is a connection that counts against the server's
/// max_connections for its short life.
const MAX_CANCELS: usize = 4;

/// Opens, checks, resets and closes PostgreSQL connections for a pool.
pub struct Postgres<R: Runtime> {
    runtime: R,
    config: Arc<ConnectConfig>,
    credentials: Option<Box<dyn Credentials>>,
    on_connect_sql: Option<String>,
    on_connect: Option<Box<OnConnect<R>>>,
    types: Arc<TypeCache>,
    cancels: Arc<Limit>,
}

type OnConnect<R> =
    dyn for<'c> Fn(&'c mut Client<R>) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'c>> + Send + Sync;

impl<R: Runtime> Postgres<R> {
    /// A manager of connections as configured.
    pub fn new(runtime: R, config: ConnectConfig) -> Self {
        Postgres {
            runtime,
            config: Arc::new(config),
            credentials: None,
            on_connect_sql: None,
            on_connect: None,
            types: Arc::default(),
            cancels: Arc::new(Limit::new(MAX_CANCELS)),
        }
    }

    /// Asks `credentials` for user and password at every connect.
    #[must_use]
    pub fn with_credentials(mut self, credentials: impl Credentials) -> Self {
        self.credentials = Some(Box::new(credentials));
        self
    }

    /// Runs these statements in every new session, and again after a reset by [`ResetPolicy::DiscardAll`].
    #[must_use]
    pub fn with_on_connect_sql(mut self, sql: impl Into<String>) -> Self {
        self.on_connect_sql = Some(sql.into());
        self
    }

    /// Calls `hook` with every new session before it enters the pool, within connect_timeout. An error closes it.
    #[must_use]
    pub fn with_on_connect<F>(mut self, hook: F) -> Self
    where
        F: for<'c> Fn(&'c mut Client<R>) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'c>>
            + Send
            + Sync
            + 'static,
    {
        self.on_connect = Some(Box::new(hook));
        self
    }

    /// The configuration.
    pub fn config(&self) -> &ConnectConfig {
        &self.config
    }

    async fn set_up(&self, client: &mut Client<R>) -> Result<(), Fault> {
        let writable = client.takes_writes().await?;
        client.origin.writable = writable;
        client.check_attributes(self.config.target_session_attrs(), writable).await?;
        if let Some(sql) = &self.on_connect_sql {
            client.batch_execute(sql).await.map_err(|error| prefixed("the on_connect statements failed", &error))?;
        }
        if let Some(hook) = &self.on_connect {
            hook(client).await.map_err(|error| prefixed("the on_connect hook failed", &error))?;
        }
        client.channel.take_queries();
        match self.state(client) {
            Fate::Clean => Ok(()),
            _ => Err(Fault::plain(
                FaultClass::Permanent,
                "on_connect left a transaction or a request open: end it there",
            )),
        }
    }

    async fn apply_policy(&self, client: &mut Client<R>) -> Result<(), Fault> {
        match self.config.session.reset.statements(self.on_connect_sql.as_deref()) {
            None => Ok(()),
            Some(sql) => {
                client.batch_execute(&sql).await.map_err(|error| prefixed("the reset statements failed", &error))
            }
        }
    }

    fn state(&self, client: &Client<R>) -> Fate {
        client.channel.machine().fate()
    }
}

impl<R: Runtime> Manager for Postgres<R> {
    type Connection = Client<R>;

    async fn connect(&self, host: HostId, deadline: Instant) -> Result<(Client<R>, ServerFacts), Fault> {
        let opening = Opening {
            runtime: &self.runtime,
            config: &self.config,
            credentials: self.credentials.as_deref(),
            types: &self.types,
        };
        let deadline = shortly_before(&self.runtime, deadline);
        let mut client = opening.open(host, deadline).await?;
        let silence = || {
            let place = self.host_name(host);
            let message = format!("connecting to {place}: the login went well, then no answer within connect_timeout");
            Fault::plain(FaultClass::Transient, message)
        };
        within(&self.runtime, deadline, self.set_up(&mut client)).await.unwrap_or_else(|| Err(silence()))?;
        let role = if client.origin.writable { Role::Primary } else { Role::Standby };
        let facts = ServerFacts { backend_pid: client.backend_pid(), role };
        Ok((client, facts))
    }

    async fn validate(&self, client: &mut Client<R>) -> Result<(), Fault> {
        client.check_role(client.origin.writable).await?;
        client.channel.take_queries();
        Ok(())
    }

    async fn reset(&self, client: &mut Client<R>, how: ResetHow, _deadline: Instant) -> Result<(), Fault> {
        if how == ResetHow::Drain {
            drain::settle(client, &self.cancels).await?;
            if std::mem::take(&mut client.role_doubt) {
                client.check_role(client.origin.writable).await?;
            }
        }
        self.apply_policy(client).await?;
        client.channel.take_queries();
        match self.state(client) {
            Fate::Clean => Ok(()),
            _ => Err(Fault::plain(FaultClass::Transient, "the reset statements left a transaction open")),
        }
    }

    fn peek(&self, client: &mut Client<R>) -> Result<(), Fault> {
        if let Some(fault) = client.channel.machine().fault() {
            return Err(fault.clone());
        }
        match client.channel.stream().peek() {
            Peek::Quiet => Ok(()),
            Peek::Readable | Peek::Ended => {
                let before = client.channel.received();
                match self.poll_idle(client, &mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(fault) => Err(fault),
                    Poll::Pending if client.channel.received() != before => Ok(()),
                    // The runtime has not caught up with the socket. It may be the server's farewell, as in an outage
                    // it is on every connection at once; a healthy one costs less to replace.
                    Poll::Pending => {
                        Err(Fault::plain(FaultClass::Transient, "the connection has ended or is about to"))
                    }
                }
            }
        }
    }

    fn poll_idle(&self, client: &mut Client<R>, cx: &mut Context<'_>) -> Poll<Fault> {
        loop {
            match client.channel.poll_event(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(event)) => drop(client.absorb(event)),
                Poll::Ready(Err(error)) => return Poll::Ready(error.fault()),
            }
        }
    }

    fn returned(&self, client: &mut Client<R>) -> Returned {
        client.end_lease();
        let cancelled = client.gate.as_ref().is_some_and(|gate| gate.close());
        if !cancelled {
            client.gate = None;
        }
        let doubt = cancelled || client.role_doubt;
        let machine = client.channel.machine();
        let fate = match machine.fate() {
            Fate::Clean if doubt => Fate::Dirty,
            fate => fate,
        };
        let fault = machine.fault().filter(|_| fate == Fate::Broken).cloned().map(Box::new);
        Returned { fate, queries: client.channel.take_queries(), fault }
    }

    async fn close(&self, client: Client<R>) {
        client.channel.close().await;
    }

    fn hosts(&self) -> u16 {
        u16::try_from(self.config.hosts.len()).unwrap_or(u16::MAX)
    }

    fn host_name(&self, host: HostId) -> String {
        self.config.hosts.get(usize::from(host.0)).map_or_else(String::new, ToString::to_string)
    }

    fn query_count(&self, client: &Client<R>) -> Option<Arc<AtomicU64>> {
        Some(client.channel.query_count())
    }

    fn resets(&self) -> bool {
        self.config.session.reset != ResetPolicy::Nothing
    }

    fn abort_handle(&self, client: &Client<R>) -> Option<Arc<dyn Abort>> {
        Some(client.channel.abort_handle())
    }

    fn stop_handle(&self, client: &Client<R>) -> Option<Arc<dyn Stop>> {
        let key = client.channel.machine().backend_key()?;
        let (runtime, address) = (self.runtime.clone(), client.origin.address.clone());
        Some(Arc::new(cancel::StopSign { runtime, address, key, cancels: Arc::clone(&self.cancels) }))
    }
}

impl<R: Runtime> fmt::Debug for Postgres<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("runtime", &self.runtime).field("config", &self.config).finish_non_exhaustive()
    }
}

impl<R: Runtime> Session for Client<R> {
    async fn first_value(&mut self, sql: &str) -> Result<Option<String>, Fault> {
        let messages = self.simple_query(sql).await.map_err(|error| error.fault())?;
        let row = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        Ok(row.and_then(|row| row.get(0)).map(str::to_owned))
    }
}

fn prefixed(what: &str, error: &Error) -> Fault {
    let fault = error.fault();
    Fault { message: format!("{what}: {}", fault.message).into(), ..fault }
}

#[cfg(all(test, not(pgweir_loom)))]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    use super::super::connection::Origin;
    use super::*;
    use crate::config::{Host, SessionOptions};
    use crate::driver::Channel;
    use crate::driver::fake::{FakeRuntime, Script};
    use crate::pg::{Connection, Event, SessionConfig};
    use crate::runtime::Address;

    const LOGIN: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
    const NOTICE: &[u8] = b"N\0\0\0\x1fSNOTICE\0C01000\0Mblah blah\0\0";

    #[derive(Default)]
    struct Wakes(AtomicU32);
    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A session that has logged in, whose server then sends `reads`.
    fn session(reads: impl IntoIterator<Item = Vec<u8>>) -> (Postgres<FakeRuntime>, Client<FakeRuntime>) {
        let host = Host::Tcp { host: "localhost".to_owned(), port: 5432 };
        let config = ConnectConfig::new(vec![host], "u", "d");
        let machine = Connection::new(Arc::new(SessionConfig::new(&config)), Instant::ZERO).unwrap();
        let reads = std::iter::once(LOGIN.to_vec()).chain(reads).map(Ok).collect();
        let mut channel = Channel::new(FakeRuntime::default(), Script { reads, ..Script::default() }, machine);
        let ready = channel.poll_event(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(ready, Poll::Ready(Ok(Event::Ready))), "{ready:?}");
        let origin = Origin { host: HostId(0), address: Address::Unix("/nowhere".into()), writable: true };
        let client = Client::new(channel, origin, Arc::default(), &SessionOptions::default());
        (Postgres::new(FakeRuntime::default(), config), client)
    }

    #[test]
    #[cfg_attr(miri, ignore = "megabytes take minutes")]
    fn a_server_that_never_stops_talking_keeps_nobody() {
        let megabyte = NOTICE.repeat((1 << 20) / NOTICE.len());
        let (postgres, mut client) = session(std::iter::repeat_n(megabyte, 8));
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut looks = 0;
        while !client.channel.stream().reads.is_empty() {
            let before = client.channel.received();
            assert!(postgres.poll_idle(&mut client, &mut Context::from_waker(&waker)).is_pending());
            looks += 1;
            let more = !client.channel.stream().reads.is_empty();
            assert!(!more || wakes.0.load(Ordering::Relaxed) == looks, "it asks to be called again");
            assert!(client.channel.received() - before <= 1 << 19, "one look reads a bounded amount");
            assert!(postgres.peek(&mut client).is_ok(), "it is alive");
        }
        assert!(looks > 8);
    }
}
