//! Peers that do not answer: black holes, frozen servers, connects that hang. They cost their own slot for a bounded
//! time, and nobody else anything.

use std::time::{Duration, Instant};

use pgweir_core::client::Error;
use pgweir_tests::{LocalPostgres, Proxy, Scope, Script, ScriptedServer, Step, wire};

use super::outage::{hurried, ms};
use crate::suite::common::{backends, config, open, open_lazy, run, server, unique, until};
use crate::suite::rt::{self, AcquireError, Pool};

fn proxy() -> Proxy {
    Proxy::start(server().address()).expect("a proxy")
}

/// Leaves every connection unused for longer than validation_interval.
async fn go_stale(pool: &Pool) {
    let idle = pool.status().idle;
    rt::sleep(ms(60)).await;
    assert_eq!(pool.status().idle, idle);
}

/// `count` acquires at once, each with a query that is answered; how long each took, or its error.
async fn acquire_all(pool: &Pool, count: usize, timeout: Duration) -> Vec<(Duration, Result<(), String>)> {
    let tasks: Vec<_> = (0..count)
        .map(|_| {
            let pool = pool.clone();
            rt::spawn(async move {
                let began = Instant::now();
                let result = match pool.get_timeout(timeout).await {
                    Ok(mut lease) => lease.batch_execute("SELECT 1").await.map_err(|error| error.to_string()),
                    Err(error) => Err(error.to_string()),
                };
                (began.elapsed(), result)
            })
        })
        .collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.expect("no panic"));
    }
    results
}

/// PEERS 1: every pooled connection is black-holed, new ones work. No caller sees an error; the dead ones are replaced
/// as soon as new connects work.
#[test]
fn a_black_holed_pool_is_replaced() {
    run(async |_trace| {
        let (proxy, name) = (proxy(), unique("hole"));
        let url = server().url_via(proxy.port());
        let quick = config(&url, &name).min_size(4).max_size(4).validation_interval(ms(20)).validation_timeout(ms(700));
        let pool = open(quick).await;
        let before = backends(server(), &name);
        assert_eq!(before.len(), 4);
        go_stale(&pool).await;
        proxy.black_hole(Scope::Existing);
        let results = acquire_all(&pool, 8, Duration::from_secs(10)).await;
        for (took, result) in &results {
            assert_eq!(*result, Ok(()), "{results:?}");
            assert!(*took < ms(2_000), "one validation_timeout and a connect: {results:?}");
        }
        proxy.resume();
        until("the old backends are gone", || {
            let now = backends(server(), &name);
            now.len() == 4 && before.iter().all(|pid| !now.contains(pid))
        })
        .await;
    });
}

/// PEERS 1: nothing gets through at all. Every acquire is answered by its deadline, and when the network is back so is
/// the pool.
#[test]
fn a_black_holed_network_is_bounded_by_each_deadline() {
    run(async |_trace| {
        let (proxy, name) = (proxy(), unique("blackout"));
        let url = server().url_via(proxy.port());
        let quick = hurried(config(&url, &name).min_size(3).max_size(6))
            .validation_interval(ms(20))
            .validation_timeout(ms(600))
            .connect_timeout(ms(600));
        let pool = open(quick).await;
        go_stale(&pool).await;
        proxy.black_hole(Scope::All);
        let results = acquire_all(&pool, 10, ms(900)).await;
        for (took, result) in &results {
            assert!(result.is_err() && *took < ms(1_100), "{results:?}");
        }
        proxy.resume();
        let healed = Instant::now();
        // Callers may be told Unavailable until the next probe, then all is well.
        until("it recovers", || pool.try_get().is_ok()).await;
        assert!(healed.elapsed() < ms(2_500), "recovered after {:?}", healed.elapsed());
        let results = acquire_all(&pool, 10, Duration::from_secs(5)).await;
        assert!(results.iter().all(|(_, result)| result.is_ok()), "{results:?}");
    });
}

