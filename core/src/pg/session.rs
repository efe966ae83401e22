//! What a session is started with, and the key that cancels what runs in it.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;

use super::error::Error;
use super::frame::Limits;
use crate::config::{ConnectConfig, Secret};

/// What a session is started with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionConfig {
    /// Who logs in.
    pub user: String,
    /// With which password, if the server asks for one.
    pub password: Option<Secret>,
    /// To which database.
    pub database: String,
    /// Settings sent with the startup message. `user`, `database` and `client_encoding` are not among them.
    pub parameters: Vec<(String, String)>,
    /// Prepared statements kept; zero keeps none (use [`Request::Unprepared`](super::Request::Unprepared)).
    pub statement_cache_size: usize,
    /// How long one request may take, for [`Connection::deadline`](super::Connection::deadline); zero is no limit.
    pub command_timeout: Duration,
    /// Sizes.
    pub limits: Limits,
}

impl SessionConfig {
    /// From the pool's configuration, with the credentials in it. Replace `user` and `password` if fresher ones are
    /// known.
    pub fn new(config: &ConnectConfig) -> Self {
        SessionConfig {
            user: config.user.clone(),
            password: config.password.clone(),
            database: config.dbname.clone(),
            parameters: config.parameters.clone(),
            statement_cache_size: config.session.statement_cache_size,
            command_timeout: config.session.command_timeout,
            limits: Limits::default(),
        }
    }

    /// Writes the startup message, protocol 3.0.
    pub(super) fn write_startup(&self, buffer: &mut BytesMut) -> Result<(), Error> {
        let ours = [("user", &*self.user), ("database", &*self.database), ("client_encoding", "UTF8")];
        for (name, _) in &self.parameters {
            if name.is_empty() || ours.iter().any(|(reserved, _)| name.eq_ignore_ascii_case(reserved)) {
                return Err(Error::Config(Cow::Owned(format!("{name:?} cannot be a startup parameter"))));
            }
        }
        let theirs = self.parameters.iter().map(|(name, value)| (&**name, &**value));
        frontend::startup_message(ours.into_iter().chain(theirs), buffer).map_err(|_| {
            Error::Config(Cow::Borrowed("user, database and startup parameters must not contain a zero byte"))
        })
    }
}

/// What a CancelRequest needs to know (BackendKeyData). Its Debug form does not show the secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CancelKey {
    /// The session's process id.
    pub process_id: i32,
    pub(super) secret_key: i32,
}

impl fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelKey").field("process_id", &self.process_id).finish_non_exhaustive()
    }
}

/// The bytes of a CancelRequest: send them on a connection of their own, then wait until the server closes that.
pub fn cancel_request(key: &CancelKey) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (word, value) in bytes.chunks_exact_mut(4).zip([16, 80_877_102, key.process_id, key.secret_key]) {
        word.copy_from_slice(&value.to_be_bytes());
    }
    bytes
}
