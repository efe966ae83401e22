//! Where one message ends and the next begins, with every declared length capped before anything is done with it.

use std::borrow::Cow;

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::message::backend::Message;

use super::connection::Phase;
use super::error::Error;

/// How much of everything a connection takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The longest row, error or description from the server, in bytes. A longer one ends the connection. The server
    /// itself stops at 1 GiB, which is the most that makes sense here.
    pub message: usize,
    /// The longest message before the session begins, and of those that come unasked (parameters, notifications), in
    /// bytes. The server's own are far below the default.
    pub small_message: usize,
    /// Requests waiting for their answers.
    pub pending: usize,
    /// Bytes queued beyond which no further request is taken. One request may be larger.
    pub unsent: usize,
    /// Notices, notifications and parameters waiting to be polled; the oldest are dropped and counted.
    pub unasked_events: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { message: 64 << 20, small_message: 64 << 10, pending: 10_000, unsent: 64 << 20, unasked_events: 1_000 }
    }
}

/// One message from the server.
pub(super) enum Frame {
    /// One that postgres-protocol knows, but CommandComplete.
    Message(u8, Message),
    /// CommandComplete's tag: taken from the buffer as it is, where postgres-protocol would have us copy it. Is UTF-8.
    Complete(Bytes),
    /// CopyBothResponse, which only replication uses.
    CopyBoth,
    /// NegotiateProtocolVersion: the server is older than what was asked for, or does not know some option.
    Negotiate,
    /// An error in the form of protocol 2: the postmaster could not start a process for us.
    OldError(String),
}

/// Cuts the byte stream into messages.
#[derive(Default)]
pub(super) struct Framer {
    buffer: BytesMut,
    /// Whether the buffer has held more than [`KEEP`]. Its capacity does not tell once messages were cut from it.
    large: bool,
}

/// A receive buffer that has held more than this is let go when it is empty.
const KEEP: usize = 1 << 20;
/// Tag and length.
const HEADER: usize = 5;
/// An error of protocol 2 is one line of text.
const OLD_ERROR: usize = 1_000;

impl Framer {
    /// Keeps `bytes` until they make a message.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.large |= self.buffer.len() > KEEP;
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.buffer = BytesMut::new();
        self.large = false;
    }

    /// Whether `n` bytes more fit into what is reserved.
    #[cfg(all(test, not(pgweir_loom)))]
    pub(super) fn has_room(&mut self, n: usize) -> bool {
        self.buffer.try_reclaim(n)
    }

    /// The next message, if it is complete.
    pub(super) fn next(&mut self, phase: Phase, limits: &Limits) -> Result<Option<Frame>, Error> {
        let Some(&tag) = self.buffer.first() else {
            if self.large {
                self.clear();
            }
            return Ok(None);
        };
        if message_name(tag).is_none() {
            return Err(self.unknown(tag, phase));
        }
        if self.buffer.len() < HEADER {
            return Ok(None);
        }
        let declared = u32::from_be_bytes(self.buffer[1..HEADER].try_into().expect("four bytes")) as usize;
        if tag == b'E' && phase == Phase::Startup && !(8..=limits.small_message).contains(&declared) {
            return Ok(self.old_error());
        }
        let limit = if phase.is_login() || matches!(tag, b'A' | b'S') { limits.small_message } else { limits.message };
        if declared < 4 || declared > limit.min(i32::MAX as usize) {
            return Err(bad_length(tag, declared, limit, phase));
        }
        // Nothing was reserved so far: the buffer has grown only by what really came.
        if self.buffer.len() < declared + 1 {
            return Ok(None);
        }
        self.parse(tag, declared, phase).map(Some)
    }

    fn parse(&mut self, tag: u8, declared: usize, phase: Phase) -> Result<Frame, Error> {
        match tag {
            b'C' => {
                let mut frame = self.buffer.split_to(declared + 1).freeze();
                frame.advance(HEADER);
                match frame.iter().position(|&byte| byte == 0) {
                    Some(end) if end + 1 == frame.len() && std::str::from_utf8(&frame[..end]).is_ok() => {
                        frame.truncate(end);
                        Ok(Frame::Complete(frame))
                    }
                    _ => Err(malformed(tag, phase, "its tag is not one text")),
                }
            }
            b'W' => {
                self.buffer.advance(declared + 1);
                Ok(Frame::CopyBoth)
            }
            b'v' => {
                self.buffer.advance(declared + 1);
                Ok(Frame::Negotiate)
            }
            b'R' if declared < 8 => Err(malformed(tag, phase, "it is too short")),
            b'R' if !is_known_method(&self.buffer[HEADER..HEADER + 4]) => {
                let method = u32::from_be_bytes(self.buffer[HEADER..HEADER + 4].try_into().expect("four bytes"));
                Err(Error::Authentication(Cow::Owned(format!(
                    "the server asks for authentication method {method}, which is not known: \
                     use scram-sha-256, md5 or password in pg_hba.conf"
                ))))
            }
            _ => match Message::parse(&mut self.buffer) {
                Ok(Some(message)) => Ok(Frame::Message(tag, message)),
                Ok(None) => Err(malformed(tag, phase, "it ends early")),
                Err(error) => Err(malformed(tag, phase, &error.to_string())),
            },
        }
    }

    /// A fork failure comes as `E`, text, newline, zero (report_fork_failure_to_client in the server).
    fn old_error(&mut self) -> Option<Frame> {
        let text = &self.buffer[1..];
        let end = text.iter().position(|&byte| byte == 0).or((text.len() >= OLD_ERROR).then_some(OLD_ERROR))?;
        let message = String::from_utf8_lossy(&text[..end.min(OLD_ERROR)]).trim().to_owned();
        self.clear();
        Some(Frame::OldError(message))
    }

    fn unknown(&self, tag: u8, phase: Phase) -> Error {
        let what = format!("a message of unknown type {:?}", tag as char);
        let message = if phase == Phase::Startup {
            format!("the server answered the startup message with {what}: is this a PostgreSQL server's port?")
        } else {
            format!("the server sent {what} while {phase}")
        };
        Error::Protocol { phase, message: Cow::Owned(message) }
    }
}

