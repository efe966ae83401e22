//! A machine, a virtual clock, and what it asked for.

use std::time::Duration;

use crate::config::PoolConfig;
use crate::pool::{
    Action, CloseHow, CloseReason, ConnId, Counts, Event, Fate, Fault, FaultClass, Machine, Notice, Reject,
    ServerFacts, SiteId, WaiterId,
};
use crate::time::Instant;

/// A machine under test. Whatever it asks for is recorded until a test takes it.
pub(super) struct Rig {
    pub(super) machine: Machine,
    pub(super) now: Instant,
    pub(super) actions: Vec<Action>,
    pub(super) notices: Vec<Notice>,
    next_waiter: u64,
}

pub(super) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(super) fn fault(class: FaultClass) -> Fault {
    Fault::new(class, format!("{class:?} fault"))
}

pub(super) fn config() -> PoolConfig {
    PoolConfig::default()
}

impl Rig {
    /// A machine that has not started.
    pub(super) fn cold(config: PoolConfig) -> Self {
        let now = Instant::from_secs(1000);
        Rig { machine: Machine::new(&config, 7, now), now, actions: Vec::new(), notices: Vec::new(), next_waiter: 1 }
    }

    /// A machine with min_size idle connections.
    pub(super) fn ready(config: PoolConfig) -> Self {
        let mut rig = Rig::cold(config);
        rig.event(Event::Start { lazy: false });
        rig.connect_all();
        rig.actions.clear();
        rig.notices.clear();
        rig
    }

    /// `size` connections open and idle, which is also min_size and max_size.
    pub(super) fn fixed(size: u32) -> Self {
        Rig::ready(PoolConfig { min_size: size, max_size: size, ..config() })
    }

    pub(super) fn event(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.machine.handle(self.now, event, &mut actions);
        for action in actions {
            match action {
                Action::Notice(notice) => self.notices.push(*notice),
                action => self.actions.push(action),
            }
        }
    }

