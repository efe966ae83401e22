//! The books of a soak: every request and what became of it, in memory that does not grow; and what was done to the pool
//! and its server, so that a failure can be told from a fault.
//!
//! Each trouble that the soak makes is entered before it begins and closed when its effects must be over. The cause of a
//! failed request must be one that a trouble during its time brings about. That the machine stood still is found out
//! afterwards, so a failure without a reason waits for a while before it counts.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::demo::ledger::Cause;
use crate::demo::screen::span;

/// Violations that are kept as text; all are counted.
const MAX_TOLD: usize = 40;
/// Troubles are forgotten after this: no request takes as long.
const MEMORY: Duration = Duration::from_secs(60);
/// A reason that was there is known after this.
const RETHINK: Duration = Duration::from_secs(8);

/// What became of a request that did not fail.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Fine {
    /// Every query had its answer.
    Answered,
    /// The query's error was the one asked for.
    Refused,
    /// `try_get` found nothing free.
    NothingFree,
    /// The acquire was dropped.
    AcquireDropped,
    /// A query was dropped in the middle.
    QueryDropped,
    /// A transaction was left open.
    TransactionLeft,
    /// The lease was given up to be closed.
    Discarded,
    /// The lease was forgotten; it comes back late.
    Forgotten,
}

impl Fine {
    fn name(self) -> &'static str {
        match self {
            Fine::Answered => "answered",
            Fine::Refused => "refused, as asked",
            Fine::NothingFree => "try_get: none free",
            Fine::AcquireDropped => "acquire dropped",
            Fine::QueryDropped => "query dropped",
            Fine::TransactionLeft => "transaction left open",
            Fine::Discarded => "lease discarded",
            Fine::Forgotten => "lease forgotten",
        }
    }
}

/// What the soak does that makes requests fail.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Trouble {
    /// The server is stopped, crashed or starting.
    Down,
    /// Backends are terminated.
    Killed,
    /// The pool is paused.
    Paused,
    /// Leases are out that nobody uses.
    Forgotten,
    /// The pool shuts down.
    Closing,
    /// Nothing ran on this machine for a while.
    Stalled,
}

impl Trouble {
    /// Whether this may be the reason for that.
    fn explains(self, cause: Cause) -> bool {
        use Trouble::{Closing, Down, Forgotten, Killed, Paused, Stalled};
        match cause {
            Cause::InFlight => matches!(self, Down | Killed | Closing),
            Cause::Unavailable => matches!(self, Down | Stalled),
            Cause::Timeout => matches!(self, Down | Paused | Forgotten | Stalled),
            Cause::Closed => self == Closing,
            Cause::QueueFull | Cause::Refused | Cause::WrongAnswer => false,
        }
    }
}

/// How a trouble is closed.
#[derive(Clone, Copy)]
pub(super) struct TroubleId(u64);

/// One life of the pool, as its callers saw it.
#[derive(Clone, Default, Debug, PartialEq)]
pub(super) struct Life {
    /// Acquires that were polled.
    pub(super) asked: u64,
    pub(super) granted: u64,
    /// Acquires that ended without a connection.
    pub(super) turned_away: u64,
}

#[derive(Default)]
pub(super) struct Books(Mutex<State>);

#[derive(Default)]
struct State {
    begun: u64,
    fine: BTreeMap<Fine, u64>,
    failed: BTreeMap<(Cause, Trouble), u64>,
    unexplained: u64,
    /// Failures without a reason so far.
    pending: Vec<Failure>,
    /// Cut off by a kill, and backends that were killed: each ends one request at most.
    cut_by_kill: u64,
    killed: u64,
    life: Life,
    troubles: Vec<Window>,
    next: u64,
    violations: u64,
    told: Vec<String>,
}

struct Failure {
    begun: Instant,
    ended: Instant,
    cause: Cause,
    message: String,
}

struct Window {
    id: u64,
    trouble: Trouble,
    from: Instant,
    until: Option<Instant>,
}

/// A request under way.
#[must_use = "it must come to an end"]
pub(super) struct Request<'a> {
    books: &'a Books,
    pub(super) begun: Instant,
}

