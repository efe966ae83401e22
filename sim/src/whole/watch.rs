//! The whole-stack oracle: what a pool owes its callers and its server, judged by what callers and server saw.
//!
//! It never asks the pool. It is told what each caller asks for and gets, and looks at the server's own list of sessions;
//! the pool's counters are compared with these only at the end. (The machine's events and actions are judged a second
//! time, by the oracle of the machine-level runs, from the journal that the pool under test recorded.)

use std::collections::BTreeMap;
use std::time::Duration;

use pgweir_core::config::PoolConfig;
use pgweir_core::time::Instant;

use super::look::Key;
pub(super) use crate::oracle::Verdict;
use crate::oracle::{Violation, ensure};

/// How long an answer that is there may take to be seen by a caller: tasks run at once in virtual time.
const NOTICE: Duration = Duration::from_millis(1);
/// Who overtook whom so soon after a connection died is not judged: a caller that was given a dead one goes back to the
/// head of the queue, and others may have been served at the same moment.
const AFTERMATH: Duration = Duration::from_secs(1);

/// What is known of the run.
#[derive(Debug)]
pub(super) struct Watch {
    config: PoolConfig,
    /// How late timers may be.
    late: Duration,
    waiting: BTreeMap<CallId, Waiting>,
    /// Who holds which session.
    held: BTreeMap<Key, Holding>,
    /// When the last connection died or the network failed.
    trouble: Option<Instant>,
    /// Until when nothing could be done in time: the pool's process did not run.
    asleep_until: Instant,
    /// Requests granted, for the pool's own count.
    pub(super) granted: u64,
    /// Leases given back, or lost with their caller.
    pub(super) returned: u64,
}

/// One request; later ones have larger numbers.
pub(super) type CallId = u64;

#[derive(Debug)]
struct Waiting {
    since: Instant,
    deadline: Instant,
    /// When somebody who came later was served.
    overtaken: Option<(Instant, CallId)>,
}

#[derive(Clone, Copy, Debug)]
struct Holding {
    call: CallId,
    since: Instant,
}

/// A session as the server shows it at the moment of a grant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// When it began.
    pub(super) since: Instant,
    /// Whether it waits for a query, outside any transaction.
    pub(super) is_ready: bool,
    /// Settings that an earlier user left behind.
    pub(super) is_clean: bool,
}

impl Watch {
    pub(super) fn new(config: &PoolConfig, late: Duration) -> Self {
        Watch {
            config: config.clone(),
            late,
            waiting: BTreeMap::new(),
            held: BTreeMap::new(),
            trouble: None,
            asleep_until: Instant::ZERO,
            granted: 0,
            returned: 0,
        }
    }

    /// A connection died, or the network did something.
    pub(super) fn trouble(&mut self, now: Instant) {
        self.trouble = Some(now);
    }

    /// The process does not run until then.
    pub(super) fn sleeps(&mut self, now: Instant, until: Instant) {
        self.asleep_until = self.asleep_until.max(until);
        self.trouble = Some(now.max(until));
    }

    pub(super) fn asks(&mut self, now: Instant, call: CallId, patience: Duration) {
        let waiting = Waiting { since: now, deadline: now + patience, overtaken: None };
        self.waiting.insert(call, waiting);
    }

    /// A caller got a connection; `seen` is its session on the server, if the server still has it.
    pub(super) fn granted(&mut self, now: Instant, call: CallId, key: Key, seen: Option<Seen>) -> Verdict {
        self.granted += 1;
        let Some(asked) = self.waiting.remove(&call) else {
            ensure!(false, "One answer", "request {call} was granted twice, or after it was dropped");
            return Ok(());
        };
        self.in_time(now, call, &asked)?;
        self.in_turn(now, call, &asked)?;
        if let Some(holder) = self.held.insert(key, Holding { call, since: now }) {
            let Holding { call: other, since } = holder;
            ensure!(
                false,
                "One holder",
                "request {call} got session {key:?}, which request {other} has since {since:?}"
            );
        }
        let Some(seen) = seen else { return Ok(()) };
        ensure!(seen.is_ready, "Sound", "request {call} got session {key:?} in the middle of a query or a transaction");
        ensure!(seen.is_clean, "Sound", "request {call} got session {key:?} with settings of an earlier user");
        let lifetime = self.config.max_connection_lifetime();
        let age = now - seen.since;
        ensure!(
            // The pool counts from the end of its connect, the server from the end of its login.
            lifetime.is_zero() || age <= lifetime + self.config.connect_timeout() + self.late + NOTICE,
            "Fresh",
            "request {call} got session {key:?} at the age of {age:?}"
        );
        Ok(())
    }

    pub(super) fn refused(&mut self, now: Instant, call: CallId) -> Verdict {
        match self.waiting.remove(&call) {
            Some(asked) => self.in_time(now, call, &asked),
            None => {
                ensure!(false, "One answer", "request {call} was refused and had its answer already");
                Ok(())
            }
        }
    }

    /// A caller drops its request, wherever it is.
    pub(super) fn dropped(&mut self, call: CallId) {
        self.waiting.remove(&call);
    }

    /// A caller gives its connection back.
    pub(super) fn returns(&mut self, call: CallId, key: Key) -> Verdict {
        self.returned += 1;
        let holder = self.held.remove(&key).map(|holding| holding.call);
        ensure!(holder == Some(call), "One holder", "request {call} gives session {key:?} back, which {holder:?} has");
        Ok(())
    }

