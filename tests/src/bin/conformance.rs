//! The conformance suite's table: test by runtime, and how each went.
//!
//! ```text
//! cargo conformance                runs everything on every runtime
//! cargo conformance --list         only looks what there is
//! cargo conformance --from FILE    reads what `cargo test` has printed: its standard output and error together
//! ```
//!
//! Ends with code 1 unless every test of the suite is there on every runtime and has passed, and with 2 for a wrong
//! argument or a file that cannot be used.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints a table")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, ExitCode};

use pgweir_tests::conformance::{RUNTIMES, SIMULATOR};

/// By runtime: how its tests went, in the harness's words, or that they are there.
type Columns = BTreeMap<String, BTreeMap<String, String>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let columns = match arguments[..] {
        [] => run(&[]),
        ["--list"] => run(&["--list"]),
        ["--from", file] => std::fs::read_to_string(file)
            .map(|text| columns(&text))
            .map_err(|error| (format!("{file}: {error}"), ExitCode::from(2))),
        _ => Err(("usage: cargo conformance [--list | --from FILE]".to_owned(), ExitCode::from(2))),
    };
    match columns {
        Ok(columns) => show(&columns),
        Err((why, code)) => {
            eprintln!("{why}");
            code
        }
    }
}

/// Runs the binaries of all runtimes with these flags, one after another.
fn run(flags: &[&str]) -> Result<Columns, (String, ExitCode)> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut all = Columns::new();
    for runtime in RUNTIMES.into_iter().chain([SIMULATOR]) {
        eprintln!("{runtime} ...");
        let output = Command::new(&cargo)
            .args(["test", "-p", "pgweir-tests", "--test", runtime, "--"])
            .args(flags)
            .output()
            .map_err(|error| (format!("cargo does not start: {error}"), ExitCode::from(2)))?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            eprintln!("{text}{}", String::from_utf8_lossy(&output.stderr));
        }
        all.extend(columns(&format!("Running tests/{runtime}.rs (here)\n{text}")));
    }
    Ok(all)
}

/// What is said of each runtime.
fn columns(text: &str) -> Columns {
    let mut columns = Columns::new();
    let mut current = None;
    for line in text.lines() {
        if let Some(binary) = line.trim_start().strip_prefix("Running ") {
            let name = binary.strip_prefix("tests/").and_then(|rest| rest.split_once(".rs ")).map(|(name, _)| name);
            let known = |name: &&str| RUNTIMES.contains(name) || *name == SIMULATOR;
            current = name.filter(known).map(|name| columns.entry(name.to_owned()).or_default());
        } else if line.trim_start().starts_with("Doc-tests ") {
            current = None;
        } else if let (Some(column), Some((test, result))) = (&mut current, cell(line)) {
            column.insert(test.to_owned(), result.to_owned());
        }
    }
    columns
}

/// `test suite::client::queries::rows ... ok`, or `suite::client::queries::rows: test` in a list.
fn cell(line: &str) -> Option<(&str, &str)> {
    match line.strip_prefix("test ") {
        Some(run) => run.split_once(" ... "),
        None => line.strip_suffix(": test").map(|test| (test, "there")),
    }
}

/// Prints the table. What lies beside the suite is about some runtimes only, and the simulator has what needs no real
/// PostgreSQL; every other cell has to be there and good.
fn show(columns: &Columns) -> ExitCode {
    let runtimes: Vec<&str> = RUNTIMES.into_iter().chain([SIMULATOR]).collect();
    let tests: BTreeSet<&String> = columns.values().flat_map(BTreeMap::keys).collect();
    let width = tests.iter().map(|test| test.len()).max().unwrap_or_default();
    println!("{:width$}  {}", "", runtimes.join("  "));
    let mut bad = Vec::new();
    for test in &tests {
        let mut line = format!("{test:width$}");
        for runtime in &runtimes {
            let cell = columns.get(*runtime).and_then(|column| column.get(*test));
            let needed = match test.split("::").next() {
                Some("runtime") => true,
                Some("suite") => *runtime != SIMULATOR,
                _ => false,
            };
            if !matches!(cell.map(String::as_str), Some("ok" | "there")) && (needed || cell.is_some()) {
                bad.push(format!("{runtime}: {test}: {}", cell.map_or("missing", String::as_str)));
            }
            line += &format!("  {:runtime$}", cell.map_or("-", String::as_str), runtime = runtime.len());
        }
        println!("{}", line.trim_end());
    }
    for runtime in &runtimes {
        println!("{runtime}: {} tests", columns.get(*runtime).map_or(0, BTreeMap::len));
    }
    if tests.is_empty() {
        bad.push("there are no tests".to_owned());
    }
    bad.iter().for_each(|line| println!("not as it should be: {line}"));
    ExitCode::from(u8::from(!bad.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::{cell, columns};

    #[test]
    fn the_harness_is_understood() {
        assert_eq!(cell("test a::b ... ok"), Some(("a::b", "ok")));
        assert_eq!(cell("test a::b ... ignored, for a reason"), Some(("a::b", "ignored, for a reason")));
        assert_eq!(cell("a::b: test"), Some(("a::b", "there")));
        for line in ["running 3 tests", "test result: ok. 3 passed", "", "test a has been running for over 60 seconds"]
        {
            assert_eq!(cell(line), None, "{line}");
        }
    }

    #[test]
    fn each_binary_has_its_column() {
        let text = "     Running tests/smol.rs (target/debug/deps/smol-1)\ntest a::b ... ok\n\
                    test c ... FAILED\n     Running tests/network.rs (target/debug/deps/network-1)\ntest d ... ok\n\
                    Running tests/async_std.rs (x)\ntest a::b ... ok\n   Doc-tests pgweir_core\ntest e ... ok\n";
        let columns = columns(text);
        let names: Vec<&str> = columns.keys().map(String::as_str).collect();
        assert_eq!(names, ["async_std", "smol"]);
        assert_eq!((columns["smol"].len(), columns["smol"]["c"].as_str()), (2, "FAILED"));
        assert_eq!(columns["async_std"].len(), 1);
    }
}
