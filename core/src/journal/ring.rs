//! The recorder: the last events of a machine in fixed memory, cheap enough to be always on.
//!
//! Two segments, each a machine and what it was told since. When one is full the other, the older, is emptied and
//! begins with the machine as it is then: so there is always one whole segment, and from its beginning all can be run
//! again. An event of the hot path is a record of 32 bytes written in place; one that holds more, a fault above all, is
//! kept as it is on the side.

use super::check::Check;
use crate::pool::{ConnId, Event, Fate, Machine, Role, ServerFacts, SiteId, WaiterId};
use crate::time::Instant;

/// An event as it is kept. A record does not straddle two cache lines.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(32))]
struct Record {
    at: u64,
    first: u64,
    second: u64,
    /// The kind in the lowest byte, 24 bits of the event's above.
    head: u32,
    check: Check,
}

const TICK: u8 = 0;
const ACQUIRE: u8 = 1;
const RELEASE: u8 = 2;
const CANCEL: u8 = 3;
const CONNECTED: u8 = 4;
const VALIDATED: u8 = 5;
const RESET: u8 = 6;
const TOUCHED: u8 = 7;
const CLOSED: u8 = 8;
/// Kept on the side.
const RARE: u8 = 9;

const FATES: [Fate; 5] = [Fate::Unused, Fate::Clean, Fate::Dirty, Fate::Broken, Fate::Discarded];
const ROLES: [Role; 3] = [Role::Unknown, Role::Primary, Role::Standby];

/// Sites beyond this number are kept on the side.
pub(crate) const SITES: u32 = 1 << 24;

/// Records a machine's events: [`begin`](Ring::begin) before each, [`finish`](Ring::finish) after it.
#[derive(Debug)]
pub(crate) struct Ring {
    current: Segment,
    older: Option<Segment>,
    /// Whether events that nobody took yet may be overwritten: not all of them were taken in time.
    broken: bool,
}

#[derive(Clone, Debug)]
struct Segment {
    records: Box<[Record]>,
    used: usize,
    rare: Vec<Event>,
    /// Before the first record.
    start: Box<Machine>,
    /// Records that were taken already.
    taken: usize,
}

impl Ring {
    /// A recorder that keeps at least the last `entries` events of `machine`, and at most twice as many. One event in
    /// four may be one that is kept on the side; are there more, fewer are kept.
    pub(crate) fn new(entries: u32, machine: &Machine) -> Self {
        Ring { current: Segment::new(entries.max(16) as usize, machine), older: None, broken: true }
    }

    /// The machine is about to be told of `event`. True if this, or what follows it, may overwrite what nobody took yet
    /// unless somebody takes it soon: a segment is full.
    #[inline(never)]
    pub(crate) fn begin(&mut self, machine: &Machine, now: Instant, event: &Event) -> bool {
        let mut turned = self.is_full();
        if turned {
            self.turn(machine);
        }
        let _place = match *event {
            Event::Acquire { waiter, deadline, leak_after: None, site } if site.0 < SITES => {
                self.put(now, ACQUIRE, site.0, waiter.0, deadline.as_nanos())
            }
            Event::Release { conn, fate, queries, fault: None } => {
                self.put(now, RELEASE, fate as u32, conn_bits(conn), queries)
            }
            Event::Tick => self.put(now, TICK, 0, 0, 0),
            Event::Cancel { waiter } => self.put(now, CANCEL, 0, waiter.0, 0),
            Event::Connected { conn, ref facts } => {
                let pid = u64::from(facts.backend_pid.cast_unsigned());
                self.put(now, CONNECTED, facts.role as u32, conn_bits(conn), pid)
            }
            Event::Validated { conn } => self.put(now, VALIDATED, 0, conn_bits(conn), 0),
            Event::Reset { conn } => self.put(now, RESET, 0, conn_bits(conn), 0),
            Event::Touched { conn } => self.put(now, TOUCHED, 0, conn_bits(conn), 0),
            Event::Closed { conn } => self.put(now, CLOSED, 0, conn_bits(conn), 0),
            ref event => {
                turned |= self.keep(machine, now, event.clone());
                None
            }
        };
        turned
    }

