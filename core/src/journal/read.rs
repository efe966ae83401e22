//! Reads a journal, as far as it can be read.

use std::fmt;

use super::check::Check;
use super::format::{Bad, Block, Blocks, END, ENTRIES, FORMAT, HEADER, MACHINE, MAGIC, PREFIX, SITES};
use super::header::{Header, Site};
use super::write::seal;
use crate::pool::{Event, Machine, SiteId};
use crate::time::Instant;

/// What a pool's machine was told, from some moment on.
#[derive(Clone, Debug)]
pub struct Journal {
    header: Header,
    start: Machine,
    entries: Vec<Entry>,
    sites: Vec<Site>,
    loss: Option<Loss>,
}

/// One event.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// When.
    pub at: Instant,
    /// What the machine was told.
    pub event: Event,
    /// Over what it answered.
    pub check: Check,
}

impl Journal {
    /// Reads what can be read of `bytes`. What cannot is reported by [`loss`](Journal::loss): entries from there on
    /// are missing.
    ///
    /// Whoever wrote them: the machine that is read is one that can be, so that it can be run on ([`Replay`]).
    ///
    /// [`Replay`]: super::Replay
    ///
    /// Never panics, and allocates in proportion to the bytes that are there, never to a length that they declare.
    ///
    /// # Errors
    /// [`JournalError`] if there is nothing to start from: another kind of file, another version of the format, or a
    /// header or a machine that is damaged, missing or of another build.
    pub fn read(bytes: &[u8]) -> Result<Journal, JournalError> {
        let (prefix, rest) = bytes.split_at(bytes.len().min(PREFIX));
        let (magic, version) = prefix.split_at(prefix.len().min(MAGIC.len()));
        if magic != MAGIC {
            return Err(JournalError::NotAJournal);
        }
        let Ok(version) = <[u8; 2]>::try_from(version) else {
            return Err(JournalError::Truncated { at: bytes.len(), part: Part::Header });
        };
        let version = u16::from_le_bytes(version);
        if version != FORMAT {
            return Err(JournalError::Version { found: version });
        }
        debug_assert_eq!(rest.len() + PREFIX, bytes.len());
        let mut blocks = Blocks::new(bytes);
        let header: Header = {
            let block = first(&mut blocks, HEADER, Part::Header, bytes.len())?;
            whole(block.body).ok_or(JournalError::Unreadable { at: block.at, part: Part::Header })?
        };
        let block = first(&mut blocks, MACHINE, Part::Machine, bytes.len())?;
        let start = match whole::<(u64, Machine)>(block.body) {
            Some((sealed, machine)) if seal(&machine) == sealed => machine,
            _ => return Err(JournalError::OtherBuild { written_by: header.version }),
        };
        start.possible().map_err(|why| JournalError::Impossible { at: block.at, why })?;
        let mut journal = Journal { header, start, entries: Vec::new(), sites: Vec::new(), loss: None };
        journal.read_on(blocks, bytes.len());
        Ok(journal)
    }

    /// Where it comes from.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The machine before the first entry.
    pub fn start(&self) -> &Machine {
        &self.start
    }

    /// What it was told since, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The source lines, by [`SiteId`].
    pub fn sites(&self) -> &[Site] {
        &self.sites
    }

    /// A source line.
    pub fn site(&self, id: SiteId) -> Option<&Site> {
        self.sites.get(id.0 as usize)
    }

    /// What could not be read, if anything.
    pub fn loss(&self) -> Option<&Loss> {
        self.loss.as_ref()
    }

    /// Everything behind the machine. Source lines are taken also from behind a damaged block; entries are not, for
    /// without those before them they mean nothing.
    fn read_on(&mut self, blocks: Blocks<'_>, length: usize) {
        let mut ended = None;
        for block in blocks {
            let block = match block {
                Ok(block) => block,
                Err(Bad::Truncated { at }) => {
                    self.lost(at, length, Part::Truncated);
                    continue;
                }
                Err(Bad::Corrupt { at }) => {
                    self.lost(at, length, Part::Corrupt);
                    continue;
                }
            };
            let read = match block.kind {
                ENTRIES if self.loss.is_some() => true,
                ENTRIES => self.read_entries(block.body),
                SITES => self.read_sites(block.body),
                END => whole(block.body).map(|entries: u64| ended = Some(entries)).is_some(),
                _ => false,
            };
            if !read {
                self.lost(block.at, length, Part::Entries);
            }
            if ended.is_some() {
                break;
            }
        }
        match (&mut self.loss, ended) {
            (None, None) => self.lost(length, length, Part::Truncated),
            (None, Some(entries)) if entries != self.entries.len() as u64 => {
                self.lost(length, length, Part::Entries);
                self.count_lost(entries);
            }
            (Some(_), Some(entries)) => self.count_lost(entries),
            (_, _) => {}
        }
    }

    fn lost(&mut self, at: usize, length: usize, what: Part) {
        if self.loss.is_none() {
            self.loss = Some(Loss { at, bytes: length - at, what, read: self.entries.len(), missing: None });
        }
    }