/// PEERS 2: a connection whose validation timed out is closed, and not lent even when its peer speaks again.
#[test]
fn a_connection_that_failed_its_validation_never_comes_back() {
    run(async |trace| {
        let (proxy, name) = (proxy(), unique("timedout"));
        let url = server().url_via(proxy.port());
        let quick = config(&url, &name).min_size(1).max_size(1).validation_interval(ms(20)).validation_timeout(ms(300));
        let pool = open(quick).await;
        let old = pool.get().await.expect("a connection").backend_pid();
        go_stale(&pool).await;
        proxy.black_hole(Scope::Existing);
        let mut lease = pool.get_timeout(Duration::from_secs(5)).await.expect("a new connection");
        assert_ne!(lease.backend_pid(), old);
        assert_eq!(trace.count("pgweir.connection.invalid"), 1);
        proxy.resume();
        lease.batch_execute("SELECT 1").await.expect("it works");
        drop(lease);
        until("the old one is gone", || backends(server(), &name).len() == 1).await;
        assert_ne!(pool.get().await.expect("a connection").backend_pid(), old);
    });
}

/// PEERS 3: six stale dead connections, and a caller with time for less than two validations. The first failure makes
/// the siblings suspect, they are checked beside one another, and the caller gets a new connection in time.
#[test]
fn stale_connections_share_one_deadline() {
    run(async |_trace| {
        let (proxy, name) = (proxy(), unique("stale"));
        let url = server().url_via(proxy.port());
        let slow =
            config(&url, &name).min_size(6).max_size(6).validation_interval(ms(20)).validation_timeout(ms(2_000));
        let pool = open(slow).await;
        go_stale(&pool).await;
        proxy.black_hole(Scope::Existing);
        let began = Instant::now();
        let mut lease = pool.get_timeout(ms(3_500)).await.expect("in time");
        lease.batch_execute("SELECT 1").await.expect("it works");
        let took = began.elapsed();
        assert!(took < ms(3_500), "{took:?}");
        until("all six are new", || pool.status().idle == 5 && pool.status().closing == 0).await;
        // One, then four at a time (max_connecting): three rounds instead of six.
        assert!(began.elapsed() < ms(9_000), "replaced one after another: {:?}", began.elapsed());
    });
}

/// PEERS 3: with room to grow, the caller does not even wait for the validation to fail.
#[test]
fn a_slow_validation_is_overtaken_by_a_connect() {
    run(async |_trace| {
        let (proxy, name) = (proxy(), unique("overtaken"));
        let url = server().url_via(proxy.port());
        let pool = open(config(&url, &name).min_size(2).max_size(4).validation_interval(ms(20))).await;
        go_stale(&pool).await;
        proxy.black_hole(Scope::Existing);
        let began = Instant::now();
        pool.get().await.expect("a connection").batch_execute("SELECT 1").await.expect("it works");
        assert!(began.elapsed() < ms(900), "validation_timeout is 5 s, this took {:?}", began.elapsed());
    });
}

/// PEERS 37: every process of the server is stopped in its tracks; the kernel still accepts. Acquires are bounded by
/// their own timeouts, queries by command_timeout, and afterwards everything works again.
#[test]
fn a_frozen_server_delays_nobody_beyond_his_timeout() {
    run(async |trace| {
        let server = LocalPostgres::start().expect("a server");
        let base = hurried(config(&server.url(), "frozen").min_size(2).max_size(4));
        let pool = open(base.validation_interval(ms(20)).command_timeout(ms(500)).reset_timeout(ms(500))).await;
        let mut held = pool.get().await.expect("a connection");
        go_stale(&pool).await;
        server.pause().expect("it freezes");
        let began = Instant::now();
        let error = held.batch_execute("SELECT 1").await.expect_err("nobody answers");
        assert!(matches!(error, Error::Timeout { .. }), "{error}");
        assert!(began.elapsed() < ms(800), "{:?}", began.elapsed());
        drop(held);
        let results = acquire_all(&pool, 6, ms(1_000)).await;
        for (took, result) in &results {
            assert!(result.is_err() && *took < ms(1_200), "{results:?}");
        }
        server.resume().expect("it thaws");
        until("it recovers", || pool.try_get().is_ok()).await;
        let results = acquire_all(&pool, 6, Duration::from_secs(10)).await;
        assert!(results.iter().all(|(_, result)| result.is_ok()), "{results:?}\n{}", trace.tail(40));
    });
}

