//! What every manager of PostgreSQL sessions asks and says, whichever driver carries it.

use std::future::Future;

use crate::config::{ResetPolicy, TargetSessionAttrs};
use crate::pool::{Fault, FaultClass};

/// Whether the session takes writes. A statement without a plan or a snapshot, that every version has: as cheap as
/// `SELECT 1`, which would pass on a demoted primary (PEERS 17).
const ROLE: &str = "SHOW transaction_read_only";

const RECOVERY: &str = "SELECT pg_catalog.pg_is_in_recovery()";

/// Why: the session's own setting, or the server's.
const ROLE_SOURCE: &str =
    "SELECT source = 'session' FROM pg_catalog.pg_settings WHERE name = 'default_transaction_read_only'";

/// `DISCARD ALL` without DEALLOCATE ALL, which would pull the prepared statements from under the cache, and without
/// DISCARD PLANS, which nobody can see but in the planner's work. (The list is the documentation's, page DISCARD.)
const DISCARD: &str = "CLOSE ALL;SET SESSION AUTHORIZATION DEFAULT;RESET ALL;UNLISTEN *;\
     SELECT pg_catalog.pg_advisory_unlock_all();DISCARD TEMP;DISCARD SEQUENCES";

/// A PostgreSQL session of any driver, as far as a pool's checks need one.
pub trait Session: Send {
    /// Runs `sql` by the simple protocol: the first column of the first row, `None` for NULL or no row.
    ///
    /// # Errors
    /// The driver's error, as a fault.
    fn first_value(&mut self, sql: &str) -> impl Future<Output = Result<Option<String>, Fault>> + Send;

    /// Whether the session takes writes now. One round trip.
    ///
    /// # Errors
    /// As [`first_value`](Session::first_value).
    fn takes_writes(&mut self) -> impl Future<Output = Result<bool, Fault>> + Send {
        async { Ok(self.first_value(ROLE).await?.as_deref() == Some("off")) }
    }

    /// The round trip that proves a session: it works, and it takes writes if it did when it began (`took_writes`).
    ///
    /// # Errors
    /// [`FaultClass::WrongRole`] if the server was demoted; [`FaultClass::Transient`] if a lease left the session
    /// read-only, which says nothing about the server; otherwise as [`first_value`](Session::first_value).
    fn check_role(&mut self, took_writes: bool) -> impl Future<Output = Result<(), Fault>> + Send {
        async move {
            if self.takes_writes().await? || !took_writes {
                return Ok(());
            }
            if self.first_value(ROLE_SOURCE).await?.as_deref() == Some("t") {
                return Err(Fault::plain(
                    FaultClass::Transient,
                    "a lease left the session read-only (default_transaction_read_only)",
                ));
            }
            Err(Fault::plain(
                FaultClass::WrongRole,
                "the server took writes when the session began and is read-only now: demoted?",
            ))
        }
    }

    /// Whether a new session, which takes writes or not, is what `wanted` asks for.
    ///
    /// # Errors
    /// [`FaultClass::WrongRole`] if it is not; otherwise as [`first_value`](Session::first_value).
    fn check_attributes(
        &mut self,
        wanted: TargetSessionAttrs,
        takes_writes: bool,
    ) -> impl Future<Output = Result<(), Fault>> + Send {
        async move {
            let wrong = match wanted {
                TargetSessionAttrs::ReadWrite if !takes_writes => "sessions are read-only",
                // A server that takes writes is no standby; one that does not may still be a primary.
                TargetSessionAttrs::Primary if !takes_writes => match self.first_value(RECOVERY).await?.as_deref() {
                    Some("f") => return Ok(()),
                    _ => "the server is a standby",
                },
                _ => return Ok(()),
            };
            Err(Fault::plain(FaultClass::WrongRole, format!("target_session_attrs is not met: {wrong}")))
        }
    }
}

impl ResetPolicy {
    /// The statements that clear what this policy says, followed by the set-up of new sessions where that is cleared
    /// too. `None` if there is nothing to do.
    pub fn statements(&self, set_up: Option<&str>) -> Option<String> {
        match (self, set_up) {
            (ResetPolicy::Nothing, _) => None,
            (ResetPolicy::Sql(sql), _) => Some(sql.clone()),
            (ResetPolicy::DiscardAll, None) => Some(DISCARD.to_owned()),
            (ResetPolicy::DiscardAll, Some(set_up)) => Some(format!("{DISCARD};{set_up}")),
        }
    }
}
