//! Random event sequences against a model of the driver that answers late, wrongly or not at all. The machine checks
//! itself after every event; the model checks what can be seen from outside.

use std::collections::{BTreeMap, BTreeSet};

use quickcheck::{Gen, QuickCheck, TestResult};

use super::rig::{config, ms, secs};
use crate::config::{PoolConfig, ValidationPolicy};
use crate::journal::Check;
use crate::pool::{
    Action, ConnId, Event, Fate, Fault, FaultClass, Machine, Notice, ServerFacts, SiteId, State, WaiterId,
};
use crate::tests::cases;
use crate::time::Instant;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Known {
    Connecting,
    Open,
    Validating,
    Resetting,
    Lent(WaiterId),
    Closing(Instant),
}

struct Model {
    machine: Machine,
    now: Instant,
    conns: BTreeMap<ConnId, Known>,
    queue: BTreeSet<WaiterId>,
    next: u64,
    allowed: u32,
    terminated: bool,
    /// A machine that was written down and read back in the middle: it must go on as the original does.
    restored: Option<Machine>,
    told: Vec<(Instant, Event, Check)>,
}

impl Model {
    fn new(config: &PoolConfig, seed: u64) -> Self {
        let now = Instant::from_secs(5);
        Model {
            machine: Machine::new(config, seed, now),
            now,
            conns: BTreeMap::new(),
            queue: BTreeSet::new(),
            next: 0,
            allowed: config.max_size,
            terminated: false,
            restored: None,
            told: Vec::new(),
        }
    }

    fn feed(&mut self, event: Event) {
        if let Event::Acquire { waiter, .. } = event {
            self.queue.insert(waiter);
        }
        if let Event::Resize { max_size, .. } = event {
            self.allowed = self.allowed.max(max_size);
        }
        let mut actions = Vec::new();
        let mut twin = self.machine.clone();
        self.machine.handle(self.now, event.clone(), &mut actions);
        let mut again = Vec::new();
        twin.handle(self.now, event.clone(), &mut again);
        assert!(twin == self.machine && again == actions, "the same event gave something else");
        if let Some(restored) = &mut self.restored {
            again.clear();
            restored.handle(self.now, event.clone(), &mut again);
            assert!(*restored == self.machine && again == actions, "a restored machine went another way");
        }
        self.told.push((self.now, event, Check::of(&actions)));
        for action in actions {
            self.observe(action);
        }
        let now = self.now;
        self.conns.retain(|_, known| !matches!(known, Known::Closing(deadline) if *deadline <= now));
        assert!(self.conns.len() as u32 <= self.allowed, "Cap from outside: {:?}", self.conns);
        let counts = self.machine.counts();
        let sum = counts.idle + counts.active + counts.connecting + counts.validating + counts.resetting;
        assert_eq!(counts.total, sum + counts.closing, "True numbers from outside");
        assert_eq!(counts.waiting as usize, self.queue.len(), "One answer: who waits");
        assert_eq!(counts.active as usize, self.lent().len(), "One holder from outside");
    }

    fn observe(&mut self, action: Action) {
        match action {
            Action::Connect { conn, deadline, .. } => {
                assert!(deadline > self.now);
                let reused =
                    self.conns.iter().find(|(other, _)| other.slot == conn.slot).map(|(id, known)| (*id, *known));
                if let Some((old, known)) = reused {
                    assert!(matches!(known, Known::Closing(due) if due <= self.now), "slot taken from {known:?}");
                    self.conns.remove(&old);
                }
                assert!(self.conns.insert(conn, Known::Connecting).is_none(), "an id was used twice");
            }
            Action::Validate { conn, .. } => self.change(conn, Known::Validating, |k| k == Known::Open),
            Action::Reset { conn, .. } => self.change(conn, Known::Resetting, |k| k == Known::Open),
            Action::Close { conn, deadline, .. } => {
                self.change(conn, Known::Closing(deadline), |k| !matches!(k, Known::Closing(_)));
            }
            Action::Grant { waiter, conn } => {
                assert_eq!(self.queue.pop_first(), Some(waiter), "FIFO: somebody was overtaken");
                self.change(conn, Known::Lent(waiter), |k| k == Known::Open);
            }
            Action::Reject { waiter, .. } => assert!(self.queue.remove(&waiter), "One answer: {waiter:?} had one"),
            Action::Notice(notice) => {
                if let Notice::StateChanged { from, to, .. } = *notice {
                    assert!(legal(from, to), "R-8.4: {from:?} to {to:?}");
                    self.terminated |= to == State::Terminated;
                }
            }
        }
    }

