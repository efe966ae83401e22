//! Queries that end before their answer: by a timeout, by a token, by being dropped.

use std::time::{Duration, Instant};

use pgweir_core::client::Error;

use super::{named, open, single};
use crate::suite::common::{run, server, until};
use crate::suite::rt;

/// Waits until the server runs so many statements with this text for these connections.
pub(crate) async fn running(name: &str, text: &str, count: usize) {
    let mut looker = server().client().expect("a session");
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}' AND state = 'active' \
         AND strpos(query, '{text}') > 0"
    );
    let what = format!("{count} of {text} run");
    until(&what, || looker.query(&sql).expect("an answer")[0].text(0) == count.to_string()).await;
}

/// a command that takes longer than command_timeout fails; with the end of its lease it ends on the server too,
/// and the connection goes on.
#[test]
fn command_timeout() {
    run(|_| async {
        let timeout = Duration::from_millis(150);
        let pool = open(named("cancel-timeout").max_size(1).command_timeout(timeout)).await;
        let mut client = pool.get().await.unwrap();
        let pid = client.backend_pid();
        let started = Instant::now();
        let error = client.query("SELECT pg_sleep(61)", &[]).await.unwrap_err();
        assert!(started.elapsed() >= timeout);
        assert!(matches!(error, Error::Timeout { after } if after == timeout), "{error:?}");
        assert!(error.to_string().contains("command_timeout (150ms)"), "{error}");
        // The clock starts anew with each command, and a stream's with each batch; this one waits behind the first.
        assert!(matches!(client.query("SELECT 1", &[]).await, Err(Error::Timeout { .. })));
        drop(client);
        let mut client = pool.get().await.unwrap();
        running("cancel-timeout", "pg_sleep(61)", 0).await;
        for _ in 0..4 {
            let row = client.query_one("SELECT pg_backend_pid(), pg_sleep(0.05)", &[]).await.unwrap();
            assert_eq!(row.get::<_, i32>(0), pid);
        }
        let mut transaction = client.transaction().await.unwrap();
        assert!(matches!(transaction.query("SELECT pg_sleep(62)", &[]).await, Err(Error::Timeout { .. })));
        assert!(matches!(transaction.commit().await, Err(Error::Timeout { .. })), "the COMMIT waits behind it");
        drop(client);
        let mut client = pool.get().await.unwrap();
        assert_eq!(client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get::<_, i32>(0), pid);
        running("cancel-timeout", "pg_sleep(62)", 0).await;
    });
}

/// Zero is no limit; a stream that is read slowly is not cut off by the time its reader takes.
#[test]
fn command_timeout_off_and_slow_readers() {
    run(|_| async {
        let pool = open(named("cancel-off").max_size(1).command_timeout(Duration::ZERO)).await;
        let mut client = pool.get().await.unwrap();
        client.query_one("SELECT pg_sleep(0.3)", &[]).await.unwrap();
        let timeout = Duration::from_millis(100);
        let pool = open(named("cancel-slow").max_size(1).command_timeout(timeout)).await;
        let mut client = pool.get().await.unwrap();
        let fetch = std::num::NonZeroU32::new(2).unwrap();
        let mut stream = client.query_stream("SELECT generate_series(1, 8)", &[], fetch).await.unwrap();
        let mut rows = 0;
        while stream.next().await.unwrap().is_some() {
            rows += 1;
            // Busy with something else for longer than the timeout, once in each batch.
            if rows % 2 == 1 {
                std::thread::sleep(timeout + timeout / 5);
            }
        }
        assert_eq!(rows, 8);
    });
}

