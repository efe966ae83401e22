//! Logging in and cancelling with a TLS connector of whatever kind.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use pgweir_core::pool::{Fault, FaultClass};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{AsyncMessage, CancelToken, Client, Config, Connection, Error};

use super::fault;
use super::traffic::Traffic;
use super::wire::{Watched, Wire};

pub(super) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A session that has logged in: what queries are made with, and what does the input and output.
pub(super) type LoggedIn = (Client, Box<dyn Drive>);

/// A connector with its type forgotten: a pool's type does not depend on it.
pub(super) trait Connect: Send + Sync {
    /// Logs in over `wire`; `domain` is the name that the server's certificate must have.
    fn log_in<'a>(
        &'a self,
        config: &'a Config,
        domain: &'a str,
        wire: Wire,
        traffic: Arc<Mutex<Traffic>>,
    ) -> Boxed<'a, Result<LoggedIn, Fault>>;

    /// Sends a cancel request over `wire`, and returns when the server has closed its end.
    fn cancel<'a>(&'a self, token: CancelToken, domain: &'a str, wire: Wire) -> Boxed<'a, Result<(), Fault>>;
}

/// The half of a tokio-postgres connection that does the input and output.
pub(super) trait Drive: Send {
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<AsyncMessage, Error>>>;
}

impl<S, T> Drive for Connection<S, T>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    T: AsyncRead + AsyncWrite + Unpin + Send,
{
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<AsyncMessage, Error>>> {
        Connection::poll_message(self, cx)
    }
}

pub(super) struct Tls<T>(pub(super) T);

impl<T> Tls<T>
where
    T: MakeTlsConnect<Wire> + Clone,
{
    fn make(&self, domain: &str) -> Result<T::TlsConnect, Fault> {
        self.0.clone().make_tls_connect(domain).map_err(|error| {
            Fault::new(FaultClass::Permanent, format!("the TLS connector cannot be made: {}", error.into()))
        })
    }
}

impl<T> Connect for Tls<T>
where
    T: MakeTlsConnect<Wire> + Clone + Send + Sync + 'static,
    T::Stream: Send + 'static,
    T::TlsConnect: Send,
    <T::TlsConnect as TlsConnect<Wire>>::Future: Send + 'static,
{
    fn log_in<'a>(
        &'a self,
        config: &'a Config,
        domain: &'a str,
        wire: Wire,
        traffic: Arc<Mutex<Traffic>>,
    ) -> Boxed<'a, Result<LoggedIn, Fault>> {
        Box::pin(async move {
            let tls = WatchedTls(self.make(domain)?);
            let stream = Watched { stream: wire, traffic };
            let connected = config.connect_raw(stream, tls).await;
            let (client, connection) = connected.map_err(|error| fault::of_login(&error))?;
            Ok((client, Box::new(connection) as Box<dyn Drive>))
        })
    }

    fn cancel<'a>(&'a self, token: CancelToken, domain: &'a str, wire: Wire) -> Boxed<'a, Result<(), Fault>> {
        Box::pin(async move {
            let tls = self.make(domain)?;
            token.cancel_query_raw(wire, tls).await.map_err(|error| fault::of(&error))
        })
    }
}

/// Watches what is decrypted instead of what is encrypted.
struct WatchedTls<C>(C);

impl<C> TlsConnect<Watched<Wire>> for WatchedTls<C>
where
    C: TlsConnect<Wire>,
    C::Future: Send + 'static,
{
    type Stream = Watched<C::Stream>;
    type Error = C::Error;
    type Future = Boxed<'static, Result<Self::Stream, C::Error>>;

    fn connect(self, Watched { stream, traffic }: Watched<Wire>) -> Self::Future {
        let connecting = self.0.connect(stream);
        Box::pin(async move { Ok(Watched { stream: connecting.await?, traffic }) })
    }
}
