//! What a lease leaves behind is settled before the next one.

use std::time::{Duration, Instant};

use pgweir_core::config::ResetPolicy;

use crate::common::{config, server, unique, until};
use crate::driver::{Driver, begin, open, pid};

crate::over_every_driver! {
    a_dropped_query_is_cancelled_on_the_server_and_its_connection_serves_on
    a_dropped_query_with_a_large_answer_leaves_nothing_of_it_to_the_next
    an_open_transaction_is_rolled_back
    a_failed_transaction_is_rolled_back
    a_dropped_query_in_a_transaction_is_cancelled_and_rolled_back
    a_clean_connection_is_lent_again_without_a_reset
    discard_all_clears_what_a_session_can_keep
    reset_statements_that_fail_cost_the_connection
}

async fn a_dropped_query_is_cancelled_on_the_server_and_its_connection_serves_on<D: Driver>() {
    let name = unique("dropped-query");
    let pool = open::<D>(config(&server().url(), &name).max_size(1)).await;
    let mut lease = pool.get().await.expect("a connection");
    let own = pid::<D>(&mut lease).await;
    for n in 0..5 {
        begin::<D>(&mut lease, "SELECT pg_sleep(600)").await;
        drop(lease);
        let dropped = Instant::now();
        lease = pool.get().await.expect("the same connection");
        assert_eq!(D::number(&mut lease, &format!("SELECT {n}")).await, Ok(n));
        assert_eq!(pid::<D>(&mut lease).await, own);
        assert!(dropped.elapsed() < Duration::from_secs(2), "{:?}", dropped.elapsed());
    }
    assert_eq!(server().backends(&name).expect("the list").len(), 1, "no cancel request is left over");
}

async fn a_dropped_query_with_a_large_answer_leaves_nothing_of_it_to_the_next<D: Driver>() {
    let pool = open::<D>(config(&server().url(), &unique("large")).max_size(1)).await;
    let mut lease = pool.get().await.expect("a connection");
    begin::<D>(&mut lease, "SELECT repeat('x', 1000) FROM generate_series(1, 5000000)").await;
    drop(lease);
    let mut lease = pool.get().await.expect("a connection");
    assert_eq!(D::number(&mut lease, "SELECT 5").await, Ok(5));
}

async fn an_open_transaction_is_rolled_back<D: Driver>() {
    let pool = open::<D>(config(&server().url(), &unique("open")).max_size(1)).await;
    let mut lease = pool.get().await.expect("a connection");
    let own = pid::<D>(&mut lease).await;
    D::run(&mut lease, "CREATE TEMP TABLE t (n int)").await.expect("a table");
    D::run(&mut lease, "BEGIN; INSERT INTO t VALUES (1)").await.expect("it runs");
    drop(lease);
    let mut lease = pool.get().await.expect("the same connection");
    assert_eq!(D::number(&mut lease, "SELECT count(*)::int FROM t").await, Ok(0));
    assert_eq!(pid::<D>(&mut lease).await, own);
}

async fn a_failed_transaction_is_rolled_back<D: Driver>() {
    let pool = open::<D>(config(&server().url(), &unique("failed")).max_size(1)).await;
    let mut lease = pool.get().await.expect("a connection");
    let own = pid::<D>(&mut lease).await;
    D::run(&mut lease, "BEGIN").await.expect("it runs");
    D::run(&mut lease, "SELECT 1/0").await.expect_err("it fails");
    drop(lease);
    let mut lease = pool.get().await.expect("the same connection");
    assert_eq!(pid::<D>(&mut lease).await, own);
}

async fn a_dropped_query_in_a_transaction_is_cancelled_and_rolled_back<D: Driver>() {
    let pool = open::<D>(config(&server().url(), &unique("both")).max_size(1)).await;
    let mut lease = pool.get().await.expect("a connection");
    let own = pid::<D>(&mut lease).await;
    D::run(&mut lease, "CREATE TEMP TABLE t (n int)").await.expect("a table");
    D::run(&mut lease, "BEGIN; INSERT INTO t VALUES (1)").await.expect("it runs");
    begin::<D>(&mut lease, "SELECT pg_sleep(600)").await;
    drop(lease);
    let mut lease = pool.get().await.expect("the same connection");
    assert_eq!(D::number(&mut lease, "SELECT count(*)::int FROM t").await, Ok(0));
    assert_eq!(pid::<D>(&mut lease).await, own);
}

async fn a_clean_connection_is_lent_again_without_a_reset<D: Driver>() {
    let pool = open::<D>(config(&server().url(), &unique("clean")).max_size(1)).await;
    for n in 0..20 {
        let mut lease = pool.get().await.expect("a connection");
        D::run(&mut lease, "BEGIN; SELECT 1; COMMIT").await.expect("it runs");
        assert_eq!(D::number(&mut lease, &format!("SELECT {n}")).await, Ok(n));
        drop(lease);
        let status = pool.status();
        assert_eq!((status.resetting, status.idle), (0, 1), "in round {n}");
    }
}

async fn discard_all_clears_what_a_session_can_keep<D: Driver>() {
    let config = config(&server().url(), &unique("discard")).max_size(1).reset_policy(ResetPolicy::DiscardAll);
    let pool = open::<D>(config).await;
    let mut lease = pool.get().await.expect("a connection");
    let own = pid::<D>(&mut lease).await;
    D::run(&mut lease, "SET work_mem = '1234kB'; SELECT pg_advisory_lock(7); CREATE TEMP TABLE t ()").await.unwrap();
    drop(lease);
    assert_eq!(pool.status().resetting, 1);
    let mut lease = pool.get().await.expect("the same connection");
    let sql = "SELECT (current_setting('work_mem') = '1234kB')::int + (to_regclass('pg_temp.t') IS NOT NULL)::int
                    + (SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())";
    assert_eq!(D::number(&mut lease, sql).await, Ok(0));
    assert_eq!(pid::<D>(&mut lease).await, own);
}

async fn reset_statements_that_fail_cost_the_connection<D: Driver>() {
    for sql in ["SELECT 1/0", "BEGIN"] {
        let config = config(&server().url(), &unique("reset")).max_size(1);
        let pool = open::<D>(config.reset_policy(ResetPolicy::Sql(sql.to_owned()))).await;
        let mut lease = pool.get().await.expect("a connection");
        let own = pid::<D>(&mut lease).await;
        drop(lease);
        let mut lease = pool.get().await.expect("another connection");
        assert_ne!(pid::<D>(&mut lease).await, own, "{sql}");
        drop(lease);
        until("it is settled", || pool.status().resetting == 0).await;
    }
}