    fn change(&mut self, conn: ConnId, to: Known, from: impl Fn(Known) -> bool) {
        let known = self.conns.get_mut(&conn).expect("an action names a connection that exists");
        assert!(from(*known), "{conn:?} cannot go from {known:?} to {to:?}");
        *known = to;
    }

    fn lent(&self) -> Vec<(ConnId, WaiterId)> {
        let lent = |(conn, known): (&ConnId, &Known)| match known {
            Known::Lent(waiter) => Some((*conn, *waiter)),
            _ => None,
        };
        self.conns.iter().filter_map(lent).collect()
    }

    fn in_state(&self, pick: impl Fn(Known) -> bool) -> Vec<ConnId> {
        self.conns.iter().filter(|(_, known)| pick(**known)).map(|(conn, _)| *conn).collect()
    }

    fn acquire(&mut self, pick: u64) {
        let waiter = WaiterId(self.next);
        self.next += 1;
        let timeout = [ms(0), ms(1), ms(300), secs(3), secs(30)][pick as usize % 5];
        let leak_after = [None, Some(ms(50)), Some(std::time::Duration::MAX)][pick as usize % 3];
        self.feed(Event::Acquire { waiter, deadline: self.now + timeout, leak_after, site: SiteId(0) });
    }

    fn release(&mut self, conn: ConnId, fate: Fate) {
        self.conns.insert(conn, Known::Open);
        let fault = (fate == Fate::Broken).then(|| Box::new(fault(0)));
        self.feed(Event::Release { conn, fate, queries: 2, fault });
    }

    fn tick(&mut self) {
        if let Some((at, _)) = self.machine.deadline() {
            self.now = self.now.max(at);
        }
        self.feed(Event::Tick);
    }

    /// One random step: `what` chooses the kind, `pick` the rest.
    fn step(&mut self, what: u8, pick: u64) {
        let class = pick / 7;
        match what % 32 {
            0..=5 => self.acquire(pick),
            6..=9 => {
                if let Some((conn, _)) = choose(&self.lent(), pick) {
                    let fates = [
                        Fate::Clean,
                        Fate::Clean,
                        Fate::Clean,
                        Fate::Unused,
                        Fate::Dirty,
                        Fate::Broken,
                        Fate::Discarded,
                    ];
                    self.release(conn, fates[class as usize % fates.len()]);
                }
            }
            10 => {
                if let Some(waiter) = choose(&self.queue.iter().copied().collect::<Vec<_>>(), pick) {
                    self.queue.remove(&waiter);
                    self.feed(Event::Cancel { waiter });
                }
            }
            11..=14 => self.answer_connect(pick, class.is_multiple_of(2), class),
            15..=17 => self.answer(pick, !class.is_multiple_of(3)),
            18 | 19 => self.answer_close(pick),
            20..=22 => {
                self.now = self.now + ms(pick % 400);
                self.feed(Event::Tick);
            }
            23 | 24 => self.tick(),
            25 => {
                self.now = self.now + secs(pick % 200);
                self.feed(Event::Tick);
            }
            26 => self.idle_event(pick, class),
            27 => self.check_failed(pick),
            28 => self.feed(Event::Resize { min_size: (pick % 5) as u32, max_size: (class % 7) as u32 }),
            29 => self.feed([Event::Pause, Event::Resume, Event::Resume][pick as usize % 3].clone()),
            30 => self.feed(Event::Recycle),
            _ => self.noise(pick),
        }
    }

    fn answer_connect(&mut self, pick: u64, success: bool, class: u64) {
        let Some(conn) = choose(&self.in_state(|k| k == Known::Connecting), pick) else { return };
        if success {
            self.conns.insert(conn, Known::Open);
            self.feed(Event::Connected { conn, facts: ServerFacts::default() });
        } else {
            self.conns.remove(&conn);
            self.feed(Event::ConnectFailed { conn, fault: Box::new(fault(class)) });
        }
    }

    fn answer(&mut self, pick: u64, success: bool) {
        let Some(conn) = choose(&self.in_state(|k| matches!(k, Known::Validating | Known::Resetting)), pick) else {
            return;
        };
        let validating = self.conns[&conn] == Known::Validating;
        self.conns.insert(conn, Known::Open);
        let fault = Box::new(fault(0));
        self.feed(match (validating, success) {
            (true, true) => Event::Validated { conn },
            (true, false) => Event::ValidationFailed { conn, fault },
            (false, true) => Event::Reset { conn },
            (false, false) => Event::ResetFailed { conn, fault },
        });
    }

