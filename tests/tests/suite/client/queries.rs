//! Queries and their results.

use pgweir_core::client::{Error, SimpleQueryMessage, TransactionStatus};

use super::single;
use crate::suite::common::{backends, run, server};

/// DESIGN 6: the vocabulary is tokio-postgres's; each call keeps its word about the number of rows.
#[test]
fn rows_and_their_number() {
    run(|_| async {
        let (_pool, mut client) = single("queries-rows").await;
        let rows = client.query("SELECT g FROM generate_series(1, 5000) g", &[]).await.unwrap();
        assert!(rows.iter().map(|row| row.get::<_, i32>("g")).eq(1..=5000));
        let row = client.query_one("SELECT $1::int4 + 1 AS n, 'x'", &[&41]).await.unwrap();
        assert_eq!((row.get::<_, i32>("n"), row.get::<_, &str>(1), row.len()), (42, "x", 2));
        for (sql, found) in [("SELECT 1 WHERE false", 0), ("SELECT generate_series(1, 3)", 3)] {
            let error = client.query_one(sql, &[]).await.unwrap_err();
            assert!(matches!(error, Error::RowCount { rows, .. } if rows == found), "{error}");
        }
        assert!(client.query_opt("SELECT 1 WHERE false", &[]).await.unwrap().is_none());
        assert_eq!(client.query_opt("SELECT 1", &[]).await.unwrap().unwrap().get::<_, i32>(0), 1);
        let error = client.query_opt("SELECT generate_series(1, 3)", &[]).await.unwrap_err();
        assert_eq!(error.to_string(), "at most one row was expected, the query returned 3 rows");
        assert_eq!(client.query("", &[]).await.unwrap().len(), 0, "an empty query has no rows");
        let row = client.query_one("SELECT", &[]).await.unwrap();
        assert!(row.is_empty());
        let wide: Vec<String> = (0..1600).map(|n| format!("{n} AS c{n}")).collect();
        let row = client.query_one(&format!("SELECT {}", wide.join(", ")), &[]).await.unwrap();
        assert!((0..1600).all(|n| row.get::<_, i32>(n as usize) == n && row.get::<_, i32>(&*format!("c{n}")) == n));
    });
}

/// `execute` says how many rows a command changed.
#[test]
fn rows_changed() {
    run(|_| async {
        let (_pool, mut client) = single("queries-changed").await;
        assert_eq!(client.execute("CREATE TEMP TABLE t (a int PRIMARY KEY, b text)", &[]).await.unwrap(), 0);
        let sql = "INSERT INTO t SELECT g, $1 FROM generate_series(1, 10) g";
        assert_eq!(client.execute(sql, &[&"x"]).await.unwrap(), 10);
        assert_eq!(client.execute("UPDATE t SET b = 'y' WHERE a > $1", &[&7]).await.unwrap(), 3);
        assert_eq!(client.execute("DELETE FROM t WHERE a > 100", &[]).await.unwrap(), 0);
        assert_eq!(client.execute("SELECT * FROM t", &[]).await.unwrap(), 10);
        let rows = client.query("DELETE FROM t WHERE b = 'y' RETURNING a", &[]).await.unwrap();
        assert_eq!(rows.len(), 3);
    });
}

/// The most parameters that the protocol has (a 16-bit count).
#[test]
fn many_parameters() {
    run(|_| async {
        let (_pool, mut client) = single("queries-parameters").await;
        let values: Vec<i32> = (0..32_767).collect();
        let params: Vec<&(dyn postgres_types::ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        let places: Vec<String> = (1..=values.len()).map(|n| format!("${n}::int4")).collect();
        let sql = format!("SELECT (SELECT sum(a) FROM unnest(ARRAY[{}]) a)", places.join(","));
        let sum: i64 = client.query_one(&sql, &params).await.unwrap().get(0);
        assert_eq!(sum, values.iter().map(|value| i64::from(*value)).sum::<i64>());
    });
}

/// Several statements in one text: one transaction, every value as text, rows and counts in order.
#[test]
fn simple_queries() {
    run(|_| async {
        let (_pool, mut client) = single("queries-simple").await;
        client.batch_execute("CREATE TEMP TABLE s (a int); INSERT INTO s VALUES (1), (2)").await.unwrap();
        let messages = client.simple_query("SELECT a, NULL AS b FROM s; DELETE FROM s WHERE a = 1; SELECT 'z'").await;
        let messages = messages.unwrap();
        let shape: Vec<String> = messages
            .iter()
            .map(|message| match message {
                SimpleQueryMessage::RowDescription(columns) => {
                    columns.iter().map(|column| column.name()).collect::<Vec<_>>().join(",")
                }
                SimpleQueryMessage::Row(row) => (0..row.len()).map(|n| row.get(n).unwrap_or("-")).collect(),
                SimpleQueryMessage::CommandComplete(count) => format!("={count}"),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(shape, ["a,b", "1-", "2-", "=2", "=1", "?column?", "z", "=1"]);
        // The third statement fails, so the first two never happened.
        let error = client.batch_execute("INSERT INTO s VALUES (3); INSERT INTO s VALUES (4); SELECT 1/0").await;
        assert_eq!(super::sqlstate(error), "22012");
        assert_eq!(client.query_one("SELECT count(*) FROM s", &[]).await.unwrap().get::<_, i64>(0), 1);
        let messages = client.simple_query("").await.unwrap();
        assert!(matches!(messages[..], [SimpleQueryMessage::CommandComplete(0)]), "{messages:?}");
        assert_eq!(client.transaction_status(), TransactionStatus::Idle);
    });
}

/// What the session says of itself: process id, settings as the server reports them, host.
#[test]
fn the_session_is_known() {
    run(|_| async {
        let (_pool, mut client) = single("queries-session").await;
        assert_eq!(backends(server(), "queries-session"), [client.backend_pid() as u32]);
        assert_eq!(client.parameter("client_encoding"), Some("UTF8"));
        assert_eq!(client.parameter("application_name"), Some("queries-session"));
        client.batch_execute("SET TimeZone = 'Asia/Tokyo'").await.unwrap();
        assert_eq!(client.parameter("TimeZone"), Some("Asia/Tokyo"), "a change is reported");
        assert_eq!(client.parameter("no such"), None);
        assert!(!client.is_closed());
        let debug = format!("{client:?}");
        assert!(debug.contains("Lease"), "{debug}");
    });
}
