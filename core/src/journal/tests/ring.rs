//! The recorder: everything that it is told comes out again, and after it has overwritten the oldest what is left can
//! be run from its beginning.

use super::super::format::encode;
use super::super::ring::{Ring, Tape};
use super::super::{Check, Journal, Replay, Writer};
use super::{header, tape};
use crate::pool::{Event, Fault, FaultClass, Machine};
use crate::tests::steps;
use crate::time::Instant;

/// Tells a machine what another was told, and records it.
struct Recorded {
    machine: Machine,
    ring: Ring,
    told: Vec<(Instant, Event, Check)>,
}

impl Recorded {
    fn new(machine: &Machine, entries: u32) -> Self {
        Recorded { machine: machine.clone(), ring: Ring::new(entries, machine), told: Vec::new() }
    }

    fn tell(&mut self, at: Instant, event: &Event) {
        let mut actions = Vec::new();
        self.ring.begin(&self.machine, at, event);
        self.machine.handle(at, event.clone(), &mut actions);
        self.ring.finish(Check::of(&actions));
        self.told.push((at, event.clone(), Check::of(&actions)));
    }

    fn last(&self, count: usize) -> &[(Instant, Event, Check)] {
        &self.told[self.told.len() - count..]
    }
}

fn replayed(tape: &Tape) -> Machine {
    let start = tape.start.as_ref().expect("a beginning");
    let mut writer = Writer::new(&header(start), start);
    tape.entries().for_each(|(at, event, check)| writer.entry(at, &event, check));
    let journal = Journal::read(&writer.finish()).expect("whole");
    assert_eq!(journal.loss(), None);
    let mut replay = Replay::new(&journal);
    assert_eq!(replay.verify(), None);
    replay.machine().clone()
}

#[test]
fn what_is_left_after_overwriting_begins_with_a_machine_and_runs_again() {
    let (rings, apart): (&[u32], _) = if cfg!(miri) { (&[16, 200], 30) } else { (&[16, 64, 100_000], 97) };
    for &entries in rings {
        let random = tape(21, 2_000);
        let mut recorded = Recorded::new(&random.start, entries);
        for (index, (at, event, _)) in random.told.iter().enumerate() {
            recorded.tell(*at, event);
            if index % apart == 0 || index + 1 == random.told.len() {
                let tape = recorded.ring.copy();
                let count = tape.len();
                assert!(count <= 2 * entries as usize && count <= recorded.told.len());
                assert!(count >= (entries as usize / 4).min(recorded.told.len()), "{count} of {entries}");
                assert!(tape.entries().eq(recorded.last(count).iter().cloned()));
                assert!(replayed(&tape) == recorded.machine);
            }
        }
        assert!(recorded.machine == random.end);
    }
}

#[test]
fn events_without_faults_are_kept_to_the_number_asked_for() {
    let machine = Machine::new(&crate::config::PoolConfig::default(), 1, Instant::ZERO);
    let mut recorded = Recorded::new(&machine, 100);
    for tick in 0..if cfg!(miri) { 220 } else { 1_000 } {
        recorded.tell(Instant::from_millis(tick), &Event::Tick);
        let kept = recorded.ring.copy().len();
        assert!(kept >= 100.min(tick as usize + 1) && kept <= 200, "{kept}");
    }
}

#[test]
fn chunks_go_on_from_each_other_unless_something_was_overwritten() {
    let random = tape(22, 3_000);
    let (entries, late) = if cfg!(miri) { (16, 15..55) } else { (64, 500..900) };
    let mut recorded = Recorded::new(&random.start, entries);
    let (mut taken, mut begun) = (Vec::new(), 0);
    for (index, (at, event, _)) in random.told.iter().enumerate() {
        recorded.tell(*at, event);
        // Often enough at first, then once too late, then often again.
        if index % 10 == 0 && !late.contains(&index) {
            let tape = recorded.ring.take();
            if tape.start.is_some() {
                begun += 1;
                taken.clear();
            }
            taken.extend(tape.entries());
            assert!(taken == recorded.last(taken.len()), "a gap at {index}");
            assert_eq!(recorded.ring.untaken(), 0);
        }
    }
    assert_eq!(begun, 2);
    recorded.ring.interrupt();
    assert!(recorded.ring.take().start.is_some());
}

#[test]
fn many_faults_take_no_more_room_than_they_may() {
    let machine = Machine::new(&crate::config::PoolConfig::default(), 1, Instant::ZERO);
    let mut recorded = Recorded::new(&machine, 64);
    let fault = Fault::plain(FaultClass::Transient, "x".repeat(3_000));
    let lost = Event::Lost { conn: crate::pool::ConnId { slot: 0, generation: 0 }, fault: Box::new(fault) };
    for tick in 0..steps(1_000) as u64 {
        recorded.tell(Instant::from_millis(tick), &lost);
    }
    let kept = recorded.ring.copy();
    assert!(kept.len() <= 2 * 16, "a quarter of two segments");
    let bytes: usize = kept.entries().map(|(_, event, _)| encode(&event).len()).sum();
    assert!(bytes < 32 * (Fault::KEPT + 20), "{bytes} bytes: messages are cut");
}