    fn answer_close(&mut self, pick: u64) {
        if let Some(conn) = choose(&self.in_state(|k| matches!(k, Known::Closing(_))), pick) {
            self.conns.remove(&conn);
            self.feed(Event::Closed { conn });
        }
    }

    fn idle_event(&mut self, pick: u64, class: u64) {
        if let Some(conn) = choose(&self.in_state(|k| k == Known::Open), pick) {
            let lost = Event::Lost { conn, fault: Box::new(fault(0)) };
            self.feed(if class.is_multiple_of(2) { lost } else { Event::Touched { conn } });
        }
    }

    fn check_failed(&mut self, pick: u64) {
        if let Some((conn, waiter)) = choose(&self.lent(), pick) {
            self.conns.insert(conn, Known::Open);
            self.queue.insert(waiter);
            self.feed(Event::CheckFailed { conn, fault: Box::new(fault(0)) });
        }
    }

    fn steps(&mut self, steps: &[u32]) {
        for step in steps {
            let step = scatter(u64::from(*step));
            self.step((step >> 50) as u8, (step >> 8) & 0xff_ffff);
        }
    }

    /// Events that name what does not exist, or no longer.
    fn noise(&mut self, pick: u64) {
        let conn = ConnId { slot: (pick % 9) as u32, generation: 0 };
        let fault = Box::new(fault(0));
        self.feed(Event::Tick);
        let ticked = self.machine.clone();
        let event = match pick % 11 {
            0 => Event::Connected { conn, facts: ServerFacts::default() },
            1 => Event::ConnectFailed { conn, fault },
            2 => Event::Validated { conn },
            3 => Event::ValidationFailed { conn, fault },
            4 => Event::Reset { conn },
            5 => Event::ResetFailed { conn, fault },
            6 => Event::Touched { conn },
            7 => Event::Lost { conn, fault },
            8 => Event::Closed { conn },
            9 => Event::CheckFailed { conn, fault },
            _ => Event::Release { conn, fate: Fate::Clean, queries: 9, fault: None },
        };
        self.feed(event);
        self.feed(Event::Cancel { waiter: WaiterId(u64::MAX) });
        assert!(ticked == self.machine, "a stale id changed something");
    }

    /// The server is well, everybody answers at once, every lease comes back.
    fn heal(&mut self) {
        self.feed(Event::Resume);
        let end = self.now + secs(120);
        for _ in 0..100_000 {
            while !self.in_state(|k| k == Known::Connecting).is_empty() {
                self.answer_connect(0, true, 0);
            }
            while !self.in_state(|k| matches!(k, Known::Validating | Known::Resetting)).is_empty() {
                self.answer(0, true);
            }
            while !self.in_state(|k| matches!(k, Known::Closing(_))).is_empty() {
                self.answer_close(0);
            }
            if let Some((conn, _)) = self.lent().first() {
                self.release(*conn, Fate::Clean);
                continue;
            }
            let busy = |k| matches!(k, Known::Connecting | Known::Validating | Known::Resetting | Known::Closing(_));
            if !self.in_state(busy).is_empty() {
                continue;
            }
            match self.machine.deadline() {
                Some((at, _)) if at <= end => self.tick(),
                _ => break,
            }
        }
        let counts = self.machine.counts();
        assert!(self.now + secs(120) >= end && self.queue.is_empty(), "No stranding: {counts:?} {:?}", self.machine);
        assert!(counts.idle >= counts.min && counts.active == 0, "Min restored: {counts:?} {:?}", self.machine);
        assert_eq!(self.machine.state(), State::Healthy, "{:?}", self.machine.health(self.now).reasons);
    }

    /// A shutdown during which nobody answers.
    fn end(&mut self) {
        let begun = self.now;
        let deadline = self.now + secs(3);
        self.feed(Event::Shutdown { deadline });
        assert!(self.queue.is_empty());
        self.acquire(4);
        assert!(self.queue.is_empty(), "closed pools reject at once");
        while self.machine.deadline().is_some() {
            self.tick();
        }
        assert!(self.terminated && self.machine.counts().total == 0);
        assert!(self.now - begun <= secs(4), "Bounded end");
    }
}

fn choose<T: Copy>(from: &[T], pick: u64) -> Option<T> {
    if from.is_empty() { None } else { Some(from[pick as usize % from.len()]) }
}

fn fault(pick: u64) -> Fault {
    let class = [
        FaultClass::Transient,
        FaultClass::Transient,
        FaultClass::NotYet,
        FaultClass::Capacity,
        FaultClass::Permanent,
        FaultClass::WrongRole,
    ][pick as usize % 6];
    Fault::plain(class, "random")
}

