//! What can be seen of a machine from outside, and what must be true of it.

use std::collections::{BTreeMap, BTreeSet};

use pgweir_core::config::PoolConfig;
use pgweir_core::journal::Check;
use pgweir_core::pool::{Action, ConnId, Event, Machine, Notice, State, WaiterId};
use pgweir_core::time::Instant;

/// No pool lives for 292 years: a journal has no times beyond, so none are told, but for what a shutdown takes.
const LATEST: Instant = Instant::from_nanos(u64::MAX / 2 - (1 << 50));

/// What is going on with a connection, as its driver knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Known {
    Connecting,
    /// Open, and nothing is under way.
    Open,
    Validating,
    Resetting,
    Lent(WaiterId),
    Closing(Instant),
}

/// A machine, and what its driver knows of it.
pub(super) struct Outside {
    machine: Machine,
    now: Instant,
    conns: BTreeMap<ConnId, Known>,
    /// Ids ascend, so this is the order of arrival.
    queue: BTreeSet<WaiterId>,
    /// Ids below this were used.
    next: u64,
    /// The largest max_size so far.
    allowed: u32,
    terminated: bool,
    told: Vec<(Instant, Event, Check)>,
}

impl Outside {
    pub(super) fn new(config: &PoolConfig, seed: u64) -> Self {
        let now = Instant::from_secs(5);
        Outside {
            machine: Machine::new(config, seed, now),
            now,
            conns: BTreeMap::new(),
            queue: BTreeSet::new(),
            next: 0,
            allowed: config.max_size(),
            terminated: false,
            told: Vec::new(),
        }
    }

    pub(super) fn machine(&self) -> &Machine {
        &self.machine
    }

    pub(super) fn told(&self) -> &[(Instant, Event, Check)] {
        &self.told
    }

    pub(super) fn now(&self) -> Instant {
        self.now
    }

    pub(super) fn pass_to(&mut self, at: Instant) {
        self.now = self.now.max(at.min(LATEST));
    }

    /// An id that was never used.
    pub(super) fn new_waiter(&self) -> WaiterId {
        WaiterId(self.next)
    }

    /// The connections in a state.
    pub(super) fn conns(&self, pick: impl Fn(Known) -> bool) -> Vec<ConnId> {
        self.conns.iter().filter(|(_, known)| pick(**known)).map(|(conn, _)| *conn).collect()
    }

    pub(super) fn known(&self, conn: ConnId) -> Option<Known> {
        self.conns.get(&conn).copied()
    }

    pub(super) fn waiting(&self) -> Vec<WaiterId> {
        self.queue.iter().copied().collect()
    }

    /// Tells the machine what is due and then what happened; the same without the tick must come to the same.
    pub(super) fn tell(&mut self, event: Event) {
        let mut without_tick = self.machine.clone();
        let mut actions = Vec::new();
        // A cancel comes before what is due at the same time.
        if !matches!(event, Event::Cancel { .. }) {
            self.handle(Event::Tick, &mut actions);
        }
        self.foresee(&event);
        self.handle(event.clone(), &mut actions);
        let mut again = Vec::new();
        without_tick.handle(self.now, event, &mut again);
        assert!(again == actions && without_tick == self.machine, "a tick before an event made a difference");
        self.machine.check_invariants();
        self.look();
    }

    fn handle(&mut self, event: Event, all: &mut Vec<Action>) {
        let mut actions = Vec::new();
        self.machine.handle(self.now, event.clone(), &mut actions);
        self.told.push((self.now, event, Check::of(&actions)));
        actions.iter().for_each(|action| self.observe(action));
        let now = self.now;
        self.conns.retain(|_, known| !matches!(known, Known::Closing(deadline) if *deadline <= now));
        all.append(&mut actions);
    }

    /// What an event changes before the machine answers.
    fn foresee(&mut self, event: &Event) {
        match *event {
            Event::Acquire { waiter, .. } if waiter.0 >= self.next => {
                self.next = waiter.0 + 1;
                self.queue.insert(waiter);
            }
            Event::Cancel { waiter } => {
                self.queue.remove(&waiter);
            }
            Event::Resize { max_size, .. } => self.allowed = self.allowed.max(max_size),
            Event::Connected { conn, .. } => self.becomes_open(conn, |known| known == Known::Connecting),
            Event::ConnectFailed { conn, .. } if self.known(conn) == Some(Known::Connecting) => {
                self.conns.remove(&conn);
            }
            Event::Validated { conn } | Event::ValidationFailed { conn, .. } => {
                self.becomes_open(conn, |known| known == Known::Validating);
            }
            Event::Reset { conn } | Event::ResetFailed { conn, .. } => {
                self.becomes_open(conn, |known| known == Known::Resetting);
            }
            Event::Release { conn, .. } => self.becomes_open(conn, |known| matches!(known, Known::Lent(_))),
            Event::CheckFailed { conn, .. } => {
                if let Some(Known::Lent(waiter)) = self.known(conn) {
                    self.queue.insert(waiter);
                    self.conns.insert(conn, Known::Open);
                }
            }
            Event::Closed { conn } if matches!(self.known(conn), Some(Known::Closing(_))) => {
                self.conns.remove(&conn);
            }
            _ => {}
        }
    }

