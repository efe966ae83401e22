//! pgweir in front of a real PostgreSQL that crashes under load, on async-std: `cargo demo-async-std`.

mod interrupt;

use std::process::ExitCode;

use pgweir_async_std::async_std::AsyncStd;
use pgweir_tests::demo::Demo;

fn main() -> ExitCode {
    match Demo::from_args() {
        Ok(demo) => async_std::task::block_on(demo.run::<AsyncStd>(interrupt::interrupt())),
        Err(code) => code,
    }
}
