//! What the bodies share: a runtime with a watchdog, a server, names.

use std::future::Future;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pgweir_core::config::{Config, ConfigBuilder};
use pgweir_tests::{LIMIT, LocalPostgres};

/// Runs a test on a multi-threaded runtime of its own. The test runs on the calling thread, so it may block (on a server
/// that stops, say) while the pool goes on working.
///
/// # Panics
/// If the test does, or if it has not ended within a minute and a half.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(90), test).await.expect("the test hangs");
    });
    runtime.shutdown_timeout(Duration::from_secs(10));
}

/// A server for all tests that do it no harm. (Its watcher ends it after the last test.)
pub(crate) fn server() -> &'static LocalPostgres {
    static SERVER: OnceLock<LocalPostgres> = OnceLock::new();
    SERVER.get_or_init(|| LocalPostgres::builder().max_connections(300).start().expect("a server"))
}

/// A name that no other test has, to find a pool's backends by.
pub(crate) fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A configuration for `url`, with the library's defaults and a name of its own.
pub(crate) fn config(url: &str, name: &str) -> ConfigBuilder {
    Config::builder().database_url(url).application_name(name)
}

/// Waits for a condition while the runtime goes on.
///
/// # Panics
/// After [`LIMIT`], naming `what` and the caller's line.
#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
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
pub(crate) fn backends(server: &LocalPostgres, application_name: &str) -> Vec<u32> {
    server.backends(application_name).expect("the server answers").into_iter().map(|backend| backend.pid).collect()
}
