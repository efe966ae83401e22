//! What is tokio-postgres's alone: the client that deadpool-postgres's users know, and what watching its messages tells.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt, TryStreamExt, pin_mut};
use pgweir_core::config::{PoolConfig, ValidationPolicy};
use pgweir_tests::LocalPostgres;
use pgweir_tokio::tokio_postgres::{Client, GenericClient, Manager, Pool, builder};
use tokio_postgres::types::Type;
use tokio_postgres::{IsolationLevel, NoTls};

use crate::common::{run, server};

/// A pool of one connection to the shared server.
async fn pool_of_one() -> Pool {
    with(manager(), PoolConfig::builder().max_size(1).build().expect("valid")).await
}

fn manager() -> Manager {
    Manager::new(server().url().parse().expect("a valid URL"), NoTls)
}

async fn with(manager: Manager, config: PoolConfig) -> Pool {
    builder(manager, config).open().await.expect("it opens")
}

async fn client(pool: &Pool) -> Client {
    pool.get().await.expect("a connection")
}

/// Statements that the server has of this session.
async fn prepared(client: &Client) -> i64 {
    // By the simple protocol: the extended one would prepare the question.
    let rows = client.simple_query("SELECT count(*) FROM pg_prepared_statements").await.expect("an answer");
    let row = rows.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    row.expect("a row").parse().expect("a number")
}

#[test]
fn statements_are_prepared_once_per_connection_and_outlive_their_lease() {
    run(async {
        let pool = pool_of_one().await;
        for n in 0..5 {
            let mut client = client(&pool).await;
            let statement = client.prepare_cached("SELECT $1::int4 + 1").await.expect("prepared");
            assert_eq!(client.query_one(&statement, &[&n]).await.expect("a row").get::<_, i32>(0), n + 1);
            let typed = client.prepare_typed_cached("SELECT $1 + 1", &[Type::INT8]).await.expect("prepared");
            assert_eq!(
                client.query_one(&typed, &[&i64::from(n)]).await.expect("a row").get::<_, i64>(0),
                1 + i64::from(n)
            );
            let transaction = client.transaction().await.expect("a transaction");
            transaction.prepare_cached("SELECT $1::int4 + 1").await.expect("prepared");
            transaction.commit().await.expect("committed");
            assert_eq!((client.statement_cache.size(), prepared(&client).await), (2, 2));
        }
        assert_eq!(pool.stats().opened, 1);
    });
}

#[test]
fn a_full_statement_cache_closes_the_one_that_was_used_longest_ago() {
    run(async {
        let config = PoolConfig::builder().max_size(1).build().expect("valid");
        let pool = with(manager().with_statement_cache_size(2), config).await;
        let client = client(&pool).await;
        for sql in ["SELECT 1", "SELECT 2", "SELECT 1", "SELECT 3"] {
            client.prepare_cached(sql).await.expect("prepared");
        }
        assert_eq!((client.statement_cache.size(), prepared(&client).await), (2, 2));
        assert!(client.statement_cache.remove("SELECT 2", &[]).is_none(), "it had to go");
        assert!(client.statement_cache.remove("SELECT 1", &[]).is_some());
        client.statement_cache.clear();
        assert_eq!((client.statement_cache.size(), prepared(&client).await), (0, 0));
    });
}

#[test]
fn transactions_are_as_deadpool_postgres_has_them() {
    run(async {
        let pool = pool_of_one().await;
        let mut client = client(&pool).await;
        client.batch_execute("CREATE TEMP TABLE t (n int4)").await.expect("a table");
        let builder = client.build_transaction().isolation_level(IsolationLevel::Serializable).read_only(false);
        let mut transaction = builder.start().await.expect("a transaction");
        let level = transaction.query_one("SHOW transaction_isolation", &[]).await.expect("a row");
        assert_eq!(level.get::<_, &str>(0), "serializable");
        let inner = transaction.savepoint("here").await.expect("a savepoint");
        inner.execute("INSERT INTO t VALUES (1)", &[]).await.expect("a row");
        inner.rollback().await.expect("rolled back");
        let inner = transaction.transaction().await.expect("a savepoint");
        inner.execute("INSERT INTO t VALUES (2)", &[]).await.expect("a row");
        inner.commit().await.expect("released");
        transaction.commit().await.expect("committed");
        drop(client.transaction().await.expect("a transaction"));
        let row = client.query_one("SELECT array_agg(n) FROM t", &[]).await.expect("a row");
        assert_eq!(row.get::<_, Vec<i32>>(0), [2]);
    });
}

