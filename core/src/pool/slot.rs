//! The slot table: one slot per connection that may exist, and everything counted from it.
//!
//! [`Slots::put`] is the only way to change a slot, so counts, idle stack and free list cannot drift from the table.

use serde::{Deserialize, Serialize};

use super::event::{Check, CloseReason, ConnId, HostId, ResetHow, SiteId, WaiterId};
use super::invariants::{Held, hold};
use crate::time::Instant;

/// What stays true of a connection from its opening to its closing.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Life {
    /// When its connect completed.
    pub(super) opened: Instant,
    /// From when on a replacement is sought, shortly before it expires.
    pub(super) renew: Instant,
    /// From when on it is not lent any more.
    pub(super) expires: Instant,
    /// When a round trip of ours last proved it.
    pub(super) checked: Instant,
    /// Requests it has served.
    pub(super) queries: u64,
    /// The table's suspicion when it was last proved: an older one makes it suspect.
    pub(super) suspicion: u32,
    /// The pool's recycle mark when it was opened: an older one dooms it.
    pub(super) recycle: u32,
    /// Where it leads.
    pub(super) host: HostId,
    /// The session's process id on the server, 0 if unknown: for people only.
    pub(super) backend_pid: i32,
}

/// A connection's loan to one waiter, with all that is needed to put the waiter back into the queue.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Lease {
    pub(super) waiter: WaiterId,
    pub(super) site: SiteId,
    /// When it was granted.
    pub(super) since: Instant,
    /// The idle clock before the grant, for a grant that nobody saw.
    pub(super) idle_since: Instant,
    /// When the waiter asked.
    pub(super) arrival: Instant,
    /// The waiter's deadline.
    pub(super) deadline: Instant,
    /// How long it may be held, in nanoseconds; `u64::MAX` for ever.
    pub(super) leak_after: u64,
    /// When it is reported next.
    pub(super) leak_next: Instant,
    /// How often it was reported.
    pub(super) reports: u32,
}

/// One slot.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
// With a wide tag, a slot that changes state and keeps its life is changed in place. With a tag of one byte the compiler
// moves the life through the stack byte-shifted, which costs the hot path 15 ns of 90.
#[repr(u64)]
pub(super) enum Slot {
    Vacant {
        /// Whether the last connect here failed: lost capacity while the link stays bad.
        failed: bool,
    },
    Connecting {
        host: HostId,
        since: Instant,
        deadline: Instant,
        /// [`Machine::recycle`](super::machine::Machine) when it began.
        recycle: u32,
    },
    Validating {
        life: Life,
        idle_since: Instant,
        since: Instant,
        deadline: Instant,
        /// The table's suspicion when the check began: a success proves nothing about later ones.
        suspicion: u32,
        how: Check,
    },
    Idle {
        life: Life,
        since: Instant,
    },
    Lent {
        life: Life,
        lease: Lease,
    },
    Resetting {
        life: Life,
        since: Instant,
        deadline: Instant,
        suspicion: u32,
        how: ResetHow,
    },
    Closing {
        deadline: Instant,
        reason: CloseReason,
    },
}

impl Slot {
    /// Its open connection's life, if there is one that counts as open.
    pub(super) fn life(&self) -> Option<&Life> {
        match self {
            Slot::Validating { life, .. }
            | Slot::Idle { life, .. }
            | Slot::Lent { life, .. }
            | Slot::Resetting { life, .. } => Some(life),
            Slot::Vacant { .. } | Slot::Connecting { .. } | Slot::Closing { .. } => None,
        }
    }

    fn kind(&self) -> usize {
        match self {
            Slot::Vacant { .. } => VACANT,
            Slot::Connecting { .. } => CONNECTING,
            Slot::Validating { .. } => VALIDATING,
            Slot::Idle { .. } => IDLE,
            Slot::Lent { .. } => LENT,
            Slot::Resetting { .. } => RESETTING,
            Slot::Closing { .. } => CLOSING,
        }
    }
}

const VACANT: usize = 0;
const CONNECTING: usize = 1;
const VALIDATING: usize = 2;
const IDLE: usize = 3;
const LENT: usize = 4;
const RESETTING: usize = 5;
const CLOSING: usize = 6;

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Entry {
    /// How many connections the slot has held.
    generation: u32,
    slot: Slot,
}

/// The table.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Slots {
    entries: Vec<Entry>,
    /// Vacant slots, the one to use next last.
    free: Vec<u32>,
    /// Idle slots by idle clock, the longest idle first: lending from the end lets a surplus age.
    idle: Vec<u32>,
    /// How many slots are in each state.
    counts: [u32; 7],
    /// Open connections, kept beside their states' counts because the hot path asks.
    open: u32,
    /// Open connections that are not suspect.
    sound: u32,
    /// Counts the faults that made siblings suspect.
    suspicion: u32,
    /// Vacant slots whose last connect failed.
    failed: u32,
}

