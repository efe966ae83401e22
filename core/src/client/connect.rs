//! Opening a session.

use std::error::Error as StdError;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};

use super::connection::{Client, Origin};
use super::types::TypeCache;
use crate::config::{ConnectConfig, Secret};
use crate::driver::{Channel, within};
use crate::manager::dial;
use crate::pg::{Connection, Event, SessionConfig};
use crate::pool::{Fault, FaultClass, HostId};
use crate::runtime::{Address, Runtime};
use crate::time::Instant;

/// Where fresh credentials come from. Asked for every connection, so that rotated ones need no new pool (PEERS 23).
///
/// Implemented by closures: `move || { let vault = vault.clone(); async move { Ok(Login::password(vault.read().await?)) } }`
pub trait Credentials: Send + Sync + 'static {
    /// The credentials to log in with now. The future is dropped when connect_timeout has passed.
    fn login(&self) -> LoginFuture<'_>;
}

/// The credentials, when they are there.
pub type LoginFuture<'a> = Pin<Box<dyn Future<Output = Result<Login, Box<dyn StdError + Send + Sync>>> + Send + 'a>>;

impl<C, F> Credentials for C
where
    C: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = Result<Login, Box<dyn StdError + Send + Sync>>> + Send + 'static,
{
    fn login(&self) -> LoginFuture<'_> {
        Box::pin(self())
    }
}

/// Credentials; what is `None` is taken from the configuration.
#[derive(Clone, Debug, Default)]
pub struct Login {
    /// The user.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Secret>,
}

impl Login {
    /// The configured user with this password.
    pub fn password(password: impl Into<Arc<str>>) -> Self {
        Login { user: None, password: Some(Secret::new(password)) }
    }
}

/// What a session is opened with.
pub(super) struct Opening<'a, R: Runtime> {
    pub(super) runtime: &'a R,
    pub(super) config: &'a ConnectConfig,
    pub(super) credentials: Option<&'a dyn Credentials>,
    pub(super) types: &'a Arc<TypeCache>,
}

impl<R: Runtime> Opening<'_, R> {
    /// Opens a session with the first address of the host that gives one, each in its share of the time that is left.
    pub(super) async fn open(&self, id: HostId, deadline: Instant) -> Result<Client<R>, Fault> {
        let Some(host) = self.config.hosts.get(usize::from(id.0)) else {
            return Err(Fault::plain(FaultClass::Permanent, format!("there is no host number {}", id.0)));
        };
        let session = Arc::new(self.session(id, deadline).await?);
        let attempt = |address| self.attempt(address, Arc::clone(&session));
        let (channel, address) = dial(self.runtime, host, self.config.tcp, deadline, attempt).await?;
        let origin = Origin { host: id, address, writable: true };
        Ok(Client::new(channel, origin, Arc::clone(self.types), &self.config.session))
    }

    async fn session(&self, id: HostId, deadline: Instant) -> Result<SessionConfig, Fault> {
        let mut session = SessionConfig::new(self.config);
        session.password = self.config.password_for(usize::from(id.0)).cloned();
        let Some(credentials) = self.credentials else { return Ok(session) };
        let failed = |why: &dyn fmt::Display| {
            Fault::new(FaultClass::Transient, format!("the credentials provider failed: {why}"))
        };
        match within(self.runtime, deadline, credentials.login()).await {
            Some(Ok(login)) => {
                session.user = login.user.unwrap_or(session.user);
                session.password = login.password.or(session.password);
                Ok(session)
            }
            Some(Err(error)) => Err(failed(&error)),
            None => Err(failed(&"no answer within connect_timeout")),
        }
    }

    /// Connects and logs in.
    async fn attempt(&self, address: Address, session: Arc<SessionConfig>) -> Result<Channel<R>, Fault> {
        let stream = self
            .runtime
            .connect(&address)
            .await
            .map_err(|error| Fault::plain(FaultClass::Transient, error.to_string()))?;
        let machine = Connection::new(session, self.runtime.now()).map_err(|error| error.fault())?;
        let mut channel = Channel::new(self.runtime.clone(), stream, machine);
        poll_fn(|cx| {
            loop {
                if let Event::Ready = ready!(channel.poll_event(cx)).map_err(|error| error.fault())? {
                    return Poll::Ready(Ok(()));
                }
            }
        })
        .await?;
        Ok(channel)
    }
}
