//! pgweir in front of a real PostgreSQL that crashes under load: `cargo demo`.

use std::process::ExitCode;

use pgweir_tests::demo::Demo;
use pgweir_tokio::TokioRuntime;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let demo = match Demo::from_args() {
        Ok(demo) => demo,
        Err(code) => return code,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(demo.run::<TokioRuntime>(interrupt()))
}

/// Ctrl-C, or a polite kill.
async fn interrupt() {
    let mut polite = signal(SignalKind::terminate()).expect("a signal handler");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = polite.recv() => {}
    }
}
