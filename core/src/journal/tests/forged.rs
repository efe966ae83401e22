//! Journals that somebody made up: every check sum and the seal are right, the machine or what it was told is none that
//! a pool has.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Journal, JournalError, Part, Replay, Tape, Writer, header, tape};
use crate::config::PoolConfig;
use crate::journal::Check;
use crate::pool::{Action, ConnId, Event, Fate, Fault, FaultClass, Machine, ServerFacts, SiteId, WaiterId};
use crate::tests::{EACH, cases};
use crate::time::Instant;

/// The machine with the value at `pointer` changed.
fn changed(machine: &Machine, pointer: &str, change: impl Fn(&mut Value)) -> Machine {
    let mut value = serde_json::to_value(machine).expect("plain data");
    change(value.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer} in {machine:?}")));
    serde_json::from_value(value).expect("it has the type")
}

fn read(machine: &Machine) -> Result<Journal, JournalError> {
    Journal::read(&Writer::new(&header(machine), machine).finish())
}

#[test]
fn a_machine_that_no_pool_can_have_is_refused_with_the_reason() {
    let most = json!(u64::MAX);
    let cases: [(&str, Value, &str); 14] = [
        ("/now", most.clone(), "its time is"),
        ("/links", json!([]), "0 links to"),
        ("/nudge", json!(1), "in the middle of an event"),
        ("/limits/idle", json!(1), "its limits are not those of its configuration"),
        ("/totals/acquisitions", most.clone(), "more than can be counted"),
        ("/totals/wait/buckets", json!([]), "differ from their histograms"),
        ("/totals/closed", json!([u64::MAX, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), "more than can be counted"),
        ("/slow_waits/newer/slow", most.clone(), "its slow acquires"),
        ("/slots/free", json!([77]), "the free list differs from the slot table"),
        ("/slots/idle", json!([4_000_000_000_u32]), "the idle stack differs from the slot table"),
        ("/slots/counts", json!([9, 9, 9, 9, 9, 9, 9]), "counts differ from the slot table"),
        ("/slots/entries", json!([]), "differ from the slot table"),
        ("/waiters/live", json!(5), "waiting differs from the queue"),
        ("/bound/at", json!(0), "deadline"),
    ];
    let Tape { end, .. } = tape(7, 300);
    for (pointer, value, why) in cases.into_iter().step_by(EACH) {
        let error = read(&changed(&end, pointer, |place| *place = value.clone())).expect_err(pointer);
        assert!(matches!(error, JournalError::Impossible { .. }), "{pointer}: {error}");
        let text = error.to_string();
        assert!(text.contains(why) && text.ends_with("it was forged or tampered with"), "{pointer}: {text}");
    }
}

/// The end of a failed start leaves something for the next event to settle: no forgery.
#[test]
fn a_machine_whose_start_has_failed_is_read() {
    let mut machine = Machine::new(&PoolConfig::default(), 1, Instant::ZERO);
    let mut actions = Vec::new();
    machine.handle(Instant::ZERO, Event::Start { lazy: false }, &mut actions);
    let connects: Vec<_> = actions
        .iter()
        .filter_map(|action| if let Action::Connect { conn, .. } = action { Some(*conn) } else { None })
        .collect();
    assert_eq!(connects.len(), 2);
    for conn in connects {
        let fault = Box::new(Fault::plain(FaultClass::Permanent, "no such role"));
        machine.handle(Instant::from_millis(5), Event::ConnectFailed { conn, fault }, &mut actions);
        read(&machine).expect("every machine that was can be read");
    }
}

#[test]
fn a_slot_that_leads_to_no_host_is_refused() {
    let machine = Machine::new(&PoolConfig::default(), 1, Instant::ZERO);
    let mut machine = machine;
    machine.handle(Instant::ZERO, Event::Start { lazy: true }, &mut Vec::new());
    let mut value = serde_json::to_value(&machine).expect("plain data");
    *value.pointer_mut("/slots/entries/0/slot/Connecting/host").expect("it connects") = json!(9);
    let error = read(&serde_json::from_value(value).expect("it has the type")).expect_err("no such host");
    assert!(error.to_string().contains("slot 0 leads to a host that is not there"), "{error}");
}

#[test]
fn what_random_runs_leave_behind_is_possible() {
    for seed in 0..cases(60) {
        let Tape { start, end, .. } = tape(seed, 400);
        assert_eq!((start.possible(), end.possible()), (Ok(()), Ok(())), "seed {seed}");
    }
}

#[test]
fn an_entry_at_the_end_of_time_is_a_loss() {
    let machine = Machine::new(&PoolConfig::default(), 1, Instant::ZERO);
    let mut writer = Writer::new(&header(&machine), &machine);
    writer.entry(Instant::from_secs(1), &Event::Tick, Check::of(&[]));
    writer.entry(Instant::MAX, &Event::Tick, Check::of(&[]));
    let journal = Journal::read(&writer.finish()).expect("its machine is right");
    assert_eq!(journal.entries().len(), 1);
    assert_eq!(journal.loss().map(|loss| loss.what), Some(Part::Entries));
    assert_eq!(Replay::new(&journal).verify(), None);
}

/// What a lease says that it has sent may be anything: two of these are more than a counter holds.
#[test]
fn a_connection_that_claims_to_have_served_everything_goes_on() {
    let config = PoolConfig { max_queries: 0, max_size: 1, min_size: 1, ..PoolConfig::default() };
    let mut machine = Machine::new(&config, 1, Instant::ZERO);
    let (at, conn) = (Instant::from_millis(1), ConnId { slot: 0, generation: 1 });
    let mut actions = Vec::new();
    machine.handle(at, Event::Start { lazy: true }, &mut actions);
    machine.handle(at, Event::Connected { conn, facts: ServerFacts::default() }, &mut actions);
    for (waiter, fate) in [(0, Fate::Clean), (1, Fate::Clean), (2, Fate::Dirty)] {
        // With somebody waiting, without, and by the way of a reset.
        let acquire = |waiter| {
            let (waiter, deadline) = (WaiterId(waiter), at + Duration::from_secs(9));
            Event::Acquire { waiter, deadline, leak_after: None, site: SiteId(0) }
        };
        machine.handle(at, acquire(2 * waiter), &mut actions);
        machine.handle(at, acquire(2 * waiter + 1), &mut actions);
        for fate in [Fate::Clean, fate] {
            machine.handle(at, Event::Release { conn, fate, queries: u64::MAX, fault: None }, &mut actions);
        }
    }
    let grants = actions.iter().filter(|action| matches!(action, Action::Grant { .. })).count();
    assert_eq!(grants, 6);
    assert_eq!(machine.possible(), Ok(()));
}