    fn count_lost(&mut self, entries: u64) {
        let read = self.entries.len() as u64;
        if let Some(loss) = &mut self.loss {
            loss.missing = Some(entries.saturating_sub(read));
        }
    }

    /// Reads a block's entries; false if it does not end with the end of one.
    fn read_entries(&mut self, mut body: &[u8]) -> bool {
        let mut last = Instant::ZERO;
        while !body.is_empty() {
            let Ok(((delta, check, event), rest)) = postcard::take_from_bytes::<(u64, [u8; 4], Event)>(body) else {
                return false;
            };
            body = rest;
            last = Instant::from_nanos(last.as_nanos().saturating_add(delta));
            if last >= Instant::END {
                return false;
            }
            self.entries.push(Entry { at: last, event, check: Check::from_bits(u32::from_le_bytes(check)) });
        }
        true
    }

    fn read_sites(&mut self, body: &[u8]) -> bool {
        match whole::<(u32, Vec<Site>)>(body) {
            Some((first, sites)) if first as usize == self.sites.len() => {
                self.sites.extend(sites);
                true
            }
            _ => false,
        }
    }
}

/// The next block, which must be of this kind.
fn first<'a>(blocks: &mut Blocks<'a>, kind: u8, part: Part, length: usize) -> Result<Block<'a>, JournalError> {
    match blocks.next() {
        Some(Ok(block)) if block.kind == kind => Ok(block),
        Some(Ok(Block { at, .. }) | Err(Bad::Corrupt { at })) => Err(JournalError::Corrupt { at, part }),
        Some(Err(Bad::Truncated { at })) => Err(JournalError::Truncated { at, part }),
        None => Err(JournalError::Truncated { at: length, part }),
    }
}

/// A value that fills a block's body.
fn whole<T: for<'de> serde::Deserialize<'de>>(body: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}

/// Why a journal cannot be used at all.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The bytes are something else.
    #[error("this is not a pgweir journal")]
    NotAJournal,
    /// The format is another.
    #[error("the journal has format version {found}, this pgweir reads version {}", FORMAT)]
    Version {
        /// Its version.
        found: u16,
    },
    /// It ends too early.
    #[error("the journal ends within {part}, at byte {at}")]
    Truncated {
        /// Where what is missing begins.
        at: usize,
        /// What that is.
        part: Part,
    },
    /// What everything else depends on is damaged.
    #[error("the journal is damaged in {part}, at byte {at}")]
    Corrupt {
        /// Where the damaged block begins.
        at: usize,
        /// What that is.
        part: Part,
    },
    /// It arrived whole and cannot be understood.
    #[error("{part} of the journal, at byte {at}, cannot be understood")]
    Unreadable {
        /// Where the block begins.
        at: usize,
        /// What that is.
        part: Part,
    },
    /// The machine in it is none that a pool can have: the journal was not written by one.
    #[error(
        "the machine in the journal, at byte {at}, is none that a pool can have: {why}; it was forged or tampered with"
    )]
    Impossible {
        /// Where its block begins.
        at: usize,
        /// What is wrong with it.
        why: String,
    },
    /// The machine in it is of a build whose machine looks otherwise.
    #[error(
        "the journal was written by a pgweir {written_by} whose state differs from that of this one ({}): \
         read it with the version that wrote it",
        env!("CARGO_PKG_VERSION")
    )]
    OtherBuild {
        /// The version that wrote it.
        written_by: String,
    },
}

/// What could not be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loss {
    /// Where, in bytes from the beginning.
    pub at: usize,
    /// From there to the end.
    pub bytes: usize,
    /// What is wrong there.
    pub what: Part,
    /// Entries before it.
    pub read: usize,
    /// Entries that are missing, if the journal's end says how many there were.
    pub missing: Option<u64>,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what {
            Part::Truncated if self.bytes == 0 => write!(f, "the journal has no end")?,
            Part::Truncated => write!(f, "the journal breaks off within the block at byte {}", self.at)?,
            Part::Corrupt => write!(f, "the journal is damaged in the block at byte {}", self.at)?,
            part => write!(f, "{part} at byte {} cannot be understood", self.at)?,
        }
        match (self.missing, self.bytes) {
            (Some(0), _) => f.write_str("; no entry is lost"),
            (Some(missing), _) => write!(f, "; {missing} entries after the first {} are lost", self.read),
            (None, 0) => write!(f, "; whatever followed its {} entries is lost", self.read),
            (None, bytes) => write!(f, "; what followed the first {} entries is lost, {bytes} bytes", self.read),
        }
    }
}

/// A part of a journal, or the end of what can be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// Where it comes from.
    Header,
    /// The machine before the first entry.
    Machine,
    /// Entries and source lines.
    Entries,
    /// The bytes break off.
    Truncated,
    /// The bytes were changed.
    Corrupt,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Header => "its header",
            Part::Machine => "the machine's state",
            Part::Entries => "a block of entries",
            Part::Truncated => "its end",
            Part::Corrupt => "damaged bytes",
        })
    }
}
