//! Everything on tokio's current-thread runtime.

mod suite;

#[path = "tokio/ending.rs"]
mod ending;
#[path = "tokio/unseen.rs"]
mod unseen;

pgweir_tests::conformance!(pgweir_tokio::TokioRuntime, run_on_tokio);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn run_on_tokio<T>(future: impl Future<Output = T>) -> T {
    let runtime = runtime();
    let result = runtime.block_on(future);
    runtime.shutdown_timeout(std::time::Duration::from_secs(10));
    result
}
