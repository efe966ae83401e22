//! Requests: when they came, how long they were ready to wait, how long they held what they got.

use std::collections::BTreeMap;
use std::time::Duration;

use pgweir_core::pool::{Action, ConnId, Event, Fate, Reject, WaiterId};
use pgweir_core::time::Instant;

use super::super::History;
use super::super::history::Step;
use super::{Hold, Origin, Patience, Request};

/// A deadline this little before the pool's own is the pool's own: it was reckoned a moment before it was recorded.
const A_MOMENT: Duration = Duration::from_millis(1);

/// Follows the requests.
#[derive(Debug)]
pub(super) struct Requests {
    all: Vec<Request>,
    begins: Instant,
    acquire_timeout: Duration,
    /// Those without an answer.
    waiting: BTreeMap<WaiterId, usize>,
    /// Those that hold a connection, and since when.
    lent: BTreeMap<ConnId, (WaiterId, usize, Instant)>,
    /// How many were lent, and how many waited, before the first step and are not known one by one.
    lent_before: u32,
    waiting_before: u32,
    /// Every waiter that asked within the history is not below this.
    first: Option<WaiterId>,
}

impl Requests {
    pub(super) fn new(history: &History) -> Self {
        Requests {
            all: Vec::new(),
            begins: history.begins(),
            acquire_timeout: history.config.acquire_timeout(),
            waiting: BTreeMap::new(),
            lent: BTreeMap::new(),
            lent_before: history.counts.active,
            waiting_before: history.counts.waiting,
            first: None,
        }
    }

    pub(super) fn event(&mut self, step: &Step) {
        let at = step.at;
        match &step.event {
            &Event::Acquire { waiter, deadline, leak_after, site } => {
                self.first.get_or_insert(waiter);
                let own = deadline - at;
                let short_of = self.acquire_timeout.checked_sub(own);
                let patience = match short_of {
                    Some(short) if short <= A_MOMENT && !own.is_zero() => Patience::Pool,
                    _ => Patience::Own(own),
                };
                self.waiting.insert(waiter, self.all.len());
                self.all.push(Request { patience, leak_after, site: site.0, ..request(at) });
            }
            Event::Cancel { waiter } => {
                if let Some(index) = self.leaves(*waiter) {
                    let request = &mut self.all[index];
                    request.cancel = Some(at - request.at);
                }
            }
            Event::CheckFailed { conn, .. } => {
                if let Some((waiter, index, _)) = self.lent.remove(conn) {
                    self.waiting.insert(waiter, index);
                }
            }
            &Event::Release { conn, fate, queries, .. } => self.released(at, conn, fate, queries),
            _ => {}
        }
    }

    fn released(&mut self, at: Instant, conn: ConnId, fate: Fate, queries: u64) {
        let (index, since) = match self.lent.remove(&conn) {
            Some((_, index, since)) => (index, since),
            // Granted before the history began, or closed under its holder already.
            None if self.lent_before > 0 => {
                self.lent_before -= 1;
                self.all.push(Request { origin: Origin::Lent, ..request(self.begins) });
                (self.all.len() - 1, self.begins)
            }
            None => return,
        };
        let request = &mut self.all[index];
        request.queries = queries;
        if fate == Fate::Unused {
            request.cancel = Some(at - request.at);
        } else {
            (request.hold, request.fate) = (Hold::Seen(at - since), fate);
            request.broke = (fate == Fate::Broken).then_some(conn);
        }
    }

    /// A waiter has its answer or is gone. One that is not known waited when the history began.
    fn leaves(&mut self, waiter: WaiterId) -> Option<usize> {
        if let Some(index) = self.waiting.remove(&waiter) {
            return Some(index);
        }
        if self.waiting_before == 0 || self.first.is_some_and(|first| waiter >= first) {
            return None;
        }
        self.waiting_before -= 1;
        self.all.push(Request { origin: Origin::Waiting, ..request(self.begins) });
        Some(self.all.len() - 1)
    }

    pub(super) fn action(&mut self, at: Instant, action: &Action) {
        match action {
            Action::Grant { waiter, conn } => {
                if let Some(index) = self.leaves(*waiter) {
                    self.lent.insert(*conn, (*waiter, index, at));
                }
            }
            Action::Reject { waiter, reason } => {
                if let Some(index) = self.leaves(*waiter) {
                    let request = &mut self.all[index];
                    if request.origin == Origin::Waiting && matches!(reason, Reject::Timeout(_)) {
                        request.patience = Patience::Own(at - request.at);
                    }
                }
            }
            // A shutdown cuts leases off.
            Action::Close { conn, .. } => {
                if let Some((_, index, since)) = self.lent.remove(conn) {
                    self.all[index].hold = Hold::Cut(at - since);
                }
            }
            _ => {}
        }
    }

    /// All requests in order of arrival.
    pub(super) fn finish(mut self, ends: Instant) -> Vec<Request> {
        for (_, index, since) in std::mem::take(&mut self.lent).into_values() {
            self.all[index].hold = Hold::Unfinished(ends - since);
        }
        // What was lent at the beginning and never came back was held all the time.
        for _ in 0..self.lent_before {
            let hold = Hold::Unfinished(ends - self.begins);
            self.all.push(Request { origin: Origin::Lent, hold, ..request(self.begins) });
        }
        for _ in 0..self.waiting_before {
            self.all.push(Request { origin: Origin::Waiting, ..request(self.begins) });
        }
        self.all.sort_by_key(|request| (request.at, request.origin));
        self.all
    }
}

fn request(at: Instant) -> Request {
    Request {
        at,
        origin: Origin::Made,
        patience: Patience::Pool,
        leak_after: None,
        site: 0,
        hold: Hold::Unknown,
        fate: Fate::Clean,
        queries: 0,
        cancel: None,
        broke: None,
    }
}
