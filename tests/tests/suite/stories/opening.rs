//! start-up, and the edges of that belong to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pgweir_core::client::Client;
use pgweir_core::error::{AcquireError, OpenError};
use pgweir_core::pool::{FaultClass, State, Status};
use pgweir_tests::{Direction, ProxyStats};
use tracing::Level;

use super::{backends, named, proxied};
use crate::suite::common::{open, open_lazy, run, server, until, wait_for_backends};
use crate::suite::rt::{self, Pool, Rt};

/// with the defaults, two connections, ready and healthy, and one event that says so.
#[test]
fn ready_with_two_healthy_connections() {
    run(|trace| async move {
        let pool = open(named("opening")).await;
        let done = trace.named("pgweir.init.done");
        assert_eq!(done.len(), 1, "{}", trace.tail(20));
        assert_eq!(done[0].field("message"), "Connection pool initialized: min_size=2, max_size=10");
        assert_eq!((done[0].number("min_size"), done[0].number("max_size")), (2, 10));
        assert!(done[0].number("duration_ms") < 2_000, "{}", done[0]);
        assert_eq!((done[0].level, trace.count("pgweir.init.started")), (Level::INFO, 1));
        let health = pool.health();
        assert_eq!((health.status, health.state), (Status::Healthy, State::Healthy), "{health:?}");
        assert!(health.reasons.is_empty());
        let counts = health.database.pool;
        assert_eq!((counts.total, counts.idle, counts.active, counts.waiting), (2, 2, 0, 0));
        let stats = pool.stats();
        assert_eq!((stats.total_acquisitions, stats.opened, stats.connect_attempts), (0, 2, 2));
        assert!(stats.last_health_check.is_some() && stats.last_error.is_none(), "{stats:?}");
        assert_eq!(backends("opening"), 2);
    });
}

/// the first connections are opened side by side, not one after another; at most max_connecting at a time.
#[test]
fn first_connections_open_in_parallel() {
    run(|_| async {
        let (proxy, config) = proxied("opening-parallel");
        proxy.set_delay(Direction::ToClient, Duration::from_millis(30));
        let pool = open(config.min_size(6).max_connecting(3)).await;
        let ProxyStats { peak_handshaking, accepted, .. } = proxy.stats();
        assert_eq!((peak_handshaking, accepted.len()), (3, 6));
        assert_eq!(pool.status().idle, 6);
    });
}

/// the first query finds a connection ready: no connect, no check, no statement but its own.
#[test]
fn the_first_query_has_no_cold_start() {
    run(|_| async {
        let (proxy, config) = proxied("opening-warm");
        let pool = open(config).await;
        let before = proxy.stats();
        let mut client = pool.get().await.unwrap();
        assert_eq!(proxy.stats().to_server, before.to_server, "not a byte for the acquire");
        assert_eq!(client.query_one("SELECT 1", &[]).await.unwrap().get::<_, i32>(0), 1);
        assert_eq!(proxy.stats().accepted.len(), 2);
        assert_eq!(pool.stats().opened, 2);
    });
}

/// when min_size cannot be reached, opening fails after three attempts on the schedule, with each one's error.
#[test]
fn opening_fails_after_three_attempts() {
    run(|trace| async move {
        let (proxy, config) = proxied("opening-refused");
        proxy.refuse();
        let config = config.backoff_initial(Duration::from_millis(40)).backoff_jitter(0.0);
        let error = Pool::builder(config.build().unwrap()).open().await.unwrap_err();
        let OpenError::Init { attempts } = &error else { panic!("{error:?}") };
        assert_eq!(attempts.len(), 3);
        let place = format!("connecting to 127.0.0.1:{}", proxy.port());
        for (n, fault) in attempts.iter().enumerate() {
            assert_eq!(fault.class, FaultClass::Transient);
            assert!(fault.message.starts_with(&place) && fault.message.contains("refused"), "{fault}");
            assert!(error.to_string().contains(&format!("attempt {}: {fault}", n + 1)), "{error}");
        }
        let delays: Vec<u64> = trace.named("pgweir.reconnect.scheduled").iter().map(|e| e.number("delay_ms")).collect();
        assert_eq!(delays[..2], [40, 80], "on the schedule");
        let failed = trace.named("pgweir.init.failed");
        assert_eq!((failed.len(), failed[0].level, failed[0].number("attempts")), (1, Level::ERROR, 3));
        assert!(failed[0].field("cause").contains("refused"), "{}", failed[0]);
        // The number is configurable.
        let (proxy, config) = proxied("opening-refused");
        proxy.refuse();
        let config = config.init_attempts(1).build().unwrap();
        let Err(OpenError::Init { attempts }) = Pool::builder(config).open().await else { panic!("refused") };
        assert_eq!(attempts.len(), 1);
    });
}

