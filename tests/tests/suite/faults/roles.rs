//! Servers that are alive but not what was wanted: demoted primaries, standbys (PEERS 17).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use pgweir_core::config::ConfigBuilder;
use pgweir_core::pool::{FaultClass, State};
use pgweir_tests::LocalPostgres;

use super::outage::{hurried, ms, unavailable};
use crate::suite::common::{config, open, open_lazy, run, until};
use crate::suite::rt;

/// Leaves what is idle unused for longer than the validation_interval of these tests.
async fn go_stale() {
    rt::sleep(ms(15)).await;
}

/// Makes the server read-only for every session as failover tools do it, and back, without ending a session.
fn set_read_only(server: &LocalPostgres, read_only: bool) {
    let value = if read_only { "on" } else { "off" };
    // The session that changes it back must be able to write itself.
    let mut admin = server.client().expect("a session");
    admin.query("SET default_transaction_read_only = off").expect("set");
    admin.query(&format!("ALTER SYSTEM SET default_transaction_read_only = {value}")).expect("altered");
    drop(admin);
    server.reload().expect("reloaded");
}

/// PEERS 17: the primary becomes read-only while sessions live. The first caller whose write fails is the last one:
/// its connection and its siblings are checked for their role, not just for life, and none of them serves again.
#[test]
fn a_demoted_primary_fails_one_write_and_serves_no_more() {
    run(async |trace| {
        let server = LocalPostgres::start().expect("a server");
        server.query("CREATE TABLE t (n int)").expect("a table");
        let fussy = hurried(config(&server.url(), "demoted").min_size(3).max_size(3));
        let pool = open(fussy.connection_parameter("target_session_attrs", "read-write")).await;
        pool.get().await.expect("a connection").execute("INSERT INTO t VALUES (1)", &[]).await.expect("it writes");

        set_read_only(&server, true);
        let mut lease = pool.get_timeout(ms(100)).await.expect("fresh enough not to be checked");
        // A session hears of the change with its next command, or the one after that.
        let error = loop {
            match lease.execute("INSERT INTO t VALUES (2)", &[]).await {
                Ok(_) => rt::sleep(ms(1)).await,
                Err(error) => break error,
            }
        };
        assert_eq!(error.code().map(|code| code.code().to_owned()).as_deref(), Some("25006"), "{error}");
        drop(lease);
        trace.wait("pgweir.connectivity.lost", 1).await;
        let report = unavailable(pool.get().await);
        assert_eq!(report.cause.class, FaultClass::WrongRole, "{report}");
        assert_eq!(pool.health().state, State::Unhealthy);

        set_read_only(&server, false);
        trace.wait("pgweir.connectivity.recovered", 1).await;
        pool.get().await.expect("a connection").execute("INSERT INTO t VALUES (3)", &[]).await.expect("it writes");
        assert_eq!(server.psql("SELECT n FROM t WHERE n <> 2 ORDER BY n").expect("asked"), "1\n3");
    });
}

/// PEERS 17: the same without any write: the check before the next lease finds out, so that no caller meets the
/// read-only server at all.
#[test]
fn a_validation_asks_for_the_role() {
    run(async |trace| {
        let server = LocalPostgres::start().expect("a server");
        let fussy = hurried(config(&server.url(), "asked").min_size(2).max_size(2)).validation_interval(ms(10));
        let pool = open(fussy.connection_parameter("target_session_attrs", "read-write")).await;
        set_read_only(&server, true);
        // A session hears of the change with its next command, or the one after that.
        let report = loop {
            match pool.get().await {
                Ok(lease) => drop(lease),
                refused => break unavailable(refused),
            }
            go_stale().await;
        };
        assert_eq!(report.cause.class, FaultClass::WrongRole, "{report}");
        assert!(trace.named("pgweir.connection.invalid").iter().all(|event| event.field("class") == "wrong_role"));
    });
}

/// PEERS 17: a caller makes its own session read-only. That is its connection's affair: it is replaced, its siblings
/// stay.
#[test]
fn a_session_that_was_made_read_only_costs_itself_only() {
    run(async |trace| {
        let server = LocalPostgres::start().expect("a server");
        server.query("CREATE TABLE t (n int)").expect("a table");
        let pool = open(config(&server.url(), "own").min_size(2).max_size(2)).await;
        let mut lease = pool.get().await.expect("a connection");
        let own = lease.backend_pid();
        lease.batch_execute("SET default_transaction_read_only = on").await.expect("set");
        lease.execute("INSERT INTO t VALUES (1)", &[]).await.expect_err("read-only");
        drop(lease);
        for _ in 0..6 {
            let (mut a, mut b) = (pool.get().await.expect("a connection"), pool.get().await.expect("another"));
            assert!(a.backend_pid() != own && b.backend_pid() != own);
            a.execute("INSERT INTO t VALUES (1)", &[]).await.expect("it writes");
            b.execute("INSERT INTO t VALUES (1)", &[]).await.expect("it writes");
        }
        assert_eq!(trace.count("pgweir.connectivity.lost"), 0);
    });
}

/// A server that can be a hot standby.
fn standby_capable() -> LocalPostgres {
    let builder = LocalPostgres::builder().setting("wal_level", "replica").setting("hot_standby", "on");
    builder.start().expect("a server")
}

fn become_standby(server: &LocalPostgres) {
    let signal = server.folder().join("data").join("standby.signal");
    fs::write(&signal, "").expect("written");
    // The server removes it when it is promoted, and syncs it before.
    fs::set_permissions(&signal, fs::Permissions::from_mode(0o666)).expect("permitted");
    server.stop_fast().expect("it stops");
    server.start_again().expect("it starts as a standby");
    assert_eq!(server.psql("SELECT pg_is_in_recovery()").expect("asked"), "t");
}

fn wants(config: ConfigBuilder, attrs: &str) -> ConfigBuilder {
    hurried(config).connection_parameter("target_session_attrs", attrs)
}

/// PEERS 17: the server comes back from a restart as a real standby. Who needs a primary gets no session of it, and is
/// told why, until it is promoted; who takes anything reads from it all the while.
#[test]
fn a_standby_serves_only_those_who_want_it() {
    run(async |trace| {
        let server = standby_capable();
        server.query("CREATE TABLE t (n int)").expect("a table");
        let picky = open(wants(config(&server.url(), "picky").min_size(2), "primary")).await;
        become_standby(&server);
        trace.wait("pgweir.connectivity.lost", 1).await;
        until("the standby is recognised", || {
            picky.health().database.last_error.is_some_and(|e| e.contains("standby"))
        })
        .await;
        let report = unavailable(picky.get().await);
        assert_eq!(report.cause.class, FaultClass::WrongRole, "{report}");
        let easy = open_lazy(wants(config(&server.url(), "easy").min_size(1), "any"));
        let mut reader = easy.get().await.expect("a session of the standby");
        assert_eq!(reader.query("SELECT n FROM t", &[]).await.expect("it reads").len(), 0);
        reader.execute("INSERT INTO t VALUES (1)", &[]).await.expect_err("a standby does not write");
        drop(reader);
        easy.get().await.expect("it goes on").batch_execute("SELECT 1").await.expect("it reads");

        let promoted = Instant::now();
        server.query("SELECT pg_promote()").expect("promoted");
        trace.wait("pgweir.connectivity.recovered", 1).await;
        picky.get().await.expect("a session").execute("INSERT INTO t VALUES (1)", &[]).await.expect("it writes");
        assert!(promoted.elapsed() < Duration::from_secs(10));
    });
}
