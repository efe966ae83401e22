//! About runtimes whose threads are the process's own, smol and async-std: they have no end, so a pool outlives the
//! `block_on` that opened it. (What happens on a runtime that ends is in `tokio/ending.rs`.)

use std::time::Duration;

use crate::block_on;
use crate::suite::common::{config, open, server, unique, until};
use crate::suite::rt;

/// A pool and a lease from one `block_on` work in the next one and on another thread's; what nobody waits for goes on in
/// between.
#[test]
fn a_pool_outlives_the_block_on_that_opened_it() {
    let name = unique("outlives");
    let (pool, mut lease) = block_on(async {
        let pool = open(config(&server().url(), &name).min_size(1).max_size(2)).await;
        let lease = pool.get().await.expect("a connection");
        (pool, lease)
    });
    // The pool notices a death while nobody is in the runtime.
    let pid = lease.backend_pid();
    drop(lease);
    server().kill_backend(pid as u32, pgweir_tests::Signal::TERM).expect("terminated");
    pgweir_tests::eventually("it is replaced", Duration::from_secs(20), || {
        let status = pool.status();
        status.idle == 1 && status.total == 1 && pool.stats().opened == 2
    });
    lease = block_on(async { pool.get().await.expect("a connection") });
    let elsewhere = std::thread::spawn(move || {
        block_on(async {
            lease.query_one("SELECT 1", &[]).await.expect("an answer");
            drop(lease);
        });
    });
    elsewhere.join().expect("no panic");
    block_on(async {
        until("it is back", || pool.status().idle == pool.status().total).await;
        let closed = rt::timeout(Duration::from_secs(20), pool.close()).await.expect("it closes");
        assert_eq!(closed.forced, 0);
    });
    server().wait_for_backends(&name, 0);
}
