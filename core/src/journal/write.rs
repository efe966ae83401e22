//! Makes a journal's bytes.

use super::check::Check;
use super::format::{END, ENTRIES, HEADER, MACHINE, SITES, encode, put, put_prefix};
use super::header::{Header, Site};
use crate::digest::Digest;
use crate::pool::{Event, Machine};
use crate::time::Instant;

/// A block of entries is closed at this size: what one damaged byte costs at most.
const BLOCK: usize = 16 * 1024;

/// Writes a journal to memory, in one go or piece by piece.
#[derive(Debug)]
pub struct Writer {
    out: Vec<u8>,
    /// The open block of entries.
    block: Vec<u8>,
    /// The time of the last entry.
    last: Instant,
    entries: u64,
    sites: u32,
}

impl Writer {
    /// A journal that begins with `start`, the machine before the first entry.
    pub fn new(header: &Header, start: &Machine) -> Self {
        let mut out = Vec::new();
        put_prefix(&mut out);
        put(&mut out, HEADER, &encode(header));
        put(&mut out, MACHINE, &encode(&(seal(start), start)));
        Writer { out, block: Vec::new(), last: Instant::ZERO, entries: 0, sites: 0 }
    }

    /// Adds source lines; their ids go on from those that were added before.
    pub fn sites(&mut self, sites: &[Site]) {
        if !sites.is_empty() {
            self.close_block();
            put(&mut self.out, SITES, &encode(&(self.sites, sites)));
            self.sites = self.sites.saturating_add(u32::try_from(sites.len()).unwrap_or(u32::MAX));
        }
    }

    /// How many source lines were added.
    pub fn known_sites(&self) -> u32 {
        self.sites
    }

    /// Adds an entry: what the machine was told, when, and the check over what it answered. Times do not go back.
    pub fn entry(&mut self, at: Instant, event: &Event, check: Check) {
        let at = at.max(self.last);
        let base = if self.block.is_empty() { Instant::ZERO } else { self.last };
        let entry = (at.nanos_since(base), check.bits().to_le_bytes(), event);
        self.block = postcard::to_extend(&entry, std::mem::take(&mut self.block)).expect("memory takes all");
        self.last = at;
        self.entries += 1;
        if self.block.len() >= BLOCK {
            self.close_block();
        }
    }

    /// How many entries were added.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// What there is so far, and goes on behind it: the pieces make one journal, in order.
    pub fn take(&mut self) -> Vec<u8> {
        self.close_block();
        std::mem::take(&mut self.out)
    }

    /// Ends the journal; what was not taken before.
    pub fn finish(mut self) -> Vec<u8> {
        self.close_block();
        put(&mut self.out, END, &encode(&self.entries));
        self.out
    }

    fn close_block(&mut self) {
        if !self.block.is_empty() {
            put(&mut self.out, ENTRIES, &self.block);
            self.block.clear();
        }
    }
}

/// A hash over a machine's values and the names of all its fields: a build whose machine looks otherwise, or one that
/// did not get back exactly what was written, has another.
pub(super) fn seal(machine: &Machine) -> u64 {
    let mut digest = Digest::default();
    digest.add_with_names(machine);
    digest.bits()
}
