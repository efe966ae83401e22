//! 100 tasks over 10 connections, prepared `SELECT 1`: client CPU per query, pgweir beside its peers in one run.
//! `cargo bench -p pgweir-benches --bench query`

#![allow(clippy::print_stdout, reason = "a benchmark's output is its table")]
#![allow(missing_docs, reason = "a program, not a library")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use pgweir_benches::{Cpu, Table};
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
        // `-- current` or `-- multi`: only that one.
        let other = if name.starts_with("multi") { "current" } else { "multi" };
        if std::env::args().any(|argument| argument == other) {
            continue;
        }
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

    // `-- profile`: only pgweir, for a profiler to look at; `-- profile-peer`: only the peer.
    let asked = |what: &str| std::env::args().any(|argument| argument == what);
    let (profile, profile_peer) = (asked("profile"), asked("profile-peer"));
    let [mut cpu, mut user, mut system, mut wall] =
        ["client CPU per query", "of that, its own code", "of that, the kernel", "wall time per query"]
            .map(|title| Table::new(title, "µs"));
    let pgweir = || {
        let pool = ours.clone();
        run(move || {
            let pool = pool.clone();
            async move {
                let mut client = pool.get().await.expect("granted");
                let row = client.query_one("SELECT 1", &[]).await.expect("answered");
                assert_eq!(row.get::<_, i32>(0), 1);
            }
        })
    };
    let peer = || {
        let pool = deadpool.clone();
        run(move || {
            let pool = pool.clone();
            async move {
                let client = pool.get().await.expect("granted");
                let statement = client.prepare_cached("SELECT 1").await.expect("prepared");
                let row = client.query_one(&statement, &[]).await.expect("answered");
                assert_eq!(row.get::<_, i32>(0), 1);
            }
        })
    };
    for round in 0..=ROUNDS {
        if profile || profile_peer {
            let cost = if profile { pgweir().await } else { peer().await };
            println!("{name}: {:.2} µs, of that the kernel {:.2}", cost.cpu, cost.system);
            continue;
        }
        let (pgweir, peer) = (pgweir().await, peer().await);
        // The first round warms up: connections, statement caches.
        if round > 0 {
            for (name, cost) in [("pgweir", pgweir), ("deadpool-postgres", peer)] {
                cpu.record(name, cost.cpu);
                user.record(name, cost.user);
                system.record(name, cost.system);
                wall.record(name, cost.wall);
            }
        }
    }
    if profile || profile_peer {
        return;
    }
    let tables = [cpu, user, system, wall].map(|table| table.render()).concat();
    println!("--- {name}: {TASKS} tasks, 10 connections, TCP\n{tables}");
    ours.close().await;
}

/// Microseconds per query.
struct Cost {
    cpu: f64,
    user: f64,
    system: f64,
    wall: f64,
}

async fn run<F, Fut>(once: F) -> Cost
where
    F: Fn() -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let left = Arc::new(AtomicU32::new(QUERIES));
    let (cpu, wall) = (Cpu::now(), Instant::now());
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
    let (wall, cpu) = (wall.elapsed(), Cpu::now().since(cpu));
    Cost {
        cpu: per_query(cpu.total()),
        user: per_query(cpu.user),
        system: per_query(cpu.system),
        wall: per_query(wall),
    }
}
