//! pgweir in front of a real PostgreSQL that crashes under load, on smol: `cargo demo-smol`.

mod interrupt;

use std::process::ExitCode;

use pgweir_async_std::smol::Smol;
use pgweir_tests::demo::Demo;

fn main() -> ExitCode {
    match Demo::from_args() {
        Ok(demo) => smol::block_on(demo.run::<Smol>(interrupt::interrupt())),
        Err(code) => code,
    }
}