    /// A query's answer.
    pub(super) fn answered(&self, call: CallId, expected: i64, got: i64) -> Verdict {
        ensure!(expected == got, "Sound", "request {call} asked for {expected} and was answered {got}");
        Ok(())
    }

    /// Looks for what should have happened by now, and at the server's sessions of the pool.
    pub(super) fn look(&self, now: Instant, sessions: usize, most: usize) -> Verdict {
        let late = self.late + NOTICE;
        let overdue = self.waiting.iter().find(|(_, asked)| now > asked.deadline.max(self.asleep_until) + late);
        if let Some((call, asked)) = overdue {
            ensure!(false, "One answer", "request {call} has no answer at its deadline {:?}", asked.deadline);
        }
        ensure!(sessions <= most, "Cap", "{sessions} sessions on the server, {most} are allowed");
        Ok(())
    }

    fn in_time(&self, now: Instant, call: CallId, asked: &Waiting) -> Verdict {
        let limit = asked.deadline.max(self.asleep_until) + self.late + NOTICE;
        ensure!(now <= limit, "One answer", "request {call} was answered at {now:?}, due at {:?}", asked.deadline);
        Ok(())
    }

    /// First come, first served.
    fn in_turn(&mut self, now: Instant, call: CallId, asked: &Waiting) -> Verdict {
        let calm = |at: Instant| self.trouble.is_none_or(|trouble| at - trouble > AFTERMATH || trouble > at);
        if let Some((at, other)) = asked.overtaken.filter(|(at, _)| now - *at > NOTICE && calm(*at)) {
            ensure!(false, "FIFO", "request {call} waited while {other}, which came later, was served at {at:?}");
        }
        let earlier = self.waiting.range_mut(..call).filter(|(_, other)| other.since < asked.since);
        for (_, other) in earlier {
            other.overtaken.get_or_insert((now, call));
        }
        Ok(())
    }
}

/// The first thing that was wrong.
#[derive(Debug, Default)]
pub(super) struct FirstWrong(Option<(Instant, Violation)>);

impl FirstWrong {
    pub(super) fn note(&mut self, now: Instant, verdict: Verdict) {
        if let (Err(violation), None) = (verdict, &self.0) {
            self.0 = Some((now, violation));
        }
    }

    pub(super) fn take(&mut self) -> Option<(Instant, Violation)> {
        self.0.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);
    const READY: Seen = Seen { since: Instant::ZERO, is_ready: true, is_clean: true };

    fn watch() -> Watch {
        let config = PoolConfig::builder().max_connection_lifetime(Duration::from_secs(60)).build();
        Watch::new(&config.expect("a configuration"), Duration::ZERO)
    }

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn guarantee(verdict: Verdict) -> &'static str {
        verdict.expect_err("it is seen").guarantee
    }

    #[test]
    fn what_is_right_is_not_objected_to() {
        let mut watch = watch();
        watch.asks(at(0), 1, PATIENCE);
        watch.asks(at(1), 2, PATIENCE);
        assert_eq!(watch.granted(at(2), 1, (0, 7), Some(READY)), Ok(()));
        assert_eq!(watch.returns(1, (0, 7)), Ok(()));
        assert_eq!(watch.granted(at(3), 2, (0, 7), Some(READY)), Ok(()));
        assert_eq!(watch.look(at(2000), 1, 1), Ok(()));
        assert_eq!(watch.answered(2, 5, 5), Ok(()));
    }

    #[test]
    fn a_connection_has_one_holder_and_an_acquire_one_answer() {
        let mut watch = watch();
        watch.asks(at(0), 1, PATIENCE);
        watch.asks(at(0), 2, PATIENCE);
        assert_eq!(watch.granted(at(1), 1, (0, 7), Some(READY)), Ok(()));
        assert_eq!(guarantee(watch.granted(at(1), 2, (0, 7), Some(READY))), "One holder");
        assert_eq!(guarantee(watch.refused(at(1), 2)), "One answer");
        assert_eq!(guarantee(watch.returns(3, (0, 9))), "One holder");
    }

    #[test]
    fn who_is_late_and_who_overtakes_is_seen() {
        let mut watch = watch();
        watch.asks(at(0), 1, PATIENCE);
        watch.asks(at(10), 2, PATIENCE);
        assert_eq!(watch.granted(at(20), 2, (0, 7), Some(READY)), Ok(()));
        assert_eq!(guarantee(watch.look(at(1100), 1, 4)), "One answer");
        assert_eq!(guarantee(watch.granted(at(900), 1, (0, 8), Some(READY))), "FIFO");
        // The process did not run: nobody could have been in time.
        watch.asks(at(2000), 3, PATIENCE);
        watch.sleeps(at(2500), at(5000));
        assert_eq!(watch.refused(at(5000), 3), Ok(()));
    }

    #[test]
    fn what_is_lent_must_be_fit_for_it() {
        for (number, (seen, name)) in [
            (Seen { is_ready: false, ..READY }, "Sound"),
            (Seen { is_clean: false, ..READY }, "Sound"),
            (Seen { since: Instant::ZERO, ..READY }, "Fresh"),
        ]
        .into_iter()
        .enumerate()
        {
            let mut watch = watch();
            watch.asks(at(100_000), number as CallId, PATIENCE);
            assert_eq!(guarantee(watch.granted(at(100_000), number as CallId, (0, 7), Some(seen))), name);
        }
        assert_eq!(guarantee(watch().answered(1, 5, 6)), "Sound");
        assert_eq!(guarantee(watch().look(at(0), 5, 4)), "Cap");
    }
}
