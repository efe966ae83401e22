//! Connections and servers that die.

use std::sync::Arc;
use std::time::Duration;

use pgweir_core::error::AcquireError;
use pgweir_core::pool::State;
use pgweir_tests::{LocalPostgres, Proxy, Scope};

use crate::common::{backends, config, server, unique, until};
use crate::driver::{Driver, open, pid};

crate::over_every_driver! {
    a_killed_backend_is_never_handed_out
    an_idle_pool_fills_up_again_by_itself
    a_crash_is_told_to_callers_and_recovered_from
    a_fast_restart_costs_no_caller_an_error_after_it
    a_silent_peer_costs_one_slot_until_its_deadline
    a_second_host_is_used_when_the_first_is_down
}

async fn a_killed_backend_is_never_handed_out<D: Driver>() {
    let name = unique("killed");
    let server = LocalPostgres::start().expect("a server");
    let pool = open::<D>(config(&server.url(), &name).min_size(1).max_size(1)).await;
    for round in 0..20 {
        let mut lease = pool.get().await.expect("a connection");
        let own = pid::<D>(&mut lease).await;
        drop(lease);
        server.query(&format!("SELECT pg_terminate_backend({own}, 10000)")).expect("terminated");
        let mut lease = pool.get().await.expect("a connection");
        let answer = D::number(&mut lease, "SELECT 1").await;
        assert_eq!(answer, Ok(1), "in round {round}");
    }
    pool.close().await;
}

async fn an_idle_pool_fills_up_again_by_itself<D: Driver>() {
    let name = unique("refill");
    let pool = open::<D>(config(&server().url(), &name).min_size(3)).await;
    let before = backends(server(), &name);
    let sql = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{name}'");
    server().query(&sql).expect("terminated");
    until("three others are there", || {
        let now = backends(server(), &name);
        now.len() == 3 && now.iter().all(|pid| !before.contains(pid))
    })
    .await;
    until("the pool knows", || pool.status().idle == 3).await;
    pool.close().await;
}

async fn a_crash_is_told_to_callers_and_recovered_from<D: Driver>() {
    let server = LocalPostgres::start().expect("a server");
    let config = config(&server.url(), &unique("crash")).max_size(4).backoff_initial(Duration::from_millis(200));
    let pool = open::<D>(config).await;
    server.crash().expect("it crashes");
    until("it is noticed without traffic", || pool.health().state == State::Unhealthy).await;
    let error = pool.get().await.map(drop).expect_err("the database is down");
    assert!(matches!(error, AcquireError::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
    server.start_again().expect("it starts");
    until("it has recovered", || pool.health().state == State::Healthy).await;
    let mut lease = pool.get().await.expect("a connection");
    assert_eq!(D::number(&mut lease, "SELECT 1").await, Ok(1));
    drop(lease);
    pool.close().await;
}

async fn a_fast_restart_costs_no_caller_an_error_after_it<D: Driver>() {
    let server = Arc::new(LocalPostgres::start().expect("a server"));
    let config = config(&server.url(), &unique("restart")).max_size(4).backoff_initial(Duration::from_millis(100));
    let pool = open::<D>(config.outage_grace(Duration::from_secs(20))).await;
    server.restart().expect("it restarts");
    for _ in 0..8 {
        let mut lease = pool.get().await.expect("a connection");
        assert_eq!(D::number(&mut lease, "SELECT 1").await, Ok(1), "not one that died with the old server");
    }
    pool.close().await;
}

async fn a_silent_peer_costs_one_slot_until_its_deadline<D: Driver>() {
    let proxy = Proxy::start(server().address()).expect("a proxy");
    let config = config(&server().url_via(proxy.port()), &unique("silent")).min_size(0).max_size(1);
    let pool = open::<D>(config.connect_timeout(Duration::from_millis(300))).await;
    proxy.black_hole(Scope::All);
    let error = pool.get_timeout(Duration::from_millis(700)).await.map(drop).expect_err("nobody answers");
    assert!(error.to_string().contains("no answer within"), "{error}");
    proxy.resume();
    let lease = pool.get().await.expect("a connection, now that somebody does");
    drop(lease);
    pool.close().await;
}

async fn a_second_host_is_used_when_the_first_is_down<D: Driver>() {
    let (one, two) = (LocalPostgres::start().expect("a server"), LocalPostgres::start().expect("another"));
    let url = format!("postgres://{}@127.0.0.1:{},127.0.0.1:{}/postgres", one.user(), one.port(), two.port());
    let pool = open::<D>(config(&url, &unique("hosts")).max_size(2).backoff_initial(Duration::from_millis(100))).await;
    let mut lease = pool.get().await.expect("a connection");
    let port = "SELECT current_setting('port')::int";
    assert_eq!(D::number(&mut lease, port).await, Ok(i32::from(one.port())));
    drop(lease);
    one.crash().expect("it crashes");
    until("the other serves", || pool.status().idle > 0 && pool.health().state != State::Unhealthy).await;
    let mut lease = pool.get().await.expect("a connection");
    assert_eq!(D::number(&mut lease, port).await, Ok(i32::from(two.port())));
    drop(lease);
    pool.close().await;
}