/// A token cancels what its lease runs, from anywhere; it is void with the end of the lease.
#[test]
fn cancel_tokens() {
    run(|_| async {
        let (pool, mut client) = single("cancel-token").await;
        let pid = client.backend_pid();
        let token = client.cancel_token().expect("a key");
        let elsewhere = token.clone();
        let cancel = async {
            running("cancel-token", "pg_sleep(63)", 1).await;
            rt::spawn(async move { elsewhere.cancel().await }).await.unwrap().unwrap()
        };
        let (result, there) = rt::join(client.query("SELECT pg_sleep(63)", &[]), cancel).await;
        assert!(there);
        assert_eq!(super::sqlstate(result), "57014");
        // On an idle connection it does nothing, now or later.
        assert!(token.cancel().await.unwrap());
        for _ in 0..20 {
            client.query_one("SELECT pg_sleep(0.002)", &[]).await.unwrap();
        }
        drop(client);
        assert!(!token.cancel().await.unwrap(), "void with the lease");
        let mut client = pool.get().await.unwrap();
        assert_eq!(client.backend_pid(), pid);
        assert!(!format!("{token:?}").contains("secret"), "{token:?}");
        client.query_one("SELECT pg_sleep(0.05)", &[]).await.unwrap();
    });
}

/// PEERS 29: tokens fired at the very end of leases never hit the next user's query. 400 leases, each cancelled at a
/// random moment around its end, on connections that are busy all the time.
#[test]
fn tokens_never_reach_the_next_lease() {
    run(|_| async {
        let pool = open(named("cancel-late").min_size(2).max_size(2)).await;
        let workers: Vec<_> = (0..4u64)
            .map(|worker| {
                let pool = pool.clone();
                rt::spawn(async move {
                    let mut random = super::dropped::Random::new(worker + 77);
                    for round in 0..100 {
                        let mut client = pool.get().await.unwrap();
                        // Before its own cancel, nobody has a right to disturb this lease.
                        let row = client.query_one("SELECT $1::int, pg_sleep(0.001)", &[&round]).await;
                        assert_eq!(row.unwrap_or_else(|error| panic!("{error}")).get::<_, i32>(0), round);
                        let token = client.cancel_token().unwrap();
                        let wait = Duration::from_micros(random.below(1500));
                        let cancel = rt::spawn(async move {
                            rt::sleep(wait).await;
                            token.cancel().await
                        });
                        let result = client.query("SELECT pg_sleep(0.001)", &[]).await;
                        assert!(result.is_ok() || super::sqlstate(result) == "57014");
                        drop(client);
                        cancel.await.unwrap().unwrap();
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.await.unwrap();
        }
        assert_eq!(pool.stats().opened, 2, "no connection was given up for it");
    });
}

/// PEERS 30: of twenty dropped queries, none runs on the server when its connection is lent again.
#[test]
fn dropped_queries_end_on_the_server() {
    run(|_| async {
        let pool = open(named("cancel-dropped").min_size(4).max_size(4)).await;
        let pids: Vec<u32> = crate::suite::common::backends(server(), "cancel-dropped");
        for _ in 0..5 {
            let queries = (0..4).map(|_| {
                let pool = pool.clone();
                rt::spawn(async move {
                    let mut client = pool.get().await.unwrap();
                    let _ = client.query("SELECT pg_sleep(64)", &[]).await;
                })
            });
            let queries: Vec<_> = queries.collect();
            running("cancel-dropped", "pg_sleep(64)", 4).await;
            queries.iter().for_each(|query| query.abort());
            let mut leases = Vec::new();
            for _ in 0..4 {
                leases.push(pool.get().await.unwrap());
            }
            running("cancel-dropped", "pg_sleep(64)", 0).await;
            for lease in &mut leases {
                lease.query_one("SELECT 1", &[]).await.unwrap();
            }
        }
        assert_eq!(
            crate::suite::common::backends(server(), "cancel-dropped"),
            pids,
            "the same connections all the time"
        );
    });
}

/// PEERS 22: a lease in the middle of a query may be dropped on a thread that has no runtime.
#[test]
fn dropped_outside_the_runtime() {
    run(|_| async {
        let (pool, mut client) = single("cancel-outside").await;
        let pid = client.backend_pid();
        {
            let query = std::pin::pin!(client.query("SELECT pg_sleep(65)", &[]));
            let started = running("cancel-outside", "pg_sleep(65)", 1);
            assert!(rt::unless(started, query).await.is_none(), "it sleeps");
        }
        std::thread::spawn(move || drop(client)).join().unwrap();
        let mut client = pool.get().await.unwrap();
        assert_eq!(client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get::<_, i32>(0), pid);
    });
}
