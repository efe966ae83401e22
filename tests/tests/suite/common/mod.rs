//! What the real-database tests share: a runtime with a watchdog, the pool's own events, and the usual configuration.

#![allow(unreachable_pub, reason = "a part of each runtime's binary")]

pub mod sampler;
pub mod trace;

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pgweir_core::config::ConfigBuilder;
use pgweir_tests::conformance::RealPostgres;
use pgweir_tests::{LIMIT, LocalPostgres, StopMode};
use trace::Trace;

use crate::suite::rt::{self, Config, Pool};

/// Runs a test on the runtime. The test itself runs on the calling thread. Where the runtime has others, it may block
/// (on a server that stops, say) while the pool goes on working; where it has none, everything else waits meanwhile, and
/// a test that wants the pool to go on uses [`rt::off_thread`].
///
/// # Panics
/// If the test does, or if it has not ended within a minute and a half; then with what the pool did last.
pub fn run<F: Future<Output = ()>>(test: impl FnOnce(Trace) -> F) {
    let trace = Trace::new();
    let _installed = trace.install();
    let watched = trace.clone();
    // On the heap: it can be large, and a runtime's block_on may move it several times.
    let test = Box::pin(test(trace));
    crate::block_on(async {
        if rt::timeout(Duration::from_secs(90), test).await.is_err() {
            panic!("the test hangs; the pool's last events:\n{}", watched.tail(60));
        }
    });
}

/// A server for all tests of a binary that do it no harm. (Its watcher ends it after the last test.)
pub fn server() -> &'static LocalPostgres {
    RealPostgres.server()
}

/// A name that no other test has, to find a pool's backends by.
pub fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What this binary's harness calls the test of this name in `module` (a `module_path!()`).
pub fn in_this_binary(module: &str, test: &str) -> String {
    let (_, module) = module.split_once("::").expect("a module of this crate");
    format!("{module}::{test}")
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
            rt::sleep(Duration::from_millis(3)).await;
        }
    }
}

/// Stops a server while the runtime goes on. The server waits for the first bytes of a connection that it has accepted,
/// and who would send them may have no thread but the caller's.
pub async fn stop(server: &LocalPostgres, mode: StopMode) {
    server.begin_stop(mode).expect("it can be told to stop");
    until("the server has stopped", || !server.is_running()).await;
}

/// The backends of these connections, by asking the server.
#[track_caller]
pub fn backends(server: &LocalPostgres, application_name: &str) -> Vec<u32> {
    server.backends(application_name).expect("the server answers").into_iter().map(|backend| backend.pid).collect()
}

/// As [`backends`] of the shared server, while the runtime goes on.
pub async fn backends_meanwhile(application_name: &'static str) -> Vec<u32> {
    rt::off_thread(move || backends(server(), application_name)).await
}

/// Waits until a server sees so many connections of this name, while the runtime goes on.
#[track_caller]
pub fn wait_for_backends(server: &LocalPostgres, application_name: &str, count: usize) -> impl Future<Output = ()> {
    let what = format!("{count} backends of {application_name}");
    let caller = std::panic::Location::caller();
    async move {
        let end = Instant::now() + LIMIT;
        loop {
            let there = server.backends(application_name).expect("the server answers");
            if there.len() == count {
                return;
            }
            let log = || server.log_tail();
            assert!(Instant::now() < end, "{what}: not within {LIMIT:?} ({caller}) but {there:#?}\n{}", log());
            rt::sleep(Duration::from_millis(3)).await;
        }
    }
}