fn legal(from: State, to: State) -> bool {
    use State::{Degraded, Healthy, Initializing, Recovering, ShuttingDown, Terminated, Unhealthy};
    match from {
        Initializing => matches!(to, Healthy | Terminated | ShuttingDown),
        Healthy | Degraded | Unhealthy | Recovering => {
            matches!(to, Healthy | Degraded | Unhealthy | Recovering | ShuttingDown)
        }
        ShuttingDown => to == Terminated,
        Terminated => false,
    }
}

fn any_config(seed: u64) -> PoolConfig {
    let max_size = 1 + (seed % 6) as u32;
    PoolConfig {
        max_size,
        min_size: ((seed >> 4) as u32 % 4).min(max_size),
        max_connecting: 1 + (seed >> 8) as u32 % 4,
        max_waiting: if (seed >> 11).is_multiple_of(3) { 3 } else { 1000 },
        validation: [ValidationPolicy::Interval, ValidationPolicy::Always, ValidationPolicy::Suspect]
            [(seed >> 14) as usize % 3],
        reset_on_release: (seed >> 17).is_multiple_of(2),
        max_queries: if (seed >> 19).is_multiple_of(2) { 5 } else { 0 },
        max_connection_lifetime: secs((seed >> 22) % 3 * 40),
        outage_grace: ms((seed >> 26) % 3 * 1000),
        demand_probe_interval: ms((seed >> 30) % 3 * 500),
        hosts: 1 + (seed >> 34) as u16 % 2,
        ..config()
    }
}

fn scatter(step: u64) -> u64 {
    let mixed = (step ^ 0x5851_f42d_4c95_7f2d).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

#[test]
fn random_sequences_keep_every_guarantee_and_heal() {
    fn property(seed: u64, steps: Vec<u32>) -> TestResult {
        let config = any_config(scatter(seed));
        let mut model = Model::new(&config, seed);
        model.feed(Event::Start { lazy: true });
        model.steps(&steps);
        model.heal();
        model.end();
        TestResult::passed()
    }
    QuickCheck::new().rng(Gen::new(400)).tests(cases(500)).quickcheck(property as fn(u64, Vec<u32>) -> TestResult);
}

#[test]
fn a_random_prefix_survives_serialisation() {
    fn property(seed: u64, steps: Vec<u32>) -> bool {
        let mut model = Model::new(&any_config(scatter(seed)), seed);
        model.feed(Event::Start { lazy: false });
        model.steps(&steps);
        let text = serde_json::to_string(&model.machine).unwrap();
        serde_json::from_str::<Machine>(&text).unwrap() == model.machine
    }
    QuickCheck::new().rng(Gen::new(60)).tests(cases(60)).quickcheck(property as fn(u64, Vec<u32>) -> bool);
}

#[test]
fn a_machine_restored_in_the_middle_goes_on_as_the_original() {
    fn property(seed: u64, before: Vec<u32>, after: Vec<u32>) -> bool {
        let mut model = Model::new(&any_config(scatter(seed)), seed);
        model.feed(Event::Start { lazy: false });
        model.steps(&before);
        let bytes = postcard::to_stdvec(&model.machine).unwrap();
        let restored: Machine = postcard::from_bytes(&bytes).unwrap();
        assert!(restored == model.machine);
        model.restored = Some(restored);
        model.steps(&after);
        true
    }
    QuickCheck::new().rng(Gen::new(200)).tests(cases(200)).quickcheck(property as fn(u64, Vec<u32>, Vec<u32>) -> bool);
}

/// What a machine was told by a random run and answered, from the `skip`th event on: the machine before, the events,
/// the machine after.
pub(crate) fn recorded(seed: u64, steps: &[u32], skip: usize) -> (Machine, Vec<(Instant, Event, Check)>, Machine) {
    let mut model = Model::new(&any_config(scatter(seed)), seed);
    model.feed(Event::Start { lazy: true });
    model.steps(&steps[..skip]);
    let start = model.machine.clone();
    model.told.clear();
    model.steps(&steps[skip..]);
    (start, model.told, model.machine)
}

#[test]
fn shutdown_at_any_moment_ends_in_time() {
    fn property(seed: u64, steps: Vec<u32>) -> bool {
        let mut model = Model::new(&any_config(scatter(seed)), seed);
        model.feed(Event::Start { lazy: !seed.is_multiple_of(3) });
        model.steps(&steps);
        if model.machine.state() != State::Terminated {
            model.end();
        }
        true
    }
    QuickCheck::new().rng(Gen::new(150)).tests(cases(500)).quickcheck(property as fn(u64, Vec<u32>) -> bool);
}
