//! statistics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pgweir_core::pool::CloseReason;

use super::{backends, named};
use crate::suite::common::sampler::Sampler;
use crate::suite::common::{open, run, server, until, wait_for_backends};
use crate::suite::rt;

/// the user's story, number by number.
#[test]
fn the_story() {
    run(|trace| async move {
        let pool = open(named("stats-story").max_idle_time(Duration::from_millis(400))).await;
        let stats = pool.stats();
        assert_eq!((stats.total, stats.idle, stats.active, stats.total_acquisitions), (2, 2, 0, 0));
        // Five queries that wait for a lock, so that they are there at the same time.
        let mut gate = server().client().unwrap();
        gate.query("SELECT pg_advisory_lock(403)").unwrap();
        let tasks: Vec<_> = (0..5)
            .map(|_| {
                let pool = pool.clone();
                rt::spawn(async move {
                    let mut client = pool.get().await.unwrap();
                    client.query_one("SELECT pg_advisory_xact_lock_shared(403)", &[]).await.unwrap();
                })
            })
            .collect();
        until("all five run", || pool.status().active == 5 && pool.status().connecting == 0).await;
        let stats = pool.stats();
        assert_eq!((stats.active, stats.idle, stats.waiting, stats.total), (5, 0, 0, 5));
        gate.query("SELECT pg_advisory_unlock(403)").unwrap();
        for task in tasks {
            task.await.unwrap();
        }
        let stats = pool.stats();
        assert_eq!((stats.total_acquisitions, stats.total_releases, stats.queries), (5, 5, 5));
        assert!(stats.avg_acquisition_time_ms > 0.0 && stats.peak_wait_time_ms >= stats.avg_acquisition_time_ms);
        assert_eq!(
            (stats.peak_active_connections, stats.wait.count, stats.usage.count, stats.create.count),
            (5, 5, 5, 5)
        );
        assert!(stats.usage.max_ms > 0.0 && stats.create.max_ms > 0.0);
        // Unused for max_idle_time, the pool is back at min_size.
        until("the pool shrinks", || pool.status().total == 2).await;
        let stats = pool.stats();
        assert_eq!((stats.idle, stats.total_acquisitions), (2, 5));
        let closed: Vec<(CloseReason, u64)> = stats.closed.iter().map(|by| (by.reason, by.count)).collect();
        assert_eq!(closed, [(CloseReason::IdleTimeout, 3)]);
        wait_for_backends(server(), "stats-story", 2).await;
        let shrunk = trace.wait("pgweir.pool.shrunk", 1).await;
        assert_eq!((shrunk.number("from"), shrunk.number("to")), (5, 2));
        assert!(trace.named("pgweir.connection.recycled").iter().all(|event| event.field("reason") == "idle_timeout"));
    });
}

/// a snapshot is one instant, whatever goes on: total is the sum of the states in each of thousands
/// taken under load, and never above max_size; counters never go back.
#[test]
fn a_snapshot_is_one_instant() {
    run(|_| async {
        let config = named("stats-instant").max_size(6).max_queries(3).validation_interval(Duration::ZERO);
        let pool = open(config).await;
        let tasks: Vec<_> = (0..12)
            .map(|n| {
                let pool = pool.clone();
                rt::spawn(async move {
                    for _ in 0..40 {
                        let mut client = pool.get().await.unwrap();
                        // Some are left for the pool to clean up.
                        match n % 3 {
                            0 => drop(client.transaction().await.unwrap()),
                            _ => drop(client.query_one("SELECT 1", &[]).await.unwrap()),
                        }
                    }
                })
            })
            .collect();
        let sampled = pool.clone();
        let transitional = Arc::new(AtomicU32::new(0));
        let (seen, mut last) = (transitional.clone(), (0, 0));
        let sampler = Sampler::start(move || {
            let s = sampled.stats();
            let between = s.connecting + s.validating + s.resetting + s.closing;
            assert_eq!(s.total, s.idle + s.active + between, "{s:?}");
            assert!(s.total <= s.max_size, "{s:?}");
            assert!(s.total_releases <= s.total_acquisitions, "{s:?}");
            assert_eq!(s.total_acquisitions - s.total_releases, u64::from(s.active), "{s:?}");
            assert!((s.total_acquisitions, s.total_releases) >= last, "{s:?}");
            last = (s.total_acquisitions, s.total_releases);
            seen.fetch_add(u32::from(between > 0), Ordering::Relaxed);
        });
        for task in tasks {
            task.await.unwrap();
        }
        pool.close().await;
        let (samples, transitional) = (sampler.end(), transitional.load(Ordering::Relaxed));
        assert!(samples > 100 && transitional > 0, "{samples} samples, {transitional} in transition");
        assert_eq!(pool.stats().total_acquisitions, 480);
    });
}

