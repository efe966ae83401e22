//! Several queries in one go.

use pgweir_core::client::{Error, Params, ToStatement};
use pgweir_tests::Proxy;

use super::{open, single};
use crate::suite::common::{config, run, server};

/// Each query has its own result, in order; one that fails stops no other.
#[test]
fn results_in_order() {
    run(|_| async {
        let (pool, mut client) = single("pipelines").await;
        client.batch_execute("CREATE TEMP TABLE p (a int PRIMARY KEY)").await.unwrap();
        let double = client.prepare("SELECT $1::int * 2").await.unwrap();
        let results = client
            .pipeline(&[
                (&"INSERT INTO p VALUES ($1)", &[&1]),
                (&"INSERT INTO p VALUES ($1)", &[&1]),
                (&double, &[&21]),
                (&"SELECT nonsense", &[]),
                (&double, &[&"no number"]),
                (&double, &[]),
                (&"SELECT count(*)::int FROM p", &[]),
            ])
            .await
            .unwrap();
        assert_eq!(results.len(), 7);
        assert_eq!(results[0].as_ref().unwrap().affected, 1);
        assert_eq!(results[1].as_ref().unwrap_err().code().unwrap().code(), "23505");
        assert_eq!(results[2].as_ref().unwrap().rows[0].get::<_, i32>(0), 42);
        assert_eq!(results[3].as_ref().unwrap_err().code().unwrap().code(), "42703");
        assert!(matches!(results[4], Err(Error::ToSql { .. })));
        assert!(matches!(results[5], Err(Error::ParameterCount { expected: 1, given: 0 })));
        assert_eq!(results[6].as_ref().unwrap().rows[0].get::<_, i32>(0), 1);
        assert!(client.pipeline(&[]).await.unwrap().is_empty());
        drop(client);
        assert_eq!(pool.status().idle, 1, "clean: nothing to drain");
    });
}

/// More queries than are allowed to be in flight, with more bytes than the sockets hold in either direction.
#[test]
fn more_than_fits() {
    run(|_| async {
        let (_pool, mut client) = single("pipelines-many").await;
        let numbers: Vec<i32> = (0..25_000).collect();
        let params: Vec<[&(dyn postgres_types::ToSql + Sync); 1]> = numbers.iter().map(|n| [n as _]).collect();
        let queries: Vec<(&dyn ToStatement, Params<'_>)> =
            params.iter().map(|p| (&"SELECT $1::int * 2" as &dyn ToStatement, p as Params<'_>)).collect();
        let results = client.pipeline(&queries).await.unwrap();
        assert!(
            results
                .iter()
                .map(|result| result.as_ref().unwrap().rows[0].get::<_, i32>(0))
                .eq((0..25_000).map(|n| 2 * n))
        );

        let texts: Vec<String> = (0..2_000).map(|n| format!("{n:4}").repeat(2_500)).collect();
        let params: Vec<[&(dyn postgres_types::ToSql + Sync); 1]> = texts.iter().map(|text| [text as _]).collect();
        let queries: Vec<(&dyn ToStatement, Params<'_>)> =
            params.iter().map(|p| (&"SELECT $1::text" as &dyn ToStatement, p as Params<'_>)).collect();
        let results = client.pipeline(&queries).await.unwrap();
        for (result, text) in results.iter().zip(&texts) {
            assert_eq!(result.as_ref().unwrap().rows[0].get::<_, &str>(0), text);
        }
    });
}

/// One round trip, not one per query: with 50 ms of delay each way, a hundred queries take less than five round trips.
#[test]
fn one_round_trip() {
    run(|_| async {
        let proxy = Proxy::start(server().address()).unwrap();
        let pool = open(config(&server().url_via(proxy.port()), "pipelines-trip").max_size(1)).await;
        let mut client = pool.get().await.unwrap();
        client.query_one("SELECT 1", &[]).await.unwrap();
        let delay = std::time::Duration::from_millis(50);
        proxy.set_delay(pgweir_tests::Direction::ToClient, delay);
        let queries: Vec<(&dyn ToStatement, Params<'_>)> =
            (0..100).map(|_| (&"SELECT 1" as &dyn ToStatement, &[] as Params<'_>)).collect();
        let started = std::time::Instant::now();
        let results = client.pipeline(&queries).await.unwrap();
        let took = started.elapsed();
        assert!(results.iter().all(Result::is_ok));
        assert!(took >= delay && took < delay * 50, "{took:?} for 100 queries; one after another takes 5 s");
        proxy.pass().unwrap();
    });
}

/// In a transaction, a pipeline's failure makes the rest of it fail, and nothing of it stays.
#[test]
fn inside_a_transaction() {
    run(|_| async {
        let (_pool, mut client) = single("pipelines-transaction").await;
        client.batch_execute("CREATE TEMP TABLE pt (a int)").await.unwrap();
        let mut transaction = client.transaction().await.unwrap();
        let insert = &"INSERT INTO pt VALUES (1)";
        let results = transaction.pipeline(&[(insert, &[]), (&"SELECT 1/0", &[]), (insert, &[])]).await.unwrap();
        assert!(results[0].is_ok());
        assert_eq!(results[1].as_ref().unwrap_err().code().unwrap().code(), "22012");
        assert_eq!(results[2].as_ref().unwrap_err().code().unwrap().code(), "25P02");
        assert!(matches!(transaction.commit().await, Err(Error::RolledBack)));
        assert_eq!(client.query_one("SELECT count(*) FROM pt", &[]).await.unwrap().get::<_, i64>(0), 0);
    });
}
