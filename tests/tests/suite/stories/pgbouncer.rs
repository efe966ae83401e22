//! PEERS 21: behind PgBouncer in transaction mode, where each transaction may be on another server connection.

use std::sync::LazyLock;
use std::time::Duration;

use pgweir_core::config::ConfigBuilder;
use pgweir_core::pool::Status;
use pgweir_tests::{LocalPostgres, PgBouncer};

use crate::suite::common::{config, open, run, until};
use crate::suite::rt;

/// Two server connections for everybody, so that everybody meets on them.
static BEHIND: LazyLock<(PgBouncer, LocalPostgres)> = LazyLock::new(|| {
    let server = LocalPostgres::start().expect("a server");
    (PgBouncer::start(&server, 2).expect("PgBouncer"), server)
});

fn bounced(name: &str) -> ConfigBuilder {
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", BEHIND.0.port());
    config(&url, name).statement_cache_size(0)
}

/// With statement_cache_size = 0, ten connections and twenty tasks share two server connections without an error:
/// queries with parameters, streams, pipelines, transactions, types that have to be looked up.
#[test]
fn everything_works_without_a_statement_cache() {
    run(|_| async {
        let pool = open(bounced("bounced").max_size(10)).await;
        BEHIND.1.query("CREATE TABLE bounced (a int); CREATE TYPE bounced_mood AS ENUM ('ok')").unwrap();
        let tasks: Vec<_> = (0..20)
            .map(|task| {
                let pool = pool.clone();
                rt::spawn(async move {
                    for round in 0..15 {
                        let number = task * 100 + round;
                        let mut client = pool.get().await.unwrap();
                        let row = client.query_one("SELECT $1::int, 'ok'::bounced_mood", &[&number]).await.unwrap();
                        assert_eq!((row.get::<_, i32>(0), row.columns()[1].type_().name()), (number, "bounced_mood"));
                        let mut transaction = client.transaction().await.unwrap();
                        transaction.execute("INSERT INTO bounced VALUES ($1)", &[&number]).await.unwrap();
                        let mut stream =
                            transaction.query_raw("SELECT generate_series(1, $1::int)", &[&20]).await.unwrap();
                        let mut sum = 0;
                        while let Some(row) = stream.next().await.unwrap() {
                            sum += row.get::<_, i32>(0);
                        }
                        assert_eq!(sum, 210);
                        drop(stream);
                        if round % 3 == 0 {
                            transaction.commit().await.unwrap()
                        } else {
                            drop(transaction)
                        }
                        let statement = client.prepare("SELECT $1::int + 1").await.unwrap();
                        assert_eq!(
                            client.query_one(&statement, &[&number]).await.unwrap().get::<_, i32>(0),
                            number + 1
                        );
                        let results = client.pipeline(&[(&statement, &[&1]), (&"SELECT 5", &[])]).await.unwrap();
                        let values = results.iter().map(|result| result.as_ref().unwrap().rows[0].get::<_, i32>(0));
                        assert_eq!(values.collect::<Vec<_>>(), [2, 5]);
                        assert_eq!(client.execute("SELECT 1 WHERE $1", &[&false]).await.unwrap(), 0);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let mut client = pool.get().await.unwrap();
        let sql = "SELECT count(*), (SELECT count(*) FROM pg_prepared_statements) FROM bounced";
        let row = client.query_one(sql, &[]).await.unwrap();
        assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (20 * 5, 0));
        let servers = BEHIND.1.psql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'");
        assert!(servers.unwrap().parse::<u32>().unwrap() <= 3, "two, and the one that asks");
        assert_eq!(pool.health().status, Status::Healthy, "{:?}", pool.health());
        assert!(pool.stats().connect_failures.is_empty());
    });
}

/// A dropped query is cancelled through PgBouncer as well, and the connection goes on.
#[test]
fn dropped_queries_are_cancelled() {
    run(|_| async {
        let pool = open(bounced("bounced-cancel").max_size(1)).await;
        let mut looker = BEHIND.1.client().unwrap();
        let mut asleep = move || {
            let sql =
                "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND strpos(query, 'pg_sleep(67)') > 0
                       AND pid <> pg_backend_pid()";
            looker.query(sql).unwrap()[0].text(0) == "1"
        };
        for _ in 0..3 {
            let mut client = pool.get().await.unwrap();
            let query = client.query("SELECT pg_sleep(67)", &[]);
            assert!(rt::unless(until("it sleeps", &mut asleep), query).await.is_none(), "it sleeps");
            drop(client);
            let mut client = pool.get().await.unwrap();
            assert_eq!(client.query_one("SELECT $1::int", &[&7]).await.unwrap().get::<_, i32>(0), 7);
            assert!(!asleep());
        }
        assert_eq!(pool.stats().opened, 1);
    });
}

/// Checks and recycling work there too.
#[test]
fn checks_and_recycling() {
    run(|trace| async move {
        let config = bounced("bounced-check").validation_interval(Duration::ZERO).max_queries(4);
        let pool = open(config.max_size(2)).await;
        for n in 0..20 {
            let mut client = pool.get().await.unwrap();
            assert_eq!(client.query_one("SELECT $1::int", &[&n]).await.unwrap().get::<_, i32>(0), n);
        }
        assert!(trace.count("pgweir.connection.validated") >= 15);
        assert!(trace.count("pgweir.connection.recycled") >= 4);
        assert_eq!(trace.count("pgweir.connection.invalid") + trace.count("pgweir.connection.failed"), 0);
    });
}
