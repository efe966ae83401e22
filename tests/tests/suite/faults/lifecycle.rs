//! Where pools and leases end: shutdowns and dropped handles (R-5, PEERS 18, 22, 36, 43, 44).

use std::thread;
use std::time::{Duration, Instant};

use pgweir_tests::LocalPostgres;

use super::outage::{hurried, ms};
use crate::suite::common::{
    backends, config, in_this_binary, open, open_lazy, run, server, unique, until, wait_for_backends,
};
use crate::suite::rt::{self, AcquireError, Pool};

/// PEERS 22: a lease is dropped on a thread that knows of no runtime, clean and in the middle of a query; the
/// connection comes back all the same.
#[test]
fn a_lease_may_end_on_a_thread_without_a_runtime() {
    run(async |_trace| {
        let name = unique("bare");
        let pool = open(config(&server().url(), &name).min_size(2).max_size(2)).await;
        let clean = pool.get().await.expect("a connection");
        let mut dirty = pool.get().await.expect("a connection");
        rt::timeout(ms(50), dirty.batch_execute("SELECT pg_sleep(60)")).await.expect_err("dropped half-way");
        let mut pids = vec![clean.backend_pid(), dirty.backend_pid()];
        thread::spawn(move || {
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
            wait_for_backends(server(), &name, 1).await;
            drop(lease);
            wait_for_backends(server(), &name, 0).await;
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
        wait_for_backends(server(), &name, 0).await;
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
        rt::timeout(ms(50), pool.close()).await.expect_err("it waits for the lease");
        assert!(matches!(pool.get().await, Err(AcquireError::Closed)));
        let second = rt::spawn({
            let pool = pool.clone();
            async move { pool.close().await }
        });
        let third = rt::spawn({
            let pool = pool.clone();
            async move { pool.close_timeout(Duration::from_secs(20)).await }
        });
        until("the idle one is gone", || backends(server(), &name).len() == 1).await;
        assert!(!second.is_finished() && !third.is_finished(), "the lease is still out");
        drop(held);
        let (second, third) = (second.await.expect("no panic"), third.await.expect("no panic"));
        assert_eq!(second, third);
        assert_eq!((second.finished, second.forced), (1, 0));
        wait_for_backends(server(), &name, 0).await;
    });
}

/// PEERS 43: five outages later the pool has the one task that it had, and no more.
#[test]
fn tasks_do_not_multiply() {
    run(async |trace| {
        let proxy = pgweir_tests::Proxy::start(server().address()).expect("a proxy");
        let name = unique("tasks");
        let before = trace.tasks();
        let pool = open(hurried(config(&server().url_via(proxy.port()), &name).min_size(3))).await;
        assert_eq!(trace.tasks(), before + 1);
        for round in 1..=5 {
            proxy.refuse();
            proxy.reset_all();
            trace.wait("pgweir.connectivity.lost", round).await;
            proxy.listen().expect("it listens");
            trace.wait("pgweir.connectivity.recovered", round).await;
            assert_eq!(trace.tasks(), before + 1, "after outage {round}");
        }
        pool.close().await;
        until("its task is gone", || trace.tasks() == before).await;
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
        wait_for_backends(server(), &b, 4).await;
        other.crash().expect("it crashes");
        let _held = [second.get().await.expect("a connection"), second.get().await.expect("a connection")];
        twin.get().await.expect("a connection").batch_execute("SELECT 1").await.expect("it works");
        assert!(matches!(first.get().await, Err(AcquireError::Unavailable(_))));
        twin.close().await;
        wait_for_backends(server(), &b, 2).await;
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
            rt::sleep(Duration::from_micros(round * 700)).await;
            let (a, b) = rt::join(pool.close(), pool.close()).await;
            assert_eq!(a, b);
            assert_eq!(pool.status().total, 0);
        }
        wait_for_backends(server(), &name, 0).await;
    });
}

/// a pool's life through a crash, with nobody who listens to its events, leaves nothing on stdout or stderr. A
/// process of its own shows it: this binary with one of its tests.
#[test]
fn the_library_prints_nothing() {
    let exe = std::env::current_exe().expect("this binary");
    let mut child = std::process::Command::new(exe);
    child.args([
        "--exact",
        &in_this_binary(module_path!(), "an_outage_with_no_listener"),
        "--nocapture",
        "--test-threads",
        "1",
    ]);
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
    crate::block_on(async {
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
