//! Several runtimes in one process, with a pool on each.

use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use pgweir_async_std::async_std::AsyncStd;
use pgweir_async_std::smol::Smol;
use pgweir_core::client::Postgres;
use pgweir_core::config::{Config, ConfigBuilder};
use pgweir_core::driver::{Lease, Pool};
use pgweir_core::runtime::Runtime;
use pgweir_tests::{LocalPostgres, eventually, kit};
use pgweir_tokio::TokioRuntime;

type PgPool<R> = Pool<R, Postgres<R>>;
type PgLease<R> = Lease<R, Postgres<R>>;

fn server() -> &'static LocalPostgres {
    static SERVER: OnceLock<LocalPostgres> = OnceLock::new();
    SERVER.get_or_init(|| LocalPostgres::start().expect("a server"))
}

fn config(name: &str) -> ConfigBuilder {
    Config::builder().database_url(server().url()).application_name(name).min_size(1).max_size(2)
}

async fn open<R: Runtime>(runtime: R, name: &str) -> PgPool<R> {
    PgPool::builder_on(runtime, config(name).build().expect("valid")).open().await.expect("the pool opens")
}

fn tokio() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

async fn answers<R: Runtime>(lease: &mut PgLease<R>, number: i32) {
    let row = lease.query_one("SELECT $1::int4 + 1", &[&number]).await.expect("an answer");
    assert_eq!(row.get::<_, i32>(0), number + 1);
}

/// Everything that a user does with a pool, from whatever context this is polled in.
async fn a_life<R: Runtime>(pool: PgPool<R>) {
    let mut lease = pool.get().await.expect("a connection");
    answers(&mut lease, 1).await;
    // A second one has to be opened.
    let mut second = pool.get().await.expect("a connection");
    answers(&mut second, 2).await;
    pool.get_timeout(Duration::from_millis(20)).await.expect_err("both are out");
    // A query that is dropped half-way, a token, a transaction.
    {
        let sleep = std::pin::pin!(lease.batch_execute("SELECT pg_sleep(600)"));
        assert!(kit::unless(second_look(&mut second), sleep).await.is_none(), "it sleeps");
    }
    drop(lease);
    let mut lease = pool.get().await.expect("the same connection, drained");
    answers(&mut lease, 3).await;
    let token = lease.cancel_token().expect("a key");
    let (slept, cancelled) = kit::join(lease.batch_execute("SELECT pg_sleep(600)"), async {
        second_look(&mut second).await;
        token.cancel().await
    })
    .await;
    assert!(slept.expect_err("cancelled").to_string().contains("canceling"), "by the token");
    assert!(cancelled.expect("it reached the server"));
    let mut transaction = lease.transaction().await.expect("a transaction");
    transaction.execute("CREATE TEMP TABLE t (a int)", &[]).await.expect("a table");
    transaction.rollback().await.expect("rolled back");
    drop((lease, second));
    assert_eq!(pool.close().await.forced, 0);
}

/// Waits until some query of this pool sleeps.
async fn second_look<R: Runtime>(lease: &mut PgLease<R>) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = current_setting('application_name') \
               AND state = 'active' AND strpos(query, 'pg_sleep(600)') > 0 AND pid <> pg_backend_pid()";
    while lease.query_one(sql, &[]).await.expect("an answer").get::<_, i64>(0) == 0 {}
}

/// Four pools on four runtimes at once, each used from its own.
#[test]
fn every_runtime_has_a_pool_at_the_same_time() {
    let current = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let lives = [
        thread::spawn(|| tokio().block_on(async { a_life(open(TokioRuntime::current(), "own-multi").await).await })),
        thread::spawn(move || {
            current().block_on(async { a_life(open(TokioRuntime::current(), "own-one").await).await })
        }),
        thread::spawn(|| smol::block_on(async { a_life(open(Smol, "own-smol").await).await })),
        thread::spawn(|| async_std::task::block_on(async { a_life(open(AsyncStd, "own-std").await).await })),
    ];
    lives.into_iter().for_each(|life| life.join().expect("no panic"));
    ["own-multi", "own-one", "own-smol", "own-std"].iter().for_each(|name| server().wait_for_backends(name, 0));
}

/// A pool on tokio is opened and used by code that runs on smol, and the other way round: a pool's own runtime does its
/// work, whoever waits.
#[test]
fn a_pool_is_used_from_another_runtime() {
    let runtime = tokio();
    let handle = TokioRuntime::from_handle(runtime.handle().clone());
    smol::block_on(async { a_life(open(handle.clone(), "foreign-tokio").await).await });
    async_std::task::block_on(async { a_life(open(handle, "foreign-tokio").await).await });
    runtime.block_on(async { a_life(open(Smol, "foreign-smol").await).await });
    runtime.block_on(async { a_life(open(AsyncStd, "foreign-std").await).await });
    ["foreign-tokio", "foreign-smol", "foreign-std"].iter().for_each(|name| server().wait_for_backends(name, 0));
}

/// Two pools on two runtimes; one runtime ends. Its pool's leases and acquires fail and say so, the other's go on.
#[test]
fn one_runtime_ends_and_the_other_goes_on() {
    let ends = tokio();
    let (pool, mut idle, mut busy) = ends.block_on(async {
        // Nobody is left to cancel what runs: a server that is told so looks for itself whether its client is there.
        let config = config("ends").setting("client_connection_check_interval", "50ms").build().expect("valid");
        let pool = PgPool::<TokioRuntime>::builder(config).open().await.expect("the pool opens");
        let (idle, busy) = (pool.get().await.expect("a connection"), pool.get().await.expect("a connection"));
        (pool, idle, busy)
    });
    let other = smol::block_on(open(Smol, "goes-on"));
    let query = thread::spawn(move || smol::block_on(busy.batch_execute("SELECT pg_sleep(600)")));
    eventually("it sleeps", Duration::from_secs(20), || {
        server().backends("ends").expect("the list").iter().any(|backend| backend.query.contains("pg_sleep"))
    });
    ends.shutdown_timeout(Duration::from_secs(5));
    query.join().expect("no panic").expect_err("its runtime has ended");
    smol::block_on(async {
        kit::timeout(&Smol, Duration::from_secs(10), async {
            idle.query_one("SELECT 1", &[]).await.expect_err("its runtime has ended");
            pool.get().await.expect_err("its runtime has ended");
            drop(idle);
            pool.close().await;
        })
        .await
        .expect("nothing hangs");
        answers(&mut other.get().await.expect("a connection"), 5).await;
        a_life(other).await;
    });
    ["ends", "goes-on"].iter().for_each(|name| server().wait_for_backends(name, 0));
}