    /// Lets time pass, with a tick at every deadline on the way, and one at the end.
    pub(super) fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        let mut ticks = 0;
        while let Some((at, _)) = self.machine.deadline()
            && at <= end
        {
            self.now = self.now.max(at);
            self.event(Event::Tick);
            ticks += 1;
            assert!(ticks < 100_000, "the machine's deadline does not move");
        }
        self.now = end;
        self.event(Event::Tick);
    }

    /// Like `pass`, but every connect on the way fails with `class` at once. Returns when they started.
    pub(super) fn pass_failing(&mut self, duration: Duration, class: FaultClass) -> Vec<Instant> {
        let end = self.now + duration;
        let mut attempts = Vec::new();
        loop {
            for conn in self.take_connects() {
                attempts.push(self.now);
                self.event(Event::ConnectFailed { conn, fault: Box::new(fault(class)) });
            }
            match self.machine.deadline() {
                Some((at, _)) if at <= end => {
                    self.now = self.now.max(at);
                    self.event(Event::Tick);
                }
                _ => break,
            }
        }
        self.now = end;
        attempts
    }

    /// Like `pass`, but whatever the machine asks for succeeds at once.
    pub(super) fn pass_well(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.connect_all();
        while let Some((at, _)) = self.machine.deadline()
            && at <= end
        {
            self.now = self.now.max(at);
            self.event(Event::Tick);
            self.connect_all();
        }
        self.now = end;
        self.event(Event::Tick);
    }

    /// Lets time pass until the machine asks for a connect.
    pub(super) fn pass_until_connect(&mut self) -> ConnId {
        loop {
            if let Some(conn) = self.take_connects().pop() {
                return conn;
            }
            self.now = self.machine.deadline().expect("a connect is to come").0;
            self.event(Event::Tick);
        }
    }

    /// Connections that are idle or being checked.
    pub(super) fn unlent(&self) -> Vec<ConnId> {
        let unlent = self.machine.slots.iter().filter(|(_, slot)| {
            matches!(slot, crate::pool::slot::Slot::Idle { .. } | crate::pool::slot::Slot::Validating { .. })
        });
        unlent.map(|(index, _)| self.machine.slots.id(index)).collect()
    }

    /// Every connection that is not lent dies, and its slot becomes free.
    pub(super) fn lose_all(&mut self) {
        for conn in self.unlent() {
            self.lost(conn);
        }
        self.take_validates();
        self.close_all();
    }

    /// Every close is done.
    pub(super) fn close_all(&mut self) {
        for (conn, ..) in self.take_closes() {
            self.event(Event::Closed { conn });
        }
    }

    pub(super) fn counts(&self) -> Counts {
        self.machine.counts()
    }

    pub(super) fn acquire_for(&mut self, timeout: Duration) -> WaiterId {
        let waiter = WaiterId(self.next_waiter);
        self.next_waiter += 1;
        let deadline = self.now + timeout;
        self.event(Event::Acquire { waiter, deadline, leak_after: None, site: SiteId(1) });
        waiter
    }

    pub(super) fn acquire(&mut self) -> WaiterId {
        self.acquire_for(secs(30))
    }

    /// An acquire that must be granted at once.
    pub(super) fn lease(&mut self) -> ConnId {
        let waiter = self.acquire();
        self.granted(waiter).expect("an idle connection")
    }

    /// An acquire after `delay`, without a tick in between.
    pub(super) fn acquire_later(&mut self, delay: Duration) -> WaiterId {
        self.now = self.now + delay;
        self.acquire()
    }

    /// Like `lease`, where a round trip may come first.
    pub(super) fn lease_after_check(&mut self) -> ConnId {
        let waiter = self.acquire();
        self.connect_all();
        self.granted(waiter).expect("a connection after a check")
    }

    pub(super) fn release(&mut self, conn: ConnId, fate: Fate) {
        let fault = (fate == Fate::Broken).then(|| Box::new(fault(FaultClass::Transient)));
        self.event(Event::Release { conn, fate, queries: 1, fault });
    }

    pub(super) fn connected(&mut self, conn: ConnId) {
        self.event(Event::Connected { conn, facts: ServerFacts::default() });
    }

    pub(super) fn connect_failed(&mut self, conn: ConnId, class: FaultClass) {
        self.event(Event::ConnectFailed { conn, fault: Box::new(fault(class)) });
    }

    pub(super) fn lost(&mut self, conn: ConnId) {
        self.event(Event::Lost { conn, fault: Box::new(fault(FaultClass::Transient)) });
    }

    /// Answers connects, checks, resets and closes with success until nothing is asked any more.
    pub(super) fn connect_all(&mut self) {
        while self.answer_one() {}
    }

    fn answer_one(&mut self) -> bool {
        let asks = |action: &Action| {
            matches!(
                action,
                Action::Connect { .. } | Action::Validate { .. } | Action::Reset { .. } | Action::Close { .. }
            )
        };
        let Some(place) = self.actions.iter().position(asks) else { return false };
        match self.actions.remove(place) {
            Action::Connect { conn, .. } => self.connected(conn),
            Action::Validate { conn, .. } => self.event(Event::Validated { conn }),
            Action::Reset { conn, .. } => self.event(Event::Reset { conn }),
            Action::Close { conn, .. } => self.event(Event::Closed { conn }),
            _ => unreachable!("only those were picked"),
        }
        true
    }

    /// Takes the recorded actions that `pick` maps to something.
    pub(super) fn take<T>(&mut self, mut pick: impl FnMut(&Action) -> Option<T>) -> Vec<T> {
        let mut taken = Vec::new();
        self.actions.retain(|action| match pick(action) {
            Some(found) => {
                taken.push(found);
                false
            }
            None => true,
        });
        taken
    }

    pub(super) fn take_connects(&mut self) -> Vec<ConnId> {
        self.take(|action| if let Action::Connect { conn, .. } = action { Some(*conn) } else { None })
    }

    pub(super) fn take_validates(&mut self) -> Vec<ConnId> {
        self.take(|action| if let Action::Validate { conn, .. } = action { Some(*conn) } else { None })
    }

    pub(super) fn take_closes(&mut self) -> Vec<(ConnId, CloseReason, CloseHow)> {
        self.take(|action| match action {
            Action::Close { conn, reason, how, .. } => Some((*conn, *reason, *how)),
            _ => None,
        })
    }

    pub(super) fn take_grants(&mut self) -> Vec<(WaiterId, ConnId)> {
        self.take(|action| match action {
            Action::Grant { waiter, conn } => Some((*waiter, *conn)),
            _ => None,
        })
    }

    pub(super) fn granted(&mut self, who: WaiterId) -> Option<ConnId> {
        let mut grants = self.take(|action| match action {
            Action::Grant { waiter, conn } if *waiter == who => Some(*conn),
            _ => None,
        });
        grants.pop()
    }

    pub(super) fn rejected(&mut self, who: WaiterId) -> Option<Reject> {
        let mut rejects = self.take(|action| match action {
            Action::Reject { waiter, reason } if *waiter == who => Some(reason.clone()),
            _ => None,
        });
        rejects.pop()
    }

    /// How many recorded notices `pick` likes.
    pub(super) fn noticed(&self, pick: impl Fn(&Notice) -> bool) -> usize {
        self.notices.iter().filter(|notice| pick(notice)).count()
    }
}
