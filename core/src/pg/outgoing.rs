//! What is still to be written, by absolute offsets, so that what was not begun can be taken back.

use bytes::{Buf, BytesMut};

/// A send buffer that has held more than this is let go when it is empty.
const KEEP: usize = 1 << 20;

/// The bytes queued for the server.
#[derive(Default)]
pub(super) struct Outgoing {
    buffer: BytesMut,
    /// Bytes written since the connection began: the offset of the buffer's first byte.
    written: u64,
    /// Whether the buffer has held more than [`KEEP`]. Its capacity does not tell once it was written from.
    large: bool,
}

impl Outgoing {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// The offset of the first byte that is not yet written.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// The offset behind the last byte queued.
    pub(super) fn end(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    pub(super) fn sent(&mut self, n: usize) {
        assert!(n <= self.buffer.len(), "{n} bytes sent of {} queued", self.buffer.len());
        self.buffer.advance(n);
        self.written += n as u64;
        if self.buffer.is_empty() && self.large {
            self.clear();
        }
    }

    /// Queues what is in `scratch` and empties it.
    pub(super) fn append(&mut self, scratch: &mut BytesMut) {
        if self.buffer.is_empty() {
            std::mem::swap(&mut self.buffer, scratch);
        } else {
            self.buffer.extend_from_slice(scratch);
        }
        self.large |= self.buffer.len() > KEEP;
        scratch.clear();
        if scratch.capacity() > KEEP {
            *scratch = BytesMut::new();
        }
    }

    /// Takes back the bytes from `start` to `end`, of which none is written yet.
    pub(super) fn remove(&mut self, start: u64, end: u64) {
        let (start, end) = (self.index(start), self.index(end));
        let tail = self.buffer.split_off(end);
        self.buffer.truncate(start);
        self.buffer.extend_from_slice(&tail);
    }

    /// Puts `bytes` before the byte at `offset`, which is not yet written.
    pub(super) fn insert(&mut self, offset: u64, bytes: &[u8]) {
        if offset == self.end() {
            self.buffer.extend_from_slice(bytes);
            return;
        }
        let tail = self.buffer.split_off(self.index(offset));
        self.buffer.extend_from_slice(bytes);
        self.buffer.extend_from_slice(&tail);
    }

    /// Forgets what is not written.
    pub(super) fn clear(&mut self) {
        self.buffer = BytesMut::new();
        self.large = false;
    }

    fn index(&self, offset: u64) -> usize {
        usize::try_from(offset - self.written).expect("an offset within the buffer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_written_can_be_taken_back_and_added_to() {
        let mut out = Outgoing::default();
        for text in ["one", "two", "three"] {
            out.append(&mut BytesMut::from(text));
        }
        out.sent(1);
        out.remove(3, 6);
        assert_eq!(out.bytes(), b"nethree");
        out.insert(3, b"-and-");
        out.insert(out.end(), b"!");
        assert_eq!((out.bytes(), out.written(), out.end()), (&b"ne-and-three!"[..], 1, 14));
    }

    #[test]
    fn a_large_buffer_is_not_kept() {
        let mut out = Outgoing::default();
        let mut scratch = BytesMut::from(&vec![0; 3 * KEEP][..]);
        out.append(&mut scratch);
        out.sent(2 * KEEP);
        out.append(&mut BytesMut::from("more"));
        out.sent(out.len());
        assert!(!out.buffer.try_reclaim(KEEP), "more than a megabyte is still reserved");
    }
}
