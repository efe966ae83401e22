//! Pools, so far as they need nothing but a database: the same on a real PostgreSQL and on a simulated one.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pgweir_core::client::{Client, Error, Postgres, TransactionStatus};
use pgweir_core::config::{Config, ConfigBuilder};
use pgweir_core::driver::{Lease, Pool};
use pgweir_core::error::AcquireError;
use pgweir_core::pool::{State, WaitPhase};
use pgweir_core::runtime::Runtime;

use super::io::{ms, until, within};
use super::{Database, World};
use crate::kit::{join, join_all, sleep, spawn, timeout, unless};

type PgPool<R> = Pool<R, Postgres<R>>;
type PgLease<R> = Lease<R, Postgres<R>>;

/// A database, and a name in it that no other test has.
struct Place<D> {
    database: D,
    name: String,
}

impl<D: Database> Place<D> {
    fn new<W: World<Database = D>>(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pools-{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        Place { database: W::database(), name }
    }

    fn config(&self) -> ConfigBuilder {
        Config::builder().database_url(self.database.url()).application_name(&self.name)
    }

    fn sessions(&self) -> Vec<i32> {
        self.database.sessions(&self.name)
    }

    /// A name for a table.
    fn table(&self) -> String {
        self.name.replace('-', "_")
    }

    async fn is_left<R: Runtime>(&self) {
        until::<R>("the database is rid of the pool", || self.sessions().is_empty()).await;
    }
}

async fn open<R: Runtime>(config: ConfigBuilder) -> PgPool<R> {
    let config = config.build().expect("a valid configuration");
    within::<R, _>("the opening", PgPool::builder(config).open()).await.expect("the pool opens")
}

async fn get<R: Runtime>(pool: &PgPool<R>) -> PgLease<R> {
    within::<R, _>("a connection", pool.get()).await.expect("a connection")
}

async fn answers<R: Runtime>(client: &mut Client<R>, number: i32) {
    let row = client.query_one("SELECT $1::int4 + 1", &[&number]).await.expect("an answer");
    assert_eq!(row.get::<_, i32>(0), number + 1);
}

async fn close<R: Runtime, D: Database>(pool: &PgPool<R>, place: &Place<D>) {
    let report = within::<R, _>("the close", pool.close()).await;
    assert_eq!((report.forced, pool.status().total), (0, 0));
    place.is_left::<R>().await;
}

fn sqlstate<T>(result: Result<T, Error>) -> String {
    let Err(error) = result else { panic!("the query was to fail") };
    error.code().map_or_else(|| panic!("no SQLSTATE in {error}"), |code| code.code().to_owned())
}

/// `min_size` connections are open when the pool is, and none is left when it is closed.
pub async fn open_and_close<R: Runtime, W: World>() {
    let place = Place::new::<W>("open");
    let pool = open::<R>(place.config().min_size(3).max_size(5)).await;
    assert_eq!((pool.status().idle, place.sessions().len()), (3, 3));
    assert_eq!(pool.health().state, State::Healthy);
    answers(&mut *get(&pool).await, 1).await;
    close(&pool, &place).await;
    assert!(matches!(pool.get().await, Err(AcquireError::Closed)));
}

/// A pool that opens in the background serves as soon as it can.
pub async fn open_lazily<R: Runtime, W: World>() {
    let place = Place::new::<W>("lazy");
    let pool = PgPool::<R>::builder(place.config().build().expect("valid")).open_lazy();
    answers(&mut *get(&pool).await, 1).await;
    until::<R>("min_size is there", || pool.status().idle == 2).await;
    close(&pool, &place).await;
}

/// Rows, parameters, errors; an error costs no connection.
pub async fn queries<R: Runtime, W: World>() {
    let place = Place::new::<W>("queries");
    let pool = open::<R>(place.config().max_size(1)).await;
    let mut client = get(&pool).await;
    for number in 0..20 {
        answers(&mut client, number).await;
    }
    let rows = client.query("SELECT * FROM generate_series(1, 100)", &[]).await.expect("rows");
    assert!(rows.iter().map(|row| row.get::<_, i32>(0)).eq(1..=100));
    let row = client.query_one("SELECT $1::text", &[&"wörds"]).await.expect("a row");
    assert_eq!(row.get::<_, &str>(0), "wörds");
    assert_eq!(sqlstate(client.query("SELECT 1 / 0", &[]).await), "22012");
    assert_eq!(sqlstate(client.query("SELECT * FROM nowhere_at_all", &[]).await), "42P01");
    assert_eq!(sqlstate(client.batch_execute("nonsense").await), "42601");
    client.batch_execute("SELECT 1; SELECT 2").await.expect("both");
    let statement = client.prepare("SELECT $1::int4 + 1").await.expect("a statement");
    assert_eq!(client.query_one(&statement, &[&41]).await.expect("a row").get::<_, i32>(0), 42);
    drop(client);
    assert_eq!(pool.stats().opened, 1);
    close(&pool, &place).await;
}

/// What is committed is seen by others; what is rolled back, or dropped, is not.
pub async fn transactions<R: Runtime, W: World>() {
    let place = Place::new::<W>("transactions");
    let pool = open::<R>(place.config().max_size(2)).await;
    let (table, mut client) = (place.table(), get(&pool).await);
    client.batch_execute(&format!("CREATE TABLE {table} (n int4)")).await.expect("a table");
    let insert = format!("INSERT INTO {table} VALUES ($1)");
    let sum = format!("SELECT sum(n)::int4 FROM {table}");
    let mut transaction = client.transaction().await.expect("a transaction");
    transaction.execute(&insert, &[&1]).await.expect("a row");
    transaction.commit().await.expect("committed");
    let mut transaction = client.transaction().await.expect("a transaction");
    transaction.execute(&insert, &[&10]).await.expect("a row");
    transaction.rollback().await.expect("rolled back");
    let mut transaction = client.transaction().await.expect("a transaction");
    transaction.execute(&insert, &[&100]).await.expect("a row");
    let mut nested = transaction.transaction().await.expect("a savepoint");
    nested.execute(&insert, &[&1000]).await.expect("a row");
    nested.rollback().await.expect("rolled back");
    transaction.commit().await.expect("committed");
    let mut dropped = client.transaction().await.expect("a transaction");
    dropped.execute(&insert, &[&10_000]).await.expect("a row");
    drop(dropped);
    drop(client);
    let (mut a, mut b) = (get(&pool).await, get(&pool).await);
    for client in [&mut a, &mut b] {
        assert_eq!(client.transaction_status(), TransactionStatus::Idle);
        let row = client.query_one(&sum, &[]).await.expect("a row");
        assert_eq!(row.get::<_, i32>(0), 101);
    }
    a.batch_execute(&format!("DROP TABLE {table}")).await.expect("dropped");
    drop((a, b));
    close(&pool, &place).await;
}

/// Many tasks over few connections: everybody is served, with his own answer, and there are never more.
pub async fn many_tasks_share_few_connections<R: Runtime, W: World>() {
    let place = Place::new::<W>("tasks");
    let pool = open::<R>(place.config().min_size(1).max_size(4)).await;
    let tasks: Vec<_> = (0..50)
        .map(|task| {
            let pool = pool.clone();
            spawn(&R::current(), async move {
                for round in 0..10 {
                    answers(&mut *get(&pool).await, task * 1_000 + round).await;
                }
            })
        })
        .collect();
    within::<R, _>("all tasks", join_all(tasks)).await;
    let stats = pool.stats();
    assert_eq!((stats.total_acquisitions, stats.total_releases, stats.timeouts), (500, 500, 0));
    assert!(stats.opened <= 4 && place.sessions().len() <= 4, "{stats:?}");
    close(&pool, &place).await;
}

/// Who came first is served first.
pub async fn first_come_first_served<R: Runtime, W: World>() {
    let place = Place::new::<W>("fifo");
    let pool = open::<R>(place.config().max_size(1)).await;
    let held = get(&pool).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for n in 0..10 {
        let (own, order) = (pool.clone(), order.clone());
        tasks.push(spawn(&R::current(), async move {
            let lease = get(&own).await;
            order.lock().expect("no panic").push(n);
            drop(lease);
        }));
        until::<R>("one more waits", || pool.status().waiting == n + 1).await;
    }
    drop(held);
    within::<R, _>("all tasks", join_all(tasks)).await;
    assert!(order.lock().expect("no panic").iter().copied().eq(0..10));
    close(&pool, &place).await;
}

/// An acquire ends by its deadline, and says what it waited for.
pub async fn an_acquire_times_out<R: Runtime, W: World>() {
    let place = Place::new::<W>("timeout");
    let pool = open::<R>(place.config().max_size(1)).await;
    let held = get(&pool).await;
    let began = R::current().now();
    let error = pool.get_timeout(ms(50)).await.expect_err("it is held");
    assert!(R::current().now() - began >= ms(50));
    let AcquireError::Timeout(report) = &error else { panic!("{error:?}") };
    assert_eq!((report.phase, report.holders.len()), (WaitPhase::InQueue, 1));
    assert_eq!(report.holders[0].conn, held.id());
    assert!(matches!(pool.try_get(), Err(AcquireError::WouldBlock)));
    drop(held);
    drop(pool.try_get().expect("it is free"));
    close(&pool, &place).await;
}

/// An acquire that is dropped, or whose task is aborted, strands nobody.
pub async fn a_dropped_acquire_strands_nobody<R: Runtime, W: World>() {
    let place = Place::new::<W>("dropped");
    let pool = open::<R>(place.config().max_size(1)).await;
    let held = get(&pool).await;
    let waiter = || {
        let pool = pool.clone();
        spawn(&R::current(), async move { pool.get().await.map(drop) })
    };
    let (first, second) = (waiter(), waiter());
    until::<R>("two wait", || pool.status().waiting == 2).await;
    first.abort();
    until::<R>("one waits", || pool.status().waiting == 1).await;
    drop(held);
    within::<R, _>("the other one", second).await.expect("no panic").expect("a connection");
    assert_eq!(pool.stats().cancelled, 1);
    close(&pool, &place).await;
}

/// A query that is dropped half-way stops in the database; its connection serves the next one.
pub async fn a_dropped_query_is_cancelled<R: Runtime, W: World>() {
    let place = Place::new::<W>("abandoned");
    let pool = open::<R>(place.config().max_size(1)).await;
    for number in 0..3 {
        let mut client = get(&pool).await;
        let query = client.batch_execute("SELECT pg_sleep(600)");
        assert!(timeout(&R::current(), ms(20), query).await.is_err(), "it sleeps");
        drop(client);
        answers(&mut *get(&pool).await, number).await;
    }
    assert_eq!(pool.stats().opened, 1, "one connection serves all");
    close(&pool, &place).await;
}

/// A token ends what its lease runs, and is void with the lease.
pub async fn a_query_is_cancelled_by_its_token<R: Runtime, W: World>() {
    let place = Place::new::<W>("token");
    let pool = open::<R>(place.config().max_size(1)).await;
    let mut client = get(&pool).await;
    let token = client.cancel_token().expect("a key");
    let cancel = async {
        sleep(&R::current(), ms(30)).await;
        token.cancel().await.expect("it reaches the server")
    };
    let both = join(client.batch_execute("SELECT pg_sleep(600)"), cancel);
    let (result, reached) = within::<R, _>("the query ends", both).await;
    assert!(reached);
    assert_eq!(sqlstate(result), "57014");
    answers(&mut client, 1).await;
    drop(client);
    assert!(!token.cancel().await.expect("nothing to do"), "void with the lease");
    close(&pool, &place).await;
}

/// A command has a limit of its own, and the connection survives it.
pub async fn a_command_times_out<R: Runtime, W: World>() {
    let place = Place::new::<W>("command");
    let pool = open::<R>(place.config().max_size(1).command_timeout(ms(60))).await;
    let mut client = get(&pool).await;
    let result = within::<R, _>("the limit", client.batch_execute("SELECT pg_sleep(600)")).await;
    assert!(matches!(result, Err(Error::Timeout { .. })), "{result:?}");
    drop(client);
    let mut client = get(&pool).await;
    assert!(within::<R, _>("an answer", client.query_one("SELECT 1", &[])).await.is_ok());
    drop(client);
    assert_eq!(pool.stats().opened, 1);
    close(&pool, &place).await;
}

/// A transaction that its user leaves open is rolled back before anybody else gets the connection.
pub async fn an_open_transaction_is_rolled_back<R: Runtime, W: World>() {
    let place = Place::new::<W>("open-transaction");
    let pool = open::<R>(place.config().max_size(1)).await;
    for failed in [false, true] {
        let mut client = get(&pool).await;
        client.batch_execute("BEGIN").await.expect("begun");
        if failed {
            assert_eq!(sqlstate(client.query("SELECT 1 / 0", &[]).await), "22012");
        }
        assert_ne!(client.transaction_status(), TransactionStatus::Idle);
        drop(client);
        let mut client = get(&pool).await;
        assert_eq!(client.transaction_status(), TransactionStatus::Idle);
        answers(&mut client, 5).await;
    }
    assert_eq!(pool.stats().opened, 1);
    close(&pool, &place).await;
}

/// Connections that the database ends while they are idle are replaced, and no caller sees it.
pub async fn dead_idle_connections_are_replaced<R: Runtime, W: World>() {
    let place = Place::new::<W>("dead");
    let pool = open::<R>(place.config().min_size(3).max_size(3)).await;
    let before = place.sessions();
    before.iter().for_each(|pid| place.database.terminate(*pid));
    until::<R>("they have ended", || place.sessions().iter().all(|pid| !before.contains(pid))).await;
    // The news may have some way to go.
    sleep(&R::current(), ms(20)).await;
    for number in 0..6 {
        answers(&mut *get(&pool).await, number).await;
    }
    until::<R>("min_size is back", || pool.status().idle == 3).await;
    close(&pool, &place).await;
}

/// A connection that the database ends under its user is his error, and nobody else's.
pub async fn a_connection_dies_while_it_is_lent<R: Runtime, W: World>() {
    let place = Place::new::<W>("dies");
    let pool = open::<R>(place.config().max_size(2)).await;
    let mut client = get(&pool).await;
    let pid = client.backend_pid();
    let kill = async {
        sleep(&R::current(), ms(20)).await;
        place.database.terminate(pid);
    };
    let both = join(client.batch_execute("SELECT pg_sleep(600)"), kill);
    let (result, ()) = within::<R, _>("the query ends", both).await;
    assert_eq!(sqlstate(result), "57P01");
    drop(client);
    for number in 0..4 {
        let mut client = get(&pool).await;
        assert_ne!(client.backend_pid(), pid);
        answers(&mut client, number).await;
    }
    close(&pool, &place).await;
}

/// The last handle's end is the pool's; a lease may finish.
pub async fn a_lease_outlives_its_pool<R: Runtime, W: World>() {
    let place = Place::new::<W>("outlives");
    let pool = open::<R>(place.config()).await;
    let mut client = get(&pool).await;
    drop(pool);
    until::<R>("the idle one is closed", || place.sessions().len() == 1).await;
    answers(&mut client, 1).await;
    drop(client);
    place.is_left::<R>().await;
}

/// A shutdown cuts off what does not end by its deadline.
pub async fn a_shutdown_has_a_deadline<R: Runtime, W: World>() {
    let place = Place::new::<W>("shutdown");
    let pool = open::<R>(place.config()).await;
    let mut idle = get(&pool).await;
    let mut busy = get(&pool).await;
    let query = spawn(&R::current(), async move { busy.batch_execute("SELECT pg_sleep(600)").await });
    sleep(&R::current(), ms(20)).await;
    let report = within::<R, _>("the close", pool.close_timeout(ms(60))).await;
    assert_eq!((report.finished, report.forced), (0, 2));
    within::<R, _>("the query ends", query).await.expect("no panic").expect_err("it was cut off");
    within::<R, _>("an error", idle.query_one("SELECT 1", &[])).await.map(drop).expect_err("it was cut off");
    place.is_left::<R>().await;
}

/// Closed from several places, and by a caller that has gone: everybody learns the same.
pub async fn a_close_is_one_close<R: Runtime, W: World>() {
    let place = Place::new::<W>("closes");
    let pool = open::<R>(place.config()).await;
    let held = get(&pool).await;
    assert!(timeout(&R::current(), ms(10), pool.close()).await.is_err(), "a lease is out");
    let (first, second) = (pool.clone(), pool.clone());
    let first = spawn(&R::current(), async move { first.close().await });
    let second = spawn(&R::current(), async move { second.close().await });
    sleep(&R::current(), ms(10)).await;
    assert!(!first.is_finished() && !second.is_finished());
    drop(held);
    let reports = within::<R, _>("both", join_all([first, second])).await;
    assert_eq!(reports[0], reports[1]);
    assert_eq!((reports[0].finished, reports[0].forced), (1, 0));
    place.is_left::<R>().await;
}

/// Bounds change while connections are lent.
pub async fn resize_pause_and_recycle<R: Runtime, W: World>() {
    let place = Place::new::<W>("resize");
    let pool = open::<R>(place.config().min_size(1).max_size(1)).await;
    let first = get(&pool).await;
    let waiter = unless(async { until::<R>("one waits", || pool.status().waiting == 1).await }, pool.get());
    assert!(waiter.await.is_none(), "there is only one");
    pool.resize(1, 2);
    let second = get(&pool).await;
    pool.resize(1, 1);
    drop((first, second));
    until::<R>("it is smaller", || pool.status().total == 1 && place.sessions().len() == 1).await;
    pool.pause();
    pool.get_timeout(ms(20)).await.expect_err("it is paused");
    pool.resume();
    let old = place.sessions();
    pool.recycle();
    until::<R>("it is replaced", || {
        let new = place.sessions();
        new.len() == 1 && new != old
    })
    .await;
    answers(&mut *get(&pool).await, 1).await;
    close(&pool, &place).await;
}

/// Hooks run, and may say no.
pub async fn hooks<R: Runtime, W: World>() {
    let place = Place::new::<W>("hooks");
    let opened = Arc::new(AtomicU32::new(0));
    let count = opened.clone();
    let config = place.config().min_size(2).max_size(2).build().expect("valid");
    let builder = PgPool::<R>::builder(config).after_connect(move |client: &mut Client<R>| {
        count.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            answers(client, 7).await;
            Ok(())
        })
    });
    let pool = within::<R, _>("the opening", builder.open()).await.expect("the pool opens");
    assert_eq!(opened.load(Ordering::SeqCst), 2);
    answers(&mut *get(&pool).await, 1).await;
    close(&pool, &place).await;
    let config = place.config().min_size(1).init_attempts(1).build().expect("valid");
    let refuses = PgPool::<R>::builder(config).after_connect(|_| Box::pin(async { Err("not today".into()) }));
    let error = within::<R, _>("the opening", refuses.open()).await.expect_err("the hook refuses");
    assert!(error.to_string().contains("not today"), "{error}");
    place.is_left::<R>().await;
}

/// A pool nobody listens for: nothing is there, and nothing hangs.
pub async fn nobody_listens<R: Runtime, W: World>() {
    let peer = W::refusing(super::Place::Tcp);
    let pgweir_core::runtime::Address::Tcp(address, _) = peer.address else { panic!("TCP was asked for") };
    let config = Config::builder()
        .database_url(format!("postgres://nobody@{address}/none"))
        .backoff_initial(ms(10))
        .outage_grace(ms(50));
    let failed = PgPool::<R>::builder(config.clone().init_attempts(2).build().expect("valid")).open();
    let error = within::<R, _>("the opening fails", failed).await.expect_err("nobody listens");
    assert!(error.to_string().contains("refused"), "{error}");
    let pool = PgPool::<R>::builder(config.build().expect("valid")).open_lazy();
    let error = within::<R, _>("an answer", pool.get_timeout(Duration::from_secs(20))).await.expect_err("down");
    assert!(matches!(&error, AcquireError::Unavailable(report) if report.cause.message.contains("refused")), "{error}");
    within::<R, _>("the close", pool.close()).await;
}