    /// The machine answered with `actions`, of which this is the check.
    pub(crate) fn finish(&mut self, check: Check) {
        let last = self.current.used.wrapping_sub(1);
        if let Some(record) = self.current.records.get_mut(last) {
            record.check = check;
        }
    }

    /// As [`begin`](Ring::begin) and [`finish`](Ring::finish), of an acquire that follows its pool's leak detection,
    /// while the ring is not [full](Ring::is_full): gives the place for the check. By its parts: a reference to the event
    /// would force it into memory, which costs the hot path several nanoseconds.
    #[inline(always)]
    pub(crate) fn acquire(
        &mut self,
        now: Instant,
        waiter: WaiterId,
        deadline: Instant,
        site: SiteId,
    ) -> Option<&mut Check> {
        self.put(now, ACQUIRE, site.0, waiter.0, deadline.as_nanos())
    }

    /// The same of a release without a fault.
    #[inline(always)]
    pub(crate) fn release(&mut self, now: Instant, conn: ConnId, fate: Fate, queries: u64) -> Option<&mut Check> {
        self.put(now, RELEASE, fate as u32, conn_bits(conn), queries)
    }

    /// Whether the next event needs a new segment.
    #[inline(always)]
    pub(crate) fn is_full(&self) -> bool {
        self.current.used == self.current.records.len()
    }

    #[inline(always)]
    fn put(&mut self, at: Instant, kind: u8, more: u32, first: u64, second: u64) -> Option<&mut Check> {
        let current = &mut self.current;
        let record = current.records.get_mut(current.used)?;
        let head = u32::from(kind) | more << 8;
        *record = Record { at: at.as_nanos(), first, second, head, check: Check::default() };
        current.used += 1;
        Some(&mut record.check)
    }

    #[cold]
    fn keep(&mut self, machine: &Machine, at: Instant, event: Event) -> bool {
        let full = self.current.rare.len() == self.current.records.len() / 4;
        if full {
            self.turn(machine);
        }
        let index = self.current.rare.len() as u64;
        self.current.rare.push(event);
        self.put(at, RARE, 0, index, 0);
        full
    }

    /// The current segment is full: it becomes the older one, which is emptied and goes on from here.
    #[cold]
    fn turn(&mut self, machine: &Machine) {
        let mut next = match self.older.take() {
            Some(mut older) => {
                self.broken |= older.taken < older.used;
                older.restart(machine);
                older
            }
            None => Segment::new(self.current.records.len(), machine),
        };
        std::mem::swap(&mut next, &mut self.current);
        self.older = Some(next);
    }

    /// Everything there is.
    pub(crate) fn copy(&self) -> Tape {
        let oldest = self.older.as_ref().unwrap_or(&self.current);
        let mut tape = Tape { start: Some(oldest.start.clone()), pieces: Vec::with_capacity(2) };
        tape.pieces.extend(self.older.iter().map(|older| older.piece(0)));
        tape.pieces.push(self.current.piece(0));
        tape
    }

    /// The last events, at most `limit`, without a machine to run them on.
    pub(crate) fn recent(&self, limit: usize) -> Tape {
        let current = &self.current;
        let missing = limit.saturating_sub(current.used);
        let older = self.older.iter().filter(|_| missing > 0);
        let mut pieces: Vec<Piece> = older.map(|older| older.piece(older.used.saturating_sub(missing))).collect();
        pieces.push(current.piece(current.used.saturating_sub(limit)));
        Tape { start: None, pieces }
    }

