//! A Python that has the package `mcp`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The version that is installed where there is none; any of its major version will do.
const PACKAGE: &str = "mcp==2.3.0";

/// Fails unless the package is there, in the right version.
const PROBE: &str = "import importlib.metadata, mcp; assert importlib.metadata.version('mcp').startswith('2.')";

const HELP: &str = "install it yourself and name its interpreter: python3 -m venv /tmp/mcp && /tmp/mcp/bin/pip install \
     mcp==2.3.0, then PGWEIR_PYTHON=/tmp/mcp/bin/python cargo mcp-check (on Debian and Ubuntu `python3 -m venv` is in the \
     package python3-venv)";

/// The interpreter to use; the package is installed if need be.
pub(crate) fn find() -> Result<PathBuf, String> {
    if let Some(python) = std::env::var_os("PGWEIR_PYTHON").map(PathBuf::from) {
        return match has_package(&python) {
            true => Ok(python),
            false => Err(format!("PGWEIR_PYTHON: {} has no package mcp of version 2; {HELP}", python.display())),
        };
    }
    let system = PathBuf::from("python3");
    if has_package(&system) {
        return Ok(system);
    }
    let folder = environment()?;
    let python = folder.join("bin/python");
    if !has_package(&python) {
        eprintln!("mcp-check: installing {PACKAGE} into {}", folder.display());
        run(&system, &["-m", "venv", &folder.display().to_string()])?;
        run(&python, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE])?;
    }
    if has_package(&python) { Ok(python) } else { Err(format!("{} cannot use {PACKAGE}; {HELP}", python.display())) }
}

/// Beside the folder with this program: in the target folder.
fn environment() -> Result<PathBuf, String> {
    let this = std::env::current_exe().map_err(|error| format!("this program is nowhere: {error}"))?;
    Ok(this.ancestors().nth(2).unwrap_or(Path::new(".")).join("mcp-venv"))
}

fn has_package(python: &Path) -> bool {
    Command::new(python).args(["-c", PROBE]).output().is_ok_and(|output| output.status.success())
}

fn run(program: &Path, arguments: &[&str]) -> Result<(), String> {
    let shown = format!("{} {}", program.display(), arguments.join(" "));
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{shown}: {error}; {HELP}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!("{shown}: {}\n{}\n{HELP}", output.status, String::from_utf8_lossy(&said).trim()))
}
