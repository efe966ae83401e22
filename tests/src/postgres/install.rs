//! Installing PostgreSQL, PgBouncer or Prometheus where that is one harmless command: as root on Debian and Ubuntu, which in
//! practice is a container or a CI machine.

use crate::state::{self, FileLock};
use crate::{Error, Result};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// postgresql-common reads this folder before it makes a cluster for a new server package. Without it the package
/// would start a server of its own.
const CREATE_CLUSTER: &str = "/etc/postgresql-common/createcluster.d";

/// Installs PostgreSQL with apt-get, once for all test processes (`is_there` is asked again under the lock).
pub(super) fn install(is_there: impl Fn() -> bool) -> Result<()> {
    match forbidden() {
        Some(why) => Err(advice(&format!("no PostgreSQL found on this machine{why}"))),
        None => {
            prevent_own_cluster()?;
            install_package("postgresql", is_there)
        }
    }
}

/// Installs PgBouncer in the same way.
pub(crate) fn install_pgbouncer(is_there: impl Fn() -> bool) -> Result<()> {
    match forbidden() {
        Some(why) => Err(Error::NoPostgres(format!(
            "no PgBouncer found on this machine{why}. To get one: `sudo apt-get install -y --no-install-recommends \
             pgbouncer`, or the package `pgbouncer` of another system."
        ))),
        None => install_package("pgbouncer", is_there),
    }
}

/// Installs Prometheus in the same way.
pub(crate) fn install_prometheus(is_there: impl Fn() -> bool) -> Result<()> {
    match forbidden() {
        Some(why) => Err(Error::NoPostgres(format!(
            "no Prometheus found on this machine{why}. To get one: `sudo apt-get install -y --no-install-recommends \
             prometheus`, or the package `prometheus` of another system."
        ))),
        None => install_package("prometheus", is_there),
    }
}

/// Why nothing can be installed here, if so.
fn forbidden() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() || !Path::new("/usr/bin/apt-get").exists() {
        return Some("");
    }
    let forbidden = std::env::var_os("PGWEIR_NO_INSTALL").is_some_and(|value| !value.is_empty());
    forbidden.then_some(", and PGWEIR_NO_INSTALL forbids installing it")
}

fn install_package(package: &str, is_there: impl Fn() -> bool) -> Result<()> {
    let base = state::base_folder(true);
    let _lock = FileLock::acquire(&state::folder(&base, "locks")?.join("install.lock"))?;
    if is_there() {
        return Ok(());
    }
    let command = format!("apt-get update && apt-get install -y --no-install-recommends {package}");
    announce(&command);
    let output = Command::new("sh")
        .args(["-c", &command])
        .env("DEBIAN_FRONTEND", "noninteractive")
        // Single-user mode, as far as packages are concerned: they start no service.
        .env("RUNLEVEL", "1")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(Error::io("run sh"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let tail: Vec<&str> = text.lines().rev().take(20).collect();
    let output_tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
    Err(Error::Failed { what: format!("`{command}`: {}", output.status), output: output_tail })
}

/// The error that says which one command gives this machine a PostgreSQL.
pub(super) fn advice(why: &str) -> Error {
    let command = if cfg!(target_os = "macos") {
        "brew install postgresql@17"
    } else if Path::new("/usr/bin/apt-get").exists() {
        "sudo apt-get install -y --no-install-recommends postgresql"
    } else if Path::new("/usr/bin/dnf").exists() {
        "sudo dnf install -y postgresql-server"
    } else if Path::new("/sbin/apk").exists() {
        "sudo apk add postgresql"
    } else if Path::new("/usr/bin/pacman").exists() {
        "sudo pacman -S --noconfirm postgresql"
    } else if Path::new("/usr/bin/zypper").exists() {
        "sudo zypper install -y postgresql-server"
    } else {
        "install the PostgreSQL server with the system's package manager"
    };
    Error::NoPostgres(format!(
        "{why}. To get one: `{command}`. If it is somewhere unusual, set PG_BIN to the folder with `postgres` and `initdb`."
    ))
}

#[allow(clippy::print_stderr, reason = "whoever waits for a first run has to know that it installs something")]
fn announce(command: &str) {
    eprintln!("pgweir-tests: not on this machine yet: {command}");
}

fn prevent_own_cluster() -> Result<()> {
    let folder = Path::new(CREATE_CLUSTER);
    let file = folder.join("pgweir-tests.conf");
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&file, "create_main_cluster = false\n"))
        .map_err(Error::io(format!("write {}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_has_a_command_and_the_variable() {
        let text = advice("none").to_string();
        assert!(text.contains("PG_BIN") && text.contains("postgresql"), "{text}");
    }
}
