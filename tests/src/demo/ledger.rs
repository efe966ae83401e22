//! The books: every request that was begun, and what became of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::screen::count;

/// Why a request failed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Cause {
    /// The query was under way when its connection ended.
    InFlight,
    /// No connection: the database is down, and the pool said so.
    Unavailable,
    /// No connection within the acquire's time.
    Timeout,
    /// No connection: too many were waiting.
    QueueFull,
    /// No connection: the pool was closed.
    Closed,
    /// The server, or this side of the wire, refused the query.
    Refused,
    /// An answer that is not the query's.
    WrongAnswer,
}

impl Cause {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Cause::InFlight => "cut off in flight",
            Cause::Unavailable => "told: unavailable",
            Cause::Timeout => "acquire timed out",
            Cause::QueueFull => "queue full",
            Cause::Closed => "pool closed",
            Cause::Refused => "query refused",
            Cause::WrongAnswer => "wrong answer",
        }
    }
}

/// One set of books, shared by all who make requests.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Account>>);

/// What the books say.
#[derive(Clone, Default)]
pub(crate) struct Account {
    /// Requests begun.
    pub(crate) started: u64,
    /// Time from begin to answer of each that was answered, in microseconds.
    pub(crate) latencies: Vec<u32>,
    /// Those that failed.
    pub(crate) failed: BTreeMap<Cause, Failures>,
    /// Each query that was cut off, since those are few.
    pub(crate) cut_off: Vec<CutOff>,
    /// When the last answer came.
    pub(crate) last_answer: Option<Instant>,
    /// The first answer to a request that was begun after [`Ledger::mark`].
    pub(crate) first_answer: Option<Instant>,
    mark: Option<Instant>,
}

/// The failures of one cause.
#[derive(Clone)]
pub(crate) struct Failures {
    /// How many.
    pub(crate) count: u64,
    /// The longest from begin to failure.
    pub(crate) slowest: Duration,
    /// The begin of the one that was begun last.
    pub(crate) last_begun: Instant,
    /// What the last of them was told.
    pub(crate) example: String,
}

/// A query that was cut off.
#[derive(Clone, Debug)]
pub(crate) struct CutOff {
    /// When its connection was granted.
    pub(crate) granted: Instant,
    /// When it failed and its lease had gone back to the pool.
    pub(crate) returned: Instant,
    /// The error.
    pub(crate) message: String,
}

/// A request under way. One that is dropped without an outcome stays unaccounted for.
#[must_use = "it must come to an end"]
pub(crate) struct Request {
    ledger: Ledger,
    begun: Instant,
}

impl Ledger {
    pub(crate) fn begin(&self) -> Request {
        self.lock().started += 1;
        Request { ledger: self.clone(), begun: Instant::now() }
    }

    /// From now on the first answer is looked for.
    pub(crate) fn mark(&self) {
        let mut books = self.lock();
        (books.mark, books.first_answer) = (Some(Instant::now()), None);
    }

    pub(crate) fn first_answer(&self) -> Option<Instant> {
        self.lock().first_answer
    }

    pub(crate) fn answered(&self) -> u64 {
        self.lock().latencies.len() as u64
    }

    pub(crate) fn failed(&self) -> u64 {
        self.lock().failures()
    }

    pub(crate) fn account(&self) -> Account {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Account> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Request {
    pub(crate) fn answered(self) {
        let now = Instant::now();
        let took = now - self.begun;
        let mut books = self.ledger.lock();
        books.latencies.push(took.as_micros().try_into().unwrap_or(u32::MAX));
        books.last_answer = Some(now);
        if books.first_answer.is_none() && books.mark.is_some_and(|mark| mark <= self.begun) {
            books.first_answer = Some(now);
        }
    }

    /// `granted`: when it got a connection, if it did.
    pub(crate) fn failed(self, cause: Cause, granted: Option<Instant>, message: String) {
        let now = Instant::now();
        let mut books = self.ledger.lock();
        if let (Cause::InFlight, Some(granted)) = (cause, granted) {
            books.cut_off.push(CutOff { granted, returned: now, message: message.clone() });
        }
        let entry = books.failed.entry(cause).or_insert_with(|| Failures {
            count: 0,
            slowest: Duration::ZERO,
            last_begun: self.begun,
            example: String::new(),
        });
        entry.count += 1;
        entry.slowest = entry.slowest.max(now - self.begun);
        entry.last_begun = entry.last_begun.max(self.begun);
        entry.example = message;
    }
}

impl Account {
    pub(crate) fn answered(&self) -> u64 {
        self.latencies.len() as u64
    }

    pub(crate) fn failures(&self) -> u64 {
        self.failed.values().map(|failures| failures.count).sum()
    }

    pub(crate) fn of(&self, cause: Cause) -> u64 {
        self.failed.get(&cause).map_or(0, |failures| failures.count)
    }

    /// Begun, but neither answered nor failed. None, once all callers are done.
    pub(crate) fn unaccounted(&self) -> u64 {
        self.started.saturating_sub(self.answered() + self.failures())
    }

    /// `6 cut off in flight, 200 told: unavailable`.
    pub(crate) fn causes(&self) -> String {
        let each = self.failed.iter().map(|(cause, failures)| format!("{} {}", count(failures.count), cause.name()));
        each.collect::<Vec<_>>().join(", ")
    }

    /// Times within which 50, 95 and 99 of 100 answers came, and all of them.
    pub(crate) fn percentiles(&self) -> [Duration; 4] {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        [50, 95, 99, 100].map(|percent| {
            let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
            Duration::from_micros(sorted.get(rank).copied().unwrap_or_default().into())
        })
    }

    /// Adds another set of books.
    pub(crate) fn add(&mut self, other: &Account) {
        self.started += other.started;
        self.latencies.extend(&other.latencies);
        for (cause, failures) in &other.failed {
            match self.failed.get_mut(cause) {
                Some(sum) => {
                    sum.count += failures.count;
                    sum.slowest = sum.slowest.max(failures.slowest);
                }
                None => drop(self.failed.insert(*cause, failures.clone())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_answered_failed_or_missed() {
        let ledger = Ledger::default();
        ledger.begin().answered();
        ledger.begin().failed(Cause::Timeout, None, "late".into());
        ledger.begin().failed(Cause::InFlight, Some(Instant::now()), "cut".into());
        drop(ledger.begin());
        let account = ledger.account();
        assert_eq!((account.started, account.answered(), account.failures()), (4, 1, 2));
        assert_eq!(account.unaccounted(), 1);
        assert_eq!(account.causes(), "1 cut off in flight, 1 acquire timed out");
        assert_eq!(account.cut_off.len(), 1);
        let mut sum = account.clone();
        sum.add(&account);
        assert_eq!((sum.started, sum.of(Cause::Timeout), sum.unaccounted()), (8, 2, 2));
    }

    #[test]
    fn the_first_answer_after_a_mark_is_that_of_a_request_begun_after_it() {
        let ledger = Ledger::default();
        let before = ledger.begin();
        ledger.mark();
        before.answered();
        assert_eq!(ledger.first_answer(), None);
        ledger.begin().answered();
        let first = ledger.first_answer();
        assert!(first.is_some());
        ledger.begin().answered();
        assert_eq!(ledger.first_answer(), first);
    }

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let account = Account { latencies: (1..=200).rev().collect(), ..Account::default() };
        assert_eq!(account.percentiles().map(|time| time.as_micros()), [100, 190, 198, 200]);
        assert_eq!(Account::default().percentiles(), [Duration::ZERO; 4]);
    }
}
