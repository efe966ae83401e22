//! every connection is checked before it is lent, and as cheaply as it is safe.

use std::time::Duration;

use pgweir_core::config::ValidationPolicy;
use pgweir_tests::{Proxy, Signal};

use super::{elapse, named, pid, proxied};
use crate::suite::common::trace::Trace;
use crate::suite::common::{open, run, server, until, wait_for_backends};
use crate::suite::rt::Pool;

/// Bytes that reach the server while an acquire and its release happen.
async fn cost(proxy: &Proxy, pool: &Pool) -> u64 {
    let before = proxy.stats().to_server;
    let lease = pool.get().await.expect("a connection");
    let cost = proxy.stats().to_server - before;
    drop(lease);
    cost
}

/// Checks so far.
fn checks(trace: &Trace) -> usize {
    trace.count("pgweir.connection.validated")
}

/// PEERS 16: a connection that was used a moment ago costs no round trip; one that was unused for longer than
/// validation_interval costs one, once.
#[test]
fn by_interval() {
    run(|trace| async move {
        let (proxy, config) = proxied("validate-interval");
        let interval = Duration::from_millis(300);
        let pool = open(config.max_size(1).validation_interval(interval)).await;
        for _ in 0..10 {
            assert_eq!(cost(&proxy, &pool).await, 0);
        }
        elapse(interval).await;
        assert!(cost(&proxy, &pool).await > 0);
        assert_eq!(checks(&trace), 1);
        for _ in 0..10 {
            assert_eq!(cost(&proxy, &pool).await, 0, "proved, it is good for another interval");
        }
        assert_eq!((checks(&trace), pool.stats().opened), (1, 1));
    });
}

/// `always` is the brief's own behaviour: one round trip for each acquire, but for one right after the connect.
#[test]
fn always() {
    run(|trace| async move {
        let (proxy, config) = proxied("validate-always");
        let pool = open(config.max_size(1).validation(ValidationPolicy::Always)).await;
        assert_eq!(cost(&proxy, &pool).await, 0);
        let one = cost(&proxy, &pool).await;
        assert!(one > 0);
        for done in 2..=10 {
            assert_eq!(cost(&proxy, &pool).await, one);
            assert_eq!(checks(&trace), done);
        }
        assert!(pool.health().database.latency_ms.is_some());
    });
}

/// `suspect` trusts what it has not heard otherwise of.
#[test]
fn when_suspect() {
    run(|trace| async move {
        let (proxy, config) = proxied("validate-suspect");
        let config = config.min_size(3).validation(ValidationPolicy::Suspect).validation_interval(Duration::ZERO);
        let pool = open(config).await;
        elapse(Duration::from_millis(20)).await;
        assert_eq!(cost(&proxy, &pool).await, 0);
        // One dies: each of its siblings is proved by one round trip before it is lent again (DESIGN 4, Sound).
        let victim = crate::suite::common::backends(server(), "validate-suspect")[0];
        server().kill_backend(victim, Signal::TERM).unwrap();
        until("the loss is seen and made up for", || pool.stats().opened == 4 && pool.status().idle == 3).await;
        until("the siblings are proved", || checks(&trace) == 2).await;
        for _ in 0..5 {
            assert_eq!(cost(&proxy, &pool).await, 0);
        }
        assert_eq!(checks(&trace), 2);
    });
}

/// A check that fails costs the caller no error while there is time: the connection is replaced within his deadline.
#[test]
fn a_failed_check_is_no_error() {
    run(|trace| async move {
        let limit = Duration::from_millis(50);
        let config = named("validate-failed").max_size(1).validation_interval(Duration::ZERO).validation_timeout(limit);
        let pool = open(config).await;
        // Stopped in its tracks, the backend does not answer the check.
        let backend = crate::suite::common::backends(server(), "validate-failed")[0];
        server().kill_backend(backend, Signal::STOP).unwrap();
        let mut client = pool.get().await.expect("no error while there is time");
        assert_ne!(pid(&mut client).await, backend as i32);
        server().kill_backend(backend, Signal::CONT).unwrap();
        let failed = trace.named("pgweir.connection.invalid");
        assert_eq!(failed.len(), 1, "{}", trace.tail(30));
        assert_eq!((failed[0].level, failed[0].field("class")), (tracing::Level::WARN, "transient"));
        assert!(failed[0].field("cause").contains("timed out"), "{}", failed[0]);
        wait_for_backends(server(), "validate-failed", 1).await;
    });
}
