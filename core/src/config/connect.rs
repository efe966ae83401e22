//! How to reach and log in to a database, and how its sessions behave.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Where the database is, who logs in, and what every session is set up with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectConfig {
    pub(crate) hosts: Vec<Host>,
    pub(crate) user: String,
    pub(crate) password: Option<Secret>,
    pub(crate) dbname: String,
    /// Sent in the startup message beside user, database and client_encoding: application_name, options, any setting.
    pub(crate) parameters: Vec<(String, String)>,
    pub(crate) session: SessionOptions,
}

/// Behaviour of each session on this side of the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// How long one command may take before it is cancelled; zero is no limit.
    pub(crate) command_timeout: Duration,
    /// Prepared statements kept per connection; zero prepares each time, without a name, in one round of messages, as
    /// PgBouncer's transaction mode needs.
    pub(crate) statement_cache_size: usize,
    /// What is cleared when a lease ends cleanly.
    pub(crate) reset: ResetPolicy,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A host name or an IP address.
    Tcp {
        /// As written.
        host: String,
        /// Its port.
        port: u16,
    },
    /// A Unix-domain socket.
    Unix {
        /// The socket's folder.
        directory: PathBuf,
        /// The port in the socket's name.
        port: u16,
    },
}

/// What is cleared of a session when its lease ends cleanly (PEERS 19).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ResetPolicy {
    /// Nothing: settings, temporary tables, advisory locks and LISTEN stay. An open transaction is rolled back all the
    /// same.
    #[default]
    Nothing,
    /// `DISCARD ALL`, except that prepared statements stay: everything a user can leave behind.
    DiscardAll,
    /// These statements, by the simple protocol.
    Sql(String),
}

/// A text that is never shown: Debug and Display print `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Secret(text.into())
    }

    /// The text itself, for the authentication exchange only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions {
            command_timeout: Duration::from_secs(60),
            statement_cache_size: 256,
            reset: ResetPolicy::Nothing,
        }
    }
}
