//! The events of a pool's whole life, each with the name, level and fields that the documentation gives it.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Metadata, Subscriber};
use tracing_core::span::Current;

use super::{Held, Step, ToyPool, World};
use crate::client::Postgres;
use crate::config::{Config, Environment, LeakStack, PoolConfig};
use crate::driver::Pool;
use crate::driver::fake::FakeRuntime;
use crate::logs::EVENTS;

/// Collects what is logged on this thread.
#[derive(Clone, Default)]
struct Log {
    lines: Arc<Mutex<Vec<Line>>>,
    spans: Arc<Mutex<BTreeMap<u64, &'static Metadata<'static>>>>,
    entered: Arc<Mutex<Vec<Id>>>,
    next: Arc<AtomicU64>,
}

#[derive(Clone, Debug)]
struct Line {
    name: &'static str,
    level: Level,
    fields: BTreeMap<&'static str, String>,
}

impl Log {
    fn named(&self, name: &str) -> Vec<Line> {
        self.lines.lock().unwrap().iter().filter(|line| line.name == name).cloned().collect()
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        self.spans.lock().unwrap().insert(id, attributes.metadata());
        Id::from_u64(id)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let (name, level) = (event.metadata().name(), *event.metadata().level());
        self.lines.lock().unwrap().push(Line { name, level, fields: fields.0 });
    }

    fn enter(&self, id: &Id) {
        self.entered.lock().unwrap().push(id.clone());
    }

    fn exit(&self, _: &Id) {
        self.entered.lock().unwrap().pop();
    }

    fn current_span(&self) -> Current {
        match self.entered.lock().unwrap().last() {
            Some(id) => Current::new(id.clone(), self.spans.lock().unwrap()[&id.into_u64()]),
            None => Current::none(),
        }
    }
}

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Everything that has an event, but for the server's notices.
fn a_whole_life(world: &mut World) {
    world.toy.line().talkative = true;
    let config = PoolConfig { min_size: 1, max_size: 2, ..PoolConfig::default() };
    let pool = world.start(world.configured(config));
    at_work(world, &pool);
    an_outage(world, &pool);
    pool.resize(1, 3);
    pool.pause();
    pool.resume();
    pool.recycle();
    world.run();
    let kept = world.lease(&pool);
    let mut close = Held::new(pool.close());
    close.waits();
    world.run();
    world.advance(secs(31));
    close.ready();
    drop(kept);
    // One that never comes to life, and one with an odd setting.
    world.toy.line().refuses.insert(0);
    let mut open = Held::new(world.builder(1, 1).open());
    open.waits();
    world.run();
    (0..60).for_each(|_| world.advance(secs(1)));
    open.ready().expect_err("refused");
    let odd: Environment = [("POOL_TCP_ADDR", "10.0.0.1")].into_iter().collect();
    let config = Config::builder().database_url("postgres://app:hush@db/shop").environment(odd).build();
    drop(Pool::<FakeRuntime, Postgres<FakeRuntime>>::builder_on(world.runtime.clone(), config.expect("valid")));
}

fn at_work(world: &mut World, pool: &ToyPool) {
    world.lease(pool).discard();
    world.run();
    world.advance(secs(1));
    let (first, second) = (world.lease(pool), world.lease(pool));
    assert!(pool.try_get().is_err());
    let mut late = Held::new(pool.get_timeout(secs(1)));
    late.waits();
    world.advance(secs(1));
    late.ready().expect_err("too late");
    let mut slow = Held::new(pool.get());
    slow.waits();
    world.advance(secs(2));
    drop(first);
    let slow = slow.ready().expect("granted");
    world.advance(secs(31));
    drop((slow, second));
    (0..70).for_each(|_| world.advance(secs(1)));
    // Dead without a word: found by the look before it is lent.
    let lease = world.lease(pool);
    let dead = lease.id;
    drop(lease);
    world.advance(Duration::from_millis(5));
    world.toy.line().dead.insert(dead);
    drop(world.lease(pool));
}

fn an_outage(world: &mut World, pool: &ToyPool) {
    let lease = world.lease(pool);
    let victim = lease.id;
    drop(lease);
    world.toy.line().refuses.insert(0);
    world.toy.kill(victim);
    world.run();
    (0..5).for_each(|_| world.advance(secs(1)));
    assert!(pool.try_get().is_err());
    world.toy.line().refuses.clear();
    (0..20).for_each(|_| world.advance(secs(1)));
}