impl Slots {
    pub(super) fn new(max: u32) -> Self {
        let room = max.min(1024) as usize;
        Slots {
            entries: Vec::with_capacity(room),
            free: Vec::with_capacity(room),
            idle: Vec::with_capacity(room),
            counts: [0; 7],
            open: 0,
            sound: 0,
            suspicion: 0,
            failed: 0,
        }
    }

    pub(super) fn connecting(&self) -> u32 {
        self.counts[CONNECTING]
    }

    pub(super) fn validating(&self) -> u32 {
        self.counts[VALIDATING]
    }

    pub(super) fn idle(&self) -> u32 {
        self.counts[IDLE]
    }

    pub(super) fn lent(&self) -> u32 {
        self.counts[LENT]
    }

    pub(super) fn resetting(&self) -> u32 {
        self.counts[RESETTING]
    }

    pub(super) fn closing(&self) -> u32 {
        self.counts[CLOSING]
    }

    /// Connections that exist for the pool's purposes: neither being opened nor being closed.
    pub(super) fn open(&self) -> u32 {
        self.open
    }

    /// All slots that are not vacant: what counts against max_size.
    pub(super) fn total(&self) -> u32 {
        self.open() + self.connecting() + self.closing()
    }

    /// Open connections that are not suspect.
    pub(super) fn sound(&self) -> u32 {
        self.sound
    }

    /// Vacant slots whose last connect failed.
    pub(super) fn failed(&self) -> u32 {
        self.failed
    }

    /// The current suspicion.
    pub(super) fn suspicion(&self) -> u32 {
        self.suspicion
    }

    pub(super) fn is_suspect(&self, life: &Life) -> bool {
        life.suspicion != self.suspicion
    }

    /// Makes every open connection suspect.
    pub(super) fn suspect_all(&mut self) {
        self.suspicion = self.suspicion.wrapping_add(1);
        self.sound = 0;
    }

    pub(super) fn len(&self) -> u32 {
        self.entries.len() as u32
    }

    #[inline(always)]
    pub(super) fn get(&self, index: u32) -> &Slot {
        &self.entries[index as usize].slot
    }

    /// The id of the connection in slot `index`.
    #[inline(always)]
    pub(super) fn id(&self, index: u32) -> ConnId {
        ConnId { slot: index, generation: self.entries[index as usize].generation }
    }

    /// The slot that `conn` names, unless the id is stale or foreign.
    #[inline(always)]
    pub(super) fn find(&self, conn: ConnId) -> Option<&Slot> {
        let entry = self.entries.get(conn.slot as usize)?;
        (entry.generation == conn.generation).then_some(&entry.slot)
    }

