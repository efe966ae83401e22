//! Where pools and leases end: shutdowns, dropped handles, runtimes that go first (R-5, PEERS 18, 22, 36, 43, 44).

use std::future::Future;
use std::thread;
use std::time::{Duration, Instant};

use pgweir_tests::LocalPostgres;
use pgweir_tokio::{AcquireError, Pool};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::common::{backends, config, open, open_lazy, run, server, unique, until};
use crate::outage::{hurried, ms};

/// A runtime that a test can end before the pool on it.
fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

/// Waits on the calling thread, on another runtime than the pool's, for at most ten seconds.
fn wait_here<F: Future>(future: F) -> F::Output {
    let here = Builder::new_current_thread().enable_all().build().expect("a runtime");
    here.block_on(async {
        let Ok(output) = tokio::time::timeout(Duration::from_secs(10), future).await else { panic!("it hangs") };
        output
    })
}

/// PEERS 22: a lease is dropped on a thread that knows of no runtime, clean and in the middle of a query; the
/// connection comes back all the same.
#[test]
fn a_lease_may_end_on_a_thread_without_a_runtime() {
    run(async |_trace| {
        let name = unique("bare");
        let pool = open(config(&server().url(), &name).min_size(2).max_size(2)).await;
        let clean = pool.get().await.expect("a connection");
        let mut dirty = pool.get().await.expect("a connection");
        tokio::time::timeout(ms(50), dirty.batch_execute("SELECT pg_sleep(60)")).await.expect_err("dropped half-way");
        let mut pids = vec![clean.backend_pid(), dirty.backend_pid()];
        thread::spawn(move || {
            assert!(Handle::try_current().is_err());
            drop(clean);
            drop(dirty);
        })
        .join()
        .expect("no panic");
        until("both are back", || pool.status().idle == 2).await;
        let (a, b) = (pool.get().await.expect("a connection"), pool.get().await.expect("a connection"));
        let mut again = vec![a.backend_pid(), b.backend_pid()];
        pids.sort_unstable();
        again.sort_unstable();
        assert_eq!(again, pids, "cleaned and reused");
    });
}

/// PEERS 22: the runtime has gone before the lease, the acquire and the pool. Nothing panics, nothing hangs: acquires
/// are answered Closed, close() returns, and the server sees the sessions end.
#[test]
fn a_runtime_that_goes_first_ends_its_pools() {
    let name = unique("gone");
    let gone = runtime();
    let pool = gone.block_on(open(config(&server().url(), &name).min_size(2).max_size(2)));
    let lease = gone.block_on(async { pool.get().await.expect("a connection") });
    let second = gone.block_on(async { pool.get().await.expect("a connection") });
    // One that is queued when it happens.
    let queued = thread::spawn({
        let pool = pool.clone();
        move || wait_here(pool.get_timeout(Duration::from_secs(60))).map(drop)
    });
    while pool.status().waiting == 0 {
        thread::yield_now();
    }
    gone.shutdown_timeout(Duration::from_secs(5));
    let error = queued.join().expect("no panic").expect_err("nobody can serve it");
    assert!(matches!(error, AcquireError::Closed), "{error}");
    let error = wait_here(pool.get()).expect_err("the pool has ended");
    assert!(matches!(error, AcquireError::Closed), "{error}");
    assert!(matches!(pool.try_get(), Err(AcquireError::Closed)));
    drop(lease);
    wait_here(pool.close());
    drop(second);
    assert_eq!(pool.status().total, 0);
    assert!(pool.is_closed());
    drop(pool);
    server().wait_for_backends(&name, 0);
}

