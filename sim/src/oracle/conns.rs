//! What every connection must be in, judged by what was said to the machine and what it asked for.

use std::time::Duration;

use pgweir_core::pool::{Check, ConnId, WaiterId};
use pgweir_core::time::Instant;

/// One connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conn {
    pub(super) generation: u32,
    /// Where it leads.
    pub(super) host: usize,
    pub(super) is: Is,
    pub(super) opened: Instant,
    /// When its last lease ended, or when it was opened.
    pub(super) idle_since: Instant,
    /// When the server last answered on it.
    pub(super) proved: Instant,
    /// Whether it was used since, in no time perhaps.
    pub(super) used: bool,
    pub(super) queries: u64,
    /// Which faults it has been proved after.
    pub(super) suspicion: u32,
    /// Which recycles its connect began after.
    pub(super) recycle: u32,
}

/// What a connection is in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Is {
    Vacant,
    Connecting {
        since: Instant,
        deadline: Instant,
    },
    Idle,
    Validating {
        since: Instant,
        deadline: Instant,
        how: Check,
        suspicion: u32,
    },
    Lent(Lease),
    /// Back from a lease that it must be reset after: the next action must be about it.
    Returned,
    Resetting {
        since: Instant,
        deadline: Instant,
        suspicion: u32,
    },
    /// It has failed: the next action must be to close it.
    Dead,
    Closing {
        deadline: Instant,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Lease {
    pub(super) waiter: WaiterId,
    pub(super) arrival: Instant,
    pub(super) deadline: Instant,
    pub(super) since: Instant,
    pub(super) leak_after: Duration,
    pub(super) reports: u32,
}

const VACANT: usize = 0;
const CONNECTING: usize = 1;
const IDLE: usize = 2;
const VALIDATING: usize = 3;
const LENT: usize = 4;
const RETURNED: usize = 5;
const RESETTING: usize = 6;
const DEAD: usize = 7;
const CLOSING: usize = 8;

impl Is {
    fn kind(&self) -> usize {
        match self {
            Is::Vacant => VACANT,
            Is::Connecting { .. } => CONNECTING,
            Is::Idle => IDLE,
            Is::Validating { .. } => VALIDATING,
            Is::Lent(_) => LENT,
            Is::Returned => RETURNED,
            Is::Resetting { .. } => RESETTING,
            Is::Dead => DEAD,
            Is::Closing { .. } => CLOSING,
        }
    }

    fn is_open(&self) -> bool {
        matches!(self, Is::Idle | Is::Validating { .. } | Is::Lent(_) | Is::Returned | Is::Resetting { .. })
    }

    /// When it is over by itself.
    fn deadline(&self) -> Instant {
        match self {
            Is::Connecting { deadline, .. }
            | Is::Validating { deadline, .. }
            | Is::Resetting { deadline, .. }
            | Is::Closing { deadline } => *deadline,
            _ => Instant::MAX,
        }
    }

    fn leak_due(&self) -> Instant {
        match self {
            Is::Lent(lease) if lease.reports == 0 => lease.since + lease.leak_after,
            _ => Instant::MAX,
        }
    }
}

/// What is over because it took too long.
#[derive(Debug, Default)]
pub(super) struct Expired {
    /// To which host the connects went, and when they started.
    pub(super) connects: Vec<(usize, Instant)>,
    /// Where the connections lead whose check failed, and when they were opened.
    pub(super) lives: Vec<(usize, Instant)>,
    /// When the connections were opened that could not be reset.
    pub(super) resets: Vec<Instant>,
}

/// All connections, by slot.
#[derive(Clone, Debug, Default)]
pub(super) struct Conns {
    table: Vec<Conn>,
    counts: [u32; 9],
    sound: u32,
    pub(super) suspicion: u32,
    pub(super) recycle: u32,
    /// Nothing is over by itself earlier.
    due: Instant,
    /// No lease needs a leak report earlier.
    pub(super) leak_due: Instant,
    /// No idle connection is worn out earlier, unless it is being seen to.
    pub(super) worn_from: Instant,
}

impl Conns {
    pub(super) fn get(&self, id: ConnId) -> Option<&Conn> {
        self.table.get(id.slot as usize).filter(|conn| conn.generation == id.generation)
    }

    /// What the connection is in; nothing if the id is stale or foreign.
    pub(super) fn is(&self, id: ConnId) -> Is {
        self.get(id).map_or(Is::Vacant, |conn| conn.is)
    }

    /// Where a connection leads.
    pub(super) fn host(&self, id: ConnId) -> usize {
        self.get(id).map_or(0, |conn| conn.host)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ConnId, &Conn)> {
        self.table.iter().enumerate().map(|(slot, conn)| {
            let id = ConnId { slot: slot as u32, generation: conn.generation };
            (id, conn)
        })
    }

    pub(super) fn connecting(&self) -> u32 {
        self.counts[CONNECTING]
    }

    pub(super) fn idle(&self) -> u32 {
        self.counts[IDLE]
    }

    pub(super) fn validating(&self) -> u32 {
        self.counts[VALIDATING]
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

    /// Connections that something must happen to before the step is over.
    pub(super) fn unfinished(&self) -> u32 {
        self.counts[RETURNED] + self.counts[DEAD]
    }

    pub(super) fn open(&self) -> u32 {
        self.idle() + self.validating() + self.lent() + self.resetting() + self.counts[RETURNED]
    }

    pub(super) fn total(&self) -> u32 {
        self.open() + self.connecting() + self.closing() + self.counts[DEAD]
    }

    /// Open connections that no fault has cast doubt on.
    pub(super) fn sound(&self) -> u32 {
        self.sound
    }

    /// A new connection; false if its id is not new or its slot is taken.
    pub(super) fn add(&mut self, id: ConnId, host: usize, since: Instant, deadline: Instant) -> bool {
        let slot = id.slot as usize;
        while self.table.len() <= slot {
            self.counts[VACANT] += 1;
            self.table.push(Conn {
                generation: 0,
                host: 0,
                is: Is::Vacant,
                opened: Instant::ZERO,
                idle_since: Instant::ZERO,
                proved: Instant::ZERO,
                used: false,
                queries: 0,
                suspicion: 0,
                recycle: 0,
            });
        }
        let conn = &mut self.table[slot];
        if conn.is != Is::Vacant || id.generation <= conn.generation {
            return false;
        }
        (conn.generation, conn.host, conn.recycle) = (id.generation, host, self.recycle);
        self.put(id, Is::Connecting { since, deadline });
        true
    }

    /// Its connect succeeded.
    pub(super) fn opened(&mut self, id: ConnId, now: Instant) {
        let suspicion = self.suspicion;
        self.change(id, |conn| {
            (conn.opened, conn.idle_since, conn.proved) = (now, now, now);
            (conn.queries, conn.used, conn.suspicion) = (0, false, suspicion);
            conn.is = Is::Idle;
        });
    }

    pub(super) fn put(&mut self, id: ConnId, is: Is) {
        self.change(id, |conn| conn.is = is);
    }

    pub(super) fn change(&mut self, id: ConnId, change: impl FnOnce(&mut Conn)) {
        let Some(conn) = self.table.get_mut(id.slot as usize).filter(|conn| conn.generation == id.generation) else {
            return;
        };
        self.counts[conn.is.kind()] -= 1;
        self.sound -= u32::from(conn.is.is_open() && conn.suspicion == self.suspicion);
        change(conn);
        self.counts[conn.is.kind()] += 1;
        self.sound += u32::from(conn.is.is_open() && conn.suspicion == self.suspicion);
        self.due = self.due.min(conn.is.deadline());
        self.leak_due = self.leak_due.min(conn.is.leak_due());
    }

    /// It died. If nothing spoke against it before, its siblings are in doubt from now on.
    pub(super) fn died(&mut self, id: ConnId) {
        let Some(conn) = self.get(id) else { return };
        let was_sound = conn.suspicion == self.suspicion;
        self.put(id, Is::Dead);
        if was_sound {
            self.doubt();
        }
    }

    /// What is open or on its way is to be replaced.
    pub(super) fn recycle(&mut self) {
        self.recycle += 1;
        self.worn_from = Instant::ZERO;
    }

    /// Nothing that is open is above suspicion any more.
    pub(super) fn doubt(&mut self) {
        self.suspicion += 1;
        self.sound = 0;
    }

    /// Something that should have been given up before `now`.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<(ConnId, Is)> {
        if now <= self.due {
            return None;
        }
        let late = self.iter().find(|(_, conn)| conn.is.deadline() < now).map(|(id, conn)| (id, conn.is));
        if late.is_none() {
            self.due = self.table.iter().map(|conn| conn.is.deadline()).min().unwrap_or(Instant::MAX);
        }
        late
    }

    /// What is over by itself at `now`: checks and resets have failed, closed slots are free.
    pub(super) fn expire(&mut self, now: Instant) -> Expired {
        let mut expired = Expired::default();
        if now < self.due {
            return expired;
        }
        self.due = Instant::MAX;
        for slot in 0..self.table.len() {
            let conn = &self.table[slot];
            let id = ConnId { slot: slot as u32, generation: conn.generation };
            if conn.is.deadline() > now {
                self.due = self.due.min(conn.is.deadline());
                continue;
            }
            match conn.is {
                Is::Connecting { since, .. } => {
                    let host = conn.host;
                    expired.connects.push((host, since));
                    self.put(id, Is::Dead);
                }
                Is::Validating { .. } => {
                    expired.lives.push((conn.host, conn.opened));
                    self.died(id);
                }
                Is::Resetting { .. } => {
                    expired.resets.push(conn.opened);
                    self.put(id, Is::Dead);
                }
                Is::Closing { .. } => self.put(id, Is::Vacant),
                _ => {}
            }
        }
        expired
    }

    /// Whether a check or a reset is under way for longer than `patience`.
    pub(super) fn is_kept_waiting(&self, now: Instant, patience: Duration) -> bool {
        self.table.iter().any(|conn| match conn.is {
            Is::Validating { since, .. } | Is::Resetting { since, .. } => now - since > patience,
            _ => false,
        })
    }

    /// Everything is gone.
    pub(super) fn clear(&mut self) {
        for slot in 0..self.table.len() {
            let id = ConnId { slot: slot as u32, generation: self.table[slot].generation };
            self.put(id, Is::Vacant);
        }
    }

    /// A lease that should have been reported by `now`, if there is one.
    pub(super) fn unreported(&mut self, now: Instant) -> Option<(ConnId, Lease)> {
        if now <= self.leak_due {
            return None;
        }
        let late = self.iter().find_map(|(id, conn)| match conn.is {
            Is::Lent(lease) if conn.is.leak_due() < now => Some((id, lease)),
            _ => None,
        });
        if late.is_none() {
            self.leak_due = self.table.iter().map(|conn| conn.is.leak_due()).min().unwrap_or(Instant::MAX);
        }
        late
    }
}
