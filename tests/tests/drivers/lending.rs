//! Opening, acquiring, sizes, leaks.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pgweir_core::config::ValidationPolicy;
use pgweir_core::error::{AcquireError, OpenError};
use pgweir_core::pool::{State, WaitPhase};
use pgweir_tests::{Auth, LocalPostgres};

use crate::common::{backends, config, server, unique, until};
use crate::driver::{Driver, open, pid};

crate::over_every_driver! {
    opening_opens_min_size_and_closing_leaves_no_backend
    a_lazy_pool_opens_on_its_own
    a_wrong_password_is_permanent_and_says_so
    a_missing_database_is_permanent_and_says_so
    fifty_tasks_share_four_connections
    acquires_are_served_in_order_of_arrival
    a_timeout_says_who_holds_the_connections
    a_dropped_acquire_leaves_its_place_to_the_next
    growing_serves_waiters_and_shrinking_retires_on_return
    a_recycle_replaces_every_connection
    a_lease_held_too_long_is_a_suspected_leak
    a_connection_is_replaced_after_its_queries
    an_idle_connection_is_validated_by_a_round_trip
    a_unix_socket_serves_as_well
}

async fn opening_opens_min_size_and_closing_leaves_no_backend<D: Driver>() {
    let name = unique("opening");
    let pool = open::<D>(config(&server().url(), &name).min_size(3).max_size(5)).await;
    assert_eq!((pool.status().total, pool.status().idle), (3, 3));
    assert_eq!(backends(server(), &name).len(), 3);
    assert_eq!(pool.health().state, State::Healthy);
    let mut lease = pool.get().await.expect("a connection");
    let own = pid::<D>(&mut lease).await;
    assert!(backends(server(), &name).contains(&u32::try_from(own).expect("positive")));
    drop(lease);
    let report = pool.close().await;
    assert_eq!((report.forced, pool.status().total), (0, 0));
    assert!(backends(server(), &name).is_empty(), "closed means closed on the server too");
    assert!(matches!(pool.get().await, Err(AcquireError::Closed)));
}

async fn a_lazy_pool_opens_on_its_own<D: Driver>() {
    let name = unique("lazy");
    let config = config(&server().url(), &name).min_size(2).build().expect("valid");
    let pool = D::builder(config).open_lazy();
    until("the connections are open", || pool.status().idle == 2).await;
    pool.close().await;
}

/// The pool does not open, and says why at the first attempt.
async fn refused<D: Driver>(url: &str, code: &str) {
    let config = config(url, &unique("refused")).build().expect("valid");
    let error = D::builder(config).open().await.map(drop).expect_err("it is refused");
    let OpenError::Init { attempts } = &error else { panic!("{error:?}") };
    assert_eq!(attempts.len(), 1, "a permanent fault is not tried again: {error}");
    assert!(error.to_string().contains(code), "{error}");
    assert!(!format!("{error} {error:?}").contains("a-secret"), "{error}");
}

async fn a_wrong_password_is_permanent_and_says_so<D: Driver>() {
    let server = LocalPostgres::builder().auth(Auth::ScramSha256).password("right").start().expect("a server");
    refused::<D>(&server.url_with(server.user(), "a-secret", "postgres"), "28P01").await;
    let pool = open::<D>(config(&server.url(), &unique("right"))).await;
    pool.close().await;
}

async fn a_missing_database_is_permanent_and_says_so<D: Driver>() {
    refused::<D>(&server().url_with(server().user(), "a-secret", "no_such_database"), "3D000").await;
}

