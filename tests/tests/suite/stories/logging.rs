//! events with stable names, levels and fields; nothing on stdout or stderr.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use pgweir_core::config::Environment;
use pgweir_core::error::AcquireError;
use pgweir_core::logs::EVENTS;
use pgweir_core::pool::State;
use pgweir_tests::{LocalPostgres, Signal, StopMode};
use tracing::Level;

use super::elapse;
use crate::suite::common::{config, in_this_binary, open, run, stop, until};
use crate::suite::rt::{self, Pool};

/// Lives through everything that has an event, on a server of its own.
async fn a_whole_life(server: &LocalPostgres) {
    let settings = |name: &str| {
        config(&server.url_with("postgres", "hush-hush", "postgres"), name)
            .acquire_timeout(Duration::from_millis(100))
            .acquire_slow(Duration::from_millis(20))
            .validation_interval(Duration::ZERO)
            .max_idle_time(Duration::from_millis(150))
            .backoff_initial(Duration::from_millis(50))
            .backoff_max(Duration::from_millis(200))
            .demand_probe_interval(Duration::from_millis(100))
            .outage_grace(Duration::from_millis(50))
    };
    let odd: Environment = [("POOL_TCP_ADDR", "10.0.0.1")].into_iter().collect();
    let pool = open(settings("life").max_size(3).environment(odd)).await;
    // At work: results, errors, notices of the server.
    let mut client = pool.get().await.unwrap();
    client.batch_execute("DO $$ BEGIN RAISE WARNING 'mind the gap'; END $$").await.unwrap();
    client.query("SELECT nonsense", &[]).await.unwrap_err();
    assert!(rt::timeout(Duration::from_millis(5), client.query("SELECT pg_sleep(99)", &[])).await.is_err());
    drop(client);
    // Crowded: a slow acquire, a timeout, a refusal, a leak.
    let long = Duration::from_secs(20);
    let mut held = vec![pool.get().await.unwrap(), pool.get().await.unwrap()];
    held.push(pool.get().leak_after(Duration::from_millis(30)).await.unwrap());
    assert!(matches!(pool.get().await, Err(AcquireError::Timeout(_))));
    assert!(matches!(pool.try_get(), Err(AcquireError::WouldBlock)));
    let slow = pool.get_timeout(long);
    let (slow, ()) = rt::join(slow, async {
        elapse(Duration::from_millis(40)).await;
        held.clear();
    })
    .await;
    drop(slow.unwrap());
    until("the pool shrinks", || pool.status().total == 2).await;
    // Changed by hand.
    pool.resize(1, 2);
    pool.pause();
    pool.resume();
    pool.recycle();
    until("recycled", || pool.stats().closed.iter().any(|by| by.reason == pgweir_core::pool::CloseReason::Recycle))
        .await;
    // A connection dies, then the server goes and comes back.
    let victim = pool.get_timeout(long).await.unwrap().backend_pid();
    server.kill_backend(victim as u32, Signal::TERM).unwrap();
    until("the loss is seen", || pool.stats().last_error.is_some()).await;
    stop(server, StopMode::Fast).await;
    until("the outage is seen", || pool.health().state == State::Unhealthy).await;
    assert!(matches!(pool.get().await, Err(AcquireError::Unavailable(_))));
    server.start_again().unwrap();
    until("it is over", || matches!(pool.health().state, State::Healthy | State::Degraded)).await;
    let forgotten = pool.get_timeout(long).await.unwrap();
    assert_eq!(pool.close_timeout(Duration::from_millis(20)).await.forced, 1);
    drop(forgotten);
    // One that never comes to life.
    let url = server.url_with("postgres", "hush-hush", "nosuch");
    Pool::builder(config(&url, "life").build().unwrap()).open().await.unwrap_err();
}

/// R-11, issue 2 item 6: every lifecycle event has the name, level and fields that the documentation gives it, and a
/// message for people; and every event of the documentation occurs.
#[test]
fn stable_names_and_fields() {
    run(|trace| async move {
        let server = LocalPostgres::start().unwrap();
        a_whole_life(&server).await;
        let mut seen = BTreeSet::new();
        for event in trace.events().iter().filter(|event| event.name.starts_with("pgweir.")) {
            seen.insert(event.name.clone());
            assert!(event.target.starts_with("pgweir"), "{event}: {}", event.target);
            assert!(!event.field("message").is_empty(), "{event}");
            let known = EVENTS.iter().find(|known| known.name == event.name);
            let known = known.unwrap_or_else(|| panic!("an event without a place in the table: {event}"));
            assert!(known.levels.contains(&event.level), "{event}");
            if event.name == "pgweir.state.changed" {
                let bad = ["degraded", "unhealthy"].contains(&event.field("to"));
                assert_eq!(event.level, if bad { Level::WARN } else { Level::INFO }, "{event}");
            }
            for field in known.fields {
                let may_be_empty = *field == "holders";
                assert!(event.fields.contains_key(*field), "no {field} in {event}");
                assert!(may_be_empty || !event.field(field).is_empty(), "an empty {field} in {event}");
            }
        }
        let unseen = EVENTS.iter().map(|known| known.name).filter(|name| !seen.contains(*name));
        let unseen: Vec<&str> = unseen.filter(|name| !name.starts_with("pgweir.endpoint.")).collect();
        assert!(unseen.is_empty(), "{unseen:?} in a life of\n{}", trace.tail(200));
        let all = trace.tail(10_000);
        assert!(!all.contains("hush-hush"), "{all}");
    });
}

/// a process without a subscriber, and with every RUST_LOG there is, prints nothing in a whole life: its
/// output is the test harness's own.
#[test]
fn in_silence() {
    const ALONE: &str = "PGWEIR_TESTS_ALONE";
    if std::env::var_os(ALONE).is_some() {
        let server = LocalPostgres::start().unwrap();
        crate::block_on(a_whole_life(&server));
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &in_this_binary(module_path!(), "in_silence"), "--nocapture"])
        .env(ALONE, "1")
        .env("RUST_LOG", "trace")
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    let lines: Vec<&str> = out.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let passed = format!("test {} ... ok", in_this_binary(module_path!(), "in_silence"));
    assert_eq!(lines[..2], ["running 1 test", &passed], "{out}");
    assert!(lines.len() == 3 && lines[2].starts_with("test result: ok. 1 passed"), "{out}");
    assert_eq!(err, "");
}
