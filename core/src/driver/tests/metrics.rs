//! What a pool's numbers become in a scrape.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Held, ToyPool, World};
use crate::metrics::{Format, Kind, POOL_NAME, TABLE, text};
use crate::report::BOUNDS;

/// A pool with a past: grants, a timeout, a dropped acquire, a refused one, and an outage that lasts.
fn a_past() -> (World, ToyPool) {
    let mut world = World::default();
    let pool = world.pool(1, 1);
    for held in [1, 20, 300] {
        let lease = world.lease(&pool);
        world.advance(Duration::from_millis(held));
        drop(lease);
    }
    let lease = world.lease(&pool);
    let (mut late, mut dropped) = (Held::new(pool.get_timeout(Duration::from_secs(1))), Held::new(pool.get()));
    late.waits();
    dropped.waits();
    drop(dropped);
    pool.try_get().expect_err("it is lent");
    world.advance(Duration::from_secs(2));
    late.ready().expect_err("too late");
    world.toy.line().refuses.insert(0);
    world.toy.kill(1);
    drop(lease);
    world.run();
    world.advance(Duration::from_millis(1500));
    (world, pool)
}

/// The samples of a text: name, labels without the pool's, value.
fn samples(text: &str) -> BTreeMap<(String, String), f64> {
    let mut samples = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_once('{').expect("labels");
        let (labels, value) = rest.rsplit_once("} ").expect("a value");
        let labels = labels.strip_prefix(&format!("{POOL_NAME}=\"shop\"")).expect("the pool first");
        let labels = labels.trim_start_matches(',').to_owned();
        let known = samples.insert((name.to_owned(), labels), value.parse().expect("a number"));
        assert!(known.is_none(), "twice: {line}");
    }
    samples
}

#[test]
fn every_metric_is_scraped_with_every_value_of_its_labels() {
    let (_world, pool) = a_past();
    let samples = samples(&text(&[("shop", pool.metrics())], Format::OpenMetrics));
    for metric in TABLE {
        let values: BTreeSet<&str> =
            samples.keys().filter(|(name, _)| name == metric.name).map(|(_, labels)| labels.as_str()).collect();
        let expected: BTreeSet<String> = match metric.labels {
            [] if metric.kind == Kind::Histogram => BTreeSet::new(),
            [] => [String::new()].into(),
            [label] if label.values.is_empty() => [format!("{}=\"db1.example.com:5432\"", label.name)].into(),
            [label] => label.values.iter().map(|value| format!("{}=\"{value}\"", label.name)).collect(),
            [host, label] => {
                let role = |value| format!("{}=\"db1.example.com:5432\",{}=\"{value}\"", host.name, label.name);
                label.values.iter().map(role).collect()
            }
            more => panic!("{more:?}"),
        };
        assert_eq!(values, expected.iter().map(String::as_str).collect(), "{}", metric.name);
    }
}

#[test]
fn values_are_those_of_the_pool() {
    let (_world, pool) = a_past();
    let (stats, health) = (pool.stats(), pool.health());
    let samples = samples(&text(&[("shop", pool.metrics())], Format::OpenMetrics));
    let value = |name: &str, labels: &str| samples[&(name.to_owned(), labels.to_owned())];
    let outcome = |outcome: &str| value("pgweir_acquires_total", &format!("outcome=\"{outcome}\""));
    assert_eq!(
        [outcome("granted"), outcome("timeout"), outcome("cancelled"), outcome("rejected")],
        [4.0, 1.0, 1.0, 1.0]
    );
    assert_eq!(value("db_client_connection_timeouts_total", ""), 1.0);
    assert_eq!(value("db_client_connection_max", ""), 1.0);
    assert_eq!(value("pgweir_queries_total", ""), stats.queries as f64);
    assert_eq!(value("pgweir_connections_closed_total", "reason=\"broken\""), 1.0);
    assert_eq!(value("pgweir_connect_failures_total", "class=\"transient\""), stats.connect_failures[0].count as f64);
    assert_eq!(value("pgweir_reconnect_attempts_total", ""), stats.reconnect_attempts as f64);
    let outage = health.outage.expect("the database is down").duration_ms / 1e3;
    assert!(outage > 0.0);
    assert_eq!(value("pgweir_outage_seconds", ""), outage);
    let sum = |name: &str| samples.iter().filter(|((known, _), _)| known == name).map(|(_, value)| value).sum::<f64>();
    assert_eq!((sum("pgweir_state"), value("pgweir_state", "state=\"unhealthy\"")), (1.0, 1.0));
    assert_eq!((sum("pgweir_health_status"), value("pgweir_health_status", "status=\"unhealthy\"")), (1.0, 1.0));
    let host = "host=\"db1.example.com:5432\"";
    assert_eq!(value("pgweir_host_reachable", host), 0.0);
    assert_eq!(value("pgweir_host_connect_failures_total", host), stats.hosts[0].failures as f64);
}

