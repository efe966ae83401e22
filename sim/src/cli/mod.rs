//! The commands, a file each, and what they share: how bad input and failures end.

mod exhaustive;
mod fleet;
mod replay;
mod run;
mod serve;
mod speed;
mod swarm;
mod what_if;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pgweir_sim::report::Page;

/// Takes connection pools through outages, on a virtual clock, reproducibly from a seed.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Exhaustive(exhaustive::Arguments),
    Replay(replay::Arguments),
    Run(run::Arguments),
    Fleet(Box<fleet::Arguments>),
    Speed(speed::Arguments),
    Serve(serve::Arguments),
    Swarm(swarm::Arguments),
    WhatIf(what_if::Arguments),
}

/// An expectation does not hold.
const FAILED: u8 = 1;
/// A file or an option cannot be used. (clap ends with the same.)
const BAD_INPUT: u8 = 2;

/// Runs the command that was asked for.
pub(crate) fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Exhaustive(arguments) => arguments.run(),
        Command::Replay(arguments) => arguments.run(),
        Command::Run(arguments) => arguments.run(),
        Command::Fleet(arguments) => arguments.run(),
        Command::Speed(arguments) => arguments.run(),
        Command::Serve(arguments) => arguments.run(),
        Command::Swarm(arguments) => arguments.run(),
        Command::WhatIf(arguments) => arguments.run(),
    };
    match result {
        Ok(code) => code,
        // Nobody reads any more: that is no failure of ours.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => complain(&error),
    }
}

/// Says what is wrong with the input.
fn complain(problem: &dyn Display) -> ExitCode {
    // If nobody can be told, the code says it.
    let _ = writeln!(io::stderr(), "pgweir-sim: {problem}");
    ExitCode::from(BAD_INPUT)
}

/// Whether to write in colours.
fn is_coloured(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes a page to a file.
fn write_page(file: &Path, page: &Page) -> io::Result<ExitCode> {
    match std::fs::write(file, page.html()) {
        Ok(()) => {
            writeln!(io::stdout(), "wrote {}", file.display())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Ok(complain(&format_args!("{}: {error}", file.display()))),
    }
}
