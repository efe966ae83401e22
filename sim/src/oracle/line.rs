//! Who waits, in order of arrival.

use std::collections::VecDeque;
use std::time::Duration;

use pgweir_core::pool::WaiterId;
use pgweir_core::time::Instant;

/// An acquire without an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Asker {
    pub(super) id: WaiterId,
    pub(super) arrival: Instant,
    pub(super) deadline: Instant,
    /// How long its lease may be held; `Duration::MAX` for ever.
    pub(super) leak_after: Duration,
}

/// Live askers in order of id. One that leaves from the middle leaves a gap.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    line: VecDeque<(WaiterId, Option<Asker>)>,
    live: u32,
    /// No deadline is earlier.
    due: Instant,
    /// Who came last, and what `due` was before: most of those whose deadline is the earliest leave at once.
    last: Option<(WaiterId, Instant)>,
}

impl Line {
    pub(super) fn live(&self) -> u32 {
        self.live
    }

    /// Takes a place by id: the end for a new one, an earlier one for who comes back.
    pub(super) fn join(&mut self, asker: Asker) {
        let before = if self.live == 0 { Instant::MAX } else { self.due };
        self.last = Some((asker.id, before));
        self.due = before.min(asker.deadline);
        self.live += 1;
        match self.line.back() {
            Some((last, _)) if *last >= asker.id => match self.line.binary_search_by_key(&asker.id, |(id, _)| *id) {
                Ok(place) => self.line[place].1 = Some(asker),
                Err(place) => self.line.insert(place, (asker.id, Some(asker))),
            },
            _ => self.line.push_back((asker.id, Some(asker))),
        }
    }

    /// Who is next.
    pub(super) fn first(&self) -> Option<&Asker> {
        // The head is never a gap.
        self.line.front().and_then(|(_, asker)| asker.as_ref())
    }

    pub(super) fn leave(&mut self, id: WaiterId) -> Option<Asker> {
        let asker = match self.line.front_mut() {
            Some((first, asker)) if *first == id => asker.take(),
            _ => {
                let place = self.line.binary_search_by_key(&id, |(id, _)| *id).ok()?;
                self.line[place].1.take()
            }
        }?;
        self.live -= 1;
        if let Some((_, before)) = self.last.take_if(|(last, _)| *last == id) {
            self.due = before;
        }
        while let Some((_, None)) = self.line.front() {
            self.line.pop_front();
        }
        Some(asker)
    }

    /// Somebody whose deadline has passed.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<Asker> {
        if self.live == 0 || self.due >= now {
            return None;
        }
        let askers = || self.line.iter().filter_map(|(_, asker)| asker.as_ref());
        if let Some(late) = askers().find(|asker| asker.deadline < now) {
            return Some(*late);
        }
        self.due = askers().map(|asker| asker.deadline).min().unwrap_or(Instant::MAX);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(id: u64) -> Asker {
        Asker { id: WaiterId(id), arrival: Instant::ZERO, deadline: Instant::from_secs(id), leak_after: Duration::MAX }
    }

    #[test]
    fn order_is_kept_and_the_overdue_are_found() {
        let mut line = Line::default();
        for id in [2, 3, 4, 1] {
            line.join(asker(id));
        }
        assert_eq!(line.leave(WaiterId(3)).map(|a| a.id.0), Some(3));
        assert_eq!(line.leave(WaiterId(3)), None);
        assert_eq!(line.overdue(Instant::from_secs(1)), None);
        assert_eq!(line.overdue(Instant::from_secs(2)).map(|a| a.id.0), Some(1));
        assert_eq!(line.leave(WaiterId(1)).map(|a| a.id.0), Some(1));
        assert_eq!(line.first().map(|a| a.id.0), Some(2));
        assert_eq!(line.overdue(Instant::from_secs(2)), None);
        assert_eq!(line.live(), 2);
    }

    #[test]
    fn who_comes_and_goes_at_once_leaves_the_others_deadlines_as_they_were() {
        let mut line = Line::default();
        line.join(asker(5));
        line.join(Asker { deadline: Instant::ZERO, ..asker(6) });
        assert_eq!(line.overdue(Instant::from_secs(1)).map(|a| a.id.0), Some(6));
        assert!(line.leave(WaiterId(6)).is_some());
        assert_eq!((line.due, line.overdue(Instant::from_secs(5))), (Instant::from_secs(5), None));
        line.join(Asker { deadline: Instant::from_secs(2), ..asker(7) });
        line.join(asker(8));
        line.leave(WaiterId(8));
        assert_eq!(line.overdue(Instant::from_secs(3)).map(|a| a.id.0), Some(7));
    }
}
