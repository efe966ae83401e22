//! The conformance suite's table: test by runtime. `cargo conformance` runs everything on every runtime and prints how
//! it went; `cargo conformance --list` only looks what there is. Ends with code 1 unless every test of the suite is
//! there on every runtime and passed.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints a table")]

use std::collections::BTreeMap;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use pgweir_tests::conformance::RUNTIMES;

/// How a test went on one runtime, in the harness's words, or that it is there.
type Column = BTreeMap<String, String>;

fn main() -> ExitCode {
    let list = match &std::env::args().skip(1).collect::<Vec<_>>()[..] {
        [] => false,
        [flag] if flag == "--list" => true,
        _ => {
            eprintln!("usage: cargo conformance [--list]");
            return ExitCode::from(2);
        }
    };
    let mut columns = Vec::new();
    for runtime in RUNTIMES {
        eprintln!("{runtime} ...");
        let begun = Instant::now();
        match column(runtime, list) {
            Ok(column) => columns.push((begun.elapsed(), column)),
            Err(error) => {
                eprintln!("{runtime}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    let tests: Vec<&String> = {
        let mut all: Vec<_> = columns.iter().flat_map(|(_, column)| column.keys()).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    let width = tests.iter().map(|test| test.len()).max().unwrap_or_default();
    println!("{:width$}  {}", "", RUNTIMES.join("  "));
    let mut bad = 0;
    for test in tests {
        let cells = columns.iter().zip(RUNTIMES).map(|((_, column), runtime)| {
            let cell = column.get(test).map_or("-", String::as_str);
            // What is about some runtimes only is not in the suite's folder, but beside it.
            let elsewhere = cell == "-" && !test.starts_with("suite::") && !test.starts_with("runtime::");
            bad += usize::from(!matches!(cell, "ok" | "there") && !elsewhere);
            format!("{cell:runtime$}", runtime = runtime.len())
        });
        let cells: Vec<String> = cells.collect();
        println!("{test:width$}  {}", cells.join("  ").trim_end());
    }
    for ((took, column), runtime) in columns.iter().zip(RUNTIMES) {
        println!("{runtime}: {} tests in {:.0} s", column.len(), took.as_secs_f64());
    }
    match bad {
        0 => ExitCode::SUCCESS,
        _ => {
            println!("{bad} cells are not as they should be");
            ExitCode::FAILURE
        }
    }
}

/// Runs the tests of one runtime, or lists them.
fn column(runtime: &str, list: bool) -> Result<Column, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["test", "--quiet", "-p", "pgweir-tests", "--test", runtime, "--"]);
    command.args(if list { &["--list"][..] } else { &["--format=pretty"][..] });
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| format!("cargo does not start: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let column: Column = text.lines().filter_map(|line| cell(line, list)).collect();
    // A binary that was killed, or that ended in the middle, has no last line.
    if column.is_empty() || !list && !text.contains("test result: ") {
        return Err(format!("no result ({}):\n{text}", output.status));
    }
    if !list && !output.status.success() {
        eprintln!("{text}");
    }
    Ok(column)
}

/// `suite::client::queries::rows ... ok`, or `suite::client::queries::rows: test`.
fn cell(line: &str, list: bool) -> Option<(String, String)> {
    if list {
        return line.strip_suffix(": test").map(|test| (test.to_owned(), "there".to_owned()));
    }
    let (test, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
    Some((test.to_owned(), result.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::cell;

    #[test]
    fn the_harness_is_understood() {
        let found = |line, list| cell(line, list).map(|(test, result)| format!("{test}={result}"));
        assert_eq!(found("test a::b ... ok", false).as_deref(), Some("a::b=ok"));
        assert_eq!(found("test a::b ... ignored, for a reason", false).as_deref(), Some("a::b=ignored, for a reason"));
        assert_eq!(found("a::b: test", true).as_deref(), Some("a::b=there"));
        for line in
            ["running 3 tests", "test result: ok. 3 passed", "", "test a::b has been running for over 60 seconds"]
        {
            assert_eq!(found(line, false), None, "{line}");
        }
    }
}
