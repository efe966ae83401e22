//! A real pool on a real server for as long as one likes, broken in every way meanwhile: `cargo soak --time 60s`.

use std::process::ExitCode;

use pgweir_tests::demo::Soak;
use pgweir_tokio::TokioRuntime;

fn main() -> ExitCode {
    let soak = match Soak::from_args() {
        Ok(soak) => soak,
        Err(code) => return code,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let handle = runtime.handle().clone();
    let soak = soak.count_tasks(move || handle.metrics().num_alive_tasks());
    runtime.block_on(soak.run::<TokioRuntime>(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }))
}
