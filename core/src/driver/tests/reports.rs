//! The documents for operators. Their field names are an interface: the samples in the documentation are what a pool
//! with a known past says, and a table there has every field.

use std::collections::BTreeSet;
use std::panic::Location;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;

use super::{Held, Lease, Step, ToyPool, World};
use crate::config::PoolConfig;
use crate::driver::{DebugReport, HealthReport, PoolStats};

const DOCUMENTATION: &str = include_str!("../../../docs/reports.md");

/// 2026-01-31T12:00:00Z.
const DATE: Duration = Duration::from_secs(1_769_860_800);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A morning at a small shop: work, a forgotten lease, a queue; then the first host goes, and the second.
fn a_known_past() -> (PoolStats, DebugReport, HealthReport) {
    let mut world = World::default();
    world.runtime.date(DATE);
    {
        let mut line = world.toy.line();
        (line.talkative, line.hosts) = (true, Some(2));
        line.refuses.insert(0);
    }
    let builder = world.configured(PoolConfig { min_size: 1, max_size: 2, ..PoolConfig::default() });
    let pool = world.start(builder);
    for held in [2, 3, 8, 40] {
        let lease = world.lease(&pool);
        world.advance(ms(held));
        drop(lease);
    }
    lease_after(&mut world, Step::Connect, ms(6), &pool, |world, pool| world.lease(pool).discard());
    world.advance(ms(2_000));
    let forgotten = lease_after(&mut world, Step::Validate, ms(1), &pool, |_, _| ());
    forgotten.queries.store(3, Ordering::Relaxed);
    world.advance(ms(31_000));
    let busy = lease_after(&mut world, Step::Connect, ms(9), &pool, |_, _| ());
    world.advance(ms(250));
    let mut waiting = Held::new(pool.get());
    waiting.waits();
    world.advance(ms(1_500));
    let (stats, debug) = (pool.stats(), pool.debug_report(8));
    drop(waiting);
    let victim = busy.id;
    world.toy.line().refuses.insert(1);
    drop(busy);
    world.toy.kill(victim);
    world.run();
    (0..20).for_each(|_| world.advance(ms(250)));
    let health = pool.health();
    drop(forgotten);
    (stats, debug, health)
}

/// A lease that waits for a step which takes its time.
fn lease_after(
    world: &mut World,
    step: Step,
    time: Duration,
    pool: &ToyPool,
    before: impl FnOnce(&mut World, &ToyPool),
) -> Lease {
    before(world, pool);
    world.toy.hold(step);
    let mut acquire = Held::new(pool.get());
    acquire.waits();
    world.run();
    world.advance(time);
    world.toy.let_go(step);
    world.run();
    acquire.ready().expect("a connection")
}

#[test]
fn the_samples_in_the_documentation_are_what_a_pool_says() {
    let (stats, debug, health) = a_known_past();
    let said = [
        ("Pool::stats", serde_json::to_value(stats)),
        ("Pool::health", serde_json::to_value(health)),
        ("Pool::debug_report", serde_json::to_value(debug)),
    ];
    let mut wrong = String::new();
    for (title, said) in said {
        let said = without_lines(&said.expect("a document").to_string());
        let said: Value = serde_json::from_str(&said).expect("still a document");
        let sample: Value = serde_json::from_str(sample(title)).unwrap_or_default();
        if said != sample {
            wrong += &format!("the sample of {title} must be:\n{said}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Source lines move; those of the samples do not.
fn without_lines(text: &str) -> String {
    let mut parts = text.split(Location::caller().file());
    let mut stable = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c == ':' || c.is_ascii_digit());
        stable += "src/orders.rs:42:30";
        stable += rest;
    }
    stable
}

/// The block of JSON under a heading.
fn sample(title: &str) -> &'static str {
    let section = DOCUMENTATION.split("\n## ").find(|section| section.starts_with(&format!("`{title}`")));
    let block = section.and_then(|section| section.split_once("```json\n")?.1.split_once("```"));
    block.map_or("", |(block, _)| block)
}

#[test]
fn the_table_in_the_documentation_has_every_field_and_no_other() {
    let mut said = BTreeSet::new();
    for title in ["Pool::stats", "Pool::health", "Pool::debug_report"] {
        keys(&serde_json::from_str(sample(title)).expect("a document"), &mut said);
    }
    let rows = DOCUMENTATION.lines().filter(|line| line.starts_with("| `"));
    let documented: BTreeSet<String> = rows.filter_map(|row| Some(row.split('`').nth(1)?.to_owned())).collect();
    let difference: Vec<_> = said.symmetric_difference(&documented).collect();
    assert!(difference.is_empty(), "{difference:?}");
}

fn keys(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                found.insert(key.clone());
                keys(value, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| keys(value, found)),
        _ => {}
    }
}

