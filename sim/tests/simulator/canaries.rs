//! Canaries: something around the machine does one thing wrong, and the oracle must say so.

use std::collections::BTreeMap;
use std::time::Duration;

use pgweir_core::pool::{
    Action, Check, CloseReason, ConnId, Counts, Event, Fate, Health, HostId, Machine, Notice, Reason, Reject, Stats,
    Status, WaiterId,
};
use pgweir_core::time::Instant;
use pgweir_sim::{Subject, run, run_subject};

use crate::support::scenario;

/// Load, an outage, leaks, leases dropped in the middle, and a shutdown that has to be enforced.
const SCENARIO: &str = "
name: canary
duration: 60s
pool: {min_size: 2, max_size: 4, acquire_timeout: 300ms, leak_detection_timeout: 5s, max_queries: 200}
workload:
  - {clients: 12, think: {exponential: 10ms}, hold: {exponential: 5ms}, abandon: 0.02}
  - {every: {exponential: 900ms}, hold: 1ms}
  - {clients: 1, think: 1s, hold: 3ms, leaks: {count: 1, hold: forever}}
timeline:
  - {at: 20s, crash: {recovering: 6s}}
  - {at: 35s, kill: {share: 0.5}}
  - {at: 40s, recycle: {}}
  - {at: 50s, shutdown: {within: 2s}}
expect: {}
";

/// So little happens that only timers can make it happen.
const QUIET: &str = "
name: quiet canary
duration: 60s
pool: {min_size: 1, leak_detection_timeout: 1s}
workload: [{clients: 1, think: 1s, hold: 3s}]
expect: {}
";

/// What is done wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wrong {
    Nothing,
    /// A connection that came back is forgotten.
    LostRelease,
    /// A grant never reaches its waiter.
    LostWakeup,
    /// A waiter whose time is over is not told.
    LostTimeout,
    /// A connection is lent to two.
    DoubleGrant,
    /// The same waiter is answered twice.
    SecondAnswer,
    /// The last to come is served first.
    Barging,
    /// An acquire is granted after its deadline.
    ExpiredGrant,
    /// A lease dropped in the middle of a query counts as clean.
    DirtyGrant,
    /// A connection that died counts as well.
    DeadGrant,
    /// A round trip that nobody made counts as made.
    Unproved,
    /// A connection is lent past max_queries.
    WornOut,
    /// A failed connect is followed by another at once.
    RetryStorm,
    /// A connect that nobody needs.
    OverCreation,
    /// A connection more than max_size.
    OverCap,
    /// A leak is not reported.
    SilentLeak,
    /// A leak is reported too early.
    FalseAlarm,
    /// The shutdown's deadline is forgotten.
    EndlessShutdown,
    /// Deadlines are kept late.
    LateTimers,
    /// A count is wrong.
    Drift,
    /// A recycle is forgotten.
    StaleRecycle,
    /// Health says that all is well, whatever happens.
    Rosy,
    /// Health says that nothing works.
    Gloomy,
    /// A state is never announced.
    SilentState,
    /// A connection is said to be closed for another reason than it is.
    FalseReason,
    /// A refused acquire is told of a longer wait than it had.
    FalseWait,
    /// A lease that was suspected of a leak ends, and nobody is told.
    SilentEnd,
    /// A lease is cut off without a warning.
    Unwarned,
    /// A total is wrong.
    Miscounted,
    /// An answer about a connection that is gone is taken for one about its slot's new connection, as where ids have no
    /// generation.
    StaleId,
}

pub(crate) struct Canary {
    machine: Machine,
    wrong: Wrong,
    /// Acquires that wait, as far as can be seen from here.
    waiting: Vec<WaiterId>,
    releases: u32,
    extra: u32,
    /// The generation that each slot is at.
    generations: BTreeMap<u32, u32>,
}

impl Canary {
    fn new(machine: Machine, wrong: Wrong) -> Self {
        Canary { machine, wrong, waiting: Vec::new(), releases: 0, extra: 0, generations: BTreeMap::new() }
    }

