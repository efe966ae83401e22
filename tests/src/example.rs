//! Examples of the workspace, as programs for tests to run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use crate::{Error, Result};

/// The program of the workspace's example `name`. `cargo test` builds examples along with the tests; where only some tests
/// are built it may be missing or older than its sources: then it is built now, with the features that it has in a build
/// of the whole workspace.
///
/// # Errors
/// What cargo says.
pub fn example(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe().map_err(Error::io("find this program"))?;
    let folder = this.parent().unwrap_or(Path::new("."));
    // Tests are in `deps`, programs beside it.
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    let program = folder.join("examples").join(name);
    if !is_current(&program) {
        build(name, folder.ends_with("release"))?;
    }
    if program.is_file() {
        return Ok(program);
    }
    let output = format!("no {}: build it with cargo build --example {name}", program.display());
    Err(Error::Failed { what: format!("finding example {name}"), output })
}

/// Whether none of the program's sources is newer than it is. Cargo lists them in a file beside it.
fn is_current(program: &Path) -> bool {
    let (Some(built), Ok(list)) = (modified(program), fs::read_to_string(program.with_extension("d"))) else {
        return false;
    };
    sources(&list).iter().all(|source| modified(Path::new(source)).is_some_and(|modified| modified <= built))
}

/// The sources in `program: source source`, where a space in a name is written `\ `.
fn sources(list: &str) -> Vec<String> {
    let (_, sources) = list.lines().next().and_then(|line| line.split_once(": ")).unwrap_or_default();
    let pieces = sources.replace("\\ ", "\0");
    pieces.split_whitespace().map(|piece| piece.replace('\0', " ")).collect()
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

fn build(name: &str, release: bool) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .args(["build", "--quiet", "--example", name])
        .args(release.then_some("--release"))
        .output()
        .map_err(Error::io("run cargo"))?;
    if output.status.success() {
        return Ok(());
    }
    let what = format!("cargo build --example {name}: {}", output.status);
    Err(Error::Failed { what, output: String::from_utf8_lossy(&output.stderr).into_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_with_spaces_are_read() {
        assert_eq!(sources("/t/code: /a/main.rs /b\\ c/lib.rs\n"), ["/a/main.rs", "/b c/lib.rs"]);
        assert!(sources("").is_empty());
    }

    #[test]
    fn what_is_not_there_is_not_current() {
        assert!(!is_current(Path::new("/no/such/program")));
    }
}
