//! What is to happen, in order of time, and in order of arrival where the times are equal.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use pgweir_core::time::Instant;

#[derive(Debug)]
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    next: u64,
}

#[derive(Debug)]
struct Entry<T> {
    at: Instant,
    order: u64,
    what: T,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Queue { heap: BinaryHeap::new(), next: 0 }
    }

    pub(crate) fn push(&mut self, at: Instant, what: T) {
        // What never happens need not be kept.
        if at < Instant::MAX {
            self.heap.push(Reverse(Entry { at, order: self.next, what }));
            self.next += 1;
        }
    }

    /// When the next thing happens.
    pub(crate) fn next_at(&self) -> Instant {
        self.heap.peek().map_or(Instant::MAX, |Reverse(entry)| entry.at)
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        self.heap.pop().map(|Reverse(entry)| entry.what)
    }
}

impl<T> Entry<T> {
    /// The time, then the order. One number, because it is compared without a branch: a heap's branches are as good as
    /// random.
    fn key(&self) -> u128 {
        (u128::from(self.at.as_nanos()) << 64) | u128::from(self.order)
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }

    fn lt(&self, other: &Self) -> bool {
        self.key() < other.key()
    }

    fn le(&self, other: &Self) -> bool {
        self.key() <= other.key()
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_times_keep_their_order_and_never_is_not_kept() {
        let mut queue = Queue::new();
        for (at, what) in [(2, "c"), (1, "a"), (2, "d"), (1, "b")] {
            queue.push(Instant::from_secs(at), what);
        }
        queue.push(Instant::MAX, "never");
        assert_eq!(queue.next_at(), Instant::from_secs(1));
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, ["a", "b", "c", "d"]);
    }
}