/// PEERS 22: the same with everything idle, and with a connect under way.
#[test]
fn a_runtime_may_go_while_its_pool_is_idle_or_connecting() {
    let name = unique("idle-gone");
    let gone = runtime();
    let idle = gone.block_on(open(config(&server().url(), &name).min_size(3)));
    let silent = pgweir_tests::ScriptedServer::start(pgweir_tests::Script::never_answer()).expect("a server");
    let connecting = gone.block_on(async { open_lazy(config(&silent.url(), &name)) });
    while silent.accepted().is_empty() {
        thread::yield_now();
    }
    drop(gone);
    server().wait_for_backends(&name, 0);
    for pool in [idle, connecting] {
        let error = wait_here(pool.get()).expect_err("the pool has ended");
        assert!(matches!(error, AcquireError::Closed), "{error}");
        let report = wait_here(pool.close());
        assert_eq!(report.forced, 0);
    }
    pgweir_tests::eventually("the connect is given up", Duration::from_secs(10), || silent.open() == 0);
}

/// the last handle is dropped, in a runtime or on a bare thread: the server sees every session end, those of
/// leases after them.
#[test]
fn a_dropped_pool_leaves_no_backend() {
    run(async |_trace| {
        for bare in [false, true] {
            let name = unique("handle");
            let pool = open(config(&server().url(), &name).min_size(3)).await;
            let lease = pool.get().await.expect("a connection");
            let clone = pool.clone();
            drop(pool);
            assert_eq!(clone.status().total, 3, "another handle keeps it");
            match bare {
                true => thread::spawn(move || drop(clone)).join().expect("no panic"),
                false => drop(clone),
            }
            server().wait_for_backends(&name, 1);
            drop(lease);
            server().wait_for_backends(&name, 0);
        }
    });
}

/// PEERS 36, 18: a lease that is never given back does not keep a shutdown beyond its deadline and a second; it is cut
/// off, and close() returns only when the server has no session left.
#[test]
fn a_shutdown_deadline_is_enforced() {
    run(async |trace| {
        let name = unique("held");
        let pool = open(config(&server().url(), &name).min_size(3)).await;
        let mut held = pool.get().await.expect("a connection");
        let began = Instant::now();
        let report = pool.close_timeout(ms(400)).await;
        let took = began.elapsed();
        assert!(took >= ms(400) && took < ms(1_400), "{took:?}");
        assert_eq!((report.forced, report.finished), (1, 0), "{report:?}");
        assert_eq!(pool.status().total, 0);
        assert_eq!(trace.count("pgweir.shutdown.forced"), 1);
        let forced = trace.named("pgweir.shutdown.forced").remove(0);
        assert!(forced.field("location").contains("lifecycle.rs"), "{forced}");
        held.batch_execute("SELECT 1").await.expect_err("cut off");
        server().wait_for_backends(&name, 0);
        assert!(matches!(pool.get().await, Err(AcquireError::Closed)));
    });
}

/// PEERS 44: the task that shuts down is cancelled. The shutdown goes on; a second call waits for the lease like the
/// first one would have, and both learn the same.
#[test]
fn a_cancelled_shutdown_goes_on() {
    run(async |_trace| {
        let name = unique("cancelled");
        let pool = open(config(&server().url(), &name).min_size(2)).await;
        let held = pool.get().await.expect("a connection");
        tokio::time::timeout(ms(50), pool.close()).await.expect_err("it waits for the lease");
        assert!(matches!(pool.get().await, Err(AcquireError::Closed)));
        let second = tokio::spawn({
            let pool = pool.clone();
            async move { pool.close().await }
        });
        let third = tokio::spawn({
            let pool = pool.clone();
            async move { pool.close_timeout(Duration::from_secs(20)).await }
        });
        until("the idle one is gone", || backends(server(), &name).len() == 1).await;
        assert!(!second.is_finished() && !third.is_finished(), "the lease is still out");
        drop(held);
        let (second, third) = (second.await.expect("no panic"), third.await.expect("no panic"));
        assert_eq!(second, third);
        assert_eq!((second.finished, second.forced), (1, 0));
        server().wait_for_backends(&name, 0);
    });
}

