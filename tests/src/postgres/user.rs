//! Whom the server runs as: PostgreSQL refuses to run as root.

use crate::{Error, Result};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Another user to run PostgreSQL's programs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunAs {
    pub(super) name: &'static str,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The user for the server's programs: nobody else unless this process is root; then `postgres`, else `nobody`.
pub(super) fn server_user() -> Result<Option<RunAs>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let found = ["postgres", "nobody"].into_iter().find_map(|name| {
        let uid = id("-u", name).filter(|uid| *uid != 0)?;
        Some(RunAs { name, uid, gid: id("-g", name)? })
    });
    found.map(Some).ok_or_else(|| {
        Error::NoPostgres(
            "PostgreSQL refuses to run as root, and there is neither a user `postgres` nor `nobody` to run it as: \
             run the tests as an ordinary user, or make one with `useradd --system postgres`"
                .into(),
        )
    })
}

/// A command that runs as that user, with no environment of PostgreSQL's own, English messages, a working folder that
/// it can enter, and a process group of its own, so that Ctrl-C in a terminal reaches only the test process.
pub(crate) fn command(program: &Path, run_as: Option<&RunAs>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
        command.env_remove(name);
    }
    command.env("LC_ALL", "C").env_remove("LANGUAGE").current_dir(folder).stdin(Stdio::null()).process_group(0);
    if let Some(user) = run_as {
        command.uid(user.uid).gid(user.gid);
    }
    command
}

fn id(option: &str, name: &str) -> Option<u32> {
    let output = Command::new("id").args([option, name]).stdin(Stdio::null()).output().ok()?;
    if output.status.success() { String::from_utf8_lossy(&output.stdout).trim().parse().ok() } else { None }
}