    /// All slots, with their index.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Slot)> {
        self.entries.iter().enumerate().map(|(index, entry)| (index as u32, &entry.slot))
    }

    /// Idle slots, the longest idle first.
    pub(super) fn idle_stack(&self) -> &[u32] {
        &self.idle
    }

    /// Changes the lease in slot `index`, if there is one; the slot stays lent.
    pub(super) fn lease_mut(&mut self, index: u32) -> Option<(&Life, &mut Lease)> {
        match &mut self.entries[index as usize].slot {
            Slot::Lent { life, lease } => Some((life, lease)),
            _ => None,
        }
    }

    /// Takes a vacant slot for a new connection and returns its index; its generation grows.
    pub(super) fn occupy(&mut self, slot: Slot) -> u32 {
        let index = match self.free.last() {
            Some(&index) => index,
            None => {
                let index = self.entries.len() as u32;
                self.entries.push(Entry { generation: 0, slot: Slot::Vacant { failed: false } });
                self.counts[VACANT] += 1;
                self.free.push(index);
                index
            }
        };
        let entry = &mut self.entries[index as usize];
        entry.generation = entry.generation.wrapping_add(1);
        self.put(index, slot);
        index
    }

    /// Changes slot `index` and all that is counted from it.
    pub(super) fn put(&mut self, index: u32, slot: Slot) {
        let old = &self.entries[index as usize].slot;
        let (from, to) = (old.kind(), slot.kind());
        if let Some(life) = old.life() {
            self.open -= 1;
            self.sound -= u32::from(life.suspicion == self.suspicion);
        }
        match *old {
            Slot::Idle { .. } => self.leave_stack(index),
            Slot::Vacant { failed } => {
                self.failed -= u32::from(failed);
                self.leave_free(index);
            }
            _ => {}
        }
        self.counts[from] -= 1;
        self.counts[to] += 1;
        if let Some(life) = slot.life() {
            self.open += 1;
            self.sound += u32::from(life.suspicion == self.suspicion);
        }
        match slot {
            Slot::Idle { since, .. } => self.enter_stack(index, since),
            Slot::Vacant { failed } => {
                self.failed += u32::from(failed);
                self.free.push(index);
            }
            _ => {}
        }
        self.entries[index as usize].slot = slot;
    }

    /// Lends the idle slot on top of the stack: `put` for the hot path, where only two counts change.
    #[inline(always)]
    pub(super) fn lend_top(&mut self, index: u32, lease: Lease) {
        let slot = &mut self.entries[index as usize].slot;
        let Slot::Idle { life, .. } = *slot else { return };
        *slot = Slot::Lent { life, lease };
        debug_assert_eq!(self.idle.last(), Some(&index));
        self.idle.pop();
        self.counts[IDLE] -= 1;
        self.counts[LENT] += 1;
    }

    /// Puts a lent slot back on the stack: the reverse of `lend_top`.
    #[inline(always)]
    pub(super) fn take_back(&mut self, index: u32, queries: u64, since: Instant) {
        let slot = &mut self.entries[index as usize].slot;
        let Slot::Lent { mut life, .. } = *slot else { return };
        life.queries = life.queries.saturating_add(queries);
        *slot = Slot::Idle { life, since };
        self.counts[LENT] -= 1;
        self.counts[IDLE] += 1;
        self.enter_stack(index, since);
    }

    fn idle_since(&self, index: u32) -> Instant {
        match self.entries[index as usize].slot {
            Slot::Idle { since, .. } => since,
            _ => Instant::ZERO,
        }
    }

    #[inline(always)]
    fn enter_stack(&mut self, index: u32, since: Instant) {
        match self.idle.last() {
            Some(&top) if self.idle_since(top) > since => {
                let place = self.idle.partition_point(|&other| self.idle_since(other) <= since);
                self.idle.insert(place, index);
            }
            _ => self.idle.push(index),
        }
    }

    fn leave_stack(&mut self, index: u32) {
        if self.idle.last() == Some(&index) {
            self.idle.pop();
        } else if let Some(place) = self.idle.iter().rposition(|&other| other == index) {
            self.idle.remove(place);
        }
    }

    fn leave_free(&mut self, index: u32) {
        if let Some(place) = self.free.iter().rposition(|&other| other == index) {
            self.free.remove(place);
        }
    }

    /// Anything counted that differs from the table.
    pub(super) fn check(&self) -> Held {
        let mut counts = [0; 7];
        let mut sound = 0;
        let mut failed = 0;
        for entry in &self.entries {
            counts[entry.slot.kind()] += 1;
            sound += u32::from(entry.slot.life().is_some_and(|life| !self.is_suspect(life)));
            failed += u32::from(entry.slot == Slot::Vacant { failed: true });
        }
        let open = counts[VALIDATING] + counts[IDLE] + counts[LENT] + counts[RESETTING];
        hold!(open == self.open, "True numbers: open connections differ from the slot table");
        hold!(counts == self.counts, "True numbers: counts differ from the slot table");
        hold!(sound == self.sound, "True numbers: sound connections differ from the slot table");
        hold!(failed == self.failed, "True numbers: failed slots differ from the slot table");
        hold!(
            self.lists_all(&self.idle, counts[IDLE], |slot| matches!(slot, Slot::Idle { .. })),
            "True numbers: the idle stack differs from the slot table"
        );
        hold!(
            self.idle.windows(2).all(|pair| self.idle_since(pair[0]) <= self.idle_since(pair[1])),
            "True numbers: the idle stack is out of order"
        );
        hold!(
            self.lists_all(&self.free, counts[VACANT], |slot| matches!(slot, Slot::Vacant { .. })),
            "True numbers: the free list differs from the slot table"
        );
        Ok(())
    }

    /// Whether `list` has each slot that `is_one` picks once, and `count` of them.
    fn lists_all(&self, list: &[u32], count: u32, is_one: impl Fn(&Slot) -> bool) -> bool {
        let mut listed = list.to_vec();
        listed.sort_unstable();
        listed.dedup();
        let is_one = |index: &u32| self.entries.get(*index as usize).is_some_and(|entry| is_one(&entry.slot));
        listed.len() == list.len() && listed.len() == count as usize && listed.iter().all(is_one)
    }
}