#[test]
fn every_event_has_its_place_in_the_documentation() {
    let log = Log::default();
    tracing::subscriber::with_default(log.clone(), || a_whole_life(&mut World::default()));
    let mut seen = BTreeMap::<&str, BTreeSet<Level>>::new();
    for Line { name, level, fields } in log.lines.lock().unwrap().iter() {
        let event = EVENTS.iter().find(|event| event.name == *name);
        let event = event.unwrap_or_else(|| panic!("{name} has no place in the documentation"));
        seen.entry(name).or_default().insert(*level);
        let always: BTreeSet<&str> = event.fields.iter().copied().chain(["message"]).collect();
        let found: BTreeSet<&str> = fields.keys().copied().collect();
        assert!(always.is_subset(&found), "{name} lacks {:?}", always.difference(&found));
        let surplus: Vec<_> = found.difference(&always).filter(|field| !event.optional.contains(field)).collect();
        assert!(surplus.is_empty(), "{name} has {surplus:?}, which the documentation does not");
        assert!(!fields.values().any(|value| value.contains("hush")), "{fields:?}");
    }
    // Notices need a server, and the endpoint has tests of its own.
    let elsewhere = |name: &str| name == "pgweir.notice" || name.starts_with("pgweir.endpoint.");
    for event in EVENTS.iter().filter(|event| !elsewhere(event.name)) {
        let levels: BTreeSet<Level> = event.levels.iter().copied().collect();
        assert_eq!(seen.get(event.name), Some(&levels), "{}", event.name);
    }
}

/// a timeout's event says all that its error does.
#[test]
fn a_timeout_tells_its_line_its_holders_and_what_to_do() {
    let log = Log::default();
    let line = tracing::subscriber::with_default(log.clone(), || {
        let mut world = World::default();
        world.toy.line().talkative = true;
        let pool = world.pool(1, 1);
        let lease = world.lease(&pool);
        let (mut late, line) = (Held::new(pool.get()), Location::caller().line());
        late.waits();
        world.advance(secs(30));
        late.ready().expect_err("too late");
        drop(lease);
        line
    });
    let event = log.named("pgweir.acquire.timeout").remove(0);
    assert!(event.fields["location"].starts_with(&format!("{}:{line}:", file!())), "{event:?}");
    assert!(event.fields["holders"].starts_with("0.1 at core/src/driver/tests/mod.rs:"), "{event:?}");
    assert!(event.fields["holders"].ends_with(" for 30.0s (backend 7001)"), "{event:?}");
    assert_eq!(event.fields["phase"], "in_queue");
    assert!(event.fields["suggestion"].contains("hold leases for a shorter time"), "{event:?}");
}

/// a leak's event says which connection, since when, with how many queries, and from where; each lease its own.
#[test]
fn a_leak_tells_span_backend_queries_and_stack() {
    let log = Log::default();
    tracing::subscriber::with_default(log.clone(), || {
        let mut world = World::default();
        world.toy.line().talkative = true;
        let pool = world.start(world.configured(PoolConfig {
            max_size: 1,
            min_size: 1,
            leak_stack: LeakStack::Always,
            ..PoolConfig::default()
        }));
        let lease = tracing::info_span!("checkout").in_scope(|| world.lease(&pool));
        lease.queries.store(2, Ordering::Relaxed);
        world.advance(secs(31));
        assert_eq!(pool.holders()[0].span, Some("checkout"));
        // The next one queues, and is granted on its return.
        let mut next = Held::new(pool.get());
        tracing::info_span!("refund").in_scope(|| next.waits());
        drop(lease);
        let lease = next.ready().expect("granted");
        assert_eq!(pool.health().holders[0].span, Some("refund"));
        drop(lease);
        let plain = world.lease(&pool);
        assert_eq!(pool.holders()[0].span, None, "of the lease before");
        drop(plain);
    });
    let event = log.named("pgweir.leak.suspected").remove(0).fields;
    assert_eq!((&*event["span"], &*event["backend_pid"], &*event["queries"]), ("checkout", "7001", "2"));
    assert_eq!((&*event["since"], &*event["report"]), ("1970-01-01T00:00:00.000Z", "1"));
    assert!(event["stack"].contains("src/driver/tests/mod.rs:"), "{}", event["stack"]);
    assert_eq!(log.named("pgweir.leak.resolved").remove(0).fields["span"], "checkout");
}

/// In a release build the first report of a line has no stack, and the second has.
#[test]
fn a_line_that_was_reported_is_looked_at_more_closely() {
    let mut world = World::default();
    let config = PoolConfig { leak_stack: LeakStack::Adaptive, ..PoolConfig::default() };
    let pool = world.start(world.configured(config));
    let location = Location::caller();
    assert_eq!(pool.shared().watch.has_stack(location), cfg!(debug_assertions));
    let lease = world.lease(&pool);
    world.advance(secs(31));
    let held_at = pool.holders()[0].location.expect("known");
    assert!(pool.shared().watch.has_stack(held_at));
    drop(lease);
}

/// A hook that leaves the connection is asked with its holder known.
#[test]
fn a_lease_is_named_while_its_hook_runs() {
    let log = Log::default();
    tracing::subscriber::with_default(log, || {
        let mut world = World::default();
        let builder = world.builder(1, 1).before_acquire(|_| Box::pin(std::future::pending()));
        let pool = world.start(builder);
        world.toy.hold(Step::Reset);
        let mut acquire = Held::new(pool.get());
        tracing::info_span!("checkout").in_scope(|| acquire.waits());
        assert_eq!(pool.holders()[0].span, Some("checkout"));
    });
}
