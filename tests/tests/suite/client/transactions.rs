//! Transactions and savepoints.

use std::time::Duration;

use pgweir_core::client::{Error, IsolationLevel, TransactionStatus};
use pgweir_tests::Client as Session;

use super::{named, open, single};
use crate::suite::common::{run, server};
use crate::suite::rt::{self, Client};

async fn count(client: &mut Client, table: &str) -> i64 {
    client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0)
}

/// DESIGN 6: commit keeps, rollback and drop undo, for transactions and for savepoints at any depth.
#[test]
fn commit_rollback_and_drop() {
    run(|_| async {
        let (_pool, mut client) = single("transactions").await;
        client.batch_execute("CREATE TEMP TABLE x (a int)").await.unwrap();
        let mut outer = client.transaction().await.unwrap();
        outer.execute("INSERT INTO x VALUES (1)", &[]).await.unwrap();
        let mut kept = outer.transaction().await.unwrap();
        kept.execute("INSERT INTO x VALUES (2)", &[]).await.unwrap();
        kept.commit().await.unwrap();
        let mut undone = outer.savepoint("od\"d; name").await.unwrap();
        undone.execute("INSERT INTO x VALUES (3)", &[]).await.unwrap();
        let mut inner = undone.transaction().await.unwrap();
        inner.execute("INSERT INTO x VALUES (4)", &[]).await.unwrap();
        assert_eq!(count(&mut inner, "x").await, 4);
        drop(inner);
        assert_eq!(count(&mut undone, "x").await, 3, "the innermost alone");
        drop(undone);
        assert_eq!(count(&mut outer, "x").await, 2);
        let mut failed = outer.transaction().await.unwrap();
        assert_eq!(super::sqlstate(failed.execute("SELECT 1/0", &[]).await), "22012");
        assert_eq!(super::sqlstate(failed.execute("SELECT 1", &[]).await), "25P02");
        assert_eq!(failed.transaction_status(), TransactionStatus::Failed);
        failed.rollback().await.unwrap();
        assert_eq!(
            outer.transaction_status(),
            TransactionStatus::Transaction,
            "a savepoint saves the transaction around it"
        );
        outer.commit().await.unwrap();
        assert_eq!((count(&mut client, "x").await, client.transaction_status()), (2, TransactionStatus::Idle));
        let mut dropped = client.transaction().await.unwrap();
        dropped.execute("INSERT INTO x VALUES (9)", &[]).await.unwrap();
        drop(dropped);
        assert_eq!(count(&mut client, "x").await, 2, "rolled back before the next request");
        assert_eq!(client.transaction_status(), TransactionStatus::Idle);
        assert_eq!(super::sqlstate(client.savepoint("alone").await), "25P01");
    });
}

/// A commit that the server turns into a rollback, or refuses, is an error; the connection is idle after both.
#[test]
fn commits_that_fail() {
    run(|_| async {
        let (_pool, mut client) = single("transactions-commit").await;
        let mut transaction = client.transaction().await.unwrap();
        assert_eq!(super::sqlstate(transaction.execute("SELECT 1/0", &[]).await), "22012");
        assert!(matches!(transaction.commit().await, Err(Error::RolledBack)));
        assert_eq!(client.transaction_status(), TransactionStatus::Idle);
        client.batch_execute("CREATE TEMP TABLE d (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)").await.unwrap();
        let mut transaction = client.transaction().await.unwrap();
        transaction.execute("INSERT INTO d VALUES (1), (1)", &[]).await.unwrap();
        assert_eq!(super::sqlstate(transaction.commit().await), "23505");
        assert_eq!((count(&mut client, "d").await, client.transaction_status()), (0, TransactionStatus::Idle));
    });
}

/// Isolation level, access mode and deferrability reach the server; within a transaction they are refused.
#[test]
fn options() {
    run(|_| async {
        let (_pool, mut client) = single("transactions-options").await;
        for (level, name) in [
            (IsolationLevel::ReadUncommitted, "read uncommitted"),
            (IsolationLevel::ReadCommitted, "read committed"),
            (IsolationLevel::RepeatableRead, "repeatable read"),
            (IsolationLevel::Serializable, "serializable"),
        ] {
            let builder = client.build_transaction().isolation_level(level).read_only(true).deferrable(true);
            let mut transaction = builder.start().await.unwrap();
            let sql = "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only'),
                       current_setting('transaction_deferrable')";
            let row = transaction.query_one(sql, &[]).await.unwrap();
            assert_eq!([0, 1, 2].map(|n| row.get::<_, String>(n)), [name, "on", "on"]);
            let nested = transaction.build_transaction().read_only(false).start().await.map(drop);
            assert!(matches!(nested, Err(Error::InTransaction)));
            transaction.commit().await.unwrap();
        }
        let mut transaction = client.build_transaction().read_only(true).start().await.unwrap();
        assert_eq!(super::sqlstate(transaction.execute("CREATE TABLE no (a int)", &[]).await), "25006");
        transaction.rollback().await.unwrap();
    });
}

