//! Carries out a plan: the machine is told what happens, and the reference judges what it does.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::super::rig::secs;
use super::guarantee::{Broken, Evidence, Guarantee};
use super::plan::{Plan, Step};
use super::reference::{Is, Phase, Reference, Verdict, ensure};
use crate::config::PoolConfig;
use crate::pool::{Action, ConnId, Event, Fate, Fault, FaultClass, Machine, ServerFacts, SiteId, State, WaiterId};
use crate::time::Instant;

pub(super) const BEGIN: Instant = Instant::from_secs(5);

pub(super) struct World {
    pub(super) machine: Machine,
    pub(super) reference: Reference,
    /// The guarantee whose costlier checks are made, too.
    focus: Option<Guarantee>,
    seed: u64,
    now: Instant,
    next_waiter: u64,
    pub(super) told: Vec<(Instant, Event)>,
    answers: Vec<Vec<Action>>,
}

/// Runs a plan to its end. What broke, if anything, what it was told until then, and what was put to the test.
pub(super) fn run(plan: &Plan, focus: Option<Guarantee>) -> (Result<(), Broken>, World) {
    let mut world = World::new(&plan.settings.config(), plan.seed, focus);
    let ended = catch_unwind(AssertUnwindSafe(|| world.carry_out(plan)));
    let verdict = ended.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let what = format!("the machine panicked: {}", text.unwrap_or_default());
        // A panic is everybody's failure.
        Err(Broken { guarantee: focus.unwrap_or(Guarantee::TrueNumbers), what })
    });
    (verdict, world)
}

impl World {
    pub(super) fn new(config: &PoolConfig, seed: u64, focus: Option<Guarantee>) -> Self {
        World {
            machine: Machine::new(config, seed, BEGIN),
            reference: Reference::new(config, BEGIN),
            focus,
            seed,
            now: BEGIN,
            next_waiter: 0,
            told: Vec::new(),
            answers: Vec::new(),
        }
    }

    pub(super) fn evidence(&self) -> &Evidence {
        &self.reference.evidence
    }

    /// What is planned, without the end.
    pub(super) fn begin(&mut self, plan: &Plan) -> Verdict {
        self.tell(Event::Start { lazy: plan.lazy })?;
        plan.steps.iter().try_for_each(|step| self.step(step))
    }

    fn carry_out(&mut self, plan: &Plan) -> Verdict {
        self.begin(plan)?;
        if self.is_open() {
            self.heal()?;
            self.end()?;
        }
        if self.focus == Some(Guarantee::Deterministic) {
            self.replays()?;
        }
        Ok(())
    }

    fn is_open(&self) -> bool {
        !matches!(self.reference.phase, Phase::Ending { .. } | Phase::Over)
    }

    /// The next event comes at this time.
    pub(super) fn set_time(&mut self, at: Instant) {
        self.now = self.now.max(at);
    }

    /// Tells the machine of `event` now, after a tick if something is due, and has the reference judge.
    pub(super) fn tell(&mut self, event: Event) -> Verdict {
        let is_due = self.machine.deadline().is_some_and(|(at, _)| at <= self.now);
        if is_due && !matches!(event, Event::Tick | Event::Cancel { .. }) {
            if self.focus == Some(Guarantee::DueFirst) {
                self.does_what_is_due_first(&event)?;
            }
            self.tell_once(Event::Tick)?;
        }
        self.tell_once(event)
    }

    fn tell_once(&mut self, event: Event) -> Verdict {
        if self.focus == Some(Guarantee::Deterministic) {
            self.ignores_a_clock_that_goes_back(&event)?;
        }
        let mut actions = Vec::new();
        self.told.push((self.now, event.clone()));
        self.machine.handle(self.now, event.clone(), &mut actions);
        self.machine.check_invariants();
        self.reference.judge(self.now, &event, &actions, &self.machine)?;
        self.answers.push(actions);
        if self.focus == Some(Guarantee::SpuriousTick) {
            self.ignores_spurious_ticks()?;
        }
        Ok(())
    }