/// Doubles `n` as code does that is written against deadpool-postgres's trait.
async fn double<C: GenericClient>(client: &C, n: i32) -> i32 {
    let statement = client.prepare_cached("SELECT $1::int4 * 2").await.expect("prepared");
    client.query_one(&statement, &[&n]).await.expect("a row").get(0)
}

#[test]
fn code_over_any_client_takes_leases_and_transactions() {
    run(async {
        let pool = pool_of_one().await;
        let mut client = client(&pool).await;
        assert_eq!((double(&client, 3).await, double(&*client, 4).await), (6, 8));
        let mut transaction = GenericClient::transaction(&mut client).await.expect("a transaction");
        let savepoint = GenericClient::transaction(&mut transaction).await.expect("a savepoint");
        assert_eq!(double(&savepoint, 5).await, 10);
        savepoint.commit().await.expect("released");
        transaction.commit().await.expect("committed");
        assert_eq!(client.statement_cache.size(), 1);
    });
}

/// A transaction that is dropped with its lease is rolled back by a message of tokio-postgres's that the pool waits for.
#[test]
fn a_transaction_dropped_with_its_lease_reaches_nobody() {
    run(async {
        let pool = pool_of_one().await;
        for _ in 0..20 {
            let mut client = client(&pool).await;
            let transaction = client.transaction().await.expect("a transaction");
            transaction.batch_execute("SET LOCAL work_mem = '1234kB'").await.expect("it runs");
            drop(transaction);
            drop(client);
            let client = self::client(&pool).await;
            let row = client.query_one("SELECT current_setting('work_mem') = '1234kB'", &[]).await.expect("a row");
            assert!(!row.get::<_, bool>(0));
            // An error outside a transaction.
            client.batch_execute("SAVEPOINT nowhere").await.expect_err("no transaction is open");
        }
        assert_eq!(pool.stats().opened, 1);
    });
}

/// Its future is polled once and dropped: it may still be in tokio-postgres's queue when the lease ends.
#[test]
fn a_request_that_was_not_even_sent_is_seen() {
    run(async {
        let pool = pool_of_one().await;
        for _ in 0..50 {
            let client = client(&pool).await;
            {
                let mut begin = std::pin::pin!(client.batch_execute("BEGIN"));
                let mut cx = Context::from_waker(Waker::noop());
                // Ready only if the server was faster than this thread.
                let begun = begin.as_mut().poll(&mut cx);
                assert!(matches!(begun, Poll::Pending | Poll::Ready(Ok(()))), "{begun:?}");
            }
            drop(client);
            let client = self::client(&pool).await;
            client.batch_execute("SAVEPOINT nowhere").await.expect_err("the transaction is over");
        }
        assert_eq!(pool.stats().opened, 1);
    });
}

#[test]
fn statements_that_close_on_the_side_make_nothing_dirty() {
    run(async {
        let pool = pool_of_one().await;
        for n in 0..100_i32 {
            let client = client(&pool).await;
            assert_eq!(client.query_one("SELECT $1::int4", &[&n]).await.expect("a row").get::<_, i32>(0), n);
            drop(client);
            assert_eq!(pool.status().resetting, 0, "in round {n}");
        }
        assert_eq!(pool.stats().opened, 1);
    });
}

#[test]
fn copies_end_well_and_dropped_ones_are_settled() {
    run(async {
        let pool = pool_of_one().await;
        let client = client(&pool).await;
        client.batch_execute("CREATE TEMP TABLE t (n int4)").await.expect("a table");
        drop(client);
        for n in 0..4 {
            let client = self::client(&pool).await;
            let sink = client.copy_in("COPY t FROM STDIN").await.expect("a sink");
            pin_mut!(sink);
            sink.send(bytes::Bytes::from_static(b"1\n2\n")).await.expect("taken");
            if n % 2 == 0 {
                assert_eq!(sink.finish().await.expect("copied"), 2);
            }
        }
        let client = self::client(&pool).await;
        let rows: Vec<_> =
            client.copy_out("COPY t TO STDOUT").await.expect("a stream").try_collect().await.expect("all of it");
        assert_eq!(rows.concat(), b"1\n2\n1\n2\n");
        let many = client.copy_out("COPY (SELECT generate_series(1, 10000000)) TO STDOUT").await.expect("a stream");
        pin_mut!(many);
        many.next().await.expect("a row").expect("a row");
        drop(client);
        // It is kept, unread: nobody can have the connection before the pool gives it up.
        let after = self::client(&pool).await;
        assert_eq!(after.query_one("SELECT 1", &[]).await.expect("a row").get::<_, i32>(0), 1);
        assert_eq!(pool.stats().opened, 2);
    });
}

