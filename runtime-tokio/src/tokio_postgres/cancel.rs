//! Cancel requests.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pgweir_core::manager::{Gate, Stop};
use pgweir_core::pg;
use pgweir_core::pool::Fault;
use pgweir_core::runtime::{Address, Runtime};
use tokio::sync::Semaphore;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};

use super::connector::{Connect, Tls};
use super::wire::{Wire, lock};
use crate::TokioRuntime;

/// How long [`CancelToken::cancel_query`] tries.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// Stops what one session does.
pub(super) struct Canceller {
    pub(super) runtime: TokioRuntime,
    pub(super) connect: Arc<dyn Connect>,
    pub(super) token: tokio_postgres::CancelToken,
    pub(super) domain: Arc<str>,
    pub(super) address: Address,
    /// Requests of one pool under way at a time.
    pub(super) permits: Arc<Semaphore>,
    /// The present lease's, if it asked for a token.
    pub(super) gate: Mutex<Option<Arc<Gate>>>,
}

impl Canceller {
    /// A token that is void when the present lease ends.
    pub(super) fn token(self: &Arc<Self>) -> CancelToken {
        let gate = lock(&self.gate).get_or_insert_default().clone();
        CancelToken { canceller: Arc::clone(self), gate }
    }

    /// The lease ends. The gate, if a token was used.
    pub(super) fn end_lease(&self) -> Option<Arc<Gate>> {
        lock(&self.gate).take().filter(|gate| gate.close())
    }

    /// Sends a request and waits until the server has closed its end: it cannot hit what is sent afterwards. In between,
    /// `unsure` is set: dropped or failed there, the request may still arrive at any time.
    pub(super) async fn send(&self, connect: &dyn Connect, unsure: &mut bool) -> Result<(), Fault> {
        let connected = self.runtime.connect(&self.address).await;
        let stream = connected.map_err(|error| pg::fault_of_io("sending a cancel request", &error))?;
        let (wire, _) = Wire::new(stream);
        *unsure = true;
        connect.cancel(self.token.clone(), &self.domain, wire).await?;
        *unsure = false;
        Ok(())
    }
}

impl Stop for Canceller {
    fn stop(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            let _permit = self.permits.acquire().await;
            // It was cut off already: there is nobody to tell.
            let _ = self.send(&*self.connect, &mut false).await;
        })
    }
}

/// Cancels what one lease runs, from any task. It stands in for [`tokio_postgres::CancelToken`].
///
/// The token is void once its lease has ended: it never reaches the connection's next user, and a cancel that is under
/// way keeps the connection from being given to one.
#[derive(Clone)]
pub struct CancelToken {
    canceller: Arc<Canceller>,
    gate: Arc<Gate>,
}

impl CancelToken {
    /// Asks the server to stop what the session is doing; the query then fails with SQLSTATE 57014, unless it was over
    /// already. Takes a connection of its own and at most five seconds. Does nothing once the lease has ended.
    ///
    /// Do not drop the future half-way: a stop sign of unknown whereabouts costs the pool the connection.
    ///
    /// # Errors
    /// If the server could not be reached, or the TLS connector refused.
    pub async fn cancel_query<T>(&self, tls: T) -> io::Result<()>
    where
        T: MakeTlsConnect<Wire> + Clone + Send + Sync + 'static,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Wire>>::Future: Send + 'static,
    {
        let Some(mut pass) = self.gate.enter() else { return Ok(()) };
        let sent = tokio::time::timeout(CANCEL_TIMEOUT, self.canceller.send(&Tls(tls), &mut pass.unsure)).await;
        sent.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?.map_err(|fault| io::Error::other(fault.to_string()))
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken").field("address", &self.canceller.address).finish_non_exhaustive()
    }
}
