//! What the pool's journal shows: that the machine did the same again, and that the oracle has nothing to object.

use std::sync::Mutex;

use pgweir_core::journal::{Chunk, Dump, Journal, JournalSink, Replay, Stream};
use pgweir_core::pool::{Action, Event, Machine, Notice, Stats};
use pgweir_core::time::Instant;

use super::world::{World, are_true};
use crate::Digest;
use crate::executor::lock;
use crate::oracle::{Oracle, Violation};
use crate::record::Record;
use crate::trace::{Tail, Trace};

/// Everything that the pool recorded.
#[derive(Default)]
pub(super) struct Tape(Mutex<(Stream, Vec<u8>)>);

impl Tape {
    /// What there is so far.
    pub(super) fn bytes(&self) -> Vec<u8> {
        lock(&self.0).1.clone()
    }
}

impl JournalSink for Tape {
    fn dump(&self, _: Dump) {}

    fn is_continuous(&self) -> bool {
        true
    }

    fn append(&self, chunk: Chunk) -> bool {
        let mut tape = lock(&self.0);
        let bytes = tape.0.add(&chunk);
        tape.1.extend(bytes);
        true
    }
}

/// What came of it.
pub(super) struct Judged {
    pub(super) record: Record,
    pub(super) stats: Stats,
    pub(super) digest: Digest,
    pub(super) events: u64,
}

/// Steps shown with a failure.
const TAIL: usize = 40;

type Wrong = (Instant, Violation);

/// Runs the journal again under the eyes of the oracle.
pub(super) fn judge(world: &World) -> Result<Judged, Wrong> {
    let bytes = world.tape.bytes();
    let unreadable = |detail: String| (world.now(), Violation { guarantee: "Replay", detail });
    let journal = Journal::read(&bytes).map_err(|error| unreadable(error.to_string()))?;
    if let Some(loss) = journal.loss() {
        return Err(unreadable(format!("the journal is not whole: {loss}")));
    }
    let mut judge = Judge {
        world,
        oracle: Oracle::new(&world.scenario.pool, world.scenario.timers_late_by),
        record: Record::new(world.scenario.duration, world.scenario.expect.health.len()),
        attempts: Vec::new(),
        looked: 0,
        slept: 0,
        suspensions: world.state().suspensions.clone(),
        tail: Tail::new(TAIL),
    };
    judge.record.outages = std::mem::take(&mut world.state().record.outages);
    let mut replay = Replay::new(&journal);
    while let Some(entry) = replay.peek() {
        judge.looks_until(entry.at, replay.machine());
        let due = judge.due(entry.at, &entry.event, replay.machine());
        let Some(step) = replay.step() else { break };
        if !step.agrees() {
            let detail =
                format!("entry {} ({:?}) was answered otherwise: {:?}", step.number, entry.event, step.actions);
            return Err((entry.at, Violation { guarantee: "Replay", detail }));
        }
        let verdict = judge.step(entry.at, &entry.event, &due, step.actions, step.machine);
        if let Err(violation) = verdict {
            world.state().last = judge.tail.into_lines();
            return Err((entry.at, violation));
        }
    }
    let machine = replay.machine();
    judge.looks_until(Instant::MAX, machine);
    let stats = machine.stats(world.now());
    let verdict = are_true(&world.state(), stats.totals.acquisitions, stats.totals.releases);
    verdict.and_then(|()| judge.oracle.finish(&stats, 0)).map_err(|violation| (world.now(), violation))?;
    let mut digest = world.sim.digest();
    for server in &world.servers {
        digest.add(&server.with(|server, _| server.digest()).to_string());
    }
    let events = journal.entries().len() as u64;
    Ok(Judged { record: judge.record, stats, digest, events })
}

/// The pool's last steps up to `until`, if its journal can be read.
pub(super) fn last_steps(bytes: &[u8], until: Instant) -> Vec<String> {
    let Ok(journal) = Journal::read(bytes) else { return Vec::new() };
    let mut tail = Tail::new(TAIL);
    let mut replay = Replay::new(&journal);
    while replay.peek().is_some_and(|entry| entry.at <= until)
        && let Some(step) = replay.step()
    {
        tail.event(step.entry.at, &step.entry.event);
        step.actions.iter().for_each(|action| tail.action(step.entry.at, action));
    }
    tail.into_lines()
}