#[test]
fn names_tell_the_unit_and_times_are_in_utc() {
    for title in ["Pool::stats", "Pool::health", "Pool::debug_report"] {
        let sample: Value = serde_json::from_str(sample(title)).expect("a document");
        check_units(&sample);
    }
}

fn check_units(value: &Value) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let is_time = ["timestamp", "since"].contains(&key.as_str())
                    || key.ends_with("_time") && !key.ends_with("_time_ms")
                    || ["pool_created_at", "last_health_check"].contains(&key.as_str());
                match value {
                    Value::Number(number) if number.is_f64() => {
                        assert!(key.ends_with("_ms") || key.ends_with("_seconds"), "{key} is {number} of what?");
                    }
                    Value::String(text) if is_time => {
                        assert!(
                            text.len() == 24 && text.starts_with("2026-") && text.ends_with('Z'),
                            "{key} is {text}"
                        );
                    }
                    value => check_units(value),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(check_units),
        _ => {}
    }
}

/// R-3.4: an error's words are the library's, and one line; whoever wrote them, they come out as JSON.
#[test]
fn words_of_others_do_not_break_a_document() {
    let mut world = World::default();
    let builder = world.builder(1, 1).after_connect(|_| Box::pin(async { Err("\"quoted\"\nand\u{7} rung".into()) }));
    let pool = world.start(builder);
    let text = serde_json::to_string(&pool.health()).expect("a document");
    assert!(!text.contains('\n') && text.contains("\\\"quoted\\\""), "{text}");
    assert_eq!(pool.stats().connect_failures.len(), 1);
}

#[test]
fn a_debug_report_is_bounded_and_works_without_a_journal() {
    let mut world = World::default();
    let pool = world.start(world.builder(1, 1).journal(crate::journal::JournalOptions::off()));
    let lease = world.lease(&pool);
    let mut waiting: Vec<_> = (0..20).map(|_| Held::new(pool.get())).collect();
    waiting.iter_mut().for_each(Held::waits);
    let report = pool.debug_report(3);
    assert_eq!((report.holders.len(), report.waiters.len(), report.waiting), (1, 3, 20));
    assert!(report.events.is_empty());
    assert_eq!(report.waiters.iter().map(|row| row.position).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(pool.debug_report(0).holders.is_empty());
    drop(lease);
}

#[test]
fn a_debug_report_shows_the_last_events_across_segments() {
    let mut world = World::default();
    let options = crate::journal::JournalOptions::new().entries(16);
    let pool = world.start(world.builder(1, 1).journal(options));
    for _ in 0..20 {
        drop(world.lease(&pool));
    }
    pool.pause();
    let events = pool.debug_report(10).events;
    assert_eq!(events.len(), 10, "{events:#?}");
    assert!(events[9].ends_with("Z pause") && events[8].contains("Z release of 0.1, clean, after 1 queries"));
    assert!(events[7].contains("Z acquire at ") && events[7].ends_with(", for up to 30s"), "{events:#?}");
}
