//! That nothing of the suite is missing or skipped here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The tests in the files of this folder, named as the harness does.
fn written(folder: &Path, module: &str, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_str().expect("in letters").to_owned();
        let inner = if name == "mod" { module.to_owned() } else { format!("{module}::{name}") };
        if path.is_dir() {
            written(&path, &inner, found);
            continue;
        }
        let source = std::fs::read_to_string(&path).expect("a source file");
        let mut lines = source.lines().peekable();
        while let Some(line) = lines.next() {
            let Some(declared) = lines.peek().and_then(|next| next.strip_prefix("fn ")) else { continue };
            if line == "#[test]" {
                let (test, _) = declared.split_once('(').expect("a function");
                found.insert(format!("{inner}::{test}"));
            }
        }
    }
}

/// What the harness of this binary lists.
fn listed(flags: &[&str]) -> BTreeSet<String> {
    let binary = std::env::current_exe().expect("this program's path");
    let output = Command::new(binary).arg("--list").args(flags).output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("in letters");
    text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

/// Every test in the suite's files is a test of this binary, and none is ignored.
#[test]
fn every_body_is_here_and_none_is_skipped() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/suite");
    let mut written_here = BTreeSet::new();
    written(&folder, "suite", &mut written_here);
    assert!(written_here.len() > 200, "{} tests were found in the files", written_here.len());
    assert!(written_here.contains("suite::complete::every_body_is_here_and_none_is_skipped"));
    let listed_here = listed(&[]);
    let of_the_suite: BTreeSet<String> =
        listed_here.iter().filter(|test| test.starts_with("suite::")).cloned().collect();
    assert_eq!(of_the_suite, written_here, "in the binary, and in the files");
    let promises: BTreeSet<String> =
        listed_here.iter().filter_map(|test| test.strip_prefix("runtime::")).map(str::to_owned).collect();
    let promised: BTreeSet<String> = pgweir_tests::conformance::BODIES.iter().map(|body| (*body).to_owned()).collect();
    assert_eq!(promises, promised, "what a runtime promises");
    assert!(listed(&["--ignored"]).is_empty());
}
