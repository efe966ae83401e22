//! get + drop with more tasks than connections, on two worker threads: every acquire queues, every release hands over.
//! `cargo bench -p pgweir-benches --bench contended`

#![allow(clippy::print_stdout, reason = "a benchmark's output is its table")]
#![allow(missing_docs, reason = "a program, not a library")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pgweir_benches::{NoopManager, Table};
use pgweir_core::config::PoolConfig;
use pgweir_core::driver::PoolBuilder;
use pgweir_core::runtime::Runtime;
use pgweir_tokio::TokioRuntime;

const ROUNDS: usize = 61;
const CYCLES: u32 = 40_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        compare("64 tasks, 8 connections, 2 threads", 64, 8).await;
        compare("1,000 tasks, 4 connections, 2 threads", 1_000, 4).await;
    });
}

async fn compare(title: &'static str, tasks: u32, connections: u32) {
    let config = PoolConfig::builder().min_size(connections).max_size(connections).build();
    let config = config.expect("a valid configuration");
    let ours = PoolBuilder::new(TokioRuntime::current(), NoopManager, config).open().await;
    let ours = ours.expect("a pool of nothing opens");
    let size = connections as usize;
    let deadpool = deadpool::managed::Pool::<NoopManager>::builder(NoopManager).max_size(size).build().expect("builds");
    let seconds = Some(Duration::from_secs(30));
    let timed = deadpool::managed::Pool::<NoopManager>::builder(NoopManager)
        .max_size(size)
        .runtime(deadpool::Runtime::Tokio1)
        .timeouts(deadpool::managed::Timeouts { wait: seconds, create: seconds, recycle: seconds })
        .build()
        .expect("builds");
    let bb8 = bb8::Pool::builder().max_size(connections).build(NoopManager).await.expect("builds");

    let mut table = Table::new(title, "ns per cycle");
    for _ in 0..ROUNDS {
        let pool = ours.clone();
        let figure = run(tasks, move || {
            let pool = pool.clone();
            async move {
                let lease = pool.get().await.expect("granted");
                hold().await;
                drop(lease);
            }
        });
        table.record("pgweir", figure.await);
        for (name, pool) in [("deadpool", &deadpool), ("deadpool with timeouts", &timed)] {
            let pool = pool.clone();
            let figure = run(tasks, move || {
                let pool = pool.clone();
                async move {
                    let object = pool.get().await.expect("granted");
                    hold().await;
                    drop(object);
                }
            });
            table.record(name, figure.await);
        }
        let pool = bb8.clone();
        let figure = run(tasks, move || {
            let pool = pool.clone();
            async move {
                let connection = pool.get().await.expect("granted");
                hold().await;
                drop(connection);
            }
        });
        table.record("bb8", figure.await);
    }
    println!("{}", table.render());
    println!("pgweir: {:.2} million cycles a second\n", 1e3 / table.median("pgweir"));
    ours.close().await;
}

/// What a query does to a task: it lets others run while the connection is lent.
async fn hold() {
    tokio::task::yield_now().await;
}

/// Wall nanoseconds per cycle.
async fn run<F, Fut>(tasks: u32, once: F) -> f64
where
    F: Fn() -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let left = Arc::new(AtomicU32::new(CYCLES));
    let start = Instant::now();
    let tasks: Vec<_> = (0..tasks)
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
    start.elapsed().as_nanos() as f64 / f64::from(CYCLES)
}
