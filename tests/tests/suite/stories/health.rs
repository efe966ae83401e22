//! health. (Outages have their own binary.)

use std::time::Duration;

use pgweir_core::pool::{DatabaseStatus, State, Status};
use tracing::Level;

use super::{elapse, named};
use crate::suite::common::{open, open_lazy, run, until};
use crate::suite::rt;

/// PEERS 34: a pool that is lent to the last connection and has a queue is healthy: it works.
#[test]
fn busy_is_not_sick() {
    run(|_| async {
        let pool = open(named("health-busy").max_size(3)).await;
        let leases = [pool.get().await.unwrap(), pool.get().await.unwrap(), pool.get().await.unwrap()];
        let waiters: Vec<_> = (0..10)
            .map(|_| {
                let pool = pool.clone();
                rt::spawn(async move { pool.get().await.map(drop) })
            })
            .collect();
        until("ten wait", || pool.status().waiting == 10).await;
        let health = pool.health();
        assert_eq!((health.status, health.state), (Status::Healthy, State::Healthy), "{health:?}");
        assert_eq!((health.database.pool.active, health.database.pool.waiting), (3, 10));
        drop(leases);
        for waiter in waiters {
            waiter.await.unwrap().unwrap();
        }
        assert_eq!(pool.health().status, Status::Healthy);
    });
}

/// waits are looked at over a recent window: when too many are slow the pool is degraded and says so.
#[test]
fn slow_waits_degrade() {
    run(|trace| async move {
        let slow = Duration::from_millis(40);
        let pool = open(named("health-slow").max_size(1).acquire_slow(slow)).await;
        let held = pool.get().await.unwrap();
        let waiter = rt::spawn({
            let pool = pool.clone();
            async move { pool.get().await.map(drop) }
        });
        until("one waits", || pool.status().waiting == 1).await;
        elapse(slow).await;
        drop(held);
        waiter.await.unwrap().unwrap();
        let event = trace.wait("pgweir.acquire.slow", 1).await;
        assert_eq!(event.level, Level::WARN);
        assert!(event.number("wait_ms") >= 40 && event.field("location").contains(file!()), "{event}");
        let health = pool.health();
        assert_eq!(health.status, Status::Degraded, "{health:?}");
        assert!(health.reasons[0].contains("waited over 40ms within the last minute"), "{health:?}");
        let changed = trace.named("pgweir.state.changed").pop().unwrap();
        assert_eq!((changed.level, changed.field("to")), (Level::WARN, "degraded"));
    });
}

/// the report's fields, as JSON.
#[test]
fn as_json() {
    run(|_| async {
        let pool = open(named("health-json").validation_interval(Duration::ZERO)).await;
        pool.get().await.unwrap().query_one("SELECT 1", &[]).await.unwrap();
        let report = pool.health();
        assert_eq!(report.database.status, DatabaseStatus::Connected);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["status"], &json["state"]), (&"healthy".into(), &"healthy".into()));
        assert_eq!(json["database"]["status"], "connected");
        assert_eq!(json["database"]["pool"]["total"], 2);
        for count in ["idle", "active", "waiting"] {
            assert!(json["database"]["pool"][count].is_u64(), "{json}");
        }
        assert!(json["database"]["latency_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{json}");
        assert!(json["database"]["last_error"].is_null() && json["reasons"].as_array().unwrap().is_empty());
        assert!(json["uptime_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0));
        assert_eq!(json["leak_count"], 0);
        let timestamp = json["timestamp"].as_str().unwrap();
        assert!(timestamp.len() == 24 && timestamp.ends_with('Z'), "{timestamp}");
    });
}

/// before it is ready, at work, and after its end: one event for each transition, in this order.
#[test]
fn states_from_birth_to_end() {
    run(|trace| async move {
        let pool = open_lazy(named("health-states"));
        let first = pool.health();
        assert!(matches!(first.state, State::Initializing | State::Healthy));
        until("it is ready", || pool.health().state == State::Healthy).await;
        pool.close().await;
        let health = pool.health();
        assert_eq!((health.status, health.state), (Status::Unhealthy, State::Terminated));
        assert_eq!((health.database.status, health.database.pool.total), (DatabaseStatus::Disconnected, 0));
        assert_eq!(health.reasons, ["terminated"]);
        let states: Vec<String> = trace
            .named("pgweir.state.changed")
            .iter()
            .map(|event| format!("{} to {}", event.field("from"), event.field("to")))
            .collect();
        assert_eq!(states, ["initializing to healthy", "healthy to shutting_down", "shutting_down to terminated"]);
    });
}
