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
    /// By host, where a password file has different ones for different hosts; empty otherwise.
    pub(crate) host_passwords: Vec<Option<Secret>>,
    pub(crate) target_session_attrs: TargetSessionAttrs,
    pub(crate) ssl_mode: SslMode,
    pub(crate) tcp: TcpOptions,
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

/// One server. Displays as `host:port`.
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

/// What a server must be for its sessions to be used (libpq's `target_session_attrs`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetSessionAttrs {
    /// Anything that lets us in.
    #[default]
    Any,
    /// Sessions must be able to write: neither a standby nor `default_transaction_read_only`.
    ReadWrite,
    /// The server must not be a standby.
    Primary,
}

/// Whether a connection is encrypted (libpq's `sslmode`). This version has no TLS: the modes that insist on it are
/// refused, and those that settle for less are kept as they were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SslMode {
    /// Never.
    Disable,
    /// If the server insists.
    Allow,
    /// If the server can.
    #[default]
    Prefer,
}

/// What was said about the sockets' own timers. `None` leaves one to the operating system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpOptions {
    /// Whether the kernel probes a silent peer.
    pub keepalives: Option<bool>,
    /// Silence before the first probe.
    pub keepalives_idle: Option<Duration>,
    /// Time between probes.
    pub keepalives_interval: Option<Duration>,
    /// Unanswered probes after which the connection is dead.
    pub keepalives_count: Option<u32>,
    /// How long sent data may stay unacknowledged.
    pub user_timeout: Option<Duration>,
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

impl ConnectConfig {
    /// Without a password, with default options.
    pub(crate) fn new(hosts: Vec<Host>, user: impl Into<String>, dbname: impl Into<String>) -> Self {
        ConnectConfig {
            hosts,
            user: user.into(),
            password: None,
            dbname: dbname.into(),
            parameters: Vec::new(),
            session: SessionOptions::default(),
            host_passwords: Vec::new(),
            target_session_attrs: TargetSessionAttrs::default(),
            ssl_mode: SslMode::default(),
            tcp: TcpOptions::default(),
        }
    }

    /// The servers, in the order of preference; at least one.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Who logs in.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The password for the host with this index.
    pub fn password_for(&self, host: usize) -> Option<&Secret> {
        self.host_passwords.get(host).and_then(Option::as_ref).or(self.password.as_ref())
    }

    /// The database.
    pub fn dbname(&self) -> &str {
        &self.dbname
    }

    /// What the startup message says beside user, database and client_encoding, in order: `application_name`,
    /// `options`, and settings.
    pub fn parameters(&self) -> &[(String, String)] {
        &self.parameters
    }

    /// How sessions behave on this side of the wire.
    pub fn session(&self) -> &SessionOptions {
        &self.session
    }

    /// What a server must be.
    pub fn target_session_attrs(&self) -> TargetSessionAttrs {
        self.target_session_attrs
    }

    /// Whether connections are encrypted.
    pub fn ssl_mode(&self) -> SslMode {
        self.ssl_mode
    }

    /// The sockets' timers.
    pub fn tcp(&self) -> TcpOptions {
        self.tcp
    }

    /// The same with another password for every host, for credentials that change.
    #[must_use]
    pub fn with_password(mut self, password: Option<Secret>) -> Self {
        self.password = password;
        self.host_passwords = Vec::new();
        self
    }
}

impl SessionOptions {
    /// How long one command may take before it is cancelled; zero is no limit.
    pub fn command_timeout(&self) -> Duration {
        self.command_timeout
    }

    /// Prepared statements kept per connection; zero keeps none.
    pub fn statement_cache_size(&self) -> usize {
        self.statement_cache_size
    }

    /// What is cleared when a lease ends cleanly.
    pub fn reset_policy(&self) -> &ResetPolicy {
        &self.reset
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Host::Tcp { host, port } => write!(f, "{host}:{port}"),
            Host::Unix { directory, port } => write!(f, "{}:{port}", directory.display()),
        }
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
