//! The demo's load on async-std with its server killed again and again:
//! `cargo run -p pgweir-async-std --features async-std --example kills-async-std -- --kills 20`.

mod interrupt;

use std::process::ExitCode;

use pgweir_async_std::async_std::AsyncStd;
use pgweir_tests::demo::Kills;

fn main() -> ExitCode {
    match Kills::from_args() {
        Ok(kills) => async_std::task::block_on(kills.run::<AsyncStd>(interrupt::interrupt())),
        Err(code) => code,
    }
}
