//! Blocks: how a journal's bytes are framed, so that damage is noticed and stays where it is.

use serde::Serialize;

/// The format's version. It goes up with the frame or the order of the blocks; the machine's own layout is held by the
/// seal beside it.
pub const FORMAT: u16 = 1;

/// No text begins with a byte above 0x7f, and a transfer that meddles with line ends damages the rest.
pub(super) const MAGIC: [u8; 8] = *b"\xf0pgweir\n";
pub(super) const PREFIX: usize = MAGIC.len() + 2;

/// Kind, length and check sum around a body.
const FRAME: usize = 1 + 4 + 4;

pub(super) const HEADER: u8 = b'H';
pub(super) const MACHINE: u8 = b'M';
pub(super) const SITES: u8 = b'S';
pub(super) const ENTRIES: u8 = b'E';
pub(super) const END: u8 = b'Z';

/// A block that arrived whole.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    /// Where it begins.
    pub(super) at: usize,
    pub(super) kind: u8,
    pub(super) body: &'a [u8],
}

/// A block that did not.
#[derive(Clone, Copy)]
pub(super) enum Bad {
    /// The bytes end before it does (or its length is wrong).
    Truncated { at: usize },
    /// Its check sum is wrong.
    Corrupt { at: usize },
}

/// The blocks of a journal. Goes on behind a corrupt one where its length says the next begins.
pub(super) struct Blocks<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Blocks<'a> {
    /// Reads from behind the prefix.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Blocks { bytes, at: PREFIX }
    }
}

impl<'a> Iterator for Blocks<'a> {
    type Item = Result<Block<'a>, Bad>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        let rest = self.bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let Some((frame, after)) = rest.split_first_chunk::<5>() else {
            self.at = self.bytes.len();
            return Some(Err(Bad::Truncated { at }));
        };
        let [kind, length @ ..] = *frame;
        let length = u32::from_le_bytes(length) as usize;
        let sum = after.get(length..).and_then(|after| after.first_chunk::<4>());
        let (Some(body), Some(sum)) = (after.get(..length), sum) else {
            self.at = self.bytes.len();
            return Some(Err(Bad::Truncated { at }));
        };
        self.at = at + FRAME + length;
        if u32::from_le_bytes(*sum) != check_sum(frame, body) {
            return Some(Err(Bad::Corrupt { at }));
        }
        Some(Ok(Block { at, kind, body }))
    }
}

/// Appends the magic and the version.
pub(super) fn put_prefix(out: &mut Vec<u8>) {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&FORMAT.to_le_bytes());
}

/// Appends a block.
pub(super) fn put(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    let length = u32::try_from(body.len()).expect("a block is far below 4 GiB");
    let mut frame = [kind, 0, 0, 0, 0];
    frame[1..].copy_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&frame);
    out.extend_from_slice(body);
    out.extend_from_slice(&check_sum(&frame, body).to_le_bytes());
}

/// A value as a block's body.
pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("plain data of known length can be written to memory")
}

fn check_sum(frame: &[u8; 5], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(frame);
    hasher.update(body);
    hasher.finalize()
}