    /// What the machine gets to hear.
    fn distort_event(&mut self, event: Event) -> Option<Event> {
        Some(match (self.wrong, event) {
            (Wrong::LostRelease, Event::Release { .. }) if self.releases == 50 => return None,
            (Wrong::DirtyGrant, Event::Release { conn, fate: Fate::Dirty, queries, .. })
            | (Wrong::DeadGrant, Event::Release { conn, fate: Fate::Broken, queries, .. }) => {
                Event::Release { conn, fate: Fate::Clean, queries, fault: None }
            }
            (Wrong::WornOut, Event::Release { conn, fate, fault, .. }) => {
                Event::Release { conn, fate, queries: 0, fault }
            }
            (Wrong::ExpiredGrant, Event::Acquire { waiter, leak_after, site, .. }) => {
                Event::Acquire { waiter, deadline: Instant::MAX, leak_after, site }
            }
            (Wrong::SilentLeak, Event::Acquire { waiter, deadline, site, .. }) => {
                Event::Acquire { waiter, deadline, leak_after: Some(Duration::MAX), site }
            }
            (Wrong::FalseAlarm, Event::Acquire { waiter, deadline, site, .. }) => {
                Event::Acquire { waiter, deadline, leak_after: Some(Duration::from_secs(4)), site }
            }
            (Wrong::EndlessShutdown, Event::Shutdown { .. }) => Event::Shutdown { deadline: Instant::MAX },
            (Wrong::StaleRecycle, Event::Recycle) => Event::Tick,
            (Wrong::StaleId, mut event) => {
                if let Some(conn) = id_of(&mut event)
                    && let Some(generation) = self.generations.get(&conn.slot)
                {
                    conn.generation = *generation;
                }
                event
            }
            (_, event) => event,
        })
    }

    /// What becomes of its actions.
    fn distort_actions(&mut self, now: Instant, event: &Event, actions: &mut Vec<Action>) {
        match self.wrong {
            Wrong::LostWakeup => self.lose(actions, |action| matches!(action, Action::Grant { .. })),
            Wrong::LostTimeout => self.lose(actions, |action| matches!(action, Action::Reject { .. })),
            Wrong::Unproved => {
                self.lose(actions, |action| matches!(action, Action::Validate { how: Check::RoundTrip, .. }));
            }
            Wrong::DoubleGrant => {
                let granted = actions.iter().find_map(|action| match action {
                    Action::Grant { conn, .. } => Some(*conn),
                    _ => None,
                });
                if let (Some(conn), Some(waiter)) = (granted, self.waiting.first()) {
                    actions.push(Action::Grant { waiter: *waiter, conn });
                }
            }
            Wrong::SecondAnswer => {
                if let Some(grant) = actions.iter().find(|action| matches!(action, Action::Grant { .. })).cloned() {
                    actions.push(grant);
                }
            }
            Wrong::Barging => {
                for action in actions {
                    if let (Action::Grant { waiter, .. }, Some(last)) = (action, self.waiting.last()) {
                        *waiter = *last;
                    }
                }
            }
            Wrong::RetryStorm if matches!(event, Event::ConnectFailed { .. }) => {
                actions.push(self.another_connect(now));
            }
            Wrong::OverCreation if self.releases > 30 && self.waiting.is_empty() => {
                actions.push(self.another_connect(now));
            }
            Wrong::SilentState => {
                actions.retain(|action| !is_notice(action, |notice| matches!(notice, Notice::StateChanged { .. })))
            }
            Wrong::SilentEnd => {
                actions.retain(|action| !is_notice(action, |notice| matches!(notice, Notice::LeakResolved { .. })))
            }
            Wrong::Unwarned => {
                actions.retain(|action| !is_notice(action, |notice| matches!(notice, Notice::ForcedClose { .. })))
            }
            Wrong::FalseReason => {
                for action in actions {
                    if let Action::Close { reason: reason @ (CloseReason::Broken | CloseReason::QueryLimit), .. } =
                        action
                    {
                        *reason = CloseReason::IdleTimeout;
                    }
                }
            }
            Wrong::FalseWait => {
                for action in actions {
                    match action {
                        Action::Reject { reason: Reject::Timeout(report), .. } => report.waited *= 2,
                        Action::Reject { reason: Reject::Unavailable(report), .. } => report.waited *= 2,
                        _ => {}
                    }
                }
            }
            Wrong::OverCap if self.waiting.len() > 5 => actions.push(self.another_connect(now)),
            _ => {}
        }
    }

