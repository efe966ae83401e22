//! Logging in: from the startup message to AuthenticationOk (protocol section 55.2.1).
//!
//! Later TLS goes before this: an SSLRequest, exactly one byte of answer, the handshake, then the startup message.

use std::borrow::Cow;
use std::io;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;

use super::connection::Phase;
use super::error::Error;
use super::frame::malformed;
use super::session::SessionConfig;

/// How far the login has come. Each step is taken once: a server can neither repeat a method nor skip its own proof.
pub(super) enum Login {
    /// The server is to say which method it wants.
    Start,
    /// The password, or its hash, is out.
    Password,
    /// The first SCRAM message is out.
    ScramFirst(ScramSha256),
    /// Our proof is out.
    ScramFinal(ScramSha256),
    /// The server has proved that it knows the password.
    ScramVerified,
}

/// What an authentication message led to.
pub(super) enum Step {
    /// The login goes on.
    Continue(Login),
    /// AuthenticationOk.
    Done,
    /// Not a message for this step.
    Unexpected,
}

impl Login {
    /// Takes one message and writes the answer into `out`. For SCRAM this derives a key: 4,096 rounds of SHA-256 by
    /// default, 100,000 at most (postgres-protocol's limit).
    pub(super) fn step(self, message: &Message, config: &SessionConfig, out: &mut BytesMut) -> Result<Step, Error> {
        let next = match (self, message) {
            (Login::Start | Login::Password | Login::ScramVerified, Message::AuthenticationOk) => {
                return Ok(Step::Done);
            }
            (Login::Start, Message::AuthenticationCleartextPassword) => {
                frontend::password_message(password(config)?, out).map_err(unsendable)?;
                Login::Password
            }
            (Login::Start, Message::AuthenticationMd5Password(body)) => {
                let hash = md5_hash(config.user.as_bytes(), password(config)?, body.salt());
                frontend::password_message(hash.as_bytes(), out).map_err(unsendable)?;
                Login::Password
            }
            (Login::Start, Message::AuthenticationSasl(body)) => {
                let mechanisms: Vec<&str> = body.mechanisms().collect().map_err(|error| bad_sasl(&error))?;
                if !mechanisms.contains(&SCRAM_SHA_256) {
                    return Err(Error::Authentication(Cow::Owned(format!(
                        "the server offers the SASL mechanisms {mechanisms:?}, only {SCRAM_SHA_256} is supported here"
                    ))));
                }
                let scram = ScramSha256::new(password(config)?, ChannelBinding::unsupported());
                frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), out).map_err(unsendable)?;
                Login::ScramFirst(scram)
            }
            (Login::ScramFirst(mut scram), Message::AuthenticationSaslContinue(body)) => {
                scram.update(body.data()).map_err(|error| scram_failed(&error))?;
                frontend::sasl_response(scram.message(), out).map_err(unsendable)?;
                Login::ScramFinal(scram)
            }
            (Login::ScramFinal(mut scram), Message::AuthenticationSaslFinal(body)) => {
                scram.finish(body.data()).map_err(|error| scram_failed(&error))?;
                Login::ScramVerified
            }
            (Login::Start, other) => match unsupported(other) {
                Some(method) => {
                    return Err(Error::Authentication(Cow::Owned(format!(
                        "the server asks for {method} authentication, which is not supported: \
                         use scram-sha-256, md5 or password in pg_hba.conf"
                    ))));
                }
                None => return Ok(Step::Unexpected),
            },
            _ => return Ok(Step::Unexpected),
        };
        Ok(Step::Continue(next))
    }
}

fn password(config: &SessionConfig) -> Result<&[u8], Error> {
    match &config.password {
        Some(password) => Ok(password.expose().as_bytes()),
        None => Err(Error::Authentication(Cow::Owned(format!(
            "the server asks for the password of user {:?}, but none is configured",
            config.user
        )))),
    }
}

fn unsupported(message: &Message) -> Option<&'static str> {
    match message {
        Message::AuthenticationKerberosV5 => Some("Kerberos V5"),
        Message::AuthenticationScmCredential => Some("SCM credential"),
        Message::AuthenticationGss => Some("GSSAPI"),
        Message::AuthenticationSspi => Some("SSPI"),
        _ => None,
    }
}

fn unsendable(_: io::Error) -> Error {
    Error::Authentication(Cow::Borrowed("the password contains a zero byte, which cannot be sent"))
}

fn bad_sasl(error: &io::Error) -> Error {
    malformed(b'R', Phase::Authentication, &error.to_string())
}

fn scram_failed(error: &io::Error) -> Error {
    Error::Authentication(Cow::Owned(format!("SCRAM-SHA-256 authentication failed on our side: {error}")))
}
