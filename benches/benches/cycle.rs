//! get + drop with connections that cost nothing, uncontended, all of pgweir's deadlines and statistics on.
//! `cargo bench -p pgweir-benches --bench cycle`; with `-- profile` only pgweir runs, for a profiler to look at.

#![allow(clippy::print_stdout, reason = "a benchmark's output is its table")]
#![allow(missing_docs, reason = "a program, not a library")]

use std::time::{Duration, Instant};

use pgweir_benches::{NoopManager, Table};
use pgweir_core::config::PoolConfig;
use pgweir_core::driver::PoolBuilder;
use pgweir_core::runtime::Runtime;
use pgweir_tokio::TokioRuntime;

// Many short rounds: whatever else runs on the machine disturbs few of them.
const ROUNDS: usize = 101;
const CYCLES: u32 = 10_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let ours = PoolBuilder::new(TokioRuntime::current(), NoopManager, PoolConfig::default()).open().await;
        let ours = ours.expect("a pool of nothing opens");
        if std::env::args().any(|argument| argument == "profile") {
            let mut best = f64::MAX;
            for _ in 0..ROUNDS {
                best = best.min(cycle(async || drop(ours.get().await.expect("granted"))).await);
            }
            println!("best of {ROUNDS} rounds: {best:.1} ns");
            return;
        }
        let deadpool =
            deadpool::managed::Pool::<NoopManager>::builder(NoopManager).max_size(10).build().expect("builds");
        let seconds = Some(Duration::from_secs(30));
        let timed = deadpool::managed::Pool::<NoopManager>::builder(NoopManager)
            .max_size(10)
            .runtime(deadpool::Runtime::Tokio1)
            .timeouts(deadpool::managed::Timeouts { wait: seconds, create: seconds, recycle: seconds })
            .build()
            .expect("builds");
        let bb8 = bb8::Pool::builder().max_size(10).build(NoopManager).await.expect("builds");

        let mut table = Table::new("get + drop, uncontended", "ns");
        let mut mutex = Table::new("", "ns");
        for _ in 0..ROUNDS {
            table.record("pgweir", cycle(async || drop(ours.get().await.expect("granted"))).await);
            table.record("deadpool", cycle(async || drop(deadpool.get().await.expect("granted"))).await);
            table.record("deadpool with timeouts", cycle(async || drop(timed.get().await.expect("granted"))).await);
            table.record("bb8", cycle(async || drop(bb8.get().await.expect("granted"))).await);
            let floor = std::sync::Mutex::new(std::collections::VecDeque::from([1_u64]));
            let pair = async || {
                let item = floor.lock().expect("not poisoned").pop_front();
                floor.lock().expect("not poisoned").extend(std::hint::black_box(item));
            };
            mutex.record("pgweir", cycle(pair).await);
        }
        println!("{}", table.render());
        println!("floor: a Mutex<VecDeque> pair takes {:.1} ns\n", mutex.median("pgweir"));

        drop(ours.get().await);
        let counted = allocation_counter::measure(|| {
            for _ in 0..1_000 {
                drop(ours.try_get().expect("granted"));
            }
        });
        println!("allocations in 1,000 cycles: {}", counted.count_total);
        journal().await;
    });
}

/// What the journal costs beside the hot path: a new segment once in 4,096 events, and a dump. The pause of a new
/// segment is that of the slowest of 4,096 events, best of many rounds.
async fn journal() {
    for size in [10, 1_000] {
        let config = PoolConfig::builder().min_size(size).max_size(size).build().expect("a valid configuration");
        let pool = PoolBuilder::new(TokioRuntime::current(), NoopManager, config).open().await;
        let pool = pool.expect("a pool of nothing opens");
        let mut pause = f64::MAX;
        for _ in 0..ROUNDS {
            let mut slowest: f64 = 0.0;
            for _ in 0..2_048 {
                let start = Instant::now();
                drop(pool.get().await.expect("granted"));
                slowest = slowest.max(start.elapsed().as_nanos() as f64);
            }
            pause = pause.min(slowest);
        }
        let start = Instant::now();
        let dump = pool.journal().expect("recorded");
        let copied = start.elapsed();
        let start = Instant::now();
        let bytes = dump.to_bytes();
        println!(
            "journal of a pool of {size}: pause {:.1} µs; a dump of {} events is copied in {copied:.1?}, written in {:.1?}, {} bytes",
            pause / 1_000.0,
            dump.entries(),
            start.elapsed(),
            bytes.len()
        );
    }
}

async fn cycle(mut once: impl AsyncFnMut()) -> f64 {
    for _ in 0..CYCLES / 10 {
        once().await;
    }
    let start = Instant::now();
    for _ in 0..CYCLES {
        once().await;
    }
    start.elapsed().as_nanos() as f64 / f64::from(CYCLES)
}