impl Books {
    pub(super) fn begin(&self) -> Request<'_> {
        self.lock().begun += 1;
        Request { books: self, begun: Instant::now() }
    }

    /// A trouble begins.
    pub(super) fn open(&self, trouble: Trouble) -> TroubleId {
        let mut state = self.lock();
        let now = Instant::now();
        state.troubles.retain(|window| window.until.is_none_or(|until| now < until + MEMORY));
        state.next += 1;
        let id = state.next;
        state.troubles.push(Window { id, trouble, from: now, until: None });
        TroubleId(id)
    }

    /// It ends; what it does to requests is over after `effects`.
    pub(super) fn close(&self, id: TroubleId, effects: Duration) {
        let mut state = self.lock();
        if let Some(window) = state.troubles.iter_mut().find(|window| window.id == id.0) {
            window.until = Some(Instant::now() + effects);
        }
    }

    /// A trouble that was there already and is over.
    pub(super) fn enter(&self, trouble: Trouble, from: Instant, effects: Duration) {
        let id = self.open(trouble);
        if let Some(window) = self.lock().troubles.iter_mut().find(|window| window.id == id.0) {
            window.from = from;
        }
        self.close(id, effects);
    }

    pub(super) fn killed(&self, backends: usize) {
        self.lock().killed += backends as u64;
    }

    /// An acquire was polled for the first time.
    pub(super) fn asked(&self) {
        self.lock().life.asked += 1;
    }

    pub(super) fn granted(&self) {
        self.lock().life.granted += 1;
    }

    pub(super) fn turned_away(&self) {
        self.lock().life.turned_away += 1;
    }

    /// The pool's life is over; the next one begins.
    pub(super) fn end_life(&self) -> Life {
        std::mem::take(&mut self.lock().life)
    }

    /// Failures that had no reason `at` get their last chance, if they are old enough.
    pub(super) fn rethink(&self, at: Instant) {
        let unexplained: Vec<Failure> = {
            let mut state = self.lock();
            let (old, young) =
                std::mem::take(&mut state.pending).into_iter().partition(|failure| failure.ended + RETHINK <= at);
            state.pending = young;
            let old: Vec<Failure> = old;
            old.into_iter().filter(|failure| !state.explain(failure)).collect()
        };
        for Failure { begun, ended, cause, message } in unexplained {
            self.lock().unexplained += 1;
            let took = span(ended - begun);
            self.violated(format!("a request failed for no reason, {} after {took}: {message}", cause.name()));
        }
    }

    /// Something is not as it must be.
    pub(super) fn violated(&self, what: String) {
        let mut state = self.lock();
        state.violations += 1;
        if state.told.len() < MAX_TOLD {
            state.told.push(what);
        }
    }

    pub(super) fn violations(&self) -> (u64, Vec<String>) {
        let state = self.lock();
        (state.violations, state.told.clone())
    }

    /// Requests that ended well, and that failed.
    pub(super) fn sums(&self) -> (u64, u64) {
        let state = self.lock();
        (state.fine.values().sum(), state.failed.values().sum::<u64>() + state.unexplained + state.pending.len() as u64)
    }

    /// The rows of the table: what, when, how many.
    pub(super) fn rows(&self) -> Vec<(String, u64)> {
        let state = self.lock();
        let fine = state.fine.iter().map(|(fine, count)| (fine.name().to_owned(), *count));
        let failed = state
            .failed
            .iter()
            .map(|((cause, trouble), count)| (format!("{}, {}", cause.name(), during(*trouble)), *count));
        fine.chain(failed).collect()
    }

    /// What must hold when all requests are over.
    pub(super) fn check(&self) -> Vec<String> {
        self.rethink(Instant::now() + RETHINK);
        let (fine, failed) = self.sums();
        let state = self.lock();
        let mut broken = Vec::new();
        if state.begun != fine + failed {
            broken.push(format!("{} requests were begun, {} are accounted for", state.begun, fine + failed));
        }
        if state.cut_by_kill > state.killed {
            let (cut, killed) = (state.cut_by_kill, state.killed);
            broken.push(format!("{cut} requests were cut off by kills, and only {killed} backends were killed"));
        }
        broken
    }

    pub(super) fn begun(&self) -> u64 {
        self.lock().begun
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Request<'_> {
    pub(super) fn fine(self, how: Fine) {
        *self.books.lock().fine.entry(how).or_default() += 1;
    }

    pub(super) fn failed(self, cause: Cause, message: String) {
        let failure = Failure { begun: self.begun, ended: Instant::now(), cause, message };
        let mut state = self.books.lock();
        if !state.explain(&failure) {
            state.pending.push(failure);
        }
    }
}

