//! PEERS 19: what of a session is cleared for its next user, by policy.

use pgweir_core::client::TransactionStatus;
use pgweir_core::config::ResetPolicy;

use super::{named, pid};
use crate::suite::common::{open, run, until};
use crate::suite::rt::{Client, Pool};

/// Leaves everything behind that a user can.
async fn litter(client: &mut Client) {
    client
        .batch_execute(
            "SET work_mem = '1234kB'; SET search_path = nowhere; CREATE TEMP TABLE litter (a int); LISTEN litter;
             SELECT pg_advisory_lock(1919); CREATE TEMP SEQUENCE s; SELECT nextval('pg_temp.s');
             DECLARE c CURSOR WITH HOLD FOR SELECT 1; SET ROLE pg_monitor; PREPARE by_hand AS SELECT 1",
        )
        .await
        .unwrap();
}

/// What the next user finds: work_mem, search_path, role, temporary tables, channels, advisory locks, cursors.
async fn found(client: &mut Client) -> Vec<String> {
    let row = client
        .query_one(
            "SELECT current_setting('work_mem'), current_setting('search_path'), current_user::text,
                    (SELECT count(*)::text FROM pg_class
                      WHERE relname = 'litter' AND relnamespace = pg_my_temp_schema()),
                    (SELECT count(*)::text FROM pg_listening_channels()),
                    (SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
                    (SELECT count(*)::text FROM pg_cursors WHERE is_holdable)",
            &[],
        )
        .await
        .unwrap();
    (0..row.len()).map(|column| row.get(column)).collect()
}

async fn of_one(name: &str, policy: ResetPolicy) -> Pool {
    open(named(name).max_size(1).reset_policy(policy)).await
}

/// `nothing` is what it says; only an open transaction never reaches the next user.
#[test]
fn nothing() {
    run(|_| async {
        let pool = of_one("reset-nothing", ResetPolicy::Nothing).await;
        let mut client = pool.get().await.unwrap();
        let own = pid(&mut client).await;
        litter(&mut client).await;
        client.batch_execute("RESET ROLE").await.unwrap();
        client.batch_execute("BEGIN; SET LOCAL work_mem = '99MB'").await.unwrap();
        drop(client);
        let mut client = pool.get().await.unwrap();
        assert_eq!((pid(&mut client).await, client.transaction_status()), (own, TransactionStatus::Idle));
        assert_eq!(found(&mut client).await, ["1234kB", "nowhere", "postgres", "1", "1", "1", "1"]);
    });
}

/// `discard_all` clears whatever a user can leave behind, while the pool's own prepared statements stay: a round trip
/// for the reset, none for a new Parse.
#[test]
fn discard_all() {
    run(|_| async {
        let pool = of_one("reset-discard", ResetPolicy::DiscardAll).await;
        let mut client = pool.get().await.unwrap();
        let clean = found(&mut client).await;
        let own = pid(&mut client).await;
        for round in 0..3 {
            litter(&mut client).await;
            assert_ne!(found(&mut client).await, clean);
            drop(client);
            client = pool.get().await.unwrap();
            assert_eq!(found(&mut client).await, clean, "round {round}");
            assert_eq!(pid(&mut client).await, own);
            assert_eq!(
                client.query_one("SELECT lastval() IS NULL", &[]).await.map(drop).unwrap_err().code().unwrap().code(),
                "55000"
            );
            // A statement prepared by hand is the user's own affair.
            client.batch_execute("DEALLOCATE by_hand").await.unwrap();
        }
        let cache = client.statement_cache();
        assert!(cache.misses <= 3 && cache.hits >= 6, "{cache:?}");
        // In the middle of a failed transaction as well.
        client.batch_execute("BEGIN").await.unwrap();
        client.batch_execute("SELECT 1/0").await.unwrap_err();
        drop(client);
        let mut client = pool.get().await.unwrap();
        assert_eq!(found(&mut client).await, clean);
    });
}

/// What the pool sets up for every session is there again after `discard_all`.
#[test]
fn discard_all_keeps_the_set_up() {
    run(|_| async {
        let config = named("reset-setup").max_size(1).reset_policy(ResetPolicy::DiscardAll);
        let builder = Pool::builder(config.setting("lock_timeout", "7s").build().unwrap());
        let pool =
            builder.postgres(|postgres| postgres.with_on_connect_sql("SET work_mem = '5MB'")).open().await.unwrap();
        for _ in 0..2 {
            let mut client = pool.get().await.unwrap();
            let sql = "SELECT current_setting('work_mem'), current_setting('lock_timeout')";
            let row = client.query_one(sql, &[]).await.unwrap();
            assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("5MB", "7s"));
            client.batch_execute("SET work_mem = '1MB'; SET lock_timeout = 0").await.unwrap();
        }
    });
}

/// Statements of the user's own; where they fail, the connection is closed, not lent.
#[test]
fn own_statements() {
    run(|_| async {
        let pool =
            of_one("reset-sql", ResetPolicy::Sql("RESET work_mem; SELECT pg_advisory_unlock_all()".into())).await;
        let mut client = pool.get().await.unwrap();
        let own = pid(&mut client).await;
        client
            .batch_execute("SET work_mem = '1234kB'; SET lock_timeout = '9s'; SELECT pg_advisory_lock(7)")
            .await
            .unwrap();
        drop(client);
        let mut client = pool.get().await.unwrap();
        let sql = "SELECT current_setting('work_mem') = '1234kB', current_setting('lock_timeout'),
                   (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())";
        let row = client.query_one(sql, &[]).await.unwrap();
        assert_eq!((row.get::<_, bool>(0), row.get::<_, &str>(1), row.get::<_, i64>(2)), (false, "9s", 0));
        assert_eq!(pid(&mut client).await, own);
        drop(client);

        for failing in ["SELECT 1/0", "BEGIN"] {
            let pool = of_one("reset-failing", ResetPolicy::Sql(failing.into())).await;
            let mut client = pool.get().await.unwrap();
            let own = pid(&mut client).await;
            drop(client);
            let mut client = pool.get().await.unwrap();
            assert_ne!(pid(&mut client).await, own, "{failing}");
            assert_eq!(client.transaction_status(), TransactionStatus::Idle);
        }
    });
}

/// The reset is the pool's work, not the caller's: a dropped lease returns at once, and the connection is not lent
/// before the reset is done.
#[test]
fn the_reset_comes_first() {
    run(|_| async {
        let pool = of_one("reset-slow", ResetPolicy::Sql("SELECT pg_sleep(0.05); RESET work_mem".into())).await;
        for _ in 0..3 {
            let mut client = pool.get().await.unwrap();
            client.batch_execute("SET work_mem = '1234kB'").await.unwrap();
            drop(client);
            assert_eq!((pool.status().resetting, pool.status().idle), (1, 0));
            let mut client = pool.get().await.unwrap();
            let row = client.query_one("SELECT current_setting('work_mem') = '1234kB'", &[]).await.unwrap();
            assert!(!row.get::<_, bool>(0));
        }
        until("at home", || pool.status().idle == 1).await;
    });
}
