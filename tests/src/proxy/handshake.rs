//! Telling when a PostgreSQL handshake is over, from the bytes that pass.

/// Codes in the place of the protocol's version (Message Formats: CancelRequest, SSLRequest, GSSENCRequest).
const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;

/// What is known of a connection's handshake.
#[derive(Debug)]
pub(super) struct Handshake {
    phase: Phase,
    /// The first bytes of the client's current packet.
    first: Vec<u8>,
    cancel: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// Waiting for the first eight bytes of the client's packet.
    Packet,
    /// Waiting for the server's one byte after a request for encryption.
    Consent,
    /// Reading the server's messages: the head so far, and how much of a body is still to come.
    Messages {
        head: Vec<u8>,
        skip: u64,
    },
    Over,
}

impl Handshake {
    pub(super) fn new() -> Handshake {
        Handshake { phase: Phase::Packet, first: Vec::new(), cancel: false }
    }

    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    pub(super) fn is_cancel(&self) -> bool {
        self.cancel
    }

    pub(super) fn client_sent(&mut self, bytes: &[u8]) {
        if self.phase != Phase::Packet {
            return;
        }
        let missing = 8 - self.first.len();
        self.first.extend(bytes.iter().take(missing));
        let Some(code) = self.first.last_chunk::<4>().filter(|_| self.first.len() == 8) else { return };
        match u32::from_be_bytes(*code) {
            SSL | GSS => self.phase = Phase::Consent,
            CANCEL => {
                self.cancel = true;
                self.phase = Phase::Over;
            }
            _ => self.phase = Phase::Messages { head: Vec::new(), skip: 0 },
        }
        self.first.clear();
    }

    pub(super) fn server_sent(&mut self, mut bytes: &[u8]) {
        while let Some((byte, rest)) = bytes.split_first() {
            match &mut self.phase {
                Phase::Packet | Phase::Over => return,
                Phase::Consent => {
                    self.phase = if *byte == b'N' { Phase::Packet } else { Phase::Over };
                    bytes = rest;
                }
                Phase::Messages { skip, .. } if *skip > 0 => {
                    let now = (*skip).min(bytes.len() as u64);
                    *skip -= now;
                    bytes = &bytes[now as usize..];
                }
                Phase::Messages { head, skip } => {
                    head.push(*byte);
                    bytes = rest;
                    if matches!(head[0], b'Z' | b'E') {
                        self.phase = Phase::Over;
                    } else if let Some(length) = head.get(1..5).and_then(|tail| tail.first_chunk::<4>()) {
                        *skip = u64::from(u32::from_be_bytes(*length)).saturating_sub(4);
                        head.clear();
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    fn packet(code: u32) -> Vec<u8> {
        [8u32.to_be_bytes(), code.to_be_bytes()].concat()
    }

    #[test]
    fn byte_by_byte_it_ends_with_ready_for_query() {
        let mut handshake = Handshake::new();
        packet(SSL).chunks(1).for_each(|byte| handshake.client_sent(byte));
        handshake.server_sent(b"N");
        packet(196_608).chunks(3).for_each(|bytes| handshake.client_sent(bytes));
        let welcome = wire::welcome();
        let (all_but_ready, ready) = welcome.split_at(welcome.len() - 6);
        all_but_ready.chunks(1).for_each(|byte| handshake.server_sent(byte));
        assert!(!handshake.is_over());
        handshake.server_sent(ready);
        assert!(handshake.is_over() && !handshake.is_cancel());
    }

    #[test]
    fn refusals_tls_and_cancels_end_it() {
        let mut refused = Handshake::new();
        refused.client_sent(&packet(196_608));
        refused.server_sent(&wire::error("FATAL", "53300", "too many"));
        let mut tls = Handshake::new();
        tls.client_sent(&packet(SSL));
        tls.server_sent(b"S");
        let mut cancel = Handshake::new();
        cancel.client_sent(&packet(CANCEL));
        assert!(refused.is_over() && tls.is_over() && cancel.is_over() && cancel.is_cancel());
    }
}