impl State {
    /// Books the failure if there is a reason for it.
    fn explain(&mut self, failure: &Failure) -> bool {
        let &Failure { begun, ended, cause, .. } = failure;
        let during = |window: &&Window| window.from <= ended && window.until.is_none_or(|until| until >= begun);
        let reasons = self.troubles.iter().filter(during).map(|window| window.trouble);
        // In the order of the enum: a kill while the server is down is the server's.
        let Some(reason) = reasons.filter(|trouble| trouble.explains(cause)).min() else { return false };
        self.cut_by_kill += u64::from(cause == Cause::InFlight && reason == Trouble::Killed);
        *self.failed.entry((cause, reason)).or_default() += 1;
        true
    }
}

fn during(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::Down => "server down or starting",
        Trouble::Killed => "server up, backends killed",
        Trouble::Paused => "server up, pool paused",
        Trouble::Forgotten => "server up, leases forgotten",
        Trouble::Closing => "server up, pool closing",
        Trouble::Stalled => "server up, machine stalled",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_needs_a_trouble_that_explains_it() {
        let books = Books::default();
        let rethink = || books.rethink(Instant::now() + RETHINK);
        books.begin().failed(Cause::Timeout, "late".into());
        books.rethink(Instant::now());
        assert_eq!(books.violations().0, 0, "the reason may be found yet");
        rethink();
        assert_eq!(books.violations().0, 1);

        let down = books.open(Trouble::Down);
        books.begin().failed(Cause::Unavailable, "down".into());
        books.begin().failed(Cause::Closed, "closed".into());
        rethink();
        assert_eq!(books.violations().0, 2, "a server that is down closes no pool");
        let overlapping = books.begin();
        books.close(down, Duration::ZERO);
        overlapping.failed(Cause::InFlight, "cut".into());
        // The two must not fall into one moment of the clock.
        std::thread::sleep(Duration::from_millis(1));
        books.begin().failed(Cause::Unavailable, "still down".into());
        rethink();
        let (violations, told) = books.violations();
        assert_eq!(violations, 3);
        assert!(told[2].contains("still down"), "{told:?}");
        books.begin().fine(Fine::Answered);
        assert_eq!((books.begun(), books.sums()), (6, (1, 5)));
        assert!(books.check().is_empty());
    }

    #[test]
    fn a_reason_that_is_found_afterwards_counts() {
        let books = Books::default();
        let begun = Instant::now();
        books.begin().failed(Cause::Timeout, "late".into());
        books.enter(Trouble::Stalled, begun, Duration::ZERO);
        assert!(books.check().is_empty());
        assert_eq!((books.violations().0, books.sums()), (0, (0, 1)));
        assert_eq!(books.rows(), [("acquire timed out, server up, machine stalled".to_owned(), 1)]);
    }

    #[test]
    fn a_wrong_answer_is_never_explained() {
        let books = Books::default();
        books.open(Trouble::Down);
        books.begin().failed(Cause::WrongAnswer, "2 + 2 = 5".into());
        books.rethink(Instant::now() + RETHINK);
        assert_eq!(books.violations().0, 1);
    }

    #[test]
    fn a_request_that_vanishes_and_a_cut_without_a_kill_are_found() {
        let books = Books::default();
        drop(books.begin());
        assert_eq!(books.check(), ["1 requests were begun, 0 are accounted for"]);
        let kill = books.open(Trouble::Killed);
        books.close(kill, Duration::from_secs(1));
        books.killed(1);
        books.begin().failed(Cause::InFlight, "cut".into());
        assert_eq!(books.check().len(), 1);
        books.begin().failed(Cause::InFlight, "cut".into());
        assert_eq!(books.check().len(), 2);
    }
}
