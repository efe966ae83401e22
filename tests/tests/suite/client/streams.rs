//! Rows as they come.

use std::num::NonZeroU32;

use pgweir_core::client::TransactionStatus;

use super::{in_a_process_of_its_own, named, open, single};
use crate::suite::common::{run, until};

fn fetch(rows: u32) -> NonZeroU32 {
    NonZeroU32::new(rows).expect("not zero")
}

/// The most memory that this process ever had, in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a system with /proc");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a line");
    line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number") * 1024
}

/// A million rows, 200 MB in all, pass through without being kept: the most memory that the process ever had grows by
/// less than a tenth of them.
#[test]
fn a_million_rows_in_bounded_memory() {
    if !in_a_process_of_its_own(module_path!(), "a_million_rows_in_bounded_memory") {
        return;
    }
    run(|_| async {
        let (_pool, mut client) = single("streams-million").await;
        let sql = "SELECT g, repeat('x', 192) FROM generate_series(1, 1000000) g";
        let mut stream = client.query_raw(sql, &[]).await.unwrap();
        let before = peak_memory();
        let (mut rows, mut sum) = (0u64, 0i64);
        while let Some(row) = stream.next().await.unwrap() {
            rows += 1;
            sum += i64::from(row.get::<_, i32>(0));
            assert_eq!(row.get::<_, &str>(1).len(), 192);
        }
        assert_eq!((rows, sum), (1_000_000, 500_000_500_000));
        assert_eq!(stream.rows_affected(), Some(1_000_000));
        assert!(stream.next().await.unwrap().is_none(), "it stays at its end");
        let grown = peak_memory() - before;
        assert!(grown < 20_000_000, "{grown} bytes more");
    });
}

/// Every number of rows asked for at a time gives the same rows.
#[test]
fn batches_of_every_size() {
    run(|_| async {
        let (_pool, mut client) = single("streams-batches").await;
        for size in [1, 2, 3, 9, 10, 11, 1000] {
            let mut stream =
                client.query_stream("SELECT generate_series(1, $1::int)", &[&10], fetch(size)).await.unwrap();
            assert_eq!(stream.columns()[0].name(), "generate_series");
            for n in 1..=10 {
                assert_eq!(stream.next().await.unwrap().unwrap().get::<_, i32>(0), n);
            }
            assert!(stream.next().await.unwrap().is_none());
            assert_eq!(stream.rows_affected(), Some(10), "{size} at a time");
            drop(stream);
            let sql = "INSERT INTO sb SELECT generate_series(1, 10) RETURNING a";
            client.batch_execute("CREATE TEMP TABLE IF NOT EXISTS sb (a int)").await.unwrap();
            let mut stream = client.query_stream(sql, &[], fetch(size)).await.unwrap();
            while stream.next().await.unwrap().is_some() {}
            assert_eq!(stream.rows_affected(), Some(10), "{size} at a time");
        }
    });
}

/// PEERS 20: a stream dropped anywhere does not poison the next query, on the same lease or on the next.
#[test]
fn dropped_half_way() {
    run(|_| async {
        let (pool, mut client) = single("streams-dropped").await;
        let pid = client.backend_pid();
        for taken in 0..12 {
            let sql = "SELECT generate_series(1, 100000000)";
            let mut stream = client.query_stream(sql, &[], fetch(5)).await.unwrap();
            for n in 1..=taken {
                assert_eq!(stream.next().await.unwrap().unwrap().get::<_, i32>(0), n);
            }
            drop(stream);
            assert_eq!(client.query_one("SELECT $1::int", &[&taken]).await.unwrap().get::<_, i32>(0), taken);
            let mut stream = client.query_stream(sql, &[], fetch(5)).await.unwrap();
            stream.next().await.unwrap();
            drop(stream);
            drop(client);
            client = pool.get().await.unwrap();
            assert_eq!(client.transaction_status(), TransactionStatus::Idle);
            let row = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap();
            assert_eq!(row.get::<_, i32>(0), pid, "the connection is kept");
        }
    });
}

/// A stream whose end nobody runs (forgotten, not dropped) costs the next query nothing.
#[test]
fn forgotten() {
    run(|_| async {
        let (_pool, mut client) = single("streams-forgotten").await;
        std::mem::forget(client.query_stream("SELECT generate_series(1, 1000)", &[], fetch(3)).await.unwrap());
        assert_eq!(client.query_one("SELECT 7", &[]).await.unwrap().get::<_, i32>(0), 7);
    });
}

/// An error in the middle comes after the rows before it and ends the stream, not the connection.
#[test]
fn an_error_half_way() {
    run(|_| async {
        let (_pool, mut client) = single("streams-error").await;
        let mut stream = client.query_raw("SELECT 1 / (5 - g) FROM generate_series(1, 10) g", &[]).await.unwrap();
        for _ in 0..4 {
            assert!(stream.next().await.unwrap().is_some());
        }
        assert_eq!(super::sqlstate(stream.next().await), "22012");
        assert!(stream.next().await.unwrap().is_none());
        drop(stream);
        assert_eq!(client.query_one("SELECT 7", &[]).await.unwrap().get::<_, i32>(0), 7);
    });
}

/// Inside a transaction a dropped stream ends its portal and no more: the transaction goes on.
#[test]
fn inside_a_transaction() {
    run(|_| async {
        let pool = open(named("streams-transaction").max_size(1)).await;
        let mut client = pool.get().await.unwrap();
        client.batch_execute("CREATE TEMP TABLE st (a int)").await.unwrap();
        let mut transaction = client.transaction().await.unwrap();
        transaction.execute("INSERT INTO st VALUES (1)", &[]).await.unwrap();
        let mut stream = transaction.query_stream("SELECT generate_series(1, 1000000)", &[], fetch(2)).await.unwrap();
        stream.next().await.unwrap();
        drop(stream);
        assert_eq!(transaction.query_one("SELECT count(*) FROM st", &[]).await.unwrap().get::<_, i64>(0), 1);
        transaction.commit().await.unwrap();
        assert_eq!(client.query_one("SELECT count(*) FROM st", &[]).await.unwrap().get::<_, i64>(0), 1);
        drop(client);
        until("the connection is back", || pool.status().idle == 1).await;
    });
}