struct Judge<'a> {
    world: &'a World,
    oracle: Oracle,
    record: Record,
    /// By slot, the attempt that is under way.
    attempts: Vec<Option<usize>>,
    /// Looks at health that were made.
    looked: usize,
    slept: usize,
    suspensions: Vec<Instant>,
    tail: Tail,
}

impl Judge<'_> {
    /// Health where an expectation asks for it, before anything later happens.
    fn looks_until(&mut self, at: Instant, machine: &Machine) {
        let health = &self.world.scenario.expect.health;
        let mut order: Vec<usize> = (0..health.len()).collect();
        order.sort_by_key(|index| health[*index].at);
        while let Some(index) = order.get(self.looked).filter(|index| Instant::ZERO + health[**index].at < at) {
            self.record.looks[*index] = Some(machine.health(Instant::ZERO + health[*index].at));
            self.looked += 1;
        }
    }

    /// What was due when the event came. The driver tells the machine of an event without a tick before it, and the
    /// answer begins with what was due; the oracle wants to know which is which.
    fn due(&self, now: Instant, event: &Event, machine: &Machine) -> Vec<Action> {
        let mut due = Vec::new();
        let told = matches!(event, Event::Tick | Event::Cancel { .. });
        if !told && machine.deadline().is_some_and(|(at, _)| at <= now) {
            machine.clone().handle(now, Event::Tick, &mut due);
        }
        due
    }

    fn step(
        &mut self,
        now: Instant,
        event: &Event,
        due: &[Action],
        actions: &[Action],
        machine: &Machine,
    ) -> Result<(), Violation> {
        let first = actions.iter().zip(due).take_while(|(action, due)| action == due).count();
        let (first, then) = actions.split_at(first);
        if !first.is_empty() {
            self.told(now, &Event::Tick, first)?;
        }
        self.told(now, event, then)?;
        let counts = machine.counts();
        self.oracle.settled(now, counts)?;
        self.record.peak = self.record.peak.max(counts.total);
        self.record.chart.sample(now, &counts);
        if counts.idle + counts.active >= self.world.state().min_size {
            self.record.outage_sees(|outage| {
                if outage.back.is_some_and(|back| back <= now) {
                    outage.recovered.get_or_insert(now);
                }
            });
        }
        Ok(())
    }

    fn told(&mut self, now: Instant, event: &Event, actions: &[Action]) -> Result<(), Violation> {
        self.tail.event(now, event);
        while self.suspensions.get(self.slept).is_some_and(|slept| *slept <= now) {
            self.slept += 1;
            self.oracle.sleeps();
        }
        self.oracle.event(now, event)?;
        self.noted(now, event);
        for action in actions {
            self.tail.action(now, action);
            self.oracle.action(now, action)?;
            self.asked(now, action);
        }
        Ok(())
    }

    fn noted(&mut self, now: Instant, event: &Event) {
        let (conn, fault) = match event {
            Event::Connected { conn, .. } => (conn, None),
            Event::ConnectFailed { conn, fault } => (conn, Some((**fault).clone())),
            _ => return,
        };
        if let Some(attempt) = self.attempts.get_mut(conn.slot as usize).and_then(Option::take) {
            let within = now < Instant::ZERO + self.world.scenario.duration;
            self.record.opened += u64::from(fault.is_none() && within);
            self.record.attempt_ends(attempt, now, fault);
        }
    }

    fn asked(&mut self, now: Instant, action: &Action) {
        match action {
            Action::Connect { conn, .. } => {
                let slot = conn.slot as usize;
                if self.attempts.len() <= slot {
                    self.attempts.resize(slot + 1, None);
                }
                self.attempts[slot] = Some(self.record.attempt_starts(now));
            }
            Action::Close { conn, reason, .. } => {
                if let Some(attempt) = self.attempts.get_mut(conn.slot as usize).and_then(Option::take) {
                    self.record.attempt_ends(attempt, now, Some(crate::record::given_up(*reason)));
                }
            }
            Action::Notice(notice) => {
                let within = now < Instant::ZERO + self.world.scenario.duration;
                if within && matches!(**notice, Notice::StateChanged { .. }) {
                    self.record.states_within += 1;
                }
                self.record.notice(now, (**notice).clone(), self.world.state().shut_down);
            }
            _ => {}
        }
    }
}
