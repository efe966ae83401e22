//! Journals of random runs: whole, damaged in every way, and run again.

mod damage;
mod forged;
mod ring;

use std::time::Duration;

use quickcheck::{Gen, QuickCheck};

use super::format::{HEADER, MACHINE, encode, put, put_prefix};
use super::{Check, Header, Journal, JournalError, Part, Replay, Site, Why, Writer};
use crate::pool::tests::property::recorded;
use crate::pool::{ConnId, Event, Fate, Fault, FaultClass, Machine, SiteId};
use crate::tests::{cases, steps};
use crate::time::{Instant, Wall};

fn header(start: &Machine) -> Header {
    Header {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        config: start.config().clone(),
        wall: Wall { at: Instant::from_secs(5), unix: Duration::from_secs(1_700_000_000) },
        why: Why::Demand,
        written: Instant::from_secs(6),
    }
}

fn site(line: u32) -> Site {
    Site { file: "src/orders.rs".to_owned(), line, column: 9 }
}

/// A journal of a random run: the machine before it, what it was told, the bytes, the machine after it.
struct Tape {
    start: Machine,
    told: Vec<(Instant, Event, Check)>,
    bytes: Vec<u8>,
    end: Machine,
}

/// Of a run of `length` events, or fewer under Miri.
fn tape(seed: u64, length: usize) -> Tape {
    let length = steps(length);
    let (start, told, end) = recorded(seed, length, length / 4);
    let mut writer = Writer::new(&header(&start), &start);
    writer.sites(&[site(10), site(20)]);
    for (index, (at, event, check)) in told.iter().enumerate() {
        writer.entry(*at, event, *check);
        if index == told.len() / 2 {
            writer.sites(&[site(30)]);
        }
    }
    Tape { start, told, bytes: writer.finish(), end }
}

#[test]
fn what_is_written_is_read() {
    let Tape { start, told, bytes, .. } = tape(1, 400);
    let journal = Journal::read(&bytes).expect("whole");
    assert_eq!(journal.loss(), None);
    assert_eq!(*journal.header(), header(&start));
    assert!(*journal.start() == start);
    assert_eq!(journal.sites(), [site(10), site(20), site(30)]);
    assert_eq!(journal.site(SiteId(2)), Some(&site(30)));
    assert_eq!(journal.site(SiteId(3)), None);
    let read: Vec<_> = journal.entries().iter().map(|entry| (entry.at, entry.event.clone(), entry.check)).collect();
    assert_eq!(read, told);
}

#[test]
fn pieces_make_one_journal() {
    let Tape { start, told, .. } = tape(2, 300);
    let mut writer = Writer::new(&header(&start), &start);
    let mut bytes = writer.take();
    for (at, event, check) in &told {
        writer.entry(*at, event, *check);
        bytes.extend(writer.take());
    }
    let open = Journal::read(&bytes).expect("its beginning is there");
    assert_eq!(open.entries().len(), told.len());
    let loss = open.loss().expect("it has no end");
    assert_eq!((loss.what, loss.bytes), (Part::Truncated, 0));
    let text = format!("the journal has no end; whatever followed its {} entries is lost", told.len());
    assert_eq!(loss.to_string(), text);
    bytes.extend(writer.finish());
    assert_eq!(Journal::read(&bytes).expect("whole").loss(), None);
}

#[test]
fn a_replay_agrees_and_ends_where_the_machine_did() {
    fn property(seed: u64) -> bool {
        let Tape { told, bytes, end, .. } = tape(seed, 300);
        let journal = Journal::read(&bytes).expect("whole");
        let mut replay = Replay::new(&journal);
        let mut steps = 0;
        while let Some(step) = replay.step() {
            assert!(step.agrees(), "entry {}: {:?}", step.number, step.actions);
            steps += 1;
        }
        steps == told.len() && *replay.machine() == end
    }
    QuickCheck::new().rng(Gen::new(20)).tests(cases(50)).quickcheck(property as fn(u64) -> bool);
}

#[test]
fn a_replay_finds_the_entry_at_which_the_machine_goes_another_way() {
    let Tape { start, mut told, .. } = tape(3, 400);
    let changed = told.iter().position(|(_, event, check)| {
        matches!(event, Event::ConnectFailed { .. } | Event::Acquire { .. }) && *check != Check::of(&[])
    });
    let changed = changed.expect("some event has consequences");
    told[changed].1 = Event::Tick;
    let mut writer = Writer::new(&header(&start), &start);
    told.iter().for_each(|(at, event, check)| writer.entry(*at, event, *check));
    let journal = Journal::read(&writer.finish()).expect("whole");
    assert_eq!(Replay::new(&journal).verify(), Some(changed));
}