    fn lose(&mut self, actions: &mut Vec<Action>, which: impl Fn(&Action) -> bool) {
        actions.retain(|action| !which(action) || self.releases < 20);
    }

    fn another_connect(&mut self, now: Instant) -> Action {
        self.extra += 1;
        let conn = ConnId { slot: 500 + self.extra, generation: 1 };
        Action::Connect { conn, host: HostId(0), deadline: now + Duration::from_secs(5) }
    }

    fn watch(&mut self, actions: &[Action]) {
        for action in actions {
            if let Action::Grant { waiter, .. } | Action::Reject { waiter, .. } = action {
                self.waiting.retain(|other| other != waiter);
            }
            if let Action::Connect { conn, .. } = action {
                self.generations.insert(conn.slot, conn.generation);
            }
        }
    }
}

fn is_notice(action: &Action, which: impl Fn(&Notice) -> bool) -> bool {
    matches!(action, Action::Notice(notice) if which(notice))
}

/// The connection that an event is about.
fn id_of(event: &mut Event) -> Option<&mut ConnId> {
    match event {
        Event::Release { conn, .. }
        | Event::CheckFailed { conn, .. }
        | Event::Connected { conn, .. }
        | Event::ConnectFailed { conn, .. }
        | Event::Validated { conn }
        | Event::ValidationFailed { conn, .. }
        | Event::Reset { conn }
        | Event::ResetFailed { conn, .. }
        | Event::Touched { conn }
        | Event::Lost { conn, .. }
        | Event::Closed { conn } => Some(conn),
        _ => None,
    }
}

impl Subject for Canary {
    fn handle(&mut self, now: Instant, event: Event, actions: &mut Vec<Action>) {
        match &event {
            Event::Acquire { waiter, .. } => self.waiting.push(*waiter),
            Event::Cancel { waiter } => self.waiting.retain(|other| other != waiter),
            Event::Release { .. } => self.releases += 1,
            _ => {}
        }
        let original = event.clone();
        if let Some(event) = self.distort_event(event) {
            self.machine.handle(now, event, actions);
        }
        self.watch(actions);
        self.distort_actions(now, &original, actions);
    }

    fn deadline(&self) -> Option<Instant> {
        let deadline = self.machine.deadline().map(|(at, _)| at);
        if self.wrong == Wrong::LateTimers { deadline.map(|at| at + Duration::from_millis(200)) } else { deadline }
    }

    fn counts(&self) -> Counts {
        let mut counts = self.machine.counts();
        if self.wrong == Wrong::Drift && self.releases > 10 {
            counts.idle += 1;
        }
        counts
    }

    fn stats(&self, now: Instant) -> Stats {
        let mut stats = self.machine.stats(now);
        stats.totals.releases += u64::from(self.wrong == Wrong::Miscounted);
        stats
    }

    fn health(&self, now: Instant) -> Health {
        let health = self.machine.health(now);
        match self.wrong {
            Wrong::Rosy => Health { status: Status::Healthy, reasons: Vec::new(), ..health },
            Wrong::Gloomy => Health { status: Status::Unhealthy, reasons: vec![Reason::Paused], ..health },
            _ => health,
        }
    }
}

pub(crate) fn make(wrong: Wrong) -> impl Fn(&pgweir_core::config::PoolConfig, u64) -> Canary {
    move |config, seed| Canary::new(Machine::new(config, seed, Instant::ZERO), wrong)
}

