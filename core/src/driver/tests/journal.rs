//! What a pool did, recorded, taken out and run again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Held, Step, Toy, ToyPool, World};
use crate::error::AcquireError;
use crate::journal::{Chunk, Dump, Journal, JournalOptions, JournalSink, Replay, Stream, Why};
use crate::pool::{Counts, State};

/// Keeps what it is handed.
struct Shelf {
    toy: Toy,
    continuous: bool,
    dumps: Mutex<Vec<Dump>>,
    chunks: Mutex<Vec<Chunk>>,
}

impl Shelf {
    fn new(world: &World, continuous: bool) -> Arc<Self> {
        Arc::new(Shelf { toy: world.toy.clone(), continuous, dumps: Mutex::default(), chunks: Mutex::default() })
    }

    fn reasons(&self) -> Vec<Why> {
        self.dumps.lock().unwrap().iter().map(|dump| dump.header().why.clone()).collect()
    }

    /// The journals that the chunks make.
    fn journals(&self) -> Vec<Vec<u8>> {
        let mut stream = Stream::new();
        let mut journals: Vec<Vec<u8>> = Vec::new();
        for chunk in self.chunks.lock().unwrap().iter() {
            if chunk.begins().is_some() {
                journals.push(Vec::new());
            }
            journals.last_mut().expect("the first chunk begins a journal").extend(stream.add(chunk));
        }
        journals
    }
}

impl JournalSink for Shelf {
    fn dump(&self, dump: Dump) {
        self.toy.begin(Step::Sink);
        self.dumps.lock().unwrap().push(dump);
    }

    fn is_continuous(&self) -> bool {
        self.continuous
    }

    fn append(&self, chunk: Chunk) -> bool {
        self.toy.begin(Step::Sink);
        self.chunks.lock().unwrap().push(chunk);
        true
    }
}

/// Runs a journal again, all of whose entries must agree; gives where the machine ends.
fn replayed(bytes: &[u8]) -> (Counts, State) {
    let journal = Journal::read(bytes).expect("a journal");
    let mut replay = Replay::new(&journal);
    assert_eq!(replay.verify(), None);
    (replay.machine().counts(), replay.machine().state())
}

/// Leases, a queue, a dirty return, a pause, an outage and a recovery.
fn live(world: &mut World, pool: &ToyPool) {
    let first = world.lease(pool);
    let second = world.lease(pool);
    let mut queued = Held::new(pool.get());
    queued.waits();
    let mut dropped = Held::new(pool.get());
    dropped.waits();
    drop(dropped);
    drop(first);
    drop(queued.ready());
    world.run();
    pool.pause();
    pool.resume();
    drop(second);
    for round in 0..if cfg!(miri) { 5 } else { 30 } {
        let lease = world.lease(pool);
        world.advance(Duration::from_millis(round));
        drop(lease);
        world.run();
    }
    // The server is gone, and then it is back.
    world.toy.hold(Step::Connect);
    world.toy.kill(1);
    world.toy.kill(2);
    world.run();
    let mut waiting = Held::new(pool.get());
    waiting.waits();
    for _ in 0..8 {
        world.advance(Duration::from_secs(2));
    }
    assert!(matches!(waiting.ready(), Err(AcquireError::Unavailable(_))));
    assert_eq!(pool.shared().lock().machine.state(), State::Unhealthy);
    world.toy.let_go(Step::Connect);
    for _ in 0..if cfg!(miri) { 20 } else { 40 } {
        world.advance(Duration::from_secs(1));
    }
    drop(world.lease(pool));
    world.run();
}

#[test]
fn an_outage_replays_to_where_the_pool_is() {
    let mut world = World::default();
    let pool = world.pool(2, 2);
    live(&mut world, &pool);
    let dump = pool.journal().expect("recorded by default");
    let bytes = dump.to_bytes();
    assert_eq!(replayed(&bytes).0, pool.status());
    let journal = Journal::read(&bytes).expect("a journal");
    assert_eq!((journal.header().why.clone(), journal.loss()), (Why::Demand, None));
    assert_eq!(journal.entries().len(), dump.entries());
    assert!(journal.sites().iter().all(|site| site.file.ends_with(".rs")), "{:?}", journal.sites());
    assert!(!journal.sites().is_empty());
    let mut replay = Replay::new(&journal);
    assert_eq!(replay.verify(), None);
    assert_eq!(replay.machine().stats(replay.machine().now()), {
        let state = pool.shared().lock();
        state.machine.stats(state.machine.now())
    });
}

#[test]
fn what_a_small_ring_still_has_replays_too() {
    let mut world = World::default();
    let builder = world.builder(2, 2).journal(JournalOptions::new().entries(16));
    let pool = world.start(builder);
    live(&mut world, &pool);
    for _ in 0..if cfg!(miri) { 4 } else { 50 } {
        drop(world.lease(&pool));
        let dump = pool.journal().expect("recorded");
        assert!(dump.entries() >= 4 && dump.entries() <= 32, "{}", dump.entries());
        assert_eq!(replayed(&dump.to_bytes()).0, pool.status());
    }
}