/// what will not pass is not tried again: a database that does not exist. Nothing stays open.
#[test]
fn a_permanent_fault_fails_at_once() {
    run(|_| async {
        let url = server().url_with("postgres", "", "nosuch");
        let config = super::config(&url, "opening-nosuch").build().unwrap();
        let error = Pool::builder(config).open().await.unwrap_err();
        let OpenError::Init { attempts } = &error else { panic!("{error:?}") };
        assert_eq!((attempts.len(), attempts[0].sqlstate.unwrap().code()), (1, "3D000"));
        assert_eq!(backends("opening-nosuch"), 0);
    });
}

/// an opening that fails half-way, with one of two connections open already, leaves no backend.
#[test]
fn half_an_opening_leaves_nothing() {
    run(|trace| async move {
        server().query("CREATE ROLE half LOGIN CONNECTION LIMIT 1").unwrap();
        let url = server().url_with("half", "", "postgres");
        let config = super::config(&url, "opening-half").backoff_initial(Duration::from_millis(10));
        let error = Pool::builder(config.build().unwrap()).open().await.unwrap_err();
        let OpenError::Init { attempts } = &error else { panic!("{error:?}") };
        assert_eq!(attempts.len(), 3, "{error}");
        assert_eq!(attempts[2].sqlstate.unwrap().code(), "53300", "{error}");
        assert!(trace.count("pgweir.connection.opened") >= 1, "one was open");
        assert_eq!(backends("opening-half"), 0, "when the error is there, the connection is gone");
    });
}

/// The future of an opening that is dropped closes what it had opened, and nothing is opened afterwards.
#[test]
fn a_dropped_opening_leaves_nothing() {
    run(|_| async {
        let (proxy, config) = proxied("opening-dropped");
        proxy.set_delay(Direction::ToClient, Duration::from_millis(300));
        let opening = Pool::builder(config.min_size(3).build().unwrap()).open();
        let looking = until("connects are under way", || proxy.stats().accepted.len() == 3);
        assert!(rt::unless(looking, opening).await.is_none(), "too fast to be dropped");
        until("the proxy has no connection", || proxy.stats().open == 0).await;
        wait_for_backends(server(), "opening-dropped", 0).await;
        assert_eq!(proxy.stats().accepted.len(), 3);
    });
}

/// a lazy pool is there at once, says how far it is, keeps trying past any number of failures, and serves as
/// soon as the server lets it.
#[test]
fn lazy_opening_reports_through_health() {
    run(|trace| async move {
        let (proxy, config) = proxied("opening-lazy");
        proxy.refuse();
        let config = config.backoff_initial(Duration::from_millis(20)).backoff_max(Duration::from_millis(40));
        let pool = open_lazy(config.outage_grace(Duration::from_millis(100)).init_attempts(1));
        let health = pool.health();
        assert_eq!((health.status, health.state), (Status::Unhealthy, State::Initializing));
        assert_eq!(health.reasons[0], "the first connections are not open yet");
        trace.wait("pgweir.connection.failed", 6).await;
        assert_eq!(pool.health().state, State::Initializing);
        let error = pool.get().await.unwrap_err();
        let AcquireError::Unavailable(outage) = &error else { panic!("{error:?}") };
        assert!(outage.cause.message.contains("refused"), "{error}");
        proxy.listen().unwrap();
        trace.wait("pgweir.init.done", 1).await;
        let mut client = pool.get().await.unwrap();
        client.query_one("SELECT 1", &[]).await.unwrap();
        until("the pool is healthy", || pool.health().status == Status::Healthy).await;
        assert_eq!(backends("opening-lazy"), 2);
    });
}

