//! The demo's load with its server killed again and again: `cargo run --example kills -- --kills 20`.

use std::process::ExitCode;

use pgweir_tests::demo::Kills;
use pgweir_tokio::TokioRuntime;

fn main() -> ExitCode {
    let kills = match Kills::from_args() {
        Ok(kills) => kills,
        Err(code) => return code,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(kills.run::<TokioRuntime>(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }))
}