/// times are ISO 8601, durations are milliseconds and say so in their names.
#[test]
fn as_json() {
    run(|_| async {
        let pool = open(named("stats-json")).await;
        pool.get().await.unwrap().query_one("SELECT 1", &[]).await.unwrap();
        let json = serde_json::to_value(pool.stats()).unwrap();
        let object = json.as_object().unwrap();
        for key in [
            "total",
            "idle",
            "active",
            "waiting",
            "total_acquisitions",
            "total_releases",
            "avg_acquisition_time_ms",
            "peak_active_connections",
            "peak_wait_time_ms",
            "pool_created_at",
            "last_health_check",
            "last_error",
            "last_error_time",
            "connecting",
            "validating",
            "resetting",
            "closing",
            "timeouts",
            "cancelled",
            "rejected",
            "opened",
            "closed",
            "connect_failures",
            "reconnect_attempts",
            "suspected_leaks",
            "wait",
            "use",
            "create",
        ] {
            assert!(object.contains_key(key), "{key} is not in {json}");
        }
        for key in ["timestamp", "pool_created_at", "last_health_check"] {
            let text = object[key].as_str().unwrap_or_else(|| panic!("{key} in {json}"));
            let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
            assert_eq!(shape, "0000-00-00T00:00:00.000Z", "{key}");
        }
        assert_eq!(object["use"]["count"], 1);
        assert_eq!(object["last_error"], serde_json::Value::Null);
    });
}

/// a snapshot makes no query and waits for nobody, even when the server is stopped in its tracks.
#[test]
fn without_a_query() {
    run(|_| async {
        let (proxy, config) = super::proxied("stats-quiet");
        let pool = open(config).await;
        let before = proxy.stats();
        proxy.black_hole(pgweir_tests::Scope::All);
        let started = Instant::now();
        for _ in 0..10_000 {
            let (stats, health) = (pool.stats(), pool.health());
            assert_eq!((stats.total, health.database.pool.total), (2, 2));
        }
        assert!(started.elapsed() < Duration::from_secs(10));
        proxy.resume();
        let after = proxy.stats();
        assert_eq!((after.to_server, after.accepted.len()), (before.to_server, 2));
        assert_eq!(backends("stats-quiet"), 2);
    });
}

/// the last error is there with its time, and stays when it is over.
#[test]
fn the_last_error() {
    run(|_| async {
        let pool = open(named("stats-error")).await;
        let victim = crate::suite::common::backends(server(), "stats-error")[0];
        server().kill_backend(victim, pgweir_tests::Signal::TERM).unwrap();
        until("the loss is made up for", || pool.stats().opened == 3 && pool.status().idle == 2).await;
        let stats = pool.stats();
        assert!(stats.last_error.as_deref().is_some_and(|error| error.contains("57P01")), "{stats:?}");
        assert!(stats.last_error_time.is_some());
        assert_eq!(stats.closed.iter().map(|by| by.count).sum::<u64>(), 1, "{stats:?}");
    });
}
