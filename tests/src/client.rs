//! A small blocking client for the simple query protocol: the test's own look at the server.

use crate::{Error, Result, wire};
use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;
use std::fmt;
use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// The longest message taken from a server.
const MAX_MESSAGE: usize = 64 << 20;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// An address of TCP.
    Tcp(SocketAddr),
    /// The path of a Unix socket (the socket itself, not its folder).
    Unix(PathBuf),
}

/// Who connects where.
#[derive(Clone)]
pub struct ClientConfig {
    /// Where the server listens.
    pub endpoint: Endpoint,
    /// The role.
    pub user: String,
    /// The role's password, sent only if the server asks.
    pub password: String,
    /// The database.
    pub database: String,
    /// Shown in `pg_stat_activity`.
    pub application_name: String,
    /// The limit of the connect, and of every single read and write.
    pub timeout: Duration,
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig")
            .field("endpoint", &self.endpoint)
            .field("user", &self.user)
            .field("database", &self.database)
            .field("application_name", &self.application_name)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// One row of a result, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row(pub Vec<Option<String>>);

impl Row {
    /// A column's text; empty for NULL and for columns that are not there.
    pub fn text(&self, column: usize) -> &str {
        self.0.get(column).and_then(Option::as_deref).unwrap_or_default()
    }
}

/// A session. Dropping it says Terminate and closes the socket.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<Stream>,
    process_id: u32,
}

impl Client {
    /// Connects and authenticates (trust, cleartext password, md5, SCRAM-SHA-256; no TLS).
    ///
    /// # Errors
    /// The socket's error, [`Error::Server`] with the server's refusal, or [`Error::Protocol`].
    pub fn connect(config: &ClientConfig) -> Result<Client> {
        let stream = Stream::open(config).map_err(Error::io(format!("connect to {:?}", config.endpoint)))?;
        let mut client = Client { stream: BufReader::new(stream), process_id: 0 };
        let parameters = [
            ("user", config.user.as_str()),
            ("database", config.database.as_str()),
            ("application_name", config.application_name.as_str()),
        ];
        client.send_with("startup", |out| frontend::startup_message(parameters, out))?;
        client.authenticate(config)?;
        client.finish_startup()?;
        Ok(client)
    }

    /// The process id of the session's backend, as the server told it.
    pub fn process_id(&self) -> u32 {
        self.process_id
    }

    /// Runs one or more statements and returns the rows of all of them.
    ///
    /// # Errors
    /// [`Error::Server`] with the first error; the session stays usable. Any other error ends the session.
    pub fn query(&mut self, sql: &str) -> Result<Vec<Row>> {
        self.send(sql)?;
        self.receive()
    }

    /// Sends a query without waiting for its answer.
    ///
    /// # Errors
    /// The socket's.
    pub fn send(&mut self, sql: &str) -> Result<()> {
        self.send_with("query", |out| frontend::query(sql, out))
    }