/// A serialisation failure comes as what it is, and the transaction can be run again.
#[test]
fn serialization_failures() {
    run(|_| async {
        let pool = open(named("transactions-serializable").min_size(2)).await;
        let (mut first, mut second) = (pool.get().await.unwrap(), pool.get().await.unwrap());
        first.batch_execute("DROP TABLE IF EXISTS tr_serial; CREATE TABLE tr_serial (a int)").await.unwrap();
        let level = IsolationLevel::Serializable;
        let mut one = first.build_transaction().isolation_level(level).start().await.unwrap();
        let mut two = second.build_transaction().isolation_level(level).start().await.unwrap();
        for transaction in [&mut one, &mut two] {
            let sum = count(transaction, "tr_serial").await;
            transaction.execute("INSERT INTO tr_serial VALUES ($1)", &[&(sum as i32)]).await.unwrap();
        }
        one.commit().await.unwrap();
        assert_eq!(super::sqlstate(two.commit().await), "40001");
        let mut again = second.build_transaction().isolation_level(level).start().await.unwrap();
        assert_eq!(count(&mut again, "tr_serial").await, 1);
        again.commit().await.unwrap();
    });
}

/// PEERS 5: a BEGIN whose future is dropped at any point, or a transaction dropped with its lease, leaves no
/// transaction to the next user, and no work done.
#[test]
fn dropped_begins() {
    run(|_| async {
        let (pool, mut client) = single("transactions-dropped").await;
        client.batch_execute("DROP TABLE IF EXISTS tr_dropped; CREATE TABLE tr_dropped (a int)").await.unwrap();
        let pid = client.backend_pid();
        drop(client);
        for round in 0..60 {
            let mut client = pool.get().await.unwrap();
            assert_eq!(client.backend_pid(), pid);
            let row = client.query_one("SELECT pg_current_xact_id_if_assigned() IS NULL", &[]).await.unwrap();
            assert!(row.get::<_, bool>(0));
            assert_eq!(client.transaction_status(), TransactionStatus::Idle, "round {round}");
            assert_eq!(count(&mut client, "tr_dropped").await, 0, "round {round}");
            match round % 3 {
                // Dropped after one to twenty polls: before it was sent, on its way, or just answered.
                0 => drop(polls(client.transaction(), 1 + round / 3).await),
                // As a user would who gives BEGIN as text: the pool looks at the state, not at the text.
                1 => client.batch_execute("BEGIN; INSERT INTO tr_dropped VALUES (1)").await.unwrap(),
                _ => {
                    let mut transaction = client.transaction().await.unwrap();
                    transaction.execute("INSERT INTO tr_dropped VALUES (1)", &[]).await.unwrap();
                    let mut inner = transaction.transaction().await.unwrap();
                    inner.execute("INSERT INTO tr_dropped VALUES (2)", &[]).await.unwrap();
                    drop(polls(inner.commit(), round / 3).await);
                }
            }
            // Half of them go on with the same lease.
            if round % 2 == 0 {
                client.query_one("SELECT 1", &[]).await.unwrap();
            }
        }
        let mut looker: Session = server().client().unwrap();
        let idle = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'transactions-dropped'
                    AND state LIKE 'idle in transaction%'";
        crate::suite::common::until("no transaction stays open", || looker.query(idle).unwrap()[0].text(0) == "0")
            .await;
    });
}

/// A transaction after something that was dropped waits for the end of that, and no longer.
#[test]
fn after_a_dropped_query() {
    run(|_| async {
        let config = named("transactions-after").max_size(1).command_timeout(Duration::from_secs(5));
        let pool = open(config).await;
        let mut client = pool.get().await.unwrap();
        for polls_of_it in [1, 2, 20, 200] {
            drop(polls(client.query("SELECT pg_sleep(0.02)", &[]), polls_of_it).await);
            let mut transaction = client.transaction().await.expect("no timeout");
            assert_eq!(transaction.query_one("SELECT 1", &[]).await.unwrap().get::<_, i32>(0), 1);
            drop(polls(transaction.query("SELECT pg_sleep(0.02)", &[]), polls_of_it).await);
            transaction.rollback().await.unwrap();
            assert_eq!(client.transaction_status(), TransactionStatus::Idle);
        }
    });
}

/// Polls a future so often, yielding in between, and drops it.
async fn polls<F: Future>(future: F, polls: u32) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    for _ in 0..polls {
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx))).await;
        if let std::task::Poll::Ready(output) = polled {
            return Some(output);
        }
        rt::yield_now().await;
    }
    None
}

/// A transaction that is held across an idle time is still its own: nobody else sees or ends it.
#[test]
fn two_transactions_side_by_side() {
    run(|_| async {
        let pool = open(named("transactions-two").min_size(2).max_idle_time(Duration::from_millis(50))).await;
        let (mut first, mut second) = (pool.get().await.unwrap(), pool.get().await.unwrap());
        first.batch_execute("DROP TABLE IF EXISTS tr_two; CREATE TABLE tr_two (a int)").await.unwrap();
        let mut one = first.transaction().await.unwrap();
        one.execute("INSERT INTO tr_two VALUES (1)", &[]).await.unwrap();
        let mut two = second.transaction().await.unwrap();
        assert_eq!(count(&mut two, "tr_two").await, 0);
        one.commit().await.unwrap();
        assert_eq!(count(&mut two, "tr_two").await, 1, "read committed");
        two.rollback().await.unwrap();
    });
}