    /// The event with what is due gives the same as a tick and then the event.
    fn does_what_is_due_first(&mut self, event: &Event) -> Verdict {
        self.reference.evidence.saw(Guarantee::DueFirst);
        let (mut at_once, mut ticked) = (self.machine.clone(), self.machine.clone());
        let (mut one, mut two) = (Vec::new(), Vec::new());
        at_once.handle(self.now, event.clone(), &mut one);
        ticked.handle(self.now, Event::Tick, &mut two);
        ticked.handle(self.now, event.clone(), &mut two);
        ensure!(one == two, DueFirst, "{event:?} gives {one:?}, and after a tick {two:?}");
        ensure!(at_once == ticked, DueFirst, "{event:?} leaves another machine than after a tick");
        Ok(())
    }

    fn ignores_spurious_ticks(&mut self) -> Verdict {
        let until = self.machine.deadline().map_or(self.now + secs(3600), |(at, _)| at);
        let between = self.now + (until - self.now) / 2;
        for at in [self.now, between] {
            self.reference.evidence.saw(Guarantee::SpuriousTick);
            let mut twin = self.machine.clone();
            let mut actions = Vec::new();
            twin.handle(at, Event::Tick, &mut actions);
            ensure!(actions.is_empty(), SpuriousTick, "a tick at {at:?}, before {until:?}, gives {actions:?}");
            // It may look again at what it has settled.
            (twin.now, twin.unsettled) = (self.machine.now, self.machine.unsettled);
            ensure!(twin == self.machine, SpuriousTick, "a tick at {at:?}, before {until:?}, changes something");
        }
        Ok(())
    }

    fn ignores_a_clock_that_goes_back(&mut self, event: &Event) -> Verdict {
        let mut right = self.machine.clone();
        right.handle(self.now, Event::Tick, &mut Vec::new());
        let mut wrong = right.clone();
        let (mut one, mut two) = (Vec::new(), Vec::new());
        right.handle(self.now, event.clone(), &mut one);
        wrong.handle(self.now.saturating_sub(secs(1)), event.clone(), &mut two);
        ensure!(one == two && right == wrong, Deterministic, "{event:?} of a second ago is taken as such");
        Ok(())
    }