#[test]
fn nothing_is_recorded_where_that_is_off() {
    let mut world = World::default();
    let shelf = Shelf::new(&world, true);
    let builder = world.builder(2, 2).journal(JournalOptions::off().sink(shelf.clone()));
    let pool = world.start(builder);
    live(&mut world, &pool);
    assert!(pool.journal().is_none());
    assert!(shelf.reasons().is_empty() && shelf.journals().is_empty());
}

#[test]
fn a_pool_that_turns_unhealthy_hands_over_what_led_there() {
    let mut world = World::default();
    let shelf = Shelf::new(&world, false);
    let builder = world.builder(2, 2).journal(JournalOptions::new().sink(shelf.clone()));
    let pool = world.start(builder);
    live(&mut world, &pool);
    assert_eq!(shelf.reasons(), [Why::Unhealthy]);
    let bytes = shelf.dumps.lock().unwrap()[0].to_bytes();
    assert_eq!(replayed(&bytes).1, State::Unhealthy);
    assert!(shelf.journals().is_empty());
}

#[test]
fn timeouts_hand_over_one_journal_a_minute() {
    let mut world = World::default();
    let shelf = Shelf::new(&world, false);
    let builder = world.builder(1, 1).journal(JournalOptions::new().sink(shelf.clone()));
    let pool = world.start(builder);
    let lease = world.lease(&pool);
    let time_out = |world: &mut World| {
        let mut acquire = Held::new(pool.get_timeout(Duration::from_secs(1)));
        acquire.waits();
        world.advance(Duration::from_secs(1));
        assert!(matches!(acquire.ready(), Err(AcquireError::Timeout(_))));
    };
    time_out(&mut world);
    assert_eq!(shelf.reasons(), [Why::Timeout]);
    for _ in 0..58 {
        time_out(&mut world);
    }
    assert_eq!(shelf.reasons(), [Why::Timeout], "59 s later");
    time_out(&mut world);
    time_out(&mut world);
    assert_eq!(shelf.reasons(), [Why::Timeout, Why::Timeout]);
    drop(lease);
}

#[test]
fn a_continuous_sink_gets_everything_to_the_end() {
    let mut world = World::default();
    let shelf = Shelf::new(&world, true);
    let builder = world.builder(2, 2).journal(JournalOptions::new().sink(shelf.clone()));
    let pool = world.start(builder);
    live(&mut world, &pool);
    let mut close = Held::new(pool.close());
    close.waits();
    world.run();
    close.ready();
    let journals = shelf.journals();
    assert_eq!(journals.len(), 1, "nothing was overwritten");
    let journal = Journal::read(&journals[0]).expect("a journal");
    assert_eq!(journal.loss(), None, "it has its end");
    assert_eq!(journal.header().why, Why::Continuous);
    assert_eq!(replayed(&journals[0]), (pool.status(), State::Terminated));
    assert!(shelf.chunks.lock().unwrap().len() > 5, "piece by piece");
}

/// Nothing is due and nothing else wakes the background task: a full segment does.
#[test]
fn a_busy_pool_overwrites_nothing_that_a_continuous_sink_has_not_seen() {
    let mut world = World::default();
    let shelf = Shelf::new(&world, true);
    let builder = world.builder(1, 1).journal(JournalOptions::new().entries(64).sink(shelf.clone()));
    let pool = world.start(builder);
    let leases = if cfg!(miri) { 50 } else { 1_000 };
    for _ in 0..leases {
        drop(world.lease(&pool));
        world.run();
    }
    pool.pause();
    world.advance(Duration::from_secs(2));
    pool.resume();
    world.advance(Duration::from_secs(2));
    let journals = shelf.journals();
    assert_eq!(journals.len(), 1, "nothing was overwritten");
    assert_eq!(replayed(&journals[0]).0, pool.status());
    assert!(Journal::read(&journals[0]).expect("a journal").entries().len() > 2 * leases);
}

#[test]
fn a_runtime_that_is_shut_down_ends_the_journal() {
    let mut world = World::default();
    let shelf = Shelf::new(&world, true);
    let builder = world.builder(2, 2).journal(JournalOptions::new().sink(shelf.clone()));
    let pool = world.start(builder);
    let lease = world.lease(&pool);
    world.stop();
    drop(lease);
    let journals = shelf.journals();
    assert_eq!(journals.len(), 1);
    assert_eq!(Journal::read(&journals[0]).expect("a journal").loss(), None);
    assert_eq!(replayed(&journals[0]).1, State::Terminated);
    assert!(matches!(pool.try_get(), Err(AcquireError::Closed)));
}

#[test]
fn a_sink_that_panics_costs_a_chunk_and_not_the_pool() {
    let mut world = World::default();
    let shelf = Shelf::new(&world, true);
    let builder = world.builder(2, 2).journal(JournalOptions::new().sink(shelf.clone()));
    let pool = world.start(builder);
    world.advance(Duration::from_secs(2));
    world.toy.panics(Step::Sink);
    drop(world.lease(&pool));
    pool.pause();
    pool.resume();
    world.advance(Duration::from_secs(2));
    world.toy.behaves();
    live(&mut world, &pool);
    world.advance(Duration::from_secs(2));
    let journals = shelf.journals();
    assert_eq!(journals.len(), 2, "a chunk is missing between them");
    for journal in &journals {
        replayed(journal);
    }
    assert_eq!(replayed(&journals[1]).0, pool.status());
}