/// A lazy pool's first acquire may be earlier than its first connection: it waits for it.
#[test]
fn an_acquire_before_ready_waits() {
    run(|_| async {
        let (proxy, config) = proxied("opening-early");
        proxy.set_delay(Direction::ToClient, Duration::from_millis(20));
        let pool = open_lazy(config);
        assert!(matches!(pool.try_get(), Err(AcquireError::WouldBlock)));
        assert_eq!(pool.get().await.unwrap().query_one("SELECT 1", &[]).await.unwrap().get::<_, i32>(0), 1);
    });
}

/// min = max, and max = 1: every connection that there may be is there from the start, and no more come.
#[test]
fn the_smallest_and_the_fixed_pool() {
    run(|_| async {
        for size in [1, 4] {
            let name = format!("opening-fixed-{size}");
            let pool = open(named(&name).min_size(size).max_size(size)).await;
            let tasks: Vec<_> = (0..20)
                .map(|n| {
                    let pool = pool.clone();
                    rt::spawn(async move {
                        let mut client = pool.get().await.unwrap();
                        assert_eq!(client.query_one("SELECT $1::int", &[&n]).await.unwrap().get::<_, i32>(0), n);
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            let stats = pool.stats();
            assert_eq!((stats.total, stats.opened, stats.total_acquisitions), (size, u64::from(size), 20));
            assert_eq!(backends(&name), size as usize);
        }
    });
}

/// min_size 0: no connection before there is demand, and none after max_idle_time.
#[test]
fn an_empty_pool() {
    run(|_| async {
        let pool = open(named("opening-empty").min_size(0).max_idle_time(Duration::from_millis(100))).await;
        assert_eq!((pool.status().total, backends("opening-empty")), (0, 0));
        assert_eq!(pool.health().status, Status::Healthy);
        assert!(matches!(pool.try_get(), Err(AcquireError::WouldBlock)));
        pool.get().await.unwrap().query_one("SELECT 1", &[]).await.unwrap();
        until("the connection is reaped", || pool.status().total == 0).await;
        wait_for_backends(server(), "opening-empty", 0).await;
        assert_eq!(pool.health().status, Status::Healthy);
    });
}

/// a second opening of the same configuration is a second pool; one's end is not the other's.
#[test]
fn the_same_configuration_twice() {
    run(|_| async {
        let config = named("opening-twice").build().unwrap();
        let first = Pool::builder(config.clone()).open().await.unwrap();
        let second = Pool::builder(config).open().await.unwrap();
        assert_eq!(backends("opening-twice"), 4);
        first.close().await;
        assert_eq!(backends("opening-twice"), 2);
        second.get().await.unwrap().query_one("SELECT 1", &[]).await.unwrap();
    });
}

/// `Pool::connect` needs no more than a URL; a URL that makes no sense is refused before anything is opened.
#[test]
fn a_url_is_enough() {
    run(|_| async {
        let pool = Pool::connect(&format!("{}?application_name=opening-url", server().url())).await.unwrap();
        assert_eq!((pool.status().idle, backends("opening-url")), (2, 2));
        let error = Pool::connect("postgres://user@host:notaport/db").await.unwrap_err();
        assert!(matches!(error, pgweir_core::client::ConnectError::Config(_)), "{error}");
    });
}

/// "validated" means that a session is set up before the pool says ready, by the program's own means too: a
/// hook that fails makes the opening fail, with its words.
#[test]
fn a_failing_hook_fails_the_opening() {
    run(|_| async {
        let calls = Arc::new(AtomicU32::new(0));
        let count = calls.clone();
        let config = named("opening-hook").min_size(1).backoff_initial(Duration::from_millis(10)).build().unwrap();
        let opening = Pool::builder(config).after_connect(move |_: &mut Client<Rt>| {
            count.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { Err("not today".into()) })
        });
        let error = opening.open().await.unwrap_err();
        assert!(error.to_string().contains("the after_connect hook refused the connection: not today"), "{error}");
        assert_eq!(calls.load(Ordering::Relaxed), 3);
        assert_eq!(backends("opening-hook"), 0);
    });
}