/// Faults whose messages are not recorded, in the events and in the machine, change nothing about a replay.
#[test]
fn a_replay_agrees_although_private_messages_are_missing_and_none_is_in_the_bytes() {
    let mut told_the_machine = 0;
    let seeds = cases(20);
    // The eighth run ends with a fault that the machine remembers.
    let first = if cfg!(miri) { 8 } else { 0 };
    for seed in first..first + seeds {
        let Tape { start, told, .. } = tape(seed, 400);
        let mut live = start.clone();
        let secret = |event: &mut Event| {
            if let Event::ConnectFailed { fault, .. }
            | Event::Lost { fault, .. }
            | Event::CheckFailed { fault, .. }
            | Event::ResetFailed { fault, .. }
            | Event::ValidationFailed { fault, .. }
            | Event::Release { fault: Some(fault), .. } = event
            {
                **fault = Fault { class: fault.class, ..Fault::new(FaultClass::Transient, "card 4111 1111 1111 1111") };
            }
        };
        let private: Vec<_> = told
            .into_iter()
            .map(|(at, mut event, _)| {
                secret(&mut event);
                let mut actions = Vec::new();
                live.handle(at, event.clone(), &mut actions);
                (at, event, Check::of(&actions))
            })
            .collect();
        told_the_machine += usize::from(format!("{live:?}").contains("4111 1111"));
        // Once from the beginning and once from a machine that holds such messages.
        for from in [0, private.len() / 2] {
            let mut before = start.clone();
            let mut ignored = Vec::new();
            private[..from].iter().for_each(|(at, event, _)| before.handle(*at, event.clone(), &mut ignored));
            let mut writer = Writer::new(&header(&before), &before);
            private[from..].iter().for_each(|(at, event, check)| writer.entry(*at, event, *check));
            let bytes = writer.finish();
            assert!(!bytes.windows(4).any(|bytes| bytes == b"4111"));
            let journal = Journal::read(&bytes).expect("whole");
            let mut replay = Replay::new(&journal);
            assert_eq!(replay.verify(), None);
            assert_eq!(replay.machine().counts(), live.counts());
        }
    }
    assert!(
        told_the_machine >= (seeds as usize).div_ceil(2),
        "the live machines know what was said: {told_the_machine} of {seeds}"
    );
}

#[test]
fn an_event_takes_few_bytes() {
    let mut machine = Machine::new(&crate::config::PoolConfig::default(), 7, Instant::ZERO);
    let mut writer = Writer::new(&header(&machine), &machine);
    let head = writer.take().len();
    let mut actions = Vec::new();
    machine.handle(Instant::ZERO, Event::Start { lazy: true }, &mut actions);
    let conn = ConnId { slot: 0, generation: 1 };
    let connected = Event::Connected { conn, facts: crate::pool::ServerFacts::default() };
    machine.handle(Instant::from_millis(5), connected, &mut actions);
    let pairs = cases(10_000);
    for waiter in 0..pairs {
        let at = Instant::from_nanos(3_600_000_000_000 + waiter * 700_000);
        let (waiter, deadline) = (crate::pool::WaiterId(waiter), at + Duration::from_secs(30));
        let acquire = Event::Acquire { waiter, deadline, leak_after: None, site: SiteId(3) };
        let release = Event::Release { conn, fate: Fate::Clean, queries: 3, fault: None };
        for event in [acquire, release] {
            actions.clear();
            machine.handle(at, event.clone(), &mut actions);
            writer.entry(at, &event, Check::of(&actions));
        }
    }
    let (bytes, events) = (writer.finish().len(), 2 * pairs as usize);
    assert!(bytes < events * 15, "{} bytes an event", bytes as f64 / events as f64);
    assert!(head < 2_000, "a machine of ten takes {head} bytes");
}

#[test]
fn what_is_no_journal_is_refused_with_the_reason() {
    let Tape { start, bytes, .. } = tape(4, 100);
    assert_eq!(Journal::read(b"").unwrap_err(), JournalError::NotAJournal);
    assert_eq!(Journal::read(b"name: a scenario\n").unwrap_err(), JournalError::NotAJournal);
    let mut newer = bytes.clone();
    newer[8] = 9;
    assert_eq!(Journal::read(&newer).unwrap_err(), JournalError::Version { found: 9 });
    assert_eq!(
        Journal::read(&newer).unwrap_err().to_string(),
        "the journal has format version 9, this pgweir reads version 1"
    );
    assert_eq!(Journal::read(&bytes[..9]).unwrap_err(), JournalError::Truncated { at: 9, part: Part::Header });
    // Its machine was sealed by a build whose machine looks otherwise.
    let mut other = Vec::new();
    put_prefix(&mut other);
    put(&mut other, HEADER, &encode(&Header { version: "0.0.9".to_owned(), ..header(&start) }));
    put(&mut other, MACHINE, &encode(&(1_u64, &start)));
    let error = Journal::read(&other).unwrap_err();
    assert_eq!(error, JournalError::OtherBuild { written_by: "0.0.9".to_owned() });
    assert!(error.to_string().contains("read it with the version that wrote it"), "{error}");
}