fn is_known_method(code: &[u8]) -> bool {
    matches!(code, [0, 0, 0, 0 | 2 | 3 | 5..=12])
}

fn bad_length(tag: u8, declared: usize, limit: usize, phase: Phase) -> Error {
    let name = message_name(tag).unwrap_or("a message");
    let message = if declared < 4 {
        format!("the server sent {name} with the impossible length {declared} while {phase}")
    } else if phase == Phase::Startup {
        format!(
            "the server answered the startup message with {name} of {declared} bytes: is this a PostgreSQL server's port?"
        )
    } else {
        format!("the server sent {name} of {declared} bytes while {phase}; the limit is {limit}")
    };
    Error::Protocol { phase, message: Cow::Owned(message) }
}

/// A message whose body makes no sense.
pub(super) fn malformed(tag: u8, phase: Phase, why: &str) -> Error {
    let name = message_name(tag).unwrap_or("a message");
    Error::Protocol { phase, message: Cow::Owned(format!("the server sent a malformed {name} while {phase}: {why}")) }
}

/// What a backend message of this type is called, if there is one.
pub(super) fn message_name(tag: u8) -> Option<&'static str> {
    Some(match tag {
        b'1' => "ParseComplete",
        b'2' => "BindComplete",
        b'3' => "CloseComplete",
        b'A' => "NotificationResponse",
        b'c' => "CopyDone",
        b'C' => "CommandComplete",
        b'd' => "CopyData",
        b'D' => "DataRow",
        b'E' => "ErrorResponse",
        b'G' => "CopyInResponse",
        b'H' => "CopyOutResponse",
        b'I' => "EmptyQueryResponse",
        b'K' => "BackendKeyData",
        b'n' => "NoData",
        b'N' => "NoticeResponse",
        b'R' => "Authentication",
        b's' => "PortalSuspended",
        b'S' => "ParameterStatus",
        b't' => "ParameterDescription",
        b'T' => "RowDescription",
        b'v' => "NegotiateProtocolVersion",
        b'W' => "CopyBothResponse",
        b'Z' => "ReadyForQuery",
        _ => return None,
    })
}