    /// Waits for the answer to a [`Client::send`].
    ///
    /// # Errors
    /// As [`Client::query`].
    pub fn receive(&mut self) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        let mut failure = None;
        loop {
            let (tag, body) = self.read_message()?;
            match tag {
                b'D' => rows.push(parse_row(&body)?),
                b'E' => {
                    let error = parse_error(&body);
                    let fatal = matches!(&error, Error::Server { severity, .. } if severity != "ERROR");
                    if fatal {
                        return Err(error);
                    }
                    failure.get_or_insert(error);
                }
                b'G' => self.send_with("CopyFail", |out| frontend::copy_fail("not supported by the testkit", out))?,
                b'Z' => return failure.map_or(Ok(rows), Err),
                b'T' | b'C' | b'N' | b'S' | b'A' | b'I' | b'H' | b'd' | b'c' => {}
                other => return Err(unexpected(other, "a query's answer")),
            }
        }
    }

    fn authenticate(&mut self, config: &ClientConfig) -> Result<()> {
        loop {
            let (tag, body) = self.read_message()?;
            match tag {
                b'R' => {}
                b'N' => continue,
                b'E' => return Err(parse_error(&body)),
                other => return Err(unexpected(other, "authentication")),
            }
            let (code, rest) = split_u32(&body)?;
            match code {
                0 => return Ok(()),
                3 => self.send_password(config.password.as_bytes())?,
                5 => {
                    let salt =
                        rest.try_into().map_err(|_| Error::Protocol("an md5 salt that is not 4 bytes".into()))?;
                    let hash = md5_hash(config.user.as_bytes(), config.password.as_bytes(), salt);
                    self.send_password(hash.as_bytes())?;
                }
                10 => self.authenticate_scram(&config.password)?,
                other => return Err(Error::Protocol(format!("authentication method {other} is not supported"))),
            }
        }
    }

    fn send_password(&mut self, password: &[u8]) -> Result<()> {
        self.send_with("password", |out| frontend::password_message(password, out))
    }

    fn authenticate_scram(&mut self, password: &str) -> Result<()> {
        let protocol = |error: io::Error| Error::Protocol(format!("SCRAM: {error}"));
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        self.send_with("SASL", |out| frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), out))?;
        let challenge = self.read_sasl(11)?;
        scram.update(&challenge).map_err(protocol)?;
        self.send_with("SASL", |out| frontend::sasl_response(scram.message(), out))?;
        let outcome = self.read_sasl(12)?;
        scram.finish(&outcome).map_err(protocol)
    }

    fn read_sasl(&mut self, expected: u32) -> Result<Vec<u8>> {
        let (tag, body) = self.read_message()?;
        match tag {
            b'E' => return Err(parse_error(&body)),
            b'R' => {}
            other => return Err(unexpected(other, "SASL")),
        }
        let (code, rest) = split_u32(&body)?;
        if code == expected { Ok(rest.to_vec()) } else { Err(Error::Protocol(format!("SASL step {code}"))) }
    }

    fn finish_startup(&mut self) -> Result<()> {
        loop {
            let (tag, body) = self.read_message()?;
            match tag {
                b'K' => self.process_id = split_u32(&body)?.0,
                b'Z' => return Ok(()),
                b'E' => return Err(parse_error(&body)),
                b'S' | b'N' | b'v' => {}
                other => return Err(unexpected(other, "start-up")),
            }
        }
    }

    fn send_with(&mut self, what: &str, build: impl FnOnce(&mut BytesMut) -> io::Result<()>) -> Result<()> {
        let mut out = BytesMut::new();
        build(&mut out).map_err(Error::io(format!("build the {what} message")))?;
        self.stream.get_mut().write_all(&out).map_err(Error::io(format!("send the {what} message")))
    }

    fn read_message(&mut self) -> Result<(u8, Vec<u8>)> {
        let read = |error: io::Error| Error::io("read from the server")(error);
        let mut head = [0; 5];
        self.stream.read_exact(&mut head).map_err(read)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let Some(length) = length.checked_sub(4).filter(|length| *length <= MAX_MESSAGE) else {
            return Err(Error::Protocol(format!("a message of {length} bytes")));
        };
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).map_err(read)?;
        Ok((head[0], body))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // A courtesy to the server; a socket that is gone already needs none.
        let _ = self.stream.get_mut().write_all(&wire::terminate());
    }
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn open(config: &ClientConfig) -> io::Result<Stream> {
        let limit = Some(config.timeout);
        match &config.endpoint {
            Endpoint::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, config.timeout)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(limit)?;
                stream.set_write_timeout(limit)?;
                Ok(Stream::Tcp(stream))
            }
            Endpoint::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(limit)?;
                stream.set_write_timeout(limit)?;
                Ok(Stream::Unix(stream))
            }
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(buffer),
            Stream::Unix(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn unexpected(tag: u8, phase: &str) -> Error {
    Error::Protocol(format!("message {:?} during {phase}", char::from(tag)))
}

fn split_u32(body: &[u8]) -> Result<(u32, &[u8])> {
    let (head, rest) = body.split_first_chunk().ok_or_else(|| Error::Protocol("a message that ends early".into()))?;
    Ok((u32::from_be_bytes(*head), rest))
}

/// DataRow: the number of columns, then for each its length (-1 for NULL) and its bytes.
fn parse_row(body: &[u8]) -> Result<Row> {
    let short = || Error::Protocol("a DataRow that ends early".into());
    let (count, mut rest) = body.split_first_chunk::<2>().ok_or_else(short)?;
    let mut values = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        rest = after;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            values.push(None);
            continue;
        };
        let (value, after) = rest.split_at_checked(length).ok_or_else(short)?;
        values.push(Some(String::from_utf8_lossy(value).into_owned()));
        rest = after;
    }
    Ok(Row(values))
}

/// ErrorResponse: fields of a type byte and a text that ends in a zero byte. `V` is the severity that is not
/// translated; servers before 9.6 have only `S`.
fn parse_error(body: &[u8]) -> Error {
    let field = |wanted: u8| {
        body.split(|byte| *byte == 0)
            .find(|field| field.first() == Some(&wanted))
            .map(|field| String::from_utf8_lossy(&field[1..]).into_owned())
    };
    Error::Server {
        severity: field(b'V').or_else(|| field(b'S')).unwrap_or_default(),
        sqlstate: field(b'C').unwrap_or_default(),
        message: field(b'M').unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_parsed_and_truncated_rows_are_refused() {
        let body = [0, 2, 0, 0, 0, 1, b'x', 0xff, 0xff, 0xff, 0xff];
        assert_eq!(parse_row(&body).expect("a row"), Row(vec![Some("x".into()), None]));
        for end in 0..body.len() {
            assert!(parse_row(&body[..end]).is_err(), "{end} bytes");
        }
    }

    #[test]
    fn an_error_response_is_parsed() {
        let message = wire::error("FATAL", "28P01", "no");
        let error = parse_error(&message[5..]);
        assert_eq!(error.to_string(), "FATAL 28P01: no");
        assert_eq!(error.sqlstate(), Some("28P01"));
    }
}
