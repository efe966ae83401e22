//! What goes over a connection, watched from outside: tokio-postgres keeps to itself what it still waits for and whether
//! a transaction is open, and both must be known when a lease ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The length and code of an SSLRequest, the one message besides the startup that has no type byte.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// A session's state, as the bytes of both directions tell it.
#[derive(Debug)]
pub(super) struct Traffic {
    sent: Frames,
    received: Frames,
    /// What the server still owes a ReadyForQuery for, in order.
    owed: VecDeque<Owed>,
    /// Whether the messages since the last Sync were of the kind that nobody waits for.
    batch: Owed,
    /// The transaction status of the latest ReadyForQuery.
    status: u8,
    backend_pid: i32,
    /// Shared with whoever wants to know while the connection is lent.
    requests: Arc<AtomicU64>,
    bytes_received: u64,
    /// Whether the latest read had to wait. If not, whoever reads is held up by something else.
    pub(super) read_waits: bool,
    /// Whether the latest write had to wait.
    pub(super) write_waits: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owed {
    /// Only statements or portals are closed, as tokio-postgres does by itself when a statement is dropped.
    Closing,
    /// Anything else.
    Work,
}

impl Traffic {
    pub(super) fn new() -> Self {
        Traffic {
            sent: Frames { untagged: true, ..Frames::default() },
            received: Frames::default(),
            owed: VecDeque::new(),
            batch: Owed::Closing,
            status: b'I',
            backend_pid: 0,
            requests: Arc::default(),
            bytes_received: 0,
            read_waits: true,
            write_waits: false,
        }
    }

    /// Bytes that went out.
    pub(super) fn sent(&mut self, bytes: &[u8]) {
        let Traffic { sent, received, owed, batch, requests, .. } = self;
        sent.feed(bytes, |message| match message {
            // The answer is one byte, and no message.
            Message::Untagged(head) if head == SSL_REQUEST => received.skip = 1,
            Message::Untagged(_) => {}
            Message::Tagged(b'Q' | b'F', _) => {
                owed.push_back(Owed::Work);
                requests.fetch_add(1, Ordering::Relaxed);
            }
            Message::Tagged(b'S', _) => {
                owed.push_back(*batch);
                requests.fetch_add(u64::from(*batch == Owed::Work), Ordering::Relaxed);
                *batch = Owed::Closing;
            }
            // A password belongs to the login, which ends with a ReadyForQuery that nobody asked for.
            Message::Tagged(b'C' | b'p', _) => {}
            Message::Tagged(..) => *batch = Owed::Work,
        });
    }

    /// Bytes that came in.
    pub(super) fn received(&mut self, bytes: &[u8]) {
        self.bytes_received += bytes.len() as u64;
        let Traffic { received, owed, status, backend_pid, .. } = self;
        received.feed(bytes, |message| match message {
            Message::Tagged(b'Z', body) => {
                *status = body[0];
                owed.pop_front();
            }
            Message::Tagged(b'K', body) => *backend_pid = i32::from_be_bytes(body),
            _ => {}
        });
    }

    /// Whether the session waits for a query, outside a transaction, and everything that was asked is answered.
    pub(super) fn is_clean(&self) -> bool {
        self.status == b'I'
            && self.read_waits
            && !self.write_waits
            && self.batch == Owed::Closing
            && self.owed.iter().all(|owed| *owed == Owed::Closing)
    }

    /// Whether a transaction is open, failed or not.
    pub(super) fn in_transaction(&self) -> bool {
        self.status != b'I'
    }

    /// A request that was sent after all others has been answered: nothing is owed. (The count may be one too high
    /// after a COPY FROM STDIN, during which the server takes a Sync without an answer.)
    pub(super) fn settled(&mut self) {
        self.owed.clear();
        self.batch = Owed::Closing;
    }

    /// Requests since the last call, but for those that only close statements.
    pub(super) fn take_requests(&mut self) -> u64 {
        self.requests.swap(0, Ordering::Relaxed)
    }

    /// What [`take_requests`](Traffic::take_requests) would give, for others to look at.
    pub(super) fn request_count(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.requests)
    }

    /// The process id that the server told at the login, 0 before.
    pub(super) fn backend_pid(&self) -> i32 {
        self.backend_pid
    }

    pub(super) fn bytes_received(&self) -> u64 {
        self.bytes_received
    }
}

/// Finds the messages of one direction in a stream of bytes.
#[derive(Debug, Default)]
struct Frames {
    /// The next message has no type byte.
    untagged: bool,
    head: [u8; 9],
    have: usize,
    /// Bytes until the next message begins.
    skip: u64,
}

enum Message {
    /// Its first eight bytes.
    Untagged([u8; 8]),
    /// Its type, and of ReadyForQuery and BackendKeyData the first four bytes of its body, as far as there are any.
    Tagged(u8, [u8; 4]),
}