    /// The whole run again, with a machine that is written down and read back on the way.
    fn replays(&mut self) -> Verdict {
        let config = self.reference.config.clone();
        let mut machine = Machine::new(&config, self.seed, BEGIN);
        let middle = self.told.len() / 2;
        for (index, ((at, event), answer)) in self.told.iter().zip(&self.answers).enumerate() {
            self.reference.evidence.saw(Guarantee::Deterministic);
            if index == middle {
                machine = restored(&machine)?;
            }
            let mut actions = Vec::new();
            machine.handle(*at, event.clone(), &mut actions);
            ensure!(actions == *answer, Deterministic, "event {index} ({event:?}) gives {actions:?}, not {answer:?}");
        }
        ensure!(machine == self.machine, Deterministic, "the same events leave another machine");
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Verdict {
        match *step {
            Step::Acquire { wait, leak_after } => {
                let waiter = WaiterId(self.next_waiter);
                self.next_waiter += 1;
                self.tell(Event::Acquire { waiter, deadline: self.now + wait, leak_after, site: SiteId(0) })
            }
            Step::Cancel { nth } => {
                let line: Vec<WaiterId> = self.reference.line.iter().map(|waiter| waiter.id).collect();
                choose(&line, nth).map_or(Ok(()), |waiter| self.tell(Event::Cancel { waiter }))
            }
            Step::Release { nth, fate, queries } => {
                let fault = (fate == Fate::Broken).then(|| fault(FaultClass::Transient));
                self.with(nth, is_lent, |conn| Event::Release { conn, fate, queries, fault })
            }
            Step::CheckFailed { nth } => {
                self.with(nth, is_lent, |conn| Event::CheckFailed { conn, fault: fault(FaultClass::Transient) })
            }
            Step::Connect { nth, fault: None } => {
                self.with(nth, is_connecting, |conn| Event::Connected { conn, facts: ServerFacts::default() })
            }
            Step::Connect { nth, fault: Some(class) } => {
                self.with(nth, is_connecting, |conn| Event::ConnectFailed { conn, fault: fault(class) })
            }
            Step::Check { nth, fault: None } => self.with(nth, is_checking, |conn| Event::Validated { conn }),
            Step::Check { nth, fault: Some(class) } => {
                self.with(nth, is_checking, |conn| Event::ValidationFailed { conn, fault: fault(class) })
            }
            Step::Reset { nth, fault: None } => self.with(nth, is_resetting, |conn| Event::Reset { conn }),
            Step::Reset { nth, fault: Some(class) } => {
                self.with(nth, is_resetting, |conn| Event::ResetFailed { conn, fault: fault(class) })
            }
            Step::Lost { nth, class } => {
                let unlent = |is: &Is| *is == Is::Idle || is_checking(is);
                self.with(nth, unlent, |conn| Event::Lost { conn, fault: fault(class) })
            }
            Step::Touched { nth } => self.with(nth, |is| *is == Is::Idle, |conn| Event::Touched { conn }),
            Step::Closed { nth } => self.with(nth, is_closing, |conn| Event::Closed { conn }),
            Step::Pass { time } => {
                self.now = self.now + time;
                Ok(())
            }
            Step::ToDeadline => self.tick_at_deadline(),
            Step::Pause => self.tell(Event::Pause),
            Step::Resume => self.tell(Event::Resume),
            Step::Recycle => self.tell(Event::Recycle),
            Step::Resize { min, max } => self.tell(Event::Resize { min_size: min, max_size: max }),
            Step::Shutdown { after } => self.tell(Event::Shutdown { deadline: self.now + after }),
            Step::Noise { nth } => self.noise(nth),
        }
    }

    /// Tells of something that happens to the nth connection that it can happen to, if there is one.
    fn with(&mut self, nth: usize, pick: fn(&Is) -> bool, event: impl FnOnce(ConnId) -> Event) -> Verdict {
        let all = self.all(pick);
        choose(&all, nth).map_or(Ok(()), |conn| self.tell(event(conn)))
    }

    fn all(&self, pick: fn(&Is) -> bool) -> Vec<ConnId> {
        self.reference.conns.iter().filter(|conn| pick(&conn.is)).map(|conn| conn.id).collect()
    }

    fn tick_at_deadline(&mut self) -> Verdict {
        if let Some((at, _)) = self.machine.deadline() {
            self.now = self.now.max(at);
        }
        self.tell(Event::Tick)
    }

    /// One holder: a stale or foreign id changes nothing.
    fn noise(&mut self, nth: usize) -> Verdict {
        self.tell(Event::Tick)?;
        let stale = self.reference.generations.iter().map(|(slot, generation)| (*slot, generation.wrapping_sub(1)));
        let mut ids: Vec<ConnId> = stale.map(|(slot, generation)| ConnId { slot, generation }).collect();
        ids.push(ConnId { slot: 99, generation: 1 });
        let conn = ids[nth % ids.len()];
        let fault = fault(FaultClass::Transient);
        let events = [
            Event::Connected { conn, facts: ServerFacts::default() },
            Event::ConnectFailed { conn, fault: fault.clone() },
            Event::Validated { conn },
            Event::ValidationFailed { conn, fault: fault.clone() },
            Event::Reset { conn },
            Event::ResetFailed { conn, fault: fault.clone() },
            Event::Touched { conn },
            Event::Lost { conn, fault: fault.clone() },
            Event::Closed { conn },
            Event::CheckFailed { conn, fault },
            Event::Release { conn, fate: Fate::Clean, queries: 9, fault: None },
            Event::Cancel { waiter: WaiterId(u64::MAX) },
        ];
        let before = self.machine.clone();
        for event in events {
            let mut actions = Vec::new();
            let name = format!("{event:?}");
            self.machine.handle(self.now, event, &mut actions);
            ensure!(actions.is_empty(), OneHolder, "{name}: a stale id gives {actions:?}");
            ensure!(self.machine == before, OneHolder, "{name}: a stale id changes something");
        }
        Ok(())
    }

    /// The server is well, everybody answers at once, every lease comes back: everybody is served, min_size returns.
    fn heal(&mut self) -> Verdict {
        self.tell(Event::Resume)?;
        let end = self.now + secs(240);
        loop {
            let healing = [
                Step::Connect { nth: 0, fault: None },
                Step::Check { nth: 0, fault: None },
                Step::Reset { nth: 0, fault: None },
                Step::Closed { nth: 0 },
                Step::Release { nth: 0, fate: Fate::Clean, queries: 1 },
            ];
            let before = self.told.len();
            for step in &healing {
                self.step(step)?;
            }
            if !self.is_open() {
                return Ok(());
            }
            if self.told.len() > before {
                continue;
            }
            // Miri has no time for minutes of ticks.
            if cfg!(miri) && self.is_well() {
                break;
            }
            // Fresh connections are replaced for ever: that is no reason to go on.
            match self.machine.deadline() {
                Some((at, _)) if at <= end => self.tick_at_deadline()?,
                _ => break,
            }
        }
        let line = &self.reference.line;
        ensure!(line.is_empty(), NoStranding, "all is well, and {line:?} wait");
        self.reference.evidence.saw(Guarantee::MinRestored);
        let counts = self.machine.counts();
        let open = counts.total - counts.closing - counts.connecting;
        ensure!(open >= counts.min, MinRestored, "all is well, and {counts:?}");
        let health = self.machine.health(self.now);
        let may_be_replacing = self.reference.config.max_connection_lifetime <= secs(60);
        let well = health.state == State::Healthy || may_be_replacing;
        ensure!(well, MinRestored, "all is well, and {:?}", health.reasons);
        Ok(())
    }

    fn is_well(&self) -> bool {
        let counts = self.machine.counts();
        let open = counts.total - counts.closing - counts.connecting;
        let state = self.machine.health(self.now).state;
        self.reference.line.is_empty() && open >= counts.min && state == State::Healthy
    }

    /// A shutdown during which nobody answers.
    fn end(&mut self) -> Verdict {
        let deadline = self.now + secs(3);
        self.tell(Event::Shutdown { deadline })?;
        self.step(&Step::Acquire { wait: secs(30), leak_after: None })?;
        while self.machine.deadline().is_some() {
            self.tick_at_deadline()?;
        }
        ensure!(self.machine.state() == State::Terminated, BoundedEnd, "it does not end");
        ensure!(
            self.now <= deadline + secs(1),
            BoundedEnd,
            "it ends at {:?}, not a second after {deadline:?}",
            self.now
        );
        Ok(())
    }
}

/// Read back from what was written down, in two formats.
fn restored(machine: &Machine) -> Result<Machine, Broken> {
    let wrong = |what: String| Broken { guarantee: Guarantee::Deterministic, what };
    let text = serde_json::to_string(machine).map_err(|error| wrong(error.to_string()))?;
    let from_text: Machine = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    ensure!(from_text == *machine, Deterministic, "a machine differs when it is read back from JSON");
    let bytes = postcard::to_stdvec(machine).map_err(|error| wrong(error.to_string()))?;
    let from_bytes: Machine = postcard::from_bytes(&bytes).map_err(|error| wrong(error.to_string()))?;
    ensure!(from_bytes == *machine, Deterministic, "a machine differs when it is read back from bytes");
    Ok(from_bytes)
}

fn is_lent(is: &Is) -> bool {
    matches!(is, Is::Lent(_))
}

fn is_connecting(is: &Is) -> bool {
    matches!(is, Is::Connecting { .. })
}

fn is_checking(is: &Is) -> bool {
    matches!(is, Is::Checking { .. })
}

fn is_resetting(is: &Is) -> bool {
    matches!(is, Is::Resetting { .. })
}

fn is_closing(is: &Is) -> bool {
    matches!(is, Is::Closing { .. })
}

fn choose<T: Copy>(from: &[T], nth: usize) -> Option<T> {
    if from.is_empty() { None } else { Some(from[nth % from.len()]) }
}

fn fault(class: FaultClass) -> Box<Fault> {
    Box::new(super::paste::fault(class))
}
