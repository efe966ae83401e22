//! Servers that refuse: full ones, and those that do not know us.

use std::time::{Duration, Instant};

use pgweir_core::client::Login;
use pgweir_core::pool::FaultClass;
use pgweir_core::pool::Status;
use pgweir_tests::{Auth, LocalPostgres, Proxy};

use super::outage::{hurried, ms, unavailable};
use crate::suite::common::{config, open, open_lazy, run, server, unique, wait_for_backends};
use crate::suite::rt::{self, AcquireError, OpenError, Pool};

const FAILED: &str = "pgweir.connection.failed";

/// `callers` tasks, each with `rounds` leases that are held for a moment; all must succeed.
async fn work(pool: &Pool, callers: usize, rounds: usize) {
    let mut tasks = Vec::new();
    for _ in 0..callers {
        let pool = pool.clone();
        tasks.push(rt::spawn(async move {
            for _ in 0..rounds {
                let mut lease = pool.get().await.expect("a connection, sooner or later");
                lease.batch_execute("SELECT pg_sleep(0.02)").await.expect("it works");
            }
        }));
    }
    rt::join_all(tasks).await;
}

/// PEERS 38, R-3.4: the role may have 3 connections, max_size is 10. Ten callers share the three, health says degraded
/// and why, the server is asked for more at the slow rate only, and the pool grows when the limit is lifted.
#[test]
fn a_role_limit_makes_callers_wait_not_fail() {
    run(async |trace| {
        let role = unique("limited").replace('-', "_");
        let admin = server();
        admin.query(&format!("CREATE ROLE {role} LOGIN CONNECTION LIMIT 3")).expect("a role");
        let url = admin.url_with(&role, "", "postgres");
        let pool = open(config(&url, &role).min_size(2).max_size(10).backoff_max(ms(1_200))).await;
        let began = Instant::now();
        let slow_rate = |since: Instant| since.elapsed().as_millis() as usize / 1_050 + 1;
        work(&pool, 10, 5).await;
        assert_eq!(pool.stats().peak_active_connections, 3);
        let health = pool.health();
        assert_eq!(health.status, Status::Degraded, "{health:?}");
        assert!(health.reasons.iter().any(|reason| reason.contains("only 3 of 10")), "{health:?}");
        for failed in trace.named(FAILED) {
            assert_eq!(failed.field("sqlstate"), "53300", "{failed}");
            assert_eq!(failed.field("class"), "capacity", "{failed}");
        }
        // The first burst, of max_connecting, finds the limit; after that one attempt per backoff_max.
        let refused = trace.count(FAILED);
        assert!(refused <= 4 + slow_rate(began), "{refused} refusals in {:?}\n{}", began.elapsed(), trace.tail(60));
        assert_eq!(trace.count("pgweir.connectivity.lost"), 0);
        let began = Instant::now();
        work(&pool, 10, 20).await;
        let more = trace.count(FAILED) - refused;
        assert!(more <= slow_rate(began), "{more} attempts in {:?}", began.elapsed());

        admin.query(&format!("ALTER ROLE {role} CONNECTION LIMIT 8")).expect("altered");
        let grown = async {
            while pool.stats().peak_active_connections < 8 {
                work(&pool, 10, 3).await;
            }
        };
        rt::timeout(Duration::from_secs(20), grown).await.expect("it grows when it may");
    });
}

/// PEERS 32: as many connections as the server has, each used once: a slot is given away only when the server has
/// closed its end, so the server never has one too many.
#[test]
fn max_connections_is_never_exceeded() {
    run(async |trace| {
        // Three of them are kept for the superuser, and one is our own session, which stays.
        let server = LocalPostgres::builder().max_connections(8).start().expect("a server");
        let mut admin = server.client().expect("a session");
        admin.query("CREATE ROLE app LOGIN").expect("a role");
        let url = server.url_with("app", "", "postgres");
        let pool = open(config(&url, "tight").min_size(4).max_size(4).max_queries(1)).await;
        work(&pool, 12, 20).await;
        let closed = pool.stats().closed;
        assert!(closed.iter().any(|by| by.count >= 230), "each connection served once: {closed:?}");
        let failed = trace.named(FAILED);
        assert!(failed.is_empty(), "{failed:?}\n{}", server.log_tail());
        assert!(!server.log().contains("remaining connection slots"), "{}", server.log_tail());
    });
}

/// PEERS 9: the first connect fails and the database is back a moment later. The waiter gets the next attempt's
/// connection, long before its own timeout.
#[test]
fn a_failed_connect_wakes_its_waiter_at_the_next_success() {
    run(async |trace| {
        let proxy = Proxy::start(server().address()).expect("a proxy");
        proxy.refuse();
        let name = unique("wakes");
        let patient = config(&server().url_via(proxy.port()), &name).min_size(0).max_size(2);
        let pool = open_lazy(patient.outage_grace(Duration::from_secs(20)));
        let asked = Instant::now();
        let waiter = rt::spawn({
            let pool = pool.clone();
            async move { pool.get_timeout(Duration::from_secs(20)).await.map(drop) }
        });
        trace.wait(FAILED, 1).await;
        proxy.listen().expect("it listens");
        waiter.await.expect("no panic").expect("a connection");
        assert!(asked.elapsed() < ms(1_500), "demand probes after a second: {:?}", asked.elapsed());
    });
}

