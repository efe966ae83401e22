//! What a pool can pool.
//!
#![doc = include_str!("../../docs/manager.md")]

mod dial;
mod gate;
mod session;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};

use crate::pool::{Fate, Fault, HostId, ResetHow, ServerFacts};
use crate::runtime::Abort;
use crate::time::Instant;
pub use dial::{dial, shortly_before};
pub use gate::{Gate, Pass};
pub use session::Session;

/// Opens, checks, resets and closes one kind of connection.
///
/// Every future is polled by the pool's background task and dropped when the deadline that the pool machine set has
/// passed; dropping it must close the connection.
pub trait Manager: Send + Sync + 'static {
    /// What callers get to use.
    type Connection: Send + 'static;

    /// Opens a connection to the host with this index and makes it ready for queries.
    ///
    /// # Errors
    /// A [`Fault`] whose class decides what the pool does next.
    fn connect(
        &self,
        host: HostId,
        deadline: Instant,
    ) -> impl Future<Output = Result<(Self::Connection, ServerFacts), Fault>> + Send;

    /// A round trip that proves the connection works.
    ///
    /// # Errors
    /// Why it does not.
    fn validate(&self, connection: &mut Self::Connection) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Makes a returned connection fit for the next user: [`ResetHow::Drain`] settles whatever its last user left
    /// behind (a request in flight, an open transaction), [`ResetHow::Policy`] clears session state.
    ///
    /// # Errors
    /// Why it could not; the pool closes the connection.
    fn reset(
        &self,
        connection: &mut Self::Connection,
        how: ResetHow,
        deadline: Instant,
    ) -> impl Future<Output = Result<(), Fault>> + Send;

    /// The check at every checkout: looks at the socket without waiting and without a round trip.
    ///
    /// # Errors
    /// The end or error that was found.
    fn peek(&self, connection: &mut Self::Connection) -> Result<(), Fault>;

    /// Consumes what an idle connection has to say and registers `cx` for more. Pending means: alive and quiet.
    fn poll_idle(&self, connection: &mut Self::Connection, cx: &mut Context<'_>) -> Poll<Fault>;

    /// In what state the connection comes back from a lease, or from a hook. Called in the lease's Drop: no I/O.
    fn returned(&self, connection: &mut Self::Connection) -> Returned;

    /// Closes in an orderly way (PostgreSQL: Terminate) and waits until the peer has closed too, so that the slot is
    /// not given away while the server still counts the session.
    fn close(&self, connection: Self::Connection) -> impl Future<Output = ()> + Send;

    /// How many hosts [`connect`](Manager::connect) can be asked for, by index from 0. Default: 1.
    fn hosts(&self) -> u16 {
        1
    }

    /// What reports and the log call the host with this index, such as its address. Asked once, before the pool opens.
    /// Default: the index.
    fn host_name(&self, host: HostId) -> String {
        host.0.to_string()
    }

    /// The connection's own count of the queries since it was last [`returned`](Manager::returned), which others may read
    /// while it is lent: reports of who holds a connection show it. Asked once per connection. Default: not counted.
    fn query_count(&self, _connection: &Self::Connection) -> Option<Arc<AtomicU64>> {
        None
    }

    /// Whether a cleanly returned connection needs [`reset`](Manager::reset) too, with [`ResetHow::Policy`], before it
    /// is lent again. Default: no.
    fn resets(&self) -> bool {
        false
    }

    /// A handle that cuts the connection while somebody else holds it, for the deadline of a shutdown. `None` if this
    /// kind has none: then a lease that outlives the shutdown keeps its connection open.
    fn abort_handle(&self, connection: &Self::Connection) -> Option<Arc<dyn Abort>>;

    /// A handle that stops what the server still does for a connection that was cut: a backend in the middle of a
    /// query does not notice that its client is gone. `None`, the default, if there is nothing to stop.
    fn stop_handle(&self, connection: &Self::Connection) -> Option<Arc<dyn Stop>> {
        let _ = connection;
        None
    }
}

/// Stops what a server does for a connection that was cut off while somebody else held it.
pub trait Stop: Send + Sync {
    /// Asks the server, and returns when it has been told or cannot be. The pool drops the future when the connection's
    /// closing deadline passes.
    fn stop(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// What [`Manager::returned`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Returned {
    /// Whether the connection can be reused, and at what price.
    pub fate: Fate,
    /// Queries that this lease has sent.
    pub queries: u64,
    /// For [`Fate::Broken`]: what broke it.
    pub fault: Option<Box<Fault>>,
}