/// The guarantee that the oracle says is broken, if it does.
fn caught(wrong: Wrong, seed: u64) -> Option<&'static str> {
    let text = if wrong == Wrong::LateTimers { QUIET } else { SCENARIO };
    match run_subject(&scenario(text), seed, make(wrong)) {
        Ok(_) => None,
        Err(failure) => {
            assert!(!failure.last.is_empty(), "the last steps are shown");
            assert_eq!(failure.seed, seed);
            Some(failure.violation.guarantee)
        }
    }
}

#[test]
fn nothing_wrong_is_not_caught() {
    let scenario = scenario(SCENARIO);
    let alone = run(&scenario, 1).unwrap_or_else(|failure| panic!("{failure}"));
    let wrapped = run_subject(&scenario, 1, make(Wrong::Nothing)).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(alone.digest, wrapped.digest);
}

#[test]
fn every_canary_is_caught_with_every_seed() {
    for (wrong, guarantees) in [
        (Wrong::LostRelease, &["True numbers"][..]),
        (Wrong::LostWakeup, &["True numbers"]),
        (Wrong::LostTimeout, &["True numbers"]),
        (Wrong::DoubleGrant, &["One holder"]),
        (Wrong::SecondAnswer, &["One answer"]),
        (Wrong::Barging, &["FIFO"]),
        (Wrong::ExpiredGrant, &["One answer"]),
        (Wrong::DirtyGrant, &["Sound", "True numbers"]),
        (Wrong::DeadGrant, &["Sound", "True numbers"]),
        (Wrong::Unproved, &["True numbers"]),
        (Wrong::WornOut, &["Fresh"]),
        (Wrong::RetryStorm, &["Quiet outage, prompt recovery"]),
        (Wrong::OverCreation, &["The pool owns connects"]),
        (Wrong::OverCap, &["Cap"]),
        (Wrong::SilentLeak, &["True numbers"]),
        (Wrong::FalseAlarm, &["True numbers"]),
        (Wrong::EndlessShutdown, &["Bounded end"]),
        (Wrong::LateTimers, &["True numbers"]),
        (Wrong::Drift, &["True numbers"]),
        (Wrong::StaleRecycle, &["Fresh"]),
        (Wrong::Rosy, &["Busy is not sick"]),
        (Wrong::Gloomy, &["Busy is not sick"]),
        (Wrong::SilentState, &["Busy is not sick"]),
        (Wrong::FalseReason, &["Fresh"]),
        (Wrong::FalseWait, &["True numbers"]),
        (Wrong::Unwarned, &["Bounded end"]),
        (Wrong::Miscounted, &["True numbers"]),
    ] {
        for seed in 1..=3 {
            let seen = caught(wrong, seed);
            let right = seen.is_some_and(|seen| guarantees.contains(&seen));
            assert!(right, "{wrong:?}, seed {seed}: expected one of {guarantees:?}, seen {seen:?}");
        }
    }
}

/// A machine that panics is a failure with a seed, not the end of the simulator.
#[test]
fn a_panic_is_a_failure_with_a_seed() {
    struct Panics(Machine);
    impl Subject for Panics {
        fn handle(&mut self, now: Instant, event: Event, actions: &mut Vec<Action>) {
            assert!(!matches!(event, Event::Recycle), "the canary panics");
            self.0.handle(now, event, actions);
        }
        fn deadline(&self) -> Option<Instant> {
            Subject::deadline(&self.0)
        }
        fn counts(&self) -> Counts {
            self.0.counts()
        }
        fn stats(&self, now: Instant) -> Stats {
            self.0.stats(now)
        }
        fn health(&self, now: Instant) -> Health {
            self.0.health(now)
        }
    }
    let make = |config: &_, seed| Panics(Machine::new(config, seed, Instant::ZERO));
    let failure = run_subject(&scenario(SCENARIO), 5, make).expect_err("a panic");
    assert_eq!((failure.violation.guarantee, failure.seed), ("No panic", 5));
    assert!(failure.violation.detail.contains("the canary panics"), "{failure}");
    assert_eq!(failure.at, Instant::from_secs(40));
}
