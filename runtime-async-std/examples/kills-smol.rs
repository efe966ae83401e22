//! The demo's load on smol with its server killed again and again:
//! `cargo run -p pgweir-async-std --example kills-smol -- --kills 20`.

mod interrupt;

use std::process::ExitCode;

use pgweir_async_std::smol::Smol;
use pgweir_tests::demo::Kills;

fn main() -> ExitCode {
    match Kills::from_args() {
        Ok(kills) => smol::block_on(kills.run::<Smol>(interrupt::interrupt())),
        Err(code) => code,
    }
}
