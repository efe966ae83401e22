//! shutdown, and the edges of that belong to it.

use std::panic::Location;
use std::time::{Duration, Instant};

use pgweir_core::error::{AcquireError, OpenError};
use pgweir_core::pool::{State, Status};
use pgweir_tests::{Direction, Scope};
use tracing::Level;

use super::{backends, named, pid, proxied};
use crate::suite::common::{open, open_lazy, run, server, until, wait_for_backends};
use crate::suite::rt::{self, Pool};

/// A waiting acquire in a task of its own.
fn waiter(pool: &Pool) -> rt::Task<Result<(), AcquireError>> {
    let pool = pool.clone();
    rt::spawn(async move { pool.get().await.map(drop) })
}

/// leases finish; queued and new acquires are told at once; idle connections close in good order; a report says
/// what happened.: the server shows nothing of the pool afterwards.
#[test]
fn in_good_order() {
    run(|trace| async move {
        let pool = open(named("close").max_size(2)).await;
        let mut first = pool.get().await.unwrap();
        let second = pool.get().await.unwrap();
        let waiters = [waiter(&pool), waiter(&pool), waiter(&pool)];
        until("three wait", || pool.status().waiting == 3).await;
        let closing = rt::spawn({
            let pool = pool.clone();
            async move { pool.close().await }
        });
        for waiter in waiters {
            let error = waiter.await.unwrap().unwrap_err();
            assert!(matches!(error, AcquireError::Closed) && !error.is_transient(), "{error}");
        }
        assert!(pool.is_closed());
        assert!(matches!(pool.get().await, Err(AcquireError::Closed)));
        assert!(matches!(pool.try_get(), Err(AcquireError::Closed)));
        let health = pool.health();
        assert_eq!((health.status, health.state), (Status::Unhealthy, State::ShuttingDown));
        first.query_one("SELECT 1", &[]).await.expect("a lease may finish its work");
        drop(first);
        drop(second);
        let report = closing.await.unwrap();
        assert_eq!((report.finished, report.forced, report.rejected), (2, 0, 3));
        assert_eq!(backends("close"), 0, "when close() returns, the server has let go");
        assert_eq!(pool.health().state, State::Terminated);
        let stats = pool.stats();
        assert_eq!((stats.total, stats.total_acquisitions, stats.total_releases), (0, 2, 2));
        let done = trace.named("pgweir.shutdown.done");
        assert_eq!((done.len(), done[0].number("finished"), done[0].number("rejected")), (1, 2, 3));
        assert_eq!((trace.count("pgweir.shutdown.started"), trace.count("pgweir.shutdown.forced")), (1, 0));
        assert!(!server().log().contains("close LOG:  unexpected EOF"), "each session said goodbye");
    });
}

/// PEERS 36: the deadline is enforced with a lease that is never returned, and with one in the middle of a
/// query: both are cut off with a warning that names their lines, and the server is rid of both.
#[test]
fn the_deadline_is_enforced() {
    run(|trace| async move {
        let pool = open(named("close-deadline")).await;
        let line = Location::caller().line() + 1;
        let mut idle = pool.get().await.unwrap();
        let mut busy = pool.get().await.unwrap();
        let query = rt::spawn(async move { busy.query("SELECT pg_sleep(100)", &[]).await.map(drop) });
        let mut looker = server().client().unwrap();
        let sql =
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'close-deadline' AND state = 'active'";
        until("the query runs", || looker.query(sql).unwrap()[0].text(0) == "1").await;
        let deadline = Duration::from_millis(100);
        let started = Instant::now();
        let report = pool.close_timeout(deadline).await;
        let took = started.elapsed();
        assert!(took >= deadline && took < deadline + Duration::from_secs(1), "{took:?}");
        assert_eq!((report.finished, report.forced), (0, 2));
        assert!(report.duration >= deadline);
        let forced = trace.named("pgweir.shutdown.forced");
        assert_eq!((forced.len(), forced[0].level), (2, Level::WARN));
        let lines: Vec<String> = (line..line + 2).map(|line| format!("{}:{line}:", file!())).collect();
        let names = |line: &String| forced.iter().any(|event| event.field("location").starts_with(line));
        assert!(lines.iter().all(names) && forced[0].number("held_ms") >= 100, "{forced:?}");
        let error = query.await.unwrap().unwrap_err();
        assert!(error.is_closed(), "{error}");
        wait_for_backends(server(), "close-deadline", 0).await;
        // the lease is still in somebody's hands; using and returning it does no harm.
        assert!(idle.query_one("SELECT 1", &[]).await.unwrap_err().is_closed());
        drop(idle);
        assert_eq!((pool.status().total, pool.health().state), (0, State::Terminated));
    });
}

/// a shutdown into a network that swallows everything ends too, leases or not.
#[test]
fn into_a_black_hole() {
    run(|_| async {
        let (proxy, config) = proxied("close-hole");
        let pool = open(config.min_size(4).close_timeout(Duration::from_millis(300))).await;
        let _held = pool.get().await.unwrap();
        proxy.black_hole(Scope::All);
        let started = Instant::now();
        let report = pool.close_timeout(Duration::from_millis(200)).await;
        let took = started.elapsed();
        assert!(took < Duration::from_millis(1_200), "{took:?}");
        assert_eq!(report.forced, 1);
    });
}

