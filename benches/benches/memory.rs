//! What a queued acquire and an open pool of PostgreSQL connections weigh. Fails where a limit is passed.
//! `cargo bench -p pgweir-benches --bench memory`

#![allow(clippy::print_stdout, reason = "a benchmark's output is its table")]
#![allow(missing_docs, reason = "a program, not a library")]

use std::pin::Pin;
use std::task::{Context, Waker};

use pgweir_benches::NoopManager;
use pgweir_core::config::{Config, PoolConfig};
use pgweir_core::driver::PoolBuilder;
use pgweir_core::runtime::Runtime;
use pgweir_tests::LocalPostgres;
use pgweir_tokio::TokioRuntime;

const WAITERS: u32 = 10_000;
const BYTES_PER_WAITER: f64 = 300.0;
const CONNECTIONS: u32 = 10;
const POOL_BYTES: i64 = 10 << 20;

fn main() {
    let server = LocalPostgres::start().expect("a PostgreSQL server");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        pool_of_postgres(&server.url()).await;
        queued_waiters().await;
    });
}

/// Future, queue entry and cell of acquires that wait, by the allocator's count: with the slack of growing tables.
async fn queued_waiters() {
    let config = PoolConfig::builder().min_size(1).max_size(1).max_waiting(WAITERS).build();
    let config = config.expect("a valid configuration");
    let pool = PoolBuilder::new(TokioRuntime::current(), NoopManager, config).open().await;
    let pool = pool.expect("a pool of nothing opens");
    let lease = pool.get().await.expect("granted");
    let mut queue = Vec::with_capacity(WAITERS as usize);
    let mut cx = Context::from_waker(Waker::noop());
    let counted = allocation_counter::measure(|| {
        for _ in 0..WAITERS {
            let mut acquire = Box::pin(pool.get());
            assert!(Future::poll(Pin::new(&mut acquire), &mut cx).is_pending(), "the only connection is lent");
            queue.push(acquire);
        }
    });
    assert_eq!(pool.status().waiting, WAITERS);
    let (held, future) = (counted.bytes_current as f64 / f64::from(WAITERS), size_of_val(&*queue[0]));
    println!("a queued acquire, {WAITERS} of them: {held:.0} bytes each, {future} of them its future");
    assert!(held < BYTES_PER_WAITER, "a queued acquire takes {held} bytes, over the limit of {BYTES_PER_WAITER}");
    drop(lease);
}

/// Resident memory of ten connections that have each answered a query, over the process without them.
async fn pool_of_postgres(url: &str) {
    let before = resident();
    let config = Config::builder().database_url(url).min_size(CONNECTIONS).max_size(CONNECTIONS);
    let config = config.build().expect("a valid configuration");
    let pool = pgweir_tokio::Pool::builder(config).open().await.expect("a pool");
    let mut leases = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut lease = pool.get().await.expect("granted");
        let row = lease.query_one("SELECT 1", &[]).await.expect("answered");
        assert_eq!(row.get::<_, i32>(0), 1);
        leases.push(lease);
    }
    let grown = resident() - before;
    println!("a pool of {CONNECTIONS} PostgreSQL connections: {:.2} MB resident", grown as f64 / f64::from(1 << 20));
    assert!(grown < POOL_BYTES, "a pool of {CONNECTIONS} takes {grown} bytes, over the limit of {POOL_BYTES}");
    drop(leases);
    pool.close().await;
}

/// Resident memory of this process, in bytes (proc(5), statm: the second figure, in pages).
fn resident() -> i64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("a Linux");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<i64>().ok()).expect("a number of pages");
    pages * rustix::param::page_size() as i64
}
