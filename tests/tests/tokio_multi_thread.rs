//! Everything on tokio's multi-threaded runtime.

mod suite;

#[path = "tokio/ending.rs"]
mod ending;

pgweir_tests::conformance!(pgweir_tokio::TokioRuntime, run_on_tokio);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn run_on_tokio<T>(future: impl Future<Output = T>) -> T {
    let runtime = runtime();
    let result = runtime.block_on(future);
    runtime.shutdown_timeout(std::time::Duration::from_secs(10));
    result
}
