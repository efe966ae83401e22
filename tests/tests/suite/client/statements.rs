//! Prepared statements and their cache.

use super::{named, open, single};
use crate::suite::common::run;

const PREPARED: &str = "SELECT count(*) FROM pg_prepared_statements";

/// The server's count of prepared statements, asked without preparing one.
async fn prepared(client: &mut crate::suite::rt::Client) -> usize {
    let messages = client.simple_query(PREPARED).await.unwrap();
    let text = messages.iter().find_map(|message| match message {
        pgweir_core::client::SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    text.expect("a row").parse().expect("a number")
}

/// The same text is prepared once; a statement is prepared again, by itself, on the connections that it meets.
#[test]
fn prepared_once_per_connection() {
    run(|_| async {
        let pool = open(named("statements-once").min_size(2)).await;
        let (mut first, mut second) = (pool.get().await.unwrap(), pool.get().await.unwrap());
        let statement = first.prepare("SELECT $1::int * 2").await.unwrap();
        for n in 0..20 {
            assert_eq!(first.query_one(&statement, &[&n]).await.unwrap().get::<_, i32>(0), 2 * n);
            assert_eq!(first.query_one("SELECT $1::int * 2", &[&n]).await.unwrap().get::<_, i32>(0), 2 * n);
            assert_eq!(second.query_one(&statement, &[&n]).await.unwrap().get::<_, i32>(0), 2 * n);
        }
        assert_eq!((prepared(&mut first).await, prepared(&mut second).await), (1, 1));
        drop(first);
        drop(second);
        // It outlives the connection that it was made on.
        pool.recycle();
        for n in 0..5 {
            let mut client = pool.get().await.unwrap();
            assert_eq!(client.query_one(&statement, &[&n]).await.unwrap().get::<_, i32>(0), 2 * n);
        }
    });
}

/// PEERS 21: the cache is bounded; the least recently used goes, on the server too, and a statement that is held stays.
#[test]
fn the_cache_is_bounded() {
    run(|_| async {
        let pool = open(named("statements-bounded").max_size(1).statement_cache_size(5)).await;
        let mut client = pool.get().await.unwrap();
        let held = client.prepare("SELECT 'held'").await.unwrap();
        for n in 0..200 {
            let sql = format!("SELECT {n}");
            assert_eq!(client.query_one(&sql, &[]).await.unwrap().get::<_, i32>(0), n);
            // Used in between, this one stays.
            assert_eq!(client.query_one("SELECT 'often'", &[]).await.unwrap().get::<_, &str>(0), "often");
        }
        let cache = client.statement_cache();
        assert!(cache.len <= 5, "{cache:?}");
        assert_eq!((cache.hits, cache.misses), (199, 202), "{cache:?}");
        assert_eq!(client.query_one(&held, &[]).await.unwrap().get::<_, &str>(0), "held");
        let on_server = prepared(&mut client).await;
        assert!(on_server <= 7, "{on_server} statements stay on the server");
    });
}

/// PEERS 21: without a cache nothing is left on the server, whatever is called.
#[test]
fn the_cache_is_off() {
    run(|_| async {
        let pool = open(named("statements-off").max_size(1).statement_cache_size(0)).await;
        let mut client = pool.get().await.unwrap();
        client.batch_execute("CREATE TYPE pg_temp.colour AS ENUM ('red')").await.unwrap();
        for n in 0..10 {
            let row = client.query_one("SELECT $1::int, 'red'::pg_temp.colour", &[&n]).await.unwrap();
            assert_eq!((row.get::<_, i32>(0), row.columns()[1].type_().name()), (n, "colour"));
            assert_eq!(client.execute("SELECT $1::text", &[&"x"]).await.unwrap(), 1);
            assert_eq!(super::sqlstate(client.query("SELECT 1/$1::int", &[&0]).await), "22012");
            let mut stream = client.query_raw("SELECT generate_series(1, 3)", &[]).await.unwrap();
            assert!(stream.next().await.unwrap().is_some());
            drop(stream);
            let statement = client.prepare("SELECT $1::int * 2, 'red'::pg_temp.colour").await.unwrap();
            assert_eq!((statement.params().len(), statement.columns()[1].type_().name()), (1, "colour"));
            let row = client.query_one(&statement, &[&n]).await.unwrap();
            assert_eq!(row.get::<_, i32>(0), 2 * n);
            let results = client
                .pipeline(&[(&statement, &[&n]), (&"SELECT 1/$1::int", &[&0]), (&"SELECT $1::int", &[&n])])
                .await
                .unwrap();
            assert_eq!(results[0].as_ref().unwrap().rows[0].get::<_, i32>(0), 2 * n);
            assert_eq!(results[1].as_ref().unwrap_err().code().unwrap().code(), "22012");
            assert_eq!(results[2].as_ref().unwrap().rows[0].get::<_, i32>(0), n);
        }
        assert_eq!((prepared(&mut client).await, client.statement_cache().len), (0, 0));
    });
}

/// "cached plan must not change result type": after an ALTER TABLE by somebody else the statement is prepared again
/// and the caller sees the new columns, no error.
#[test]
fn tables_that_change() {
    run(|_| async {
        let pool = open(named("statements-alter").min_size(2)).await;
        let (mut client, mut other) = (pool.get().await.unwrap(), pool.get().await.unwrap());
        other.batch_execute("DROP TABLE IF EXISTS st_alter; CREATE TABLE st_alter (a int)").await.unwrap();
        other.batch_execute("INSERT INTO st_alter VALUES (1)").await.unwrap();
        let statement = client.prepare("SELECT * FROM st_alter").await.unwrap();
        assert_eq!(client.query_one(&statement, &[]).await.unwrap().len(), 1);
        other.batch_execute("ALTER TABLE st_alter ADD b text DEFAULT 'new'").await.unwrap();
        let row = client.query_one("SELECT * FROM st_alter", &[]).await.unwrap();
        assert_eq!((row.len(), row.get::<_, &str>("b")), (2, "new"));
        let row = client.query_one(&statement, &[]).await.unwrap();
        assert_eq!((row.len(), row.get::<_, &str>("b")), (2, "new"));
        other.batch_execute("ALTER TABLE st_alter ALTER a TYPE text").await.unwrap();
        assert_eq!(client.query_one(&statement, &[]).await.unwrap().get::<_, &str>("a"), "1");
        // In a transaction the server has ended it already: the error is the caller's to see, once.
        other.batch_execute("ALTER TABLE st_alter DROP b").await.unwrap();
        let mut transaction = client.transaction().await.unwrap();
        assert_eq!(super::sqlstate(transaction.query("SELECT * FROM st_alter", &[]).await), "0A000");
        transaction.rollback().await.unwrap();
        let mut transaction = client.transaction().await.unwrap();
        assert_eq!(transaction.query_one("SELECT * FROM st_alter", &[]).await.unwrap().len(), 1);
        transaction.commit().await.unwrap();
    });
}

/// Statements pulled from under the cache are prepared again: DEALLOCATE ALL, DISCARD ALL.
#[test]
fn statements_that_vanish() {
    run(|_| async {
        let (_pool, mut client) = single("statements-vanish").await;
        let statement = client.prepare("SELECT $1::int").await.unwrap();
        for gone in ["DEALLOCATE ALL", "DISCARD ALL"] {
            client.batch_execute(gone).await.unwrap();
            assert_eq!(client.query_one(&statement, &[&1]).await.unwrap().get::<_, i32>(0), 1);
            client.batch_execute(gone).await.unwrap();
            assert_eq!(client.query_one("SELECT $1::int", &[&2]).await.unwrap().get::<_, i32>(0), 2);
            client.batch_execute(gone).await.unwrap();
            assert_eq!(client.execute(&statement, &[&3]).await.unwrap(), 1);
            // Where the server's answer tells, also inside a transaction, which an error would end.
            client.batch_execute(gone).await.unwrap();
            let mut transaction = client.transaction().await.unwrap();
            assert_eq!(transaction.query_one(&statement, &[&4]).await.unwrap().get::<_, i32>(0), 4);
            transaction.commit().await.unwrap();
        }
    });
}

/// A statement that cannot be prepared is an error and no more: the next one works, also in the cache.
#[test]
fn statements_that_fail_to_prepare() {
    run(|_| async {
        let (_pool, mut client) = single("statements-fail").await;
        assert_eq!(super::sqlstate(client.prepare("SELECT nosuch").await), "42703");
        assert_eq!(super::sqlstate(client.query("SELECT * FROM st_later", &[]).await), "42P01");
        client.batch_execute("CREATE TEMP TABLE st_later (a int)").await.unwrap();
        assert_eq!(client.query("SELECT * FROM st_later", &[]).await.unwrap().len(), 0, "the failure is not cached");
        assert_eq!(prepared(&mut client).await, 1);
    });
}
