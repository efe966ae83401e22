//! Keeps the table in `suite/faults/mod.rs` true.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// The cases of PEERS, part A.
const CASES: usize = 46;

/// Case by case, the tests that the table names.
fn proofs() -> BTreeMap<usize, Vec<String>> {
    let mut proofs = BTreeMap::new();
    for row in include_str!("suite/faults/mod.rs").lines().filter_map(|line| line.strip_prefix("//! | ")) {
        let cells: Vec<&str> = row.trim_end_matches(" |").split(" | ").collect();
        let [case, _what, tests] = cells[..] else { panic!("three columns, not {row:?}") };
        let Ok(case) = case.parse() else { continue };
        let tests = tests.split(", ").map(|test| test.trim_matches('`').to_owned()).collect();
        assert!(proofs.insert(case, tests).is_none(), "case {case} is there twice");
    }
    proofs
}

/// The file that a test is in, from the folder of this crate.
fn file(module: &str) -> PathBuf {
    let relative = match module.split_once('/') {
        None => format!("tests/suite/faults/{module}.rs"),
        Some(("pool", name)) => format!("../core/src/pool/tests/{name}.rs"),
        Some(("tokio", name)) => format!("tests/tokio/{name}.rs"),
        Some((folder, name)) => format!("tests/suite/{folder}/{name}.rs"),
    };
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// Whether `source` has a test of this name: a function with a test's attribute right above it.
fn has_test(source: &str, name: &str) -> bool {
    let declaration = format!("fn {name}()");
    let mut above = "";
    source.lines().any(|line| {
        let found = line.contains(&declaration) && above.starts_with("#[") && above.contains("test");
        above = line.trim_start();
        found
    })
}

/// Every case of PEERS has its row, and every test that a row names exists.
#[test]
fn every_case_is_proved_by_tests_that_exist() {
    let proofs = proofs();
    let cases: Vec<usize> = proofs.keys().copied().collect();
    assert_eq!(cases, (1..=CASES).collect::<Vec<_>>());
    for (case, tests) in proofs {
        assert!(!tests.is_empty(), "case {case} has no proof");
        for test in tests {
            let (module, name) = test.split_once("::").unwrap_or_else(|| panic!("module::test, not {test:?}"));
            let path = file(module);
            let source = std::fs::read_to_string(&path);
            let source = source.unwrap_or_else(|error| panic!("case {case}: {}: {error}", path.display()));
            assert!(has_test(&source, name), "case {case}: there is no test {name} in {}", path.display());
        }
    }
}

/// The check itself can fail.
#[test]
fn a_test_that_is_not_there_is_missed() {
    let source = "#[test]\nfn here() {\n}\nfn helper() {\n}\n#[tokio::test]\nasync fn there() {}\n";
    assert!(has_test(source, "here") && has_test(source, "there"));
    assert!(!has_test(source, "helper") && !has_test(source, "her") && !has_test(source, "elsewhere"));
}

/// The roots of the runtimes' binaries are those that the conformance table shows.
#[test]
fn every_runtime_is_in_the_table() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut roots = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let is_root = path.is_file() && {
            let source = std::fs::read_to_string(&path).expect("a source file");
            source.lines().any(|line| line == "mod suite;")
        };
        if is_root {
            roots.push(path.file_stem().expect("a name").to_str().expect("in letters").to_owned());
        }
    }
    roots.sort_unstable();
    let mut runtimes = pgweir_tests::conformance::RUNTIMES.to_vec();
    runtimes.sort_unstable();
    assert_eq!(roots, runtimes);
}
