//! What the tests share.

use std::path::PathBuf;
use std::process::{Command, Output};

use pgweir_sim::Scenario;

/// The folder of the scenarios that ship.
pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// The scenarios that ship, by file name.
pub(crate) fn shipped() -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = std::fs::read_dir(folder())
        .expect("the folder of scenarios")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).expect("a readable scenario"))
        })
        .collect();
    files.sort();
    files
}

pub(crate) fn scenario(text: &str) -> Scenario {
    Scenario::from_yaml("test.yaml", text).unwrap_or_else(|bad| panic!("{bad}"))
}

/// Runs `pgweir-sim` with these arguments.
pub(crate) fn command(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pgweir-sim")).args(arguments).output().expect("pgweir-sim runs")
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}
