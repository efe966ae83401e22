//! leases that are held for too long.

use std::panic::Location;
use std::time::Duration;

use pgweir_core::config::LeakStack;
use pgweir_core::pool::{State, Status};
use tracing::Level;

use super::{elapse, named};
use crate::suite::common::{open, run};
use crate::suite::rt::{Lease, Pool};

const LIMIT: Duration = Duration::from_millis(60);

/// reported with the line that holds it, again at twice the time and twice that, never closed;
/// health is degraded for it while it lasts, and no longer.
#[test]
fn suspected_and_resolved() {
    run(|trace| async move {
        let pool = open(named("leak").leak_detection_timeout(LIMIT)).await;
        let line = Location::caller().line() + 1;
        let mut lease = pool.get().await.unwrap();
        for report in 1..=3 {
            let event = trace.wait("pgweir.leak.suspected", report).await;
            assert_eq!((event.level, event.number("report")), (Level::WARN, report as u64));
            assert_eq!(event.field("conn"), lease.id().to_string());
            assert!(event.field("location").starts_with(&format!("{}:{line}:", file!())), "{event}");
            assert!(event.number("held_ms") >= 60 << (report - 1), "{event}");
            let text = event.field("message");
            assert!(text.starts_with("Potential connection leak detected: connection "), "{text}");
        }
        let health = pool.health();
        assert_eq!((health.status, health.state, health.leak_count), (Status::Degraded, State::Degraded, 1));
        assert_eq!(health.reasons, ["1 lease is suspected of a leak"]);
        assert_eq!((pool.stats().suspected_leaks, pool.status().active), (1, 1));
        lease.query_one("SELECT 1", &[]).await.expect("nothing is closed");
        drop(lease);
        let resolved = trace.wait("pgweir.leak.resolved", 1).await;
        assert_eq!(resolved.level, Level::INFO);
        assert!(resolved.number("held_ms") >= 240 && resolved.field("location").contains(file!()), "{resolved}");
        let health = pool.health();
        assert_eq!((health.status, health.state, health.leak_count), (Status::Healthy, State::Healthy, 0));
        assert_eq!((pool.stats().suspected_leaks, pool.status().active), (0, 0));
    });
}

/// The line is the caller's own, through any number of async functions between it and the lease's holder.
#[test]
fn the_line_is_where_it_was_acquired() {
    async fn deep(pool: &Pool) -> Lease {
        deeper(pool).await
    }
    async fn deeper(pool: &Pool) -> Lease {
        pool.get_timeout(Duration::from_secs(5)).leak_after(LIMIT).await.unwrap() // this one
    }
    run(|trace| async move {
        let pool = open(named("leak-line")).await;
        let held = deep(&pool).await;
        let event = trace.wait("pgweir.leak.suspected", 1).await;
        let marked = include_str!("leaks.rs").lines().position(|line| line.ends_with("// this one")).unwrap() + 1;
        assert!(event.field("location").starts_with(&format!("{}:{marked}:", file!())), "{event}");
        drop(held);
    });
}

/// issue 6 item 5: the stack has the async functions between the task and the guilty line, and no others: neither
/// the library's nor the runtime's. The connection is told by its backend, the lease by its span and its queries.
#[test]
fn the_stack_names_the_async_functions() {
    async fn checkout(pool: &Pool) -> Lease {
        reserve(pool).await // within checkout
    }
    async fn reserve(pool: &Pool) -> Lease {
        let mut lease = pool.get().await.unwrap(); // the guilty line
        lease.query_one("SELECT 1", &[]).await.unwrap();
        lease.query_one("SELECT 2", &[]).await.unwrap();
        lease
    }
    run(|trace| async move {
        for leak_stack in [LeakStack::Always, LeakStack::Adaptive, LeakStack::Never] {
            trace.clear();
            let pool = open(named("leak-stack").leak_detection_timeout(LIMIT).leak_stack(leak_stack)).await;
            let mut held = checkout(&pool).await; // within the task
            let event = trace.wait("pgweir.leak.suspected", 1).await;
            let pid: i32 = held.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
            assert_eq!(
                (event.field("backend_pid"), event.field("queries")),
                (pid.to_string().as_str(), "2"),
                "{event}"
            );
            let line = |mark| include_str!("leaks.rs").lines().position(|text| text.ends_with(mark)).unwrap() + 1;
            let marked = line("// the guilty line");
            assert!(event.field("location").starts_with(&format!("{}:{marked}:", file!())), "{event}");
            let stack = event.field("stack");
            let kept = leak_stack == LeakStack::Always || (leak_stack == LeakStack::Adaptive && cfg!(debug_assertions));
            assert_eq!(!stack.is_empty(), kept, "{leak_stack:?}: {stack}");
            if kept {
                let frames: Vec<&str> = stack.lines().collect();
                // With line tables only, as here, an async function is named by its lines.
                assert!(frames[0].contains(&format!("leaks.rs:{marked}:")), "{stack}");
                assert!(frames[1].contains(&format!("leaks.rs:{}:", line("// within checkout"))), "{stack}");
                assert!(frames[2].contains(&format!("leaks.rs:{}:", line("// within the task"))), "{stack}");
                let library = |frame: &&str| frame.contains("/.cargo/") || frame.contains("/rustc/");
                assert_eq!(frames.iter().find(|frame| library(frame)), None, "{stack}");
            }
        }
    });
}

/// long work that says so is never reported, while a neighbour that does not is. A shorter limit than
/// the pool's counts too.
#[test]
fn overrides() {
    run(|trace| async move {
        let pool = open(named("leak-override").leak_detection_timeout(LIMIT)).await;
        let forever = pool.get().leak_after(Duration::MAX).await.unwrap();
        let long = pool.get().leak_after(Duration::from_secs(60)).await.unwrap();
        let plain = pool.get().await.unwrap();
        trace.wait("pgweir.leak.suspected", 3).await;
        let own = plain.id().to_string();
        assert!(trace.named("pgweir.leak.suspected").iter().all(|event| event.field("conn") == own));
        assert_eq!(pool.health().leak_count, 1, "leases are counted, not reports");
        drop((forever, long, plain));
        assert_eq!(trace.count("pgweir.leak.resolved"), 1);
        assert_eq!(pool.health().leak_count, 0);

        let patient = open(named("leak-override").leak_detection_timeout(Duration::from_secs(60))).await;
        trace.clear();
        let lease = patient.get().leak_after(LIMIT).await.unwrap();
        trace.wait("pgweir.leak.suspected", 1).await;
        drop(lease);
    });
}

/// detection can be off, by either switch.
#[test]
fn switched_off() {
    run(|trace| async move {
        let off = open(named("leak-off").leak_detection_timeout(LIMIT).enable_leak_detection(false)).await;
        let zero = open(named("leak-off").leak_detection_timeout(Duration::ZERO)).await;
        let leases = (off.get().await.unwrap(), zero.get().await.unwrap());
        elapse(LIMIT * 4).await;
        assert_eq!((off.health().status, zero.health().status), (Status::Healthy, Status::Healthy));
        drop(leases);
        assert_eq!(trace.count("pgweir.leak.suspected") + trace.count("pgweir.leak.resolved"), 0);
    });
}
