//! About tokio, because its runtimes can end while the process goes on: those of smol and async-std are the process's
//! own and have no end.

use std::future::Future;
use std::thread;
use std::time::Duration;

use crate::suite::common::{config, open, open_lazy, server, unique, until};
use crate::suite::rt::{self, AcquireError};

/// Waits on the calling thread, on another runtime than the pool's, for at most ten seconds.
fn wait_here<F: Future>(future: F) -> F::Output {
    let here = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    here.block_on(async {
        let Ok(output) = rt::timeout(Duration::from_secs(10), future).await else { panic!("it hangs") };
        output
    })
}

/// PEERS 22: the runtime has gone before the lease, the acquire and the pool. Nothing panics, nothing hangs: acquires
/// are answered Closed, close() returns, and the server sees the sessions end.
#[test]
fn a_runtime_that_goes_first_ends_its_pools() {
    let name = unique("gone");
    let gone = crate::runtime();
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
    let mut lease = lease;
    wait_here(lease.query_one("SELECT 1", &[])).expect_err("its socket has gone with the runtime");
    wait_here(lease.transaction()).map(drop).expect_err("and stays so");
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
    let gone = crate::runtime();
    let idle = gone.block_on(open(config(&server().url(), &name).min_size(3)));
    let silent = pgweir_tests::ScriptedServer::start(pgweir_tests::Script::never_answer()).expect("a server");
    let connecting = gone.block_on(async {
        let pool = open_lazy(config(&silent.url(), &name));
        until("a connect is under way", || !silent.accepted().is_empty()).await;
        pool
    });
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

/// A runtime that ends under a pool takes the pool's connections with it; the handles that are left say closed, and
/// nothing hangs or panics.
#[test]
fn the_runtime_ends_first() {
    let runtime = crate::runtime();
    let (pool, lease) = runtime.block_on(async {
        let pool = open(config(&server().url(), "close-runtime")).await;
        let lease = pool.get().await.unwrap();
        (pool, lease)
    });
    runtime.shutdown_timeout(Duration::from_secs(10));
    assert!(pool.is_closed());
    assert!(matches!(pool.try_get(), Err(AcquireError::Closed)));
    drop(lease);
    assert_eq!(pool.status().total, 0);
    drop(pool);
    server().wait_for_backends("close-runtime", 0);
}