/// closed from several places at once, and again when all is over: each gets the same report, at the
/// same end. A later call can bring the deadline forward.
#[test]
fn concurrently_and_again() {
    run(|trace| async move {
        let pool = open(named("close-again")).await;
        let held = pool.get().await.unwrap();
        let closers: Vec<_> = (0..5)
            .map(|_| {
                let pool = pool.clone();
                rt::spawn(async move { pool.close().await })
            })
            .collect();
        until("it closes", || pool.is_closed()).await;
        assert!(closers.iter().all(|closer| !closer.is_finished()));
        let report = pool.close_timeout(Duration::from_millis(50)).await;
        assert_eq!((report.finished, report.forced), (0, 1));
        for closer in closers {
            assert_eq!(closer.await.unwrap(), report);
        }
        drop(held);
        assert_eq!(pool.close().await, report);
        assert_eq!(trace.count("pgweir.shutdown.started") + trace.count("pgweir.shutdown.done"), 2);
        assert_eq!(backends("close-again"), 0);
    });
}

/// PEERS 44: a close whose caller is gone goes on; who calls again gets its report.
#[test]
fn a_cancelled_close_goes_on() {
    run(|trace| async move {
        let pool = open(named("close-cancelled")).await;
        let held = pool.get().await.unwrap();
        assert!(rt::timeout(Duration::from_millis(20), pool.close()).await.is_err());
        assert!(pool.is_closed());
        drop(held);
        trace.wait("pgweir.shutdown.done", 1).await;
        wait_for_backends(server(), "close-cancelled", 0).await;
        let report = pool.close().await;
        assert_eq!((report.finished, report.forced), (1, 0));
    });
}

/// closed right after it was opened, twenty times over: nothing is left, whatever was under way.
#[test]
fn right_after_open() {
    run(|_| async {
        for _ in 0..20 {
            let pool = open(named("close-rapid").min_size(3)).await;
            let report = pool.close().await;
            assert_eq!((report.finished, report.forced), (0, 0));
            assert_eq!(backends("close-rapid"), 0);
        }
    });
}

/// closed before it is ready: a connect in flight is given up, and where it succeeds on the server all
/// the same, it ends there. An opening that waits is told.
#[test]
fn before_ready() {
    run(|trace| async move {
        let (proxy, config) = proxied("close-early");
        proxy.set_delay(Direction::ToClient, Duration::from_millis(300));
        let pool = open_lazy(config.min_size(4));
        until("connects are under way", || proxy.stats().accepted.len() == 4).await;
        let waiting = waiter(&pool);
        until("one waits", || pool.status().waiting == 1).await;
        assert_eq!(pool.health().state, State::Initializing);
        let report = pool.close().await;
        assert_eq!((report.finished, report.forced, report.rejected), (0, 0, 1));
        assert!(matches!(waiting.await.unwrap(), Err(AcquireError::Closed)));
        wait_for_backends(server(), "close-early", 0).await;
        let states: Vec<String> =
            trace.named("pgweir.state.changed").iter().map(|e| e.field("to").to_owned()).collect();
        assert_eq!(states, ["shutting_down", "terminated"]);
        // At once, before anything has happened.
        let pool = open_lazy(named("close-early"));
        assert_eq!(pool.close().await.forced, 0);
        wait_for_backends(server(), "close-early", 0).await;
    });
}

/// The last handle's end is the pool's: idle connections close at once, and a lease that outlives it works until it is
/// dropped.
#[test]
fn the_last_handle() {
    run(|trace| async move {
        let pool = open(named("close-handle")).await;
        let clone = pool.clone();
        let mut lease = pool.get().await.unwrap();
        drop(pool);
        clone.get().await.unwrap().query_one("SELECT 1", &[]).await.expect("a handle is left");
        drop(clone);
        wait_for_backends(server(), "close-handle", 1).await;
        let own = pid(&mut lease).await;
        assert_eq!(crate::suite::common::backends(server(), "close-handle"), [own as u32]);
        drop(lease);
        trace.wait("pgweir.shutdown.done", 1).await;
        wait_for_backends(server(), "close-handle", 0).await;
    });
}

/// An opening whose pool fails tells each attempt, and the handle-less pool is gone.
#[test]
fn opening_that_fails_is_terminated() {
    run(|trace| async move {
        let (proxy, config) = proxied("close-failed");
        proxy.refuse();
        let config = config.init_attempts(1).build().unwrap();
        assert!(matches!(Pool::builder(config).open().await, Err(OpenError::Init { .. })));
        let states: Vec<(String, String)> = trace
            .named("pgweir.state.changed")
            .iter()
            .map(|event| (event.field("from").to_owned(), event.field("to").to_owned()))
            .collect();
        assert_eq!(states, [("initializing".to_owned(), "terminated".to_owned())], "R-8.4");
    });
}
