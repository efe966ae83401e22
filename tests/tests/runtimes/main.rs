//! One pool on every runtime: the same body on tokio (both kinds), smol and async-std, against a real PostgreSQL.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pgweir_core::client::Postgres;
use pgweir_core::config::Config;
use pgweir_core::driver::Pool;
use pgweir_core::pool::State;
use pgweir_core::runtime::Runtime;
use pgweir_tests::LocalPostgres;

const TASKS: usize = 50;
const ROUNDS: i32 = 20;

/// A user's first hour with a pool: open, query, transaction, 50 tasks over 4 connections, a crash and the recovery
/// from it without a restart, close; and nothing is left on the server.
async fn the_main_job<R: Runtime>(name: &str) {
    let runtime = R::current();
    let server = Arc::new(LocalPostgres::start().expect("a server"));
    let config = Config::builder()
        .database_url(server.url())
        .application_name(name)
        .max_size(4)
        .backoff_initial(Duration::from_millis(200))
        .build()
        .expect("a valid configuration");
    let pool: Pool<R, Postgres<R>> = Pool::builder_on(runtime.clone(), config).open().await.expect("it opens");
    assert_eq!((pool.status().total, pool.status().idle), (2, 2));

    let mut client = pool.get().await.expect("a connection");
    client.batch_execute("CREATE TABLE t (n int4 PRIMARY KEY)").await.expect("a table");
    let mut transaction = client.transaction().await.expect("a transaction");
    transaction.execute("INSERT INTO t VALUES ($1)", &[&1]).await.expect("a row");
    transaction.rollback().await.expect("rolled back");
    let mut transaction = client.transaction().await.expect("a transaction");
    transaction.execute("INSERT INTO t VALUES ($1)", &[&2]).await.expect("a row");
    transaction.commit().await.expect("committed");
    let row = client.query_one("SELECT array_agg(n) FROM t", &[]).await.expect("a row");
    assert_eq!(row.get::<_, Vec<i32>>(0), [2]);
    drop(client);

    many_tasks(&runtime, &pool).await;
    assert!(server.backends(name).expect("asked").len() <= 4);

    let killed = Arc::clone(&server);
    blocking(&runtime, move || killed.crash().expect("crashed")).await;
    until(&runtime, "the outage is noticed without traffic", || pool.health().state == State::Unhealthy).await;
    let refused = pool.get().await.expect_err("the database is down");
    assert!(refused.to_string().contains("unavailable"), "{refused}");
    let started = Arc::clone(&server);
    blocking(&runtime, move || started.start_again().expect("started")).await;
    until(&runtime, "the pool recovers by itself", || pool.health().state == State::Healthy).await;
    many_tasks(&runtime, &pool).await;

    let stats = pool.stats();
    assert_eq!(stats.total_acquisitions, stats.total_releases);
    let report = pool.close().await;
    assert_eq!((report.forced, pool.status().total), (0, 0));
    server.wait_for_backends(name, 0);
}

/// A query dropped half-way is cancelled on the server, and the next one on the same connection gets its own answer.
async fn a_dropped_query<R: Runtime>(name: &str) {
    let runtime = R::current();
    let server = LocalPostgres::start().expect("a server");
    let config = Config::builder().database_url(server.url()).application_name(name).min_size(1).max_size(1);
    let config = config.build().expect("a valid configuration");
    let pool: Pool<R, Postgres<R>> = Pool::builder_on(runtime.clone(), config).open().await.expect("it opens");
    for n in 0..5_i32 {
        let mut client = pool.get().await.expect("a connection");
        let (sleep, mut limit) = (client.batch_execute("SELECT pg_sleep(600)"), runtime.timer(runtime.now()));
        {
            let mut sleep = std::pin::pin!(sleep);
            std::future::poll_fn(|cx| {
                assert!(sleep.as_mut().poll(cx).is_pending());
                std::pin::Pin::new(&mut limit).poll(cx)
            })
            .await;
        }
        drop(client);
        let mut client = pool.get().await.expect("the same connection, drained");
        let row = client.query_one("SELECT $1::int4", &[&n]).await.expect("an answer");
        assert_eq!(row.get::<_, i32>(0), n);
    }
    assert_eq!(pool.stats().opened, 1, "one connection served all");
    pool.close().await;
}

async fn many_tasks<R: Runtime>(runtime: &R, pool: &Pool<R, Postgres<R>>) {
    let done = Arc::new(AtomicUsize::new(0));
    for task in 0..TASKS as i32 {
        let (pool, done) = (pool.clone(), Arc::clone(&done));
        runtime.spawn("test", async move {
            for round in 0..ROUNDS {
                let n = task * ROUNDS + round;
                let mut client = pool.get().await.expect("a connection");
                let row = client.query_one("SELECT $1::int4 + 1", &[&n]).await.expect("an answer");
                assert_eq!(row.get::<_, i32>(0), n + 1);
            }
            done.fetch_add(1, Ordering::SeqCst);
        });
    }
    until(runtime, "all tasks are done", || done.load(Ordering::SeqCst) == TASKS).await;
}

/// Runs what blocks on a thread of its own: the runtime's may be the only one.
async fn blocking<R: Runtime>(runtime: &R, work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(work);
    until(runtime, "the testkit is done", || thread.is_finished()).await;
    thread.join().expect("the testkit did it");
}

async fn until<R: Runtime>(runtime: &R, what: &str, mut condition: impl FnMut() -> bool) {
    let limit = runtime.now() + Duration::from_secs(60);
    while !condition() {
        assert!(runtime.now() < limit, "{what}: not within a minute");
        runtime.timer(runtime.now() + Duration::from_millis(5)).await;
    }
}

fn on_tokio(mut builder: tokio::runtime::Builder, test: impl Future<Output = ()>) {
    builder.enable_all().build().expect("a runtime").block_on(test);
}

/// Instantiates every body on every runtime.
macro_rules! on_every_runtime {
    ($($body:ident),*) => {
        mod tokio_current_thread {
            $(#[test]
            fn $body() {
                let test = super::$body::<pgweir_tokio::TokioRuntime>(concat!("tokio1_", stringify!($body)));
                super::on_tokio(tokio::runtime::Builder::new_current_thread(), test);
            })*
        }
        mod tokio_multi_thread {
            $(#[test]
            fn $body() {
                let test = super::$body::<pgweir_tokio::TokioRuntime>(concat!("tokio2_", stringify!($body)));
                super::on_tokio(tokio::runtime::Builder::new_multi_thread(), test);
            })*
        }
        mod smol {
            $(#[test]
            fn $body() {
                smol::block_on(super::$body::<pgweir_async_std::smol::Smol>(concat!("smol_", stringify!($body))));
            })*
        }
        mod async_std {
            $(#[test]
            fn $body() {
                let name = concat!("async_std_", stringify!($body));
                async_std::task::block_on(super::$body::<pgweir_async_std::async_std::AsyncStd>(name));
            })*
        }
    };
}

on_every_runtime!(the_main_job, a_dropped_query);