    fn becomes_open(&mut self, conn: ConnId, from: impl Fn(Known) -> bool) {
        if let Some(known) = self.conns.get_mut(&conn)
            && from(*known)
        {
            *known = Known::Open;
        }
    }

    fn observe(&mut self, action: &Action) {
        match action {
            Action::Connect { conn, deadline, .. } => {
                assert!(*deadline > self.now, "Bounded: a connect whose time is over at once");
                let in_slot = self.conns.iter().find(|(other, _)| other.slot == conn.slot);
                if let Some((old, known)) = in_slot.map(|(old, known)| (*old, *known)) {
                    assert!(matches!(known, Known::Closing(due) if due <= self.now), "Cap: slot taken from {known:?}");
                    self.conns.remove(&old);
                }
                self.conns.insert(*conn, Known::Connecting);
            }
            Action::Validate { conn, .. } => self.change(*conn, Known::Validating, |known| known == Known::Open),
            Action::Reset { conn, .. } => self.change(*conn, Known::Resetting, |known| known == Known::Open),
            Action::Close { conn, deadline, .. } => {
                self.change(*conn, Known::Closing(*deadline), |known| !matches!(known, Known::Closing(_)));
            }
            Action::Grant { waiter, conn } => {
                assert_eq!(self.queue.pop_first(), Some(*waiter), "FIFO: somebody was overtaken");
                self.change(*conn, Known::Lent(*waiter), |known| known == Known::Open);
            }
            Action::Reject { waiter, .. } => {
                assert!(self.queue.remove(waiter), "One answer: {waiter:?} had one");
            }
            Action::Notice(notice) => {
                if let Notice::StateChanged { to: State::Terminated, .. } = **notice {
                    self.terminated = true;
                    // What is still being closed then is nobody's concern any more.
                    self.conns.retain(|_, known| !matches!(known, Known::Closing(_)));
                }
            }
        }
    }

    fn change(&mut self, conn: ConnId, to: Known, from: impl Fn(Known) -> bool) {
        let known = self.conns.get_mut(&conn).expect("an action names a connection that exists");
        assert!(from(*known), "One holder: {conn:?} cannot go from {known:?} to {to:?}");
        *known = to;
    }

    fn look(&self) {
        let counts = self.machine.counts();
        let lent = self.conns.values().filter(|known| matches!(known, Known::Lent(_))).count();
        assert!(self.conns.len() <= self.allowed as usize, "Cap: {:?}", self.conns);
        assert_eq!(counts.total as usize, self.conns.len(), "True numbers: {:?}", self.conns);
        assert_eq!(counts.active as usize, lent, "True numbers: {:?}", self.conns);
        assert_eq!(counts.waiting as usize, self.queue.len(), "One answer: {:?}", self.queue);
        assert_eq!(self.machine.holders(self.now, usize::MAX).len(), lent, "True numbers: holders");
        if let Some((at, _)) = self.machine.deadline() {
            assert!(at > self.now, "deadline: what is due was not done");
        }
        let (health, stats) = (self.machine.health(self.now), self.machine.stats(self.now));
        assert_eq!(stats.counts, counts);
        assert!(self.terminated || health.state != State::Terminated, "R-8.4: an end without notice");
    }

    /// Nobody answers any more; the pool ends all the same.
    pub(super) fn end(&mut self) {
        self.tell(Event::Shutdown { deadline: self.now });
        assert!(self.queue.is_empty(), "Bounded end: somebody waits for a pool that ends");
        let limit = 10 + 2 * self.conns.len();
        for _ in 0..limit {
            let Some((at, _)) = self.machine.deadline() else { break };
            self.now = at;
            self.tell(Event::Tick);
        }
        let state = self.machine.state();
        assert!(self.conns.is_empty() && state == State::Terminated, "Bounded end: {state:?} {:?}", self.conns);
    }
}
