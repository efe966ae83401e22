//! Closing.

use std::time::{Duration, Instant};

use crate::common::{backends, config, server, unique, until};
use crate::driver::{Driver, open, pid};

crate::over_every_driver! {
    closing_waits_for_leases
    closing_cuts_off_what_does_not_end_and_stops_it_on_the_server
    a_pool_that_is_dropped_closes_its_connections
    a_lease_dropped_outside_the_runtime_comes_back
    a_discarded_connection_is_replaced
}

async fn closing_waits_for_leases<D: Driver>() {
    let name = unique("waits");
    let pool = open::<D>(config(&server().url(), &name)).await;
    let mut lease = pool.get().await.expect("a connection");
    let closing = tokio::spawn({
        let pool = pool.clone();
        async move { pool.close().await }
    });
    until("it closes", || pool.is_closed()).await;
    assert_eq!(D::number(&mut lease, "SELECT 3").await, Ok(3), "the lease goes on");
    drop(lease);
    let report = closing.await.expect("no panic");
    assert_eq!((report.finished, report.forced), (1, 0));
    assert!(backends(server(), &name).is_empty());
}

async fn closing_cuts_off_what_does_not_end_and_stops_it_on_the_server<D: Driver>() {
    let name = unique("cut-off");
    let pool = open::<D>(config(&server().url(), &name)).await;
    let mut lease = pool.get().await.expect("a connection");
    let running = tokio::spawn(async move { D::run(&mut lease, "SELECT pg_sleep(600)").await });
    until("it runs", || {
        server().backends(&name).expect("the list").iter().any(|backend| backend.wait_event.contains("PgSleep"))
    })
    .await;
    let began = Instant::now();
    let report = pool.close_timeout(Duration::from_millis(200)).await;
    assert_eq!(report.forced, 1);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    running.await.expect("no panic").expect_err("its connection is gone");
    until("nothing is left", || backends(server(), &name).is_empty()).await;
}

async fn a_pool_that_is_dropped_closes_its_connections<D: Driver>() {
    let name = unique("forgotten");
    let pool = open::<D>(config(&server().url(), &name)).await;
    drop(pool);
    until("nothing is left", || backends(server(), &name).is_empty()).await;
}

async fn a_lease_dropped_outside_the_runtime_comes_back<D: Driver>() {
    let pool = open::<D>(config(&server().url(), &unique("outside")).max_size(1)).await;
    let mut lease = pool.get().await.expect("a connection");
    let own = pid::<D>(&mut lease).await;
    D::run(&mut lease, "BEGIN").await.expect("it runs");
    std::thread::spawn(move || drop(lease)).join().expect("no panic");
    let mut lease = pool.get().await.expect("the same connection");
    assert_eq!(pid::<D>(&mut lease).await, own);
}

async fn a_discarded_connection_is_replaced<D: Driver>() {
    let pool = open::<D>(config(&server().url(), &unique("discard")).max_size(1)).await;
    let mut lease = pool.get().await.expect("a connection");
    let own = pid::<D>(&mut lease).await;
    lease.discard();
    let mut lease = pool.get().await.expect("another connection");
    assert_ne!(pid::<D>(&mut lease).await, own);
}
