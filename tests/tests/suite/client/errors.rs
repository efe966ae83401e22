//! What the server says when something is wrong, whole and in its place.

use std::error::Error as _;

use pgweir_core::client::{Error, Position, Severity};
use pgweir_core::pool::FaultClass;

use super::{named, single};
use crate::suite::common::{run, server};
use crate::suite::rt;

/// no error comes without the server's own fields.
#[test]
fn all_fields() {
    run(|_| async {
        let (_pool, mut client) = single("errors-fields").await;
        client
            .batch_execute("CREATE TEMP TABLE parent (id int PRIMARY KEY, CONSTRAINT small CHECK (id < 10))")
            .await
            .unwrap();
        let error = client.execute("INSERT INTO parent VALUES (99)", &[]).await.unwrap_err();
        let db = error.as_db_error().expect("the server's error");
        assert_eq!((db.severity, db.code.code()), (Severity::Error, "23514"));
        assert!(db.message.contains("check constraint \"small\""), "{}", db.message);
        assert_eq!(db.detail.as_deref(), Some("Failing row contains (99)."));
        assert_eq!((db.table.as_deref(), db.constraint.as_deref()), (Some("parent"), Some("small")));
        assert!(db.schema.as_deref().is_some_and(|schema| schema.starts_with("pg_temp")));
        assert!(db.file.is_some() && db.line.is_some() && db.routine.is_some());
        assert!(!error.is_closed());

        let error = client.execute("ALTER TABLE parent ALTER id SET NOT NULL; SELECT 1", &[]).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42601", "one statement at a time: {error}");
        client.batch_execute("CREATE TEMP TABLE n (c int NOT NULL)").await.unwrap();
        let error = client.execute("INSERT INTO n VALUES (NULL)", &[]).await.unwrap_err();
        assert_eq!(error.as_db_error().unwrap().column.as_deref(), Some("c"));

        let error = client.query("SELECT 'x' || nosuch", &[]).await.unwrap_err();
        assert_eq!(error.as_db_error().unwrap().position, Some(Position::Original(15)));
        let error = client.query("SELECT round('x'::text)", &[]).await.unwrap_err();
        assert!(error.as_db_error().unwrap().hint.is_some());
        assert!(error.to_string().contains("; hint: "), "the hint is shown: {error}");

        let sql = "DO $$ BEGIN EXECUTE 'SELECT 1 +'; END $$";
        let error = client.batch_execute(sql).await.unwrap_err();
        let db = error.as_db_error().unwrap();
        assert!(matches!(&db.position, Some(Position::Internal { query, .. }) if query == "SELECT 1 +"), "{db:?}");
        assert!(db.context.as_deref().is_some_and(|context| context.contains("PL/pgSQL")), "{db:?}");

        let sql = "DO $$ BEGIN RAISE EXCEPTION 'own' USING ERRCODE = 'PW001', DATATYPE = 'money'; END $$";
        let error = client.batch_execute(sql).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "PW001");
        assert_eq!(error.as_db_error().unwrap().datatype.as_deref(), Some("money"));
        assert!(error.source().is_none() || error.source().unwrap().to_string().contains("own"));
    });
}

/// A failed statement leaves the connection usable and clean, ten times over.
#[test]
fn errors_do_not_harm_the_connection() {
    run(|_| async {
        let (pool, client) = single("errors-harmless").await;
        let pid = client.backend_pid();
        drop(client);
        for n in 0..10 {
            let mut client = pool.get().await.unwrap();
            assert_eq!(super::sqlstate(client.query("SELEC", &[]).await), "42601");
            assert_eq!(super::sqlstate(client.query("SELECT 1/$1::int", &[&0]).await), "22012");
            assert!(matches!(client.query("SELECT 1\0", &[]).await, Err(Error::Encode(_))));
            assert_eq!(client.query_one("SELECT $1::int", &[&n]).await.unwrap().get::<_, i32>(0), n);
            assert_eq!(client.backend_pid(), pid);
        }
        assert_eq!(pool.stats().opened, 1);
    });
}

