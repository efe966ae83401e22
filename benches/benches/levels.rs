//! The service levels that were asked for, measured on a real server: each row of the requirements beside its limit.
//! `cargo bench -p pgweir-benches --bench levels`; ends with code 1 where a limit is passed. Recovery after an outage
//! has `cargo run --release -p pgweir-tests --example outages`, memory the bench `memory`, a long run
//! (R-10.2) `cargo soak`, health over HTTP the example `endpoint` with wrk.

#![allow(clippy::print_stdout, reason = "a benchmark's output is its table")]
#![allow(missing_docs, reason = "a program, not a library")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use pgweir_core::config::{ConfigBuilder, ValidationPolicy};
use pgweir_tests::LocalPostgres;
use pgweir_tokio::{Config, Pool};

const STARTS: usize = 40;
const ACQUIRES: usize = 3_000;
const LOOKS: usize = 5_000;

fn main() -> ExitCode {
    let server = LocalPostgres::start().expect("a PostgreSQL server");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    println!("{:<58} {:>9} {:>9} {:>9} {:>9} {:>12}", "", "p50", "p95", "p99", "longest", "limit");
    let rows = runtime.block_on(measure(&server.url()));
    let missed = rows.iter().filter(|row| !row.print()).count();
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn measure(url: &str) -> Vec<Row> {
    let mut rows = starts(url).await;
    rows.push(acquires("R-2.3 acquire, socket looked at", url, ValidationPolicy::Suspect).await);
    rows.push(acquires("R-2.2, R-2.3 acquire, proved by a round trip", url, ValidationPolicy::Always).await);
    rows.push(crowd(url).await);
    rows.extend(looks(url).await);
    rows.push(shutdown(url).await);
    rows
}

/// min_size connections are open.: no cold start.
async fn starts(url: &str) -> Vec<Row> {
    let (mut opened, mut first) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let begun = Instant::now();
        let pool = open(config(url)).await;
        opened.push(begun.elapsed());
        let begun = Instant::now();
        let mut client = pool.get().await.expect("granted");
        client.query_one("SELECT $1::int4", &[&1_i32]).await.expect("answered");
        first.push(begun.elapsed());
        drop(client);
        pool.close().await;
    }
    let limit = Duration::from_millis(200);
    vec![
        Row::new("R-1.1 open with two connections", opened, Rank::P95, limit),
        Row::new("R-1.4 first query, acquire included", first, Rank::Longest, Duration::from_millis(100)),
    ]
}

/// with a free connection.
async fn acquires(name: &'static str, url: &str, validation: ValidationPolicy) -> Row {
    let pool = open(config(url).validation(validation)).await;
    let mut took = Vec::new();
    for _ in 0..ACQUIRES {
        let begun = Instant::now();
        let lease = pool.get().await.expect("granted");
        took.push(begun.elapsed());
        drop(lease);
    }
    pool.close().await;
    Row::new(name, took, Rank::P95, Duration::from_millis(10))
}

/// a hundred at once over ten connections, all answered.
async fn crowd(url: &str) -> Row {
    let pool = open(config(url).min_size(10)).await;
    let tasks: Vec<_> = (0..100)
        .map(|n: i32| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let begun = Instant::now();
                let mut client = pool.get().await.expect("granted in time");
                let row = client.query_one("SELECT $1::int4 FROM pg_sleep(0.01)", &[&n]).await.expect("answered");
                assert_eq!(row.get::<_, i32>(0), n);
                begun.elapsed()
            })
        })
        .collect();
    let mut took = Vec::new();
    for task in tasks {
        took.push(task.await.expect("it ends"));
    }
    pool.close().await;
    Row::new("R-2.4 a hundred queries of 10 ms over ten connections", took, Rank::Longest, Duration::from_secs(30))
}

/// statistics and health of a pool whose connections are all lent, with callers in the queue.
async fn looks(url: &str) -> Vec<Row> {
    let pool = open(config(url).min_size(10)).await;
    let callers: Vec<_> = (0..40)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                while let Ok(mut client) = pool.get().await {
                    client.query_one("SELECT 1", &[]).await.expect("answered");
                }
            })
        })
        .collect();
    let (mut health, mut stats) = (Vec::new(), Vec::new());
    for _ in 0..LOOKS {
        let begun = Instant::now();
        std::hint::black_box(pool.health());
        health.push(begun.elapsed());
        let begun = Instant::now();
        std::hint::black_box(pool.stats());
        stats.push(begun.elapsed());
        tokio::task::yield_now().await;
    }
    pool.close().await;
    for caller in callers {
        caller.await.expect("it ends");
    }
    vec![
        Row::new("R-8.2 health under full load", health, Rank::P99, Duration::from_millis(10)),
        Row::new("R-4.2 statistics under full load", stats, Rank::P99, Duration::from_millis(1)),
    ]
}

/// a lease that is never returned holds a shutdown up for no more than a second after its deadline.
async fn shutdown(url: &str) -> Row {
    let deadline = Duration::from_millis(200);
    let mut over = Vec::new();
    for _ in 0..5 {
        let pool = open(config(url).shutdown_timeout(deadline)).await;
        let lease = pool.get().await.expect("granted");
        let begun = Instant::now();
        let report = pool.close().await;
        over.push(begun.elapsed().saturating_sub(deadline));
        assert_eq!(report.forced, 1);
        drop(lease);
    }
    Row::new("R-5.1 a shutdown beyond its deadline, a lease kept", over, Rank::Longest, Duration::from_secs(1))
}

fn config(url: &str) -> ConfigBuilder {
    Config::builder().database_url(url)
}

async fn open(config: ConfigBuilder) -> Pool {
    Pool::builder(config.build().expect("a valid configuration")).open().await.expect("a pool")
}

/// Which of the figures the limit is for.
#[derive(Clone, Copy)]
enum Rank {
    P95,
    P99,
    Longest,
}

struct Row {
    name: &'static str,
    sorted: Vec<Duration>,
    rank: Rank,
    limit: Duration,
}

impl Row {
    fn new(name: &'static str, mut took: Vec<Duration>, rank: Rank, limit: Duration) -> Self {
        took.sort_unstable();
        Row { name, sorted: took, rank, limit }
    }

    fn at(&self, percent: usize) -> Duration {
        self.sorted[(self.sorted.len() * percent).div_ceil(100).max(1) - 1]
    }

    /// Whether the limit holds.
    fn print(&self) -> bool {
        let (which, figure) = match self.rank {
            Rank::P95 => ("p95", self.at(95)),
            Rank::P99 => ("p99", self.at(99)),
            Rank::Longest => ("all", self.at(100)),
        };
        let ms = |duration: Duration| format!("{:.3}", duration.as_secs_f64() * 1e3);
        let held = figure <= self.limit;
        println!(
            "{:<58} {:>9} {:>9} {:>9} {:>9} {:>12}{}",
            self.name,
            ms(self.at(50)),
            ms(self.at(95)),
            ms(self.at(99)),
            ms(self.at(100)),
            format!("{which} {} ms", self.limit.as_millis()),
            if held { "" } else { "  MISSED" }
        );
        held
    }
}
