//! The MCP server example against a real MCP client, through a crash of the database: `cargo mcp-check`.
//!
//! Starts a PostgreSQL of its own and the example's `client_test.py`, which speaks through the Python package `mcp`, and
//! does to the database what that asks for. The interpreter is PGWEIR_PYTHON, else python3, if it has the package in the
//! right version; else one in a virtual environment in the target folder, into which the package is installed.
//!
//! Ends with 0 if every check passed, with 1 if one failed, with 2 if it could not be run.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that reports")]

mod database;
mod python;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use database::Database;
use pgweir_tests::example;

const SCRIPT: &str = "../runtime-tokio/examples/code_search/client_test.py";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("mcp-check: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether the client's checks passed. The client prints a line for each; those that begin with `!` are for the database.
fn run() -> Result<bool, Box<dyn std::error::Error>> {
    let python = python::find()?;
    let server = example("code_search")?;
    let mut database = Database::start()?;
    let mut client = Command::new(python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(SCRIPT))
        .arg(server)
        .arg(database.url())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut replies = client.stdin.take().ok_or("no pipe to the client")?;
    let output = client.stdout.take().ok_or("no pipe from the client")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        match line.strip_prefix('!') {
            Some(command) => writeln!(replies, "{}", database.obey(command))?,
            None => println!("{line}"),
        }
    }
    Ok(client.wait()?.success())
}
