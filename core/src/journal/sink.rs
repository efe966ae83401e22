//! Where a pool's journals go.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::header::{Header, Site};
use super::ring::Tape;
use super::write::Writer;

/// What a pool records and where that goes. The default records and has no sink:
/// [`Pool::journal`](crate::driver::Pool::journal) gets it out.
#[derive(Clone)]
pub struct JournalOptions {
    pub(crate) entries: u32,
    pub(crate) interval: Duration,
    pub(crate) sink: Option<Arc<dyn JournalSink>>,
}

impl Default for JournalOptions {
    fn default() -> Self {
        JournalOptions { entries: 4096, interval: Duration::from_secs(60), sink: None }
    }
}

impl JournalOptions {
    /// The default: at least the last 4,096 events are kept, and nobody is handed them unasked.
    pub fn new() -> Self {
        JournalOptions::default()
    }

    /// Nothing is recorded.
    pub fn off() -> Self {
        JournalOptions { entries: 0, ..JournalOptions::default() }
    }

    /// Keeps at least the last `entries` events and at most twice as many. Default: 4,096. Range: 16 to 1,048,576, or 0
    /// for off; what is outside is brought inside.
    ///
    /// An event takes 32 bytes of memory twice over (256 KiB in all by default); beside them there are two copies of
    /// the pool's own state, and one event in four may hold a fault. A busy pool has two events per acquire, so the
    /// default covers the last 2,048 to 4,096 acquires.
    ///
    /// An event of the hot path costs about 3 ns. Once in `entries` events the pool's state is copied under the lock:
    /// half a microsecond for a pool of 10, five for one of 1,000.
    #[must_use]
    pub fn entries(mut self, entries: u32) -> Self {
        self.entries = if entries == 0 { 0 } else { entries.clamp(16, 1 << 20) };
        self
    }

    /// Hands `sink` a journal when the pool turns unhealthy and when an acquire times out, and all events as they
    /// happen if it [wants](JournalSink::is_continuous) them.
    #[must_use]
    pub fn sink(mut self, sink: Arc<dyn JournalSink>) -> Self {
        self.sink = Some(sink);
        self
    }

    /// How far apart two journals for the same reason are at least: an outage makes many acquires time out. Default:
    /// one minute.
    #[must_use]
    pub fn at_most_every(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }
}

impl fmt::Debug for JournalOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalOptions")
            .field("entries", &self.entries)
            .field("interval", &self.interval)
            .field("sink", &self.sink.is_some())
            .finish()
    }
}

/// Takes a pool's journals.
///
/// Called by the pool's background task, after unlocking. That task is the only one the pool has: an implementation must
/// not block, so it hands on what it gets to a thread or a task of its own, where the bytes are made as well.
pub trait JournalSink: Send + Sync {
    /// Something happened: the recent past, as far as it is kept.
    fn dump(&self, dump: Dump);

    /// Whether [`append`](JournalSink::append) is to be called. Asked once per pool.
    fn is_continuous(&self) -> bool {
        false
    }

    /// What happened since the last call, for a sink that wants everything. False if it is not taken: a chunk that
    /// follows does not go on from one that is missing, so the next one [begins](Chunk::begins) a journal.
    fn append(&self, _chunk: Chunk) -> bool {
        true
    }
}

/// The recent past of a pool, taken out at one moment.
#[derive(Clone)]
pub struct Dump {
    pub(crate) header: Header,
    pub(crate) tape: Tape,
    pub(crate) sites: Vec<&'static Location<'static>>,
}

impl Dump {
    /// Where it comes from and why.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How many events it holds.
    pub fn entries(&self) -> usize {
        self.tape.len()
    }

    /// The journal: [`Journal::read`](super::Journal::read) reads it. Takes about a millisecond per 8,192 events.
    pub fn to_bytes(&self) -> Vec<u8> {
        let chunk = Chunk {
            pool: 0,
            begins: Some(self.header.clone()),
            tape: self.tape.clone(),
            sites: self.sites.clone(),
            ends: true,
        };
        Stream::new().add(&chunk)
    }
}

impl fmt::Debug for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dump").field("why", &self.header.why).field("entries", &self.entries()).finish_non_exhaustive()
    }
}

/// What a pool did since the last chunk.
#[derive(Clone)]
pub struct Chunk {
    pub(crate) pool: u64,
    /// Set where a journal begins: the first time, and after events that were overwritten before anybody took them.
    pub(crate) begins: Option<Header>,
    pub(crate) tape: Tape,
    /// Source lines that are new since the last chunk.
    pub(crate) sites: Vec<&'static Location<'static>>,
    /// Whether the pool has ended.
    pub(crate) ends: bool,
}

impl Chunk {
    /// Tells the pools of one sink apart: a number that no other pool of this process has.
    pub fn pool(&self) -> u64 {
        self.pool
    }

    /// Where a journal begins, its header: bytes from here on belong to another one than those before.
    pub fn begins(&self) -> Option<&Header> {
        self.begins.as_ref()
    }

    /// Whether the journal ends with this chunk: the pool has ended.
    pub fn ends(&self) -> bool {
        self.ends
    }

    /// How many events it holds.
    pub fn entries(&self) -> usize {
        self.tape.len()
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunk")
            .field("begins", &self.begins.is_some())
            .field("entries", &self.entries())
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}

/// Makes bytes of one pool's chunks.
#[derive(Debug, Default)]
pub struct Stream {
    writer: Option<Writer>,
}

impl Stream {
    /// For the chunks of a pool from its first.
    pub fn new() -> Self {
        Stream::default()
    }

    /// The bytes to append for `chunk`; where one [begins](Chunk::begins) a journal, to append to a new file.
    pub fn add(&mut self, chunk: &Chunk) -> Vec<u8> {
        if let (Some(header), Some(start)) = (&chunk.begins, &chunk.tape.start) {
            self.writer = Some(Writer::new(header, start));
        }
        let Some(writer) = &mut self.writer else { return Vec::new() };
        let sites: Vec<Site> = chunk.sites.iter().map(|location| Site::from(*location)).collect();
        writer.sites(&sites);
        chunk.tape.entries().for_each(|(at, event, check)| writer.entry(at, &event, check));
        if chunk.ends { self.writer.take().map(Writer::finish).unwrap_or_default() } else { writer.take() }
    }
}