    /// What was not taken before. It begins with a machine where it does not go on from there: the first time, and
    /// after events were overwritten that nobody had taken.
    pub(crate) fn take(&mut self) -> Tape {
        let tape = if std::mem::take(&mut self.broken) {
            self.copy()
        } else {
            let older =
                self.older.iter().filter(|older| older.taken < older.used).map(|older| older.piece(older.taken));
            let mut pieces: Vec<Piece> = older.collect();
            pieces.push(self.current.piece(self.current.taken));
            Tape { start: None, pieces }
        };
        for segment in self.older.iter_mut().chain([&mut self.current]) {
            segment.taken = segment.used;
        }
        tape
    }

    /// What was taken got lost: the next begins anew.
    pub(crate) fn interrupt(&mut self) {
        self.broken = true;
    }

    /// Events that were not taken yet.
    pub(crate) fn untaken(&self) -> usize {
        self.older.iter().chain([&self.current]).map(|segment| segment.used - segment.taken).sum()
    }
}

impl Segment {
    fn new(records: usize, machine: &Machine) -> Self {
        Segment {
            records: vec![Record::default(); records].into_boxed_slice(),
            used: 0,
            rare: Vec::new(),
            start: Box::new(machine.clone()),
            taken: 0,
        }
    }

    fn restart(&mut self, machine: &Machine) {
        self.used = 0;
        self.taken = 0;
        self.rare.clear();
        (*self.start).clone_from(machine);
    }

    fn piece(&self, from: usize) -> Piece {
        let records = self.records[from..self.used].to_vec();
        let index = |record: &Record| (record.kind() == RARE).then_some(record.first as usize);
        let first = records.iter().find_map(index).unwrap_or(self.rare.len());
        Piece { records, rare: self.rare[first..].to_vec(), first_rare: first }
    }
}

/// Events as they were kept, copied out of the ring: to be made sense of without the lock.
#[derive(Clone, Debug)]
pub(crate) struct Tape {
    /// The machine before the first of them; `None` if they go on from those that were taken before.
    pub(crate) start: Option<Box<Machine>>,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug)]
struct Piece {
    records: Vec<Record>,
    rare: Vec<Event>,
    /// The index that the first of `rare` had.
    first_rare: usize,
}

impl Tape {
    /// How many events there are.
    pub(crate) fn len(&self) -> usize {
        self.pieces.iter().map(|piece| piece.records.len()).sum()
    }

    /// The events, in order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (Instant, Event, Check)> {
        self.pieces.iter().flat_map(|piece| {
            piece.records.iter().map(|record| (Instant::from_nanos(record.at), piece.event(record), record.check))
        })
    }
}

impl Piece {
    fn event(&self, record: &Record) -> Event {
        let more = record.head >> 8;
        let conn = ConnId { slot: (record.first >> 32) as u32, generation: record.first as u32 };
        let waiter = WaiterId(record.first);
        match record.kind() {
            TICK => Event::Tick,
            ACQUIRE => {
                let deadline = Instant::from_nanos(record.second);
                Event::Acquire { waiter, deadline, leak_after: None, site: SiteId(more) }
            }
            RELEASE => Event::Release { conn, fate: FATES[more as usize], queries: record.second, fault: None },
            CANCEL => Event::Cancel { waiter },
            CONNECTED => {
                let backend_pid = (record.second as u32).cast_signed();
                Event::Connected { conn, facts: ServerFacts { backend_pid, role: ROLES[more as usize] } }
            }
            VALIDATED => Event::Validated { conn },
            RESET => Event::Reset { conn },
            TOUCHED => Event::Touched { conn },
            CLOSED => Event::Closed { conn },
            _ => self.rare[record.first as usize - self.first_rare].clone(),
        }
    }
}

impl Record {
    fn kind(&self) -> u8 {
        self.head as u8
    }
}

#[inline(always)]
fn conn_bits(conn: ConnId) -> u64 {
    u64::from(conn.slot) << 32 | u64::from(conn.generation)
}
