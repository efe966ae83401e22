//! 100 tasks over 10 connections, prepared `SELECT 1`: client CPU per query, pgweir beside its peers in one run.
//! `cargo bench -p pgweir-benches --bench query`

#![allow(clippy::print_stdout, reason = "a benchmark's output is its table")]
#![allow(missing_docs, reason = "a program, not a library")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use pgweir_benches::{Table, process_cpu};
use pgweir_core::config::Config;
use pgweir_tests::LocalPostgres;

const ROUNDS: usize = 7;
const TASKS: usize = 100;
const QUERIES: u32 = 30_000;

fn main() {
    let server = LocalPostgres::start().expect("a PostgreSQL server");
    for (name, mut builder) in [
        ("multi-thread, 2 workers", tokio::runtime::Builder::new_multi_thread()),
        ("current-thread", tokio::runtime::Builder::new_current_thread()),
    ] {
        let runtime = builder.worker_threads(2).enable_all().build().expect("a runtime");
        runtime.block_on(compare(name, &server.url()));
    }
}

async fn compare(name: &str, url: &str) {
    let config = Config::builder().database_url(url).min_size(10).build().expect("a valid configuration");
    let ours = pgweir_tokio::Pool::builder(config).open().await.expect("a pool");
    let mut deadpool = deadpool_postgres::Config::new();
    deadpool.url = Some(url.to_owned());
    deadpool.pool = Some(deadpool_postgres::PoolConfig::new(10));
    let deadpool =
        deadpool.create_pool(Some(deadpool_postgres::Runtime::Tokio1), tokio_postgres::NoTls).expect("a pool");

    // `-- profile`: only pgweir, for a profiler to look at.
    let profile = std::env::args().any(|argument| argument == "profile");
    let mut cpu = Table::new("client CPU per query", "µs");
    let mut wall = Table::new("wall time per query", "µs");
    for round in 0..=ROUNDS {
        let pool = ours.clone();
        let pgweir = run(move || {
            let pool = pool.clone();
            async move {
                let mut client = pool.get().await.expect("granted");
                let row = client.query_one("SELECT 1", &[]).await.expect("answered");
                assert_eq!(row.get::<_, i32>(0), 1);
            }
        })
        .await;
        if profile {
            println!("{name}: {:.2} µs", pgweir.0);
            continue;
        }
        let pool = deadpool.clone();
        let peer = run(move || {
            let pool = pool.clone();
            async move {
                let client = pool.get().await.expect("granted");
                let statement = client.prepare_cached("SELECT 1").await.expect("prepared");
                let row = client.query_one(&statement, &[]).await.expect("answered");
                assert_eq!(row.get::<_, i32>(0), 1);
            }
        })
        .await;
        // The first round warms up: connections, statement caches.
        if round > 0 {
            for (name, (c, w)) in [("pgweir", pgweir), ("deadpool-postgres", peer)] {
                cpu.record(name, c);
                wall.record(name, w);
            }
        }
    }
    if profile {
        return;
    }
    println!("--- {name}: {TASKS} tasks, 10 connections, TCP\n{}{}", cpu.render(), wall.render());
    ours.close().await;
}

/// CPU and wall microseconds per query.
async fn run<F, Fut>(once: F) -> (f64, f64)
where
    F: Fn() -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let left = Arc::new(AtomicU32::new(QUERIES));
    let (cpu, wall) = (process_cpu(), Instant::now());
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let (once, left) = (once.clone(), left.clone());
            tokio::spawn(async move {
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                    once().await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no task panics");
    }
    let per_query = |time: std::time::Duration| time.as_secs_f64() * 1e6 / f64::from(QUERIES);
    (per_query(process_cpu() - cpu), per_query(wall.elapsed()))
}