#[test]
fn a_cancel_token_cancels_its_own_lease_and_no_other() {
    run(async {
        let pool = pool_of_one().await;
        let client = client(&pool).await;
        let token = client.cancel_token();
        let cancel = tokio::spawn({
            let token = token.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                token.cancel_query(NoTls).await
            }
        });
        let error = client.batch_execute("SELECT pg_sleep(600)").await.expect_err("cancelled");
        assert_eq!(error.code().expect("the server's").code(), "57014");
        cancel.await.expect("no panic").expect("sent");
        drop(client);
        let client = self::client(&pool).await;
        let running = client.batch_execute("SELECT pg_sleep(0.2)");
        let (ran, ()) = tokio::join!(running, async {
            for _ in 0..5 {
                token.cancel_query(NoTls).await.expect("void");
            }
        });
        ran.expect("the token is not its own");
        assert_eq!(pool.stats().opened, 1);
    });
}

#[test]
fn what_is_wrong_with_the_configuration_is_permanent_and_said() {
    run(async {
        for (url, told) in [
            ("user=u", "neither a host nor a hostaddr"),
            ("user=u host=a,b hostaddr=1.2.3.4", "2 hosts do not go with 1 hostaddrs"),
            ("user=u host=a port=1,2", "2 ports do not go with 1 hosts"),
        ] {
            let manager = Manager::new(url.parse().expect("it parses"), NoTls);
            let error = builder(manager, PoolConfig::default()).open().await.map(drop).expect_err("it cannot open");
            assert!(error.to_string().contains(told), "{error}");
        }
        let port = server().port();
        for (url, told) in [
            (format!("user=postgres host=127.0.0.1 port={port} sslmode=require"), "TLS"),
            (format!("user=postgres host=127.0.0.1 port={port} target_session_attrs=read-only"), "takes writes"),
        ] {
            let manager = Manager::new(url.parse().expect("it parses"), NoTls);
            let config = PoolConfig::builder().init_attempts(1).build().expect("valid");
            let error = builder(manager, config).open().await.map(drop).expect_err("it cannot open");
            assert!(error.to_string().contains(told), "{error}");
        }
    });
}

/// A server that turns read-only behind a pool's back is not a primary any more.
#[test]
fn a_demoted_server_is_not_handed_out() {
    run(async {
        let server = LocalPostgres::start().expect("a server");
        let manager = Manager::new(server.url().parse().expect("valid"), NoTls);
        let config = PoolConfig::builder().max_size(1).validation(ValidationPolicy::Always);
        let pool = with(manager, config.build().expect("valid")).await;
        let pid = client(&pool).await.backend_pid();
        server.configure("default_transaction_read_only", "on").expect("configured");
        server.reload().expect("reloaded");
        // A session hears of the change with its next command, or the one after that.
        for _ in 0..3 {
            let client = client(&pool).await;
            if client.backend_pid() != pid {
                break;
            }
        }
        assert_ne!(client(&pool).await.backend_pid(), pid, "the old session is not lent any more");
        pool.close().await;
    });
}

#[test]
fn a_pool_whose_runtime_is_gone_harms_nobody() {
    let other = tokio::runtime::Runtime::new().expect("a runtime");
    let (pool, client) = other.block_on(async {
        let pool = pool_of_one().await;
        let client = client(&pool).await;
        client.batch_execute("BEGIN").await.expect("it runs");
        (pool, client)
    });
    drop(other);
    let told = tokio::runtime::Runtime::new().expect("another").block_on(client.batch_execute("SELECT 1"));
    assert!(told.is_err());
    drop(client);
    drop(pool);
}