/// PEERS 31: one connect hangs; the others go on beside it, and the caller that caused it is served by them.
#[test]
fn one_hung_connect_blocks_nobody() {
    run(async |_trace| {
        let server = ScriptedServer::start(Script(vec![Step::Hang])).expect("a server");
        let pool = open_lazy(config(&server.url(), "hung").min_size(0).max_size(4));
        let first = rt::spawn({
            let pool = pool.clone();
            async move { pool.get_timeout(Duration::from_secs(4)).await.map(drop) }
        });
        until("the first connect hangs", || server.accepted().len() == 1).await;
        server.set_script(Script::answer_every_message(wire::one_row("off")));
        let began = Instant::now();
        let results = acquire_all(&pool, 6, Duration::from_secs(4)).await;
        assert!(results.iter().all(|(_, result)| result.is_ok()), "{results:?}");
        first.await.expect("no panic").expect("served by another's connection");
        assert!(began.elapsed() < ms(1_000), "{:?}", began.elapsed());
        // Connects that lost their demand end soon; the hung one has its five seconds.
        until("only the hung one is left", || pool.status().connecting == 1).await;
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    });
}

/// PEERS 6: an acquire that times out does not end the connect that it caused; the late connection serves the next.
#[test]
fn a_late_connect_serves_the_next_caller() {
    run(async |_trace| {
        let late = Script(vec![
            Step::ReadStartup,
            Step::Hang,
            Step::Send(wire::welcome()),
            Step::ReadMessage,
            Step::Send(wire::one_row("off")),
            Step::Swallow,
        ]);
        let server = ScriptedServer::start(late).expect("a server");
        let pool = open_lazy(config(&server.url(), "late").min_size(0).max_size(1));
        let error = pool.get_timeout(ms(150)).await.expect_err("too slow");
        assert!(matches!(error, AcquireError::Timeout(_)), "{error}");
        server.release();
        pool.get_timeout(Duration::from_secs(4)).await.expect("the same connect");
        assert_eq!(server.accepted().len(), 1);
    });
}

/// PEERS 1: a query in flight when the network goes silent ends at command_timeout; the connection is given up
/// within reset_timeout, for a cancel does not get through either, and the slot is free again.
#[test]
fn a_query_into_a_black_hole_ends() {
    run(async |_trace| {
        let (proxy, name) = (proxy(), unique("query"));
        let url = server().url_via(proxy.port());
        let quick =
            hurried(config(&url, &name).min_size(0).max_size(2)).command_timeout(ms(400)).reset_timeout(ms(400));
        let pool = open(quick.connect_timeout(ms(500)).validation_timeout(ms(500))).await;
        let mut lease = pool.get().await.expect("a connection");
        proxy.black_hole(Scope::All);
        let began = Instant::now();
        let error = lease.query_one("SELECT 1", &[]).await.expect_err("nobody answers");
        assert!(matches!(error, Error::Timeout { .. }), "{error}");
        assert!(began.elapsed() < ms(700), "{:?}", began.elapsed());
        drop(lease);
        until("the slot is free", || pool.status().total == 0).await;
        assert!(began.elapsed() < ms(3_600), "{:?}", began.elapsed());
        proxy.resume();
        pool.get().await.expect("a connection").batch_execute("SELECT 1").await.expect("it works");
    });
}
