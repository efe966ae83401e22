//! What abandoned queries leave behind on a real server (PEERS 30, 45).

use std::time::{Duration, Instant};

use pgweir_tests::{Proxy, Scope, Signal};

use super::outage::{hurried, ms};
use crate::suite::common::{backends, config, open, run, server, unique, until};
use crate::suite::rt;

/// PEERS 30: four queries of a minute are dropped half-way on a pool of four. The server stops them, the same backends
/// serve the next callers, and soon.
#[test]
fn a_dropped_query_stops_on_the_server() {
    run(async |_trace| {
        let name = unique("dropped");
        let pool = open(config(&server().url(), &name).min_size(4).max_size(4)).await;
        let before = backends(server(), &name);
        let mut tasks = Vec::new();
        for _ in 0..4 {
            let pool = pool.clone();
            tasks.push(rt::spawn(async move {
                let mut lease = pool.get().await.expect("a connection");
                let query = lease.batch_execute("SELECT pg_sleep(60)");
                rt::timeout(ms(100), query).await.expect_err("dropped half-way");
            }));
        }
        rt::join_all(tasks).await;
        let dropped = Instant::now();
        let mut lease = pool.get().await.expect("a connection");
        lease.batch_execute("SELECT 1").await.expect("it works");
        assert!(dropped.elapsed() < ms(500), "the next query waited {:?}", dropped.elapsed());
        until("nothing sleeps any more", || {
            let all = server().backends(&name).expect("the list");
            all.iter().all(|backend| backend.state == "idle")
        })
        .await;
        assert!(dropped.elapsed() < Duration::from_secs(1), "{:?}", dropped.elapsed());
        until("all are back", || pool.status().idle == 3).await;
        let mut after = backends(server(), &name);
        after.sort_unstable();
        let mut same = before.clone();
        same.sort_unstable();
        assert_eq!(after, same, "cancelled, not replaced");
    });
}

/// PEERS 45: 25 workers drop their queries; the cancels cannot get through, and then every backend dies in the middle
/// of the clean-up. All 25 slots come back, and every worker gets a connection that works.
#[test]
fn backends_that_die_during_the_clean_up_hang_nobody() {
    run(async |_trace| {
        let proxy = Proxy::start(server().address()).expect("a proxy");
        let name = unique("cleanup");
        let wide = config(&server().url_via(proxy.port()), &name).min_size(0).max_size(25).max_connecting(25);
        let pool = open(hurried(wide).connect_timeout(ms(700)).reset_timeout(Duration::from_secs(20))).await;
        let mut tasks = Vec::new();
        for _ in 0..25 {
            let pool = pool.clone();
            tasks.push(rt::spawn(async move { pool.get().await.expect("a connection") }));
        }
        let leases = rt::join_all(tasks).await;
        proxy.black_hole(Scope::New);
        for mut lease in leases {
            let query = lease.batch_execute("SELECT pg_sleep(60)");
            rt::timeout(ms(2), query).await.expect_err("dropped half-way");
        }
        until("all clean up", || pool.status().resetting == 25).await;
        for pid in backends(server(), &name) {
            server().kill_backend(pid, Signal::TERM).expect("terminated");
        }
        proxy.resume();
        let killed = Instant::now();
        let mut tasks = Vec::new();
        for _ in 0..25 {
            let pool = pool.clone();
            tasks.push(rt::spawn(async move {
                let mut lease = pool.get_timeout(Duration::from_secs(15)).await.expect("a slot is free again");
                lease.batch_execute("SELECT 1").await.expect("it works");
            }));
        }
        rt::join_all(tasks).await;
        assert!(killed.elapsed() < Duration::from_secs(5), "{:?}", killed.elapsed());
        until("no clean-up is left", || pool.status().resetting == 0).await;
    });
}

/// PEERS 45: the same, but the dead are silent: no end is seen and no cancel gets through. reset_timeout ends it.
#[test]
fn a_clean_up_in_a_black_hole_is_bounded() {
    run(async |_trace| {
        let proxy = Proxy::start(server().address()).expect("a proxy");
        let name = unique("bounded");
        let url = server().url_via(proxy.port());
        let pool = open(hurried(config(&url, &name).min_size(0).max_size(8)).reset_timeout(ms(500))).await;
        let mut leases = Vec::new();
        for _ in 0..8 {
            leases.push(pool.get().await.expect("a connection"));
        }
        proxy.black_hole(Scope::All);
        for mut lease in leases {
            let query = lease.batch_execute("SELECT pg_sleep(60)");
            rt::timeout(ms(2), query).await.expect_err("dropped half-way");
        }
        let dropped = Instant::now();
        until("all slots are free", || pool.status().total == pool.status().connecting).await;
        assert!(dropped.elapsed() < Duration::from_secs(4), "{:?}", dropped.elapsed());
        proxy.resume();
        pool.get().await.expect("a connection").batch_execute("SELECT 1").await.expect("it works");
    });
}