/// PEERS 43: five outages later the pool has the one task that it had, and no more.
#[test]
fn tasks_do_not_multiply() {
    run(async |trace| {
        let proxy = pgweir_tests::Proxy::start(server().address()).expect("a proxy");
        let name = unique("tasks");
        let before = Handle::current().metrics().num_alive_tasks();
        let pool = open(hurried(config(&server().url_via(proxy.port()), &name).min_size(3))).await;
        assert_eq!(Handle::current().metrics().num_alive_tasks(), before + 1);
        for round in 1..=5 {
            proxy.refuse();
            proxy.reset_all();
            trace.wait("pgweir.connectivity.lost", round).await;
            proxy.listen().expect("it listens");
            trace.wait("pgweir.connectivity.recovered", round).await;
            assert_eq!(Handle::current().metrics().num_alive_tasks(), before + 1, "after outage {round}");
        }
        pool.close().await;
        until("its task is gone", || Handle::current().metrics().num_alive_tasks() == before).await;
    });
}

/// Two pools of one configuration in one process are two pools: one's outage, limit and end are not the other's.
#[test]
fn two_pools_keep_out_of_each_others_way() {
    run(async |_trace| {
        let other = LocalPostgres::start().expect("a server");
        let (a, b) = (unique("one"), unique("two"));
        let first = open(hurried(config(&other.url(), &a).min_size(2).max_size(2))).await;
        let second = open(config(&server().url(), &b).min_size(2).max_size(2)).await;
        let twin = open(config(&server().url(), &b).min_size(2).max_size(2)).await;
        server().wait_for_backends(&b, 4);
        other.crash().expect("it crashes");
        let _held = [second.get().await.expect("a connection"), second.get().await.expect("a connection")];
        twin.get().await.expect("a connection").batch_execute("SELECT 1").await.expect("it works");
        assert!(matches!(first.get().await, Err(AcquireError::Unavailable(_))));
        twin.close().await;
        server().wait_for_backends(&b, 2);
        assert!(!second.is_closed() && second.status().active == 2);
        other.start_again().expect("it starts");
        until("the first is back", || first.try_get().is_ok()).await;
    });
}

/// closed right after it was opened, while it is still opening, and twice at once: never a backend left.
#[test]
fn rapid_shutdowns_leave_nothing() {
    run(async |_trace| {
        let name = unique("rapid");
        for round in 0..10_u64 {
            let pool: Pool = open_lazy(config(&server().url(), &name).min_size(4));
            tokio::time::sleep(Duration::from_micros(round * 700)).await;
            let (a, b) = tokio::join!(pool.close(), pool.close());
            assert_eq!(a, b);
            assert_eq!(pool.status().total, 0);
        }
        server().wait_for_backends(&name, 0);
    });
}

/// a pool's life through a crash, with nobody who listens to its events, leaves nothing on stdout or stderr. A
/// process of its own shows it: this binary with one of its tests.
#[test]
fn the_library_prints_nothing() {
    let exe = std::env::current_exe().expect("this binary");
    let mut child = std::process::Command::new(exe);
    child.args(["--exact", "lifecycle::an_outage_with_no_listener", "--nocapture", "--test-threads", "1"]);
    let output = child.output().expect("it runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    assert_eq!(err, "");
    let harness = |line: &&str| line.is_empty() || line.starts_with("running ") || line.starts_with("test ");
    let strange: Vec<&str> = out.lines().filter(|line| !harness(line)).collect();
    assert!(strange.is_empty(), "{strange:?}");
    assert!(out.contains("1 passed"), "{out}");
}

/// the life that [`the_library_prints_nothing`] looks at.
#[test]
fn an_outage_with_no_listener() {
    let server = LocalPostgres::start().expect("a server");
    let deaf = runtime();
    deaf.block_on(async {
        let quick = hurried(config(&server.url(), "deaf").min_size(2).max_size(2)).leak_detection_timeout(ms(50));
        let pool = open(quick).await;
        let _held = pool.get().await.expect("a connection");
        let mut lease = pool.get().await.expect("a connection");
        pool.get_timeout(ms(100)).await.expect_err("both are out");
        server.crash().expect("it crashes");
        lease.batch_execute("SELECT 1").await.expect_err("crashed");
        drop(lease);
        pool.get().await.expect_err("down");
        server.start_again().expect("it starts");
        until("it is back", || pool.try_get().is_ok()).await;
        assert_eq!(pool.close_timeout(ms(100)).await.forced, 1);
    });
}