#[test]
fn histograms_are_cumulative_and_add_up() {
    let (_world, pool) = a_past();
    let stats = pool.stats();
    let samples = samples(&text(&[("shop", pool.metrics())], Format::OpenMetrics));
    let summaries = [("wait", &stats.wait), ("use", &stats.usage), ("create", &stats.create)];
    for (name, summary) in summaries {
        let name = format!("db_client_connection_{name}_time_seconds");
        let value = |suffix: &str, labels: &str| samples[&(format!("{name}{suffix}"), labels.to_owned())];
        assert_eq!(value("_count", ""), summary.count as f64);
        assert_eq!(value("_sum", ""), summary.sum_ms / 1e3);
        assert_eq!(value("_bucket", "le=\"+Inf\""), summary.count as f64);
        for (bound, bucket) in BOUNDS.iter().zip(&summary.buckets) {
            let seconds = bound.as_secs_f64();
            let le = if seconds.fract() == 0.0 { format!("{seconds:.1}") } else { seconds.to_string() };
            assert_eq!(value("_bucket", &format!("le=\"{le}\"")), bucket.count as f64, "{name} {le}");
        }
        let buckets = samples.keys().filter(|(known, _)| *known == format!("{name}_bucket")).count();
        assert_eq!(buckets, BOUNDS.len() + 1);
    }
}

#[test]
fn each_text_has_the_heads_of_its_format() {
    let (_world, pool) = a_past();
    let heads = |format| {
        let text = text(&[("shop", pool.metrics()), ("other", pool.metrics())], format);
        text.lines().filter(|line| line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    let (open, old) = (heads(Format::OpenMetrics), heads(Format::Prometheus));
    let seconds = TABLE.iter().filter(|metric| metric.unit().is_some()).count();
    assert_eq!((open.len(), old.len()), (2 * TABLE.len() + seconds + 1, 2 * TABLE.len()), "each family once");
    assert!(open.contains(&"# TYPE pgweir_queries counter".to_owned()));
    assert!(open.contains(&"# UNIT db_client_connection_wait_time_seconds seconds".to_owned()));
    assert_eq!(open.last().map(String::as_str), Some("# EOF"));
    assert!(old.contains(&"# TYPE pgweir_queries_total counter".to_owned()));
}

/// What a monitoring system gets never shrinks, also when a grant is taken back that nobody saw.
#[test]
fn counters_never_go_back() {
    let mut world = World::default();
    let pool = world.pool(1, 1);
    let scrape = || samples(&text(&[("shop", pool.metrics())], Format::OpenMetrics));
    let mut before = scrape();
    let mut grows = |what: &str| {
        let after = scrape();
        for (sample, value) in &before {
            let counts = ["_total", "_bucket", "_count", "_sum"].iter().any(|end| sample.0.ends_with(end));
            assert!(!counts || sample.0.ends_with("connection_count") || after[sample] >= *value, "{what}: {sample:?}");
        }
        before = after;
    };
    let rounds = if cfg!(miri) { 1 } else { 5 };
    for round in 0..rounds {
        let lease = world.lease(&pool);
        let mut waiting = Held::new(pool.get());
        waiting.waits();
        world.advance(Duration::from_micros(1 << (3 * round)));
        drop(lease);
        world.run();
        grows("granted");
        assert!(waiting.is_woken());
        drop(waiting);
        world.run();
        grows("taken back");
    }
    assert_eq!((pool.stats().total_acquisitions, pool.stats().wait.count), (rounds, 2 * rounds));
}