/// PEERS 27: the password is changed under a running pool and the sessions are ended. Callers are told at once, with
/// the server's code, and the server sees next to no logins, however many callers come. (R-7.4: then the provider has
/// the new password, and the pool recovers.)
#[test]
fn a_bad_password_is_not_hammered() {
    run(async |trace| {
        let server = LocalPostgres::builder().auth(Auth::ScramSha256).start().expect("a server");
        server.query("CREATE ROLE app LOGIN PASSWORD 'first-one'").expect("a role");
        let password = std::sync::Arc::new(std::sync::Mutex::new("first-one"));
        let current = std::sync::Arc::clone(&password);
        let url = server.url_with("app", "", "postgres");
        let built = config(&url, "password").min_size(2).backoff_max(Duration::from_secs(3)).build().expect("valid");
        let pool = Pool::builder(built).postgres(move |postgres| {
            postgres.with_credentials(move || {
                let password = *current.lock().expect("not poisoned");
                async move { Ok(Login::password(password)) }
            })
        });
        let pool = pool.open().await.expect("the pool opens");

        let logins = || server.log().matches("password authentication failed for user \"app\"").count();
        // Not in one go, which would be one transaction: the sessions would end before the change counts.
        server.query("ALTER ROLE app PASSWORD 'second-one'").expect("altered");
        server.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'").expect("ended");
        trace.wait("pgweir.connectivity.lost", 1).await;
        let began = Instant::now();
        let mut told = 0;
        while began.elapsed() < Duration::from_secs(2) {
            let asked = Instant::now();
            let report = unavailable(pool.get().await);
            assert!(asked.elapsed() < ms(250), "a permanent fault is told at once, not after {:?}", asked.elapsed());
            assert_eq!(report.cause.class, FaultClass::Permanent, "{report}");
            assert_eq!(report.cause.sqlstate.map(|code| code.code().to_owned()).as_deref(), Some("28P01"));
            assert!(!AcquireError::Unavailable(Box::new(report)).is_transient());
            told += 1;
            rt::sleep(ms(5)).await;
        }
        assert!(told > 20, "{told} callers");
        assert!(logins() <= 2, "{} logins for {told} callers", logins());

        *password.lock().expect("not poisoned") = "second-one";
        trace.wait("pgweir.connectivity.recovered", 1).await;
        pool.get().await.expect("a connection").batch_execute("SELECT 1").await.expect("it works");
    });
}

/// PEERS 27, R-1.2: a pool with a bad password does not open, and says so at once; likewise one without its database.
#[test]
fn a_permanent_fault_ends_opening_at_once() {
    run(async |_trace| {
        let server = LocalPostgres::builder().auth(Auth::ScramSha256).start().expect("a server");
        let wrong = [
            (server.url_with("postgres", "not-this-one", "postgres"), "28P01"),
            (server.url_with("postgres", server.password(), "nowhere"), "3D000"),
        ];
        for (url, sqlstate) in wrong {
            let built = config(&url, "permanent").build().expect("valid");
            let began = Instant::now();
            let error = Pool::builder(built).open().await.expect_err("refused");
            assert!(began.elapsed() < ms(900), "{:?}", began.elapsed());
            let OpenError::Init { attempts } = &error else { panic!("{error}") };
            assert_eq!(attempts.len(), 1, "{error}");
            assert_eq!(attempts[0].sqlstate.map(|code| code.code().to_owned()).as_deref(), Some(sqlstate), "{error}");
        }
        let logins = server.log().matches("password authentication failed").count();
        assert!(logins <= 2, "min_size connects at once, no retry: {logins}");
        wait_for_backends(&server, "permanent", 0).await;
    });
}

/// a server that is down: opening fails after init_attempts with each attempt's error, and leaves nothing open.
#[test]
fn opening_fails_after_its_attempts() {
    run(async |_trace| {
        let proxy = Proxy::start(server().address()).expect("a proxy");
        proxy.refuse();
        let built = hurried(config(&server().url_via(proxy.port()), "down")).build().expect("valid");
        let began = Instant::now();
        let error = Pool::builder(built).open().await.expect_err("refused");
        let OpenError::Init { attempts } = &error else { panic!("{error}") };
        assert_eq!(attempts.len(), 3, "{error}");
        assert!(attempts.iter().all(|fault| fault.message.contains("refused")), "{error}");
        let took = began.elapsed();
        assert!(took >= ms(265) && took < ms(1_500), "100 and 200 ms apart: {took:?}");
    });
}
