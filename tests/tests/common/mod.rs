//! What the real-database tests share: a runtime with a watchdog, the pool's own events, and the usual configuration.

#![allow(dead_code, unreachable_pub, reason = "each test binary includes this and uses its own part of it")]

pub mod sampler;
pub mod trace;

use std::future::Future;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pgweir_core::config::ConfigBuilder;
use pgweir_tests::{LIMIT, LocalPostgres};
use pgweir_tokio::{Config, Pool};
use trace::Trace;

/// Runs a test on a multi-threaded runtime of its own. The test itself runs on the calling thread, so it may block (on
/// a server that stops, say) while the pool goes on working.
///
/// # Panics
/// If the test does, or if it has not ended within a minute and a half; then with what the pool did last.
pub fn run<F: Future<Output = ()>>(test: impl FnOnce(Trace) -> F) {
    let trace = Trace::new();
    let on_thread = trace.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .on_thread_start(move || on_thread.install_for_thread())
        .build()
        .expect("a runtime");
    let _installed = trace.install();
    let watched = trace.clone();
    let test = test(trace);
    runtime.block_on(async {
        if tokio::time::timeout(Duration::from_secs(90), test).await.is_err() {
            panic!("the test hangs; the pool's last events:\n{}", watched.tail(60));
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(10));
}

/// A server for all tests of a binary that do it no harm. (Its watcher ends it after the last test.)
pub fn server() -> &'static LocalPostgres {
    static SERVER: OnceLock<LocalPostgres> = OnceLock::new();
    SERVER.get_or_init(|| LocalPostgres::builder().max_connections(300).start().expect("a server"))
}

/// A name that no other test has, to find a pool's backends by.
pub fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A configuration for `url`, with the library's defaults and a name of its own.
pub fn config(url: &str, name: &str) -> ConfigBuilder {
    Config::builder().database_url(url).application_name(name)
}

/// Opens a pool as configured.
#[track_caller]
pub fn open(config: ConfigBuilder) -> impl Future<Output = Pool> {
    let config = config.build().expect("a valid configuration");
    async { Pool::builder(config).open().await.expect("the pool opens") }
}

/// Starts a pool as configured without waiting for it.
#[track_caller]
pub fn open_lazy(config: ConfigBuilder) -> Pool {
    Pool::builder(config.build().expect("a valid configuration")).open_lazy()
}

/// Waits for a condition while the runtime goes on.
///
/// # Panics
/// After [`LIMIT`], naming `what` and the caller's line.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    let end = Instant::now() + LIMIT;
    async move {
        while !condition() {
            assert!(Instant::now() < end, "{what}: not within {LIMIT:?} ({caller})");
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }
}

/// The backends of these connections, by asking the server.
#[track_caller]
pub fn backends(server: &LocalPostgres, application_name: &str) -> Vec<u32> {
    server.backends(application_name).expect("the server answers").into_iter().map(|backend| backend.pid).collect()
}