/// a query whose backend is ended fails with the reason; the connection is not lent again.
#[test]
fn the_backend_ends() {
    run(|_| async {
        let (pool, mut client) = single("errors-ended").await;
        let pid = client.backend_pid();
        let query = client.query("SELECT pg_sleep(60)", &[]);
        let kill = async {
            super::cancelling::running("errors-ended", "pg_sleep(60)", 1).await;
            server().query(&format!("SELECT pg_terminate_backend({pid})")).unwrap();
        };
        let (result, ()) = rt::join(query, kill).await;
        let error = result.unwrap_err();
        assert!(error.is_closed(), "{error}");
        assert_eq!(error.code().unwrap().code(), "57P01", "{error}");
        assert_eq!(error.fault().class, FaultClass::Transient);
        assert!(client.is_closed());
        let error = client.query("SELECT 1", &[]).await.unwrap_err();
        assert!(error.is_closed() && error.to_string().contains("take another one from the pool"), "{error}");
        drop(client);
        let mut client = pool.get().await.unwrap();
        assert_ne!(client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get::<_, i32>(0), pid);
    });
}

/// Issue 2, item 3: COPY is refused with a clear word, in every call and both ways, and the connection goes on.
#[test]
fn copy_is_refused() {
    run(|_| async {
        let (pool, mut client) = single("errors-copy").await;
        let pid = client.backend_pid();
        client.batch_execute("CREATE TABLE IF NOT EXISTS errors_copy (a int); TRUNCATE errors_copy").await.unwrap();
        for sql in ["COPY errors_copy TO STDOUT", "COPY errors_copy FROM STDIN"] {
            let error = client.query(sql, &[]).await.unwrap_err();
            assert!(matches!(error, Error::Copy(_)), "{error:?}");
            assert!(error.to_string().contains("COPY"), "{error}");
            assert!(matches!(client.execute(sql, &[]).await, Err(Error::Copy(_))));
            assert!(matches!(client.batch_execute(sql).await, Err(Error::Copy(_))));
            assert!(matches!(client.simple_query(&format!("SELECT 1; {sql}; SELECT 2")).await, Err(Error::Copy(_))));
            let results = client.pipeline(&[(&"SELECT 1", &[]), (&sql, &[])]).await.unwrap();
            assert_eq!(results[0].as_ref().unwrap().rows[0].get::<_, i32>(0), 1);
            assert!(matches!(results[1], Err(Error::Copy(_))), "{:?}", results[1]);
            assert_eq!(client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get::<_, i32>(0), pid);
        }
        let results = client.pipeline(&[(&"COPY errors_copy TO STDOUT", &[]), (&"SELECT 3", &[])]).await.unwrap();
        assert!(matches!(results[0], Err(Error::Copy(_))), "{:?}", results[0]);
        assert_eq!(results[1].as_ref().unwrap().rows[0].get::<_, i32>(0), 3);
        drop(client);
        let mut client = pool.get().await.unwrap();
        assert_eq!(client.backend_pid(), pid);
        assert_eq!(client.query_one("SELECT count(*) FROM errors_copy", &[]).await.unwrap().get::<_, i64>(0), 0);
        // What follows it in a pipeline, the server takes for data: this one costs the connection, and says so.
        let pipeline = client.pipeline(&[(&"COPY errors_copy FROM STDIN", &[]), (&"SELECT 3", &[])]).await;
        let error = pipeline.unwrap_err();
        assert!(error.is_closed() && error.to_string().contains("COPY"), "{error}");
        drop(client);
        assert_eq!(pool.get().await.unwrap().query_one("SELECT 4", &[]).await.unwrap().get::<_, i32>(0), 4);
    });
}

/// No error text holds a parameter's value, whatever the error of this side (PEERS 46).
#[test]
fn our_errors_show_no_values() {
    run(|_| async {
        let pool = super::open(named("errors-values").max_size(1)).await;
        let mut client = pool.get().await.unwrap();
        let secret = "hunter2";
        let error = client.query("SELECT $1::int", &[&secret]).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains(secret), "{error:?}");
        let row = client.query_one("SELECT $1::text", &[&secret]).await.unwrap();
        let error = row.try_get::<_, i32>(0).unwrap_err();
        assert!(!format!("{error} {error:?} {row:?}").contains(secret), "{error:?}");
    });
}
