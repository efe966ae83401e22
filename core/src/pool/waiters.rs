//! The queue of acquires: first come, first served.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::event::{SiteId, WaiterId};
use super::invariants::{Held, hold};
use crate::time::Instant;

/// A queued acquire.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Waiter {
    pub(super) id: WaiterId,
    pub(super) arrival: Instant,
    pub(super) deadline: Instant,
    /// How long the lease may be held, in nanoseconds; `u64::MAX` for ever.
    pub(super) leak_after: u64,
    pub(super) site: SiteId,
}

/// Live waiters in order of id, which is the order of arrival.
///
/// A cancelled waiter in the middle leaves a gap that is dropped when it reaches the head, or when gaps outnumber
/// waiters: cancelling is O(log n) and memory stays bounded.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Waiters {
    queue: VecDeque<(WaiterId, Option<Waiter>)>,
    live: u32,
}

impl Waiters {
    pub(super) fn live(&self) -> u32 {
        self.live
    }

    /// Queues a waiter in its place by id: the end for a new one, the head for one that comes back.
    pub(super) fn insert(&mut self, waiter: Waiter) {
        match self.queue.back() {
            Some((last, _)) if *last >= waiter.id => match self.place(waiter.id) {
                Ok(place) if self.queue[place].1.is_some() => return,
                Ok(place) => self.queue[place].1 = Some(waiter),
                Err(place) => self.queue.insert(place, (waiter.id, Some(waiter))),
            },
            _ => self.queue.push_back((waiter.id, Some(waiter))),
        }
        self.live += 1;
    }

    /// Takes the waiter that is next in line.
    pub(super) fn pop(&mut self) -> Option<Waiter> {
        // The head is never a gap.
        let (_, waiter) = self.queue.pop_front()?;
        self.live -= 1;
        self.drop_gaps();
        waiter
    }

    /// Removes a waiter, wherever it stands.
    pub(super) fn remove(&mut self, id: WaiterId) -> Option<Waiter> {
        let place = self.place(id).ok()?;
        let waiter = self.queue[place].1.take()?;
        self.live -= 1;
        self.drop_gaps();
        Some(waiter)
    }

    /// All live waiters, the next in line first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Waiter> {
        self.queue.iter().filter_map(|(_, waiter)| waiter.as_ref())
    }

    /// Removes and returns the waiters that `leaves` picks, each with the number of waiters that stay ahead of it.
    pub(super) fn take_if(&mut self, mut leaves: impl FnMut(&Waiter) -> bool) -> Vec<(Waiter, u32)> {
        let mut taken = Vec::new();
        let mut ahead = 0;
        self.queue.retain(|(_, waiter)| match waiter {
            Some(waiter) if leaves(waiter) => {
                taken.push((*waiter, ahead));
                false
            }
            Some(_) => {
                ahead += 1;
                true
            }
            None => false,
        });
        self.live -= taken.len() as u32;
        taken
    }

    fn place(&self, id: WaiterId) -> Result<usize, usize> {
        self.queue.binary_search_by_key(&id, |(other, _)| *other)
    }

    /// After a waiter has left: no gap stays at the head, and not too many elsewhere.
    fn drop_gaps(&mut self) {
        while let Some((_, None)) = self.queue.front() {
            self.queue.pop_front();
        }
        if self.queue.len() > 2 * self.live as usize + 32 {
            self.queue.retain(|(_, waiter)| waiter.is_some());
        }
    }

    /// Whether the queue is what it should be.
    pub(super) fn check(&self) -> Held {
        hold!(self.iter().count() == self.live as usize, "True numbers: waiting differs from the queue");
        hold!(
            self.queue.iter().all(|(id, waiter)| waiter.is_none_or(|waiter| waiter.id == *id)),
            "FIFO: a waiter stands in another's place"
        );
        hold!(self.queue.iter().is_sorted_by(|a, b| a.0 < b.0), "FIFO: the queue is out of order");
        hold!(!matches!(self.queue.front(), Some((_, None))), "FIFO: a gap at the head");
        hold!(self.queue.len() <= 2 * self.live as usize + 33, "Bounded: cancelled waiters pile up");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(id: u64) -> Waiter {
        Waiter {
            id: WaiterId(id),
            arrival: Instant::ZERO,
            deadline: Instant::MAX,
            leak_after: u64::MAX,
            site: SiteId(0),
        }
    }

    #[test]
    fn cancelled_waiters_do_not_pile_up_behind_a_stuck_head() {
        let mut waiters = Waiters::default();
        waiters.insert(waiter(1));
        for id in 2..if cfg!(miri) { 300 } else { 10_000 } {
            waiters.insert(waiter(id));
            assert!(waiters.remove(WaiterId(id)).is_some());
            waiters.check().expect("it holds");
        }
        assert!(waiters.queue.len() < 64);
        assert_eq!(waiters.pop().map(|w| w.id), Some(WaiterId(1)));
        assert_eq!(waiters.pop(), None);
    }

    #[test]
    fn cancelled_waiters_do_not_pile_up_behind_those_that_are_served() {
        let mut waiters = Waiters::default();
        (1..=100).for_each(|id| waiters.insert(waiter(id)));
        // As many gaps as a queue of this length may have, all in the middle.
        for id in 30..90 {
            waiters.remove(WaiterId(id));
            waiters.check().expect("it holds");
        }
        for id in (1..30).chain(90..=100) {
            assert_eq!(waiters.pop().map(|w| w.id), Some(WaiterId(id)));
            waiters.check().expect("it holds");
        }
    }

    #[test]
    fn a_waiter_that_comes_back_takes_its_old_place() {
        let mut waiters = Waiters::default();
        for id in [3, 4, 5] {
            waiters.insert(waiter(id));
        }
        waiters.insert(waiter(2));
        waiters.insert(waiter(1));
        waiters.remove(WaiterId(4));
        let order: Vec<u64> = std::iter::from_fn(|| waiters.pop()).map(|w| w.id.0).collect();
        assert_eq!(order, [1, 2, 3, 5]);
    }

    #[test]
    fn a_waiter_fills_its_own_gap_and_waits_once() {
        let mut waiters = Waiters::default();
        (1..=3).for_each(|id| waiters.insert(waiter(id)));
        waiters.remove(WaiterId(2));
        waiters.insert(waiter(2));
        waiters.insert(waiter(2));
        waiters.check().expect("it is in order");
        assert_eq!(waiters.live(), 3);
        let order: Vec<u64> = std::iter::from_fn(|| waiters.pop()).map(|w| w.id.0).collect();
        assert_eq!(order, [1, 2, 3]);
    }
}