impl Frames {
    fn feed(&mut self, mut bytes: &[u8], mut found: impl FnMut(Message)) {
        loop {
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
            self.skip -= skipped as u64;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return;
            }
            let need = match (self.untagged, self.head[0]) {
                (true, _) => 8,
                (false, b'Z') if self.have > 0 => 6,
                (false, b'K') if self.have > 0 => 9,
                (false, _) => 5,
            };
            let taken = (need - self.have).min(bytes.len());
            // The type decides how much of a head there is: it comes by itself.
            let taken = if self.have == 0 && !self.untagged { 1 } else { taken };
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == need && need > 1 {
                self.have = 0;
                found(self.message(need));
            }
        }
    }

    /// The message whose head is complete.
    fn message(&mut self, need: usize) -> Message {
        let after_type = usize::from(!self.untagged);
        let length = self.head[after_type..after_type + 4].try_into().expect("four bytes");
        let total = u64::from(u32::from_be_bytes(length)) + after_type as u64;
        self.skip = total.saturating_sub(need as u64);
        if self.untagged {
            self.untagged = self.head[..8] == SSL_REQUEST;
            return Message::Untagged(self.head[..8].try_into().expect("eight bytes"));
        }
        Message::Tagged(self.head[0], self.head[5..].try_into().expect("four bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STARTUP: &[u8] = b"\0\0\0\x10\0\x03\0\0user\0u\0\0";
    const READY: &[u8] = b"Z\0\0\0\x05I";
    const IN_TRANSACTION: &[u8] = b"Z\0\0\0\x05T";
    const QUERY: &[u8] = b"Q\0\0\0\x09COPY\0";
    const SYNC: &[u8] = b"S\0\0\0\x04";
    const PARSE: &[u8] = b"P\0\0\0\x08\0\0\0\0";
    const CLOSE: &[u8] = b"C\0\0\0\x07Ss\0";

    fn session() -> Traffic {
        let mut traffic = Traffic::new();
        traffic.sent(STARTUP);
        traffic.received(b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x01ZZZZ");
        traffic.received(READY);
        assert!(traffic.is_clean());
        assert_eq!(traffic.backend_pid(), 1);
        traffic
    }

    fn owes(traffic: &Traffic) -> bool {
        !traffic.owed.is_empty()
    }

    #[test]
    fn a_request_is_owed_an_answer_until_the_server_is_ready_again() {
        let mut traffic = session();
        traffic.sent(QUERY);
        assert!(owes(&traffic) && !traffic.is_clean());
        traffic.received(b"C\0\0\0\x05Z");
        assert!(!traffic.is_clean(), "a Z within a message is none");
        traffic.received(READY);
        assert!(!owes(&traffic) && traffic.is_clean());
        traffic.sent(PARSE);
        assert!(!traffic.is_clean(), "half a batch");
        traffic.sent(SYNC);
        assert!(!traffic.is_clean());
        traffic.received(IN_TRANSACTION);
        assert!(!owes(&traffic) && traffic.in_transaction() && !traffic.is_clean());
        assert_eq!(traffic.take_requests(), 2);
        assert_eq!(traffic.take_requests(), 0);
    }

    #[test]
    fn a_statement_that_is_closed_on_the_side_makes_nothing_dirty() {
        let mut traffic = session();
        traffic.sent(&[CLOSE, SYNC].concat());
        assert!(owes(&traffic) && traffic.is_clean());
        assert_eq!(traffic.take_requests(), 0);
        traffic.sent(&[PARSE, SYNC].concat());
        assert!(!traffic.is_clean());
        traffic.received(READY);
        assert!(!traffic.is_clean(), "that was for the close");
        traffic.received(READY);
        assert!(traffic.is_clean() && !owes(&traffic));
    }

    #[test]
    fn messages_are_found_however_they_are_cut() {
        let sent = [STARTUP, QUERY, PARSE, SYNC, CLOSE, SYNC, QUERY].concat();
        let received = [b"S\0\0\0\x08a\0b\0", READY, READY, READY, IN_TRANSACTION, READY].concat();
        for size in 1..sent.len() {
            let mut traffic = Traffic::new();
            sent.chunks(size).for_each(|chunk| traffic.sent(chunk));
            assert_eq!((traffic.owed.len(), traffic.requests.load(Ordering::Relaxed)), (4, 3), "in pieces of {size}");
            received.chunks(size).for_each(|chunk| traffic.received(chunk));
            assert!(traffic.is_clean() && !owes(&traffic), "in pieces of {size}");
        }
    }

    #[test]
    fn a_refused_encryption_is_not_taken_for_a_message() {
        let mut traffic = Traffic::new();
        traffic.sent(&SSL_REQUEST);
        traffic.received(b"N");
        traffic.sent(&[STARTUP, QUERY].concat());
        assert!(owes(&traffic));
        traffic.received(&[READY, READY].concat());
        assert!(traffic.is_clean() && !owes(&traffic));
    }

    #[test]
    fn whoever_is_held_up_is_not_clean() {
        let mut traffic = session();
        traffic.write_waits = true;
        assert!(!traffic.is_clean());
        traffic.write_waits = false;
        traffic.read_waits = false;
        assert!(!traffic.is_clean());
    }
}
