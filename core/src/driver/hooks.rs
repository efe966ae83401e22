//! The user's own code at three moments of a connection's life.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::manager::{Manager, Returned};
use crate::pool::{Fate, Fault, FaultClass};

/// What a hook returns: `Err` with a reason closes the connection.
pub type HookFuture<'a> = Pin<Box<dyn Future<Output = Result<(), HookError>> + Send + 'a>>;

/// Why a hook refused a connection.
pub type HookError = Box<dyn std::error::Error + Send + Sync>;

/// A hook: borrows the connection, may run queries on it.
pub type Hook<C> = Arc<dyn for<'a> Fn(&'a mut C) -> HookFuture<'a> + Send + Sync>;

/// The hooks of one pool.
pub(crate) struct Hooks<C> {
    /// Runs once per connection, before it is first lent, inside connect_timeout.
    pub(crate) after_connect: Option<Hook<C>>,
    /// Runs at every acquire, in the acquiring task, inside the acquire's deadline.
    pub(crate) before_acquire: Option<Hook<C>>,
    /// Runs at every return, in the background, inside reset_timeout.
    pub(crate) after_release: Option<Hook<C>>,
}

impl<C> Default for Hooks<C> {
    fn default() -> Self {
        Hooks { after_connect: None, before_acquire: None, after_release: None }
    }
}

impl<C> fmt::Debug for Hooks<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("after_connect", &self.after_connect.is_some())
            .field("before_acquire", &self.before_acquire.is_some())
            .field("after_release", &self.after_release.is_some())
            .finish()
    }
}

/// What a hook's end means for the connection it ran on. `None`: it did not end in time.
///
/// A hook that left a transaction or a request open has left it to whoever gets the connection next, so that is a
/// refusal too. What it ran is not counted as its user's.
pub(crate) fn verdict<M: Manager>(
    name: &str,
    outcome: Option<Result<(), HookError>>,
    manager: &M,
    connection: &mut M::Connection,
) -> Result<(), Fault> {
    let refused =
        |why: &str| Err(Fault::new(FaultClass::Transient, format!("the {name} hook refused the connection: {why}")));
    match outcome {
        None => refused("it did not end in time"),
        Some(Err(error)) => refused(&error.to_string()),
        Some(Ok(())) => match manager.returned(connection) {
            Returned { fate: Fate::Clean | Fate::Unused, .. } => Ok(()),
            Returned { fault: Some(fault), .. } => Err(*fault),
            Returned { .. } => refused("it left a transaction or a request open"),
        },
    }
}