async fn fifty_tasks_share_four_connections<D: Driver>() {
    let name = unique("fifty");
    let pool = open::<D>(config(&server().url(), &name).max_size(4)).await;
    let tasks: Vec<_> = (0..50)
        .map(|task| {
            let pool = pool.clone();
            tokio::spawn(async move {
                for round in 0..20 {
                    let mut lease = pool.get().await.expect("a connection");
                    let sql = format!("SELECT {task} * 1000 + {round}");
                    assert_eq!(D::number(&mut lease, &sql).await, Ok(task * 1000 + round));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("all its answers were its own");
    }
    let stats = pool.stats();
    assert_eq!((stats.total_acquisitions, stats.total_releases), (1000, 1000));
    assert!(pool.status().total <= 4 && backends(server(), &name).len() <= 4);
    assert_eq!(stats.opened, u64::from(pool.status().total), "none was replaced on the way");
    pool.close().await;
}

async fn acquires_are_served_in_order_of_arrival<D: Driver>() {
    let pool = open::<D>(config(&server().url(), &unique("fifo")).max_size(1)).await;
    let lease = pool.get().await.expect("a connection");
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for n in 0..10 {
        let (of_task, order) = (pool.clone(), Arc::clone(&order));
        tasks.push(tokio::spawn(async move {
            let _lease = of_task.get().await.expect("a connection");
            order.lock().expect("fine").push(n);
        }));
        until("it is in the queue", || pool.status().waiting == n + 1).await;
    }
    drop(lease);
    for task in tasks {
        task.await.expect("served");
    }
    assert_eq!(*order.lock().expect("fine"), (0..10).collect::<Vec<_>>());
}

async fn a_timeout_says_who_holds_the_connections<D: Driver>() {
    let pool = open::<D>(config(&server().url(), &unique("timeout")).max_size(1)).await;
    let _lease = pool.get().await.expect("a connection");
    let error = pool.get_timeout(Duration::from_millis(100)).await.map(drop).expect_err("it is held");
    let AcquireError::Timeout(report) = &error else { panic!("{error:?}") };
    assert_eq!(report.phase, WaitPhase::InQueue);
    assert!(report.waited >= Duration::from_millis(100));
    assert!(error.to_string().contains(file!()), "{error}");
}

async fn a_dropped_acquire_leaves_its_place_to_the_next<D: Driver>() {
    let pool = open::<D>(config(&server().url(), &unique("dropped")).max_size(1)).await;
    let lease = pool.get().await.expect("a connection");
    let gone = tokio::time::timeout(Duration::from_millis(20), pool.get()).await;
    assert!(gone.is_err());
    let next = tokio::spawn({
        let pool = pool.clone();
        async move { pool.get().await.map(drop) }
    });
    until("it is in the queue", || pool.status().waiting == 1).await;
    drop(lease);
    next.await.expect("no panic").expect("a connection");
    assert_eq!((pool.status().waiting, pool.status().total), (0, 1));
}

async fn growing_serves_waiters_and_shrinking_retires_on_return<D: Driver>() {
    let name = unique("resize");
    let pool = open::<D>(config(&server().url(), &name).min_size(1).max_size(1)).await;
    let first = pool.get().await.expect("a connection");
    let second = tokio::spawn({
        let pool = pool.clone();
        async move { pool.get().await }
    });
    until("it is in the queue", || pool.status().waiting == 1).await;
    pool.resize(1, 2);
    let second = second.await.expect("no panic").expect("a connection");
    pool.resize(1, 1);
    assert_eq!(pool.status().total, 2, "what is lent stays");
    drop((first, second));
    until("one is left", || pool.status().total == 1).await;
    until("on the server too", || backends(server(), &name).len() == 1).await;
}

async fn a_recycle_replaces_every_connection<D: Driver>() {
    let name = unique("recycle");
    let pool = open::<D>(config(&server().url(), &name).min_size(2).max_size(2)).await;
    let before = backends(server(), &name);
    let mut lease = pool.get().await.expect("a connection");
    pool.recycle();
    pid::<D>(&mut lease).await;
    drop(lease);
    until("all are new", || {
        let now = backends(server(), &name);
        now.len() == 2 && now.iter().all(|pid| !before.contains(pid))
    })
    .await;
    pool.close().await;
}

async fn a_lease_held_too_long_is_a_suspected_leak<D: Driver>() {
    let config = config(&server().url(), &unique("leak")).leak_detection_timeout(Duration::from_millis(50));
    let pool = open::<D>(config).await;
    let lease = pool.get().await.expect("a connection");
    until("it is suspected", || pool.stats().suspected_leaks == 1).await;
    assert_eq!(pool.holders().len(), 1);
    drop(lease);
    assert!(pool.holders().is_empty());
}

async fn a_connection_is_replaced_after_its_queries<D: Driver>() {
    let pool = open::<D>(config(&server().url(), &unique("queries")).max_size(1).max_queries(3)).await;
    let mut lease = pool.get().await.expect("a connection");
    let first = pid::<D>(&mut lease).await;
    for _ in 0..3 {
        D::run(&mut lease, "SELECT 1").await.expect("an answer");
    }
    drop(lease);
    let mut lease = pool.get().await.expect("another connection");
    assert_ne!(pid::<D>(&mut lease).await, first);
}

async fn an_idle_connection_is_validated_by_a_round_trip<D: Driver>() {
    let name = unique("validate");
    let config = config(&server().url(), &name).max_size(1).validation(ValidationPolicy::Always);
    let pool = open::<D>(config).await;
    let mut lease = pool.get().await.expect("a connection");
    D::run(&mut lease, "SELECT 'mine'").await.expect("an answer");
    drop(lease);
    let lease = pool.get().await.expect("the same connection");
    let asked = server().backends(&name).expect("the list");
    assert_eq!(asked.len(), 1);
    assert!(!asked[0].query.contains("mine"), "the pool asked last: {}", asked[0].query);
    drop(lease);
    assert_eq!(pool.stats().queries, 1, "what the pool asks is not counted as its users'");
}

async fn a_unix_socket_serves_as_well<D: Driver>() {
    let pool = open::<D>(config(&server().unix_url(), &unique("unix"))).await;
    let mut lease = pool.get().await.expect("a connection");
    assert_eq!(D::number(&mut lease, "SELECT 7").await, Ok(7));
    drop(lease);
    pool.close().await;
}
