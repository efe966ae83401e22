//! What it costs to look at a pool, and to look for leaks: the copies that are made under the lock, the documents that
//! are made of them after it, and an acquire with and without its call stack.
//! `cargo bench -p pgweir-benches --bench snapshot`

#![allow(clippy::print_stdout, reason = "a benchmark's output is its table")]
#![allow(missing_docs, reason = "a program, not a library")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use pgweir_benches::NoopManager;
use pgweir_core::config::{LeakStack, PoolConfig, ValidationPolicy};
use pgweir_core::driver::PoolBuilder;
use pgweir_core::pool::{Action, Event, Machine, ServerFacts, SiteId, WaiterId};
use pgweir_core::runtime::Runtime;
use pgweir_core::time;
use pgweir_tokio::{Pool, TokioRuntime};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;

const ROUNDS: usize = 101;
const TIMES: u32 = 1_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for size in [10, 100] {
            under_the_lock(size);
            documents(size).await;
        }
        for stacks in [LeakStack::Adaptive, LeakStack::Never, LeakStack::Always] {
            acquires(&format!("leak_stack {stacks:?}"), builder().leak_stack(stacks)).await;
        }
        acquires("no leak detection", builder().enable_leak_detection(false)).await;
        let subscriber = tracing_subscriber::registry().with(LevelFilter::INFO);
        tracing::subscriber::set_global_default(subscriber).expect("the first");
        acquires("a subscriber, no span", builder()).await;
        let span = tracing::info_span!("checkout");
        let inside = span.enter();
        acquires("a subscriber, in a span", builder()).await;
        acquires("a subscriber, no leak detection", builder().enable_leak_detection(false)).await;
        drop(inside);
    });
}

/// Nothing is proved or replaced: the background task, which does both, has no turn while a benchmark runs.
fn builder() -> pgweir_core::config::PoolConfigBuilder {
    PoolConfig::builder().validation(ValidationPolicy::Suspect).max_queries(0)
}

/// The machine's part of a document: what is copied while the pool is locked.
fn under_the_lock(size: u32) {
    let machine = lent_machine(size);
    let now = machine.now() + Duration::from_secs(1);
    report(&format!("lock held for stats, pool of {size}"), || {
        (machine.stats(now), machine.state(), machine.last_fault().map(|(fault, _)| fault.clone()), machine.hosts())
    });
    report(&format!("lock held for health, pool of {size}"), || {
        (machine.health(now), machine.hosts(), machine.holders(now, 5))
    });
}

async fn documents(size: u32) {
    let pool = open(builder().min_size(size).max_size(size)).await;
    let mut leases = Vec::new();
    for _ in 0..size {
        leases.push(pool.get().await.expect("granted"));
    }
    report(&format!("Pool::stats, pool of {size}"), || pool.stats());
    report(&format!("Pool::health, pool of {size}"), || pool.health());
    report(&format!("Pool::debug_report(100), pool of {size}"), || pool.debug_report(100));
}

async fn acquires(name: &str, config: pgweir_core::config::PoolConfigBuilder) {
    let pool = open(config).await;
    report(&format!("acquire + release, {name}"), || drop(pool.try_get().expect("granted")));
}

async fn open(config: pgweir_core::config::PoolConfigBuilder) -> Pool<NoopManager> {
    let config = config.build().expect("a valid configuration");
    PoolBuilder::new(TokioRuntime::current(), NoopManager, config).open().await.expect("a pool of nothing opens")
}

/// A machine whose connections are all lent.
fn lent_machine(size: u32) -> Machine {
    let config = builder().min_size(size).max_size(size).max_connecting(size).build().expect("a valid configuration");
    let now = time::Instant::from_secs(1);
    let mut machine = Machine::new(&config, 1, now);
    let mut actions = Vec::new();
    machine.handle(now, Event::Start { lazy: false }, &mut actions);
    for action in std::mem::take(&mut actions) {
        if let Action::Connect { conn, .. } = action {
            machine.handle(now, Event::Connected { conn, facts: ServerFacts::default() }, &mut actions);
        }
    }
    for id in 1..=u64::from(size) {
        let deadline = now + Duration::from_secs(30);
        let acquire = Event::Acquire { waiter: WaiterId(id), deadline, leak_after: None, site: SiteId(0) };
        machine.handle(now, acquire, &mut actions);
    }
    assert_eq!(machine.counts().active, size);
    machine
}

/// The best of many rounds, and the allocations of one turn.
fn report<T>(name: &str, mut once: impl FnMut() -> T) {
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..TIMES {
            black_box(once());
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(TIMES));
    }
    let counted = allocation_counter::measure(|| drop(black_box(once())));
    println!("{name:<44} {best:>10.1} ns {:>5} allocations", counted.count_total);
}
