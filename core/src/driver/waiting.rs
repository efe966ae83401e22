//! The cells of queued acquires: where an answer is left for a future that is not being polled.

use std::collections::BTreeMap;
use std::task::Waker;

use super::member::Member;
use crate::error::AcquireError;
use crate::pool::WaiterId;

/// What has become of an acquire.
pub(crate) enum Outcome<C> {
    Waiting,
    Granted(Box<Member<C>>),
    Rejected(AcquireError),
}

/// A slab. A waiter's id carries the index that its cell would get, so the acquire that is granted at once never
/// touches the slab, and the one that queues is found without a search.
pub(crate) struct Cells<C> {
    cells: Vec<Cell<C>>,
    free: Vec<u32>,
    minted: u64,
    /// Waiters whose cell is not the one their id names: those that came back from a failed socket check.
    strays: BTreeMap<WaiterId, u32>,
}

struct Cell<C> {
    waiter: Option<WaiterId>,
    waker: Option<Waker>,
    outcome: Outcome<C>,
}

const INDEX_BITS: u32 = 20;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;

impl<C> Cells<C> {
    pub(crate) fn new() -> Self {
        Cells { cells: Vec::new(), free: Vec::new(), minted: 0, strays: BTreeMap::new() }
    }

    /// Cells that exist, used or not.
    #[cfg(all(test, not(pgweir_loom)))]
    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    /// A new id: larger than every one before.
    pub(crate) fn mint(&mut self) -> WaiterId {
        self.minted += 1;
        let index = self.free.last().copied().unwrap_or(self.cells.len() as u32);
        WaiterId(self.minted << INDEX_BITS | (u64::from(index) & INDEX_MASK))
    }

    /// Gives a waiter a cell.
    pub(crate) fn enqueue(&mut self, waiter: WaiterId, waker: Waker) {
        let cell = Cell { waiter: Some(waiter), waker: Some(waker), outcome: Outcome::Waiting };
        let index = match self.free.pop() {
            Some(index) => {
                self.cells[index as usize] = cell;
                index
            }
            None => {
                self.cells.push(cell);
                (self.cells.len() - 1) as u32
            }
        };
        if u64::from(index) != waiter.0 & INDEX_MASK {
            self.strays.insert(waiter, index);
        }
    }

    /// Leaves the answer and returns whom to wake; gives the answer back if nobody waits under this id.
    pub(crate) fn settle(&mut self, waiter: WaiterId, outcome: Outcome<C>) -> Result<Waker, Outcome<C>> {
        let Some(index) = self.index(waiter) else { return Err(outcome) };
        let cell = &mut self.cells[index as usize];
        match cell.waker.take() {
            Some(waker) => {
                cell.outcome = outcome;
                Ok(waker)
            }
            None => Err(outcome),
        }
    }

    /// Takes the answer, or registers the waker; what it replaces goes to `stale`, to be dropped after unlocking.
    pub(crate) fn poll(&mut self, waiter: WaiterId, waker: &Waker, stale: &mut Option<Waker>) -> Outcome<C> {
        let Some(index) = self.index(waiter) else { return Outcome::Rejected(AcquireError::Closed) };
        let cell = &mut self.cells[index as usize];
        if let Some(registered) = &mut cell.waker {
            if !registered.will_wake(waker) {
                *stale = Some(std::mem::replace(registered, waker.clone()));
            }
            return Outcome::Waiting;
        }
        self.vacate(waiter, index)
    }

    /// Takes the cell away, with what was in it.
    pub(crate) fn remove(&mut self, waiter: WaiterId, stale: &mut Option<Waker>) -> Option<Outcome<C>> {
        let index = self.index(waiter)?;
        *stale = self.cells[index as usize].waker.take();
        Some(self.vacate(waiter, index))
    }

    fn vacate(&mut self, waiter: WaiterId, index: u32) -> Outcome<C> {
        if u64::from(index) != waiter.0 & INDEX_MASK {
            self.strays.remove(&waiter);
        }
        self.free.push(index);
        let cell = &mut self.cells[index as usize];
        cell.waiter = None;
        std::mem::replace(&mut cell.outcome, Outcome::Waiting)
    }

    fn index(&self, waiter: WaiterId) -> Option<u32> {
        let named = (waiter.0 & INDEX_MASK) as u32;
        match self.cells.get(named as usize) {
            Some(cell) if cell.waiter == Some(waiter) => Some(named),
            _ => self.strays.get(&waiter).copied(),
        }
    }
}
