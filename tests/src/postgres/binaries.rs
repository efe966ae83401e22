//! Finding PostgreSQL's programs.

use super::install;
use super::user::{self, RunAs};
use crate::state;
use crate::{Error, Result};
use std::cmp::Reverse;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// A folder with `postgres` and `initdb`.
#[derive(Debug, Clone)]
pub(super) struct Binaries {
    pub(super) folder: PathBuf,
    /// What `postgres --version` says.
    pub(super) version: String,
}

impl Binaries {
    /// The binaries of `PG_BIN`, of `pg_config`, of the usual folders or of the PATH; installed if there are none and
    /// that is possible.
    pub(super) fn find(run_as: Option<&RunAs>) -> Result<Binaries> {
        static FOUND: OnceLock<Binaries> = OnceLock::new();
        if let Some(found) = FOUND.get() {
            return Ok(found.clone());
        }
        let found = Binaries::search(run_as)?;
        Ok(FOUND.get_or_init(|| found).clone())
    }

    /// The binaries of one folder.
    pub(super) fn at(folder: &Path, run_as: Option<&RunAs>) -> Result<Binaries> {
        if !is_complete(folder) {
            let message = format!("{} has no `postgres` and `initdb`", folder.display());
            return Err(Error::NoPostgres(message));
        }
        let folder = folder.canonicalize().map_err(Error::io(format!("resolve {}", folder.display())))?;
        let program = folder.join("postgres");
        let run = user::command(&program, run_as, &state::base_folder(run_as.is_some())).arg("--version").output();
        match run {
            Ok(output) if output.status.success() => {
                let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                Ok(Binaries { folder, version })
            }
            Ok(output) => Err(Error::Failed {
                what: format!("{} --version: {}{}", program.display(), output.status, hint(&folder)),
                output: String::from_utf8_lossy(&output.stderr).into_owned(),
            }),
            Err(source) => {
                let who = run_as.map_or(String::new(), |user| format!(" as user {}", user.name));
                let advice = "the file and every folder above it must be open to that user";
                Err(Error::io(format!("run {}{who} ({advice})", program.display()))(source))
            }
        }
    }

    fn search(run_as: Option<&RunAs>) -> Result<Binaries> {
        if let Some(folder) = std::env::var_os("PG_BIN").filter(|folder| !folder.is_empty()) {
            return Binaries::at(Path::new(&folder), run_as).map_err(|error| match error {
                Error::NoPostgres(text) => Error::NoPostgres(format!("PG_BIN: {text}")),
                other => other,
            });
        }
        // The user `postgres` may come with the installation, so who runs it is decided anew after it.
        match first_complete(candidates()) {
            Some(folder) => Binaries::at(&folder, run_as),
            None => {
                install::install(|| first_complete(candidates()).is_some())?;
                let folder =
                    first_complete(candidates()).ok_or_else(|| install::advice("the installation has none"))?;
                Binaries::at(&folder, run_as)
            }
        }
    }
}

/// npm's packages of PostgreSQL come without symbolic links; a script of theirs makes them, unless it was not run.
fn hint(folder: &Path) -> &'static str {
    if folder.join("../pg-symlinks.json").is_file() {
        ". This is an npm package unpacked by hand: run `node scripts/hydrate-symlinks.js` in it once"
    } else {
        ""
    }
}

fn candidates() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = pg_config().into_iter().collect();
    folders.extend(versioned("/usr/lib/postgresql", |name| name.parse().ok(), "bin"));
    folders.extend(versioned("/usr", |name| name.strip_prefix("pgsql-")?.parse().ok(), "bin"));
    folders.extend(versioned("/opt/homebrew/opt", homebrew, "bin"));
    folders.extend(versioned("/usr/local/opt", homebrew, "bin"));
    folders.extend(["/opt/homebrew/bin", "/usr/local/pgsql/bin"].map(PathBuf::from));
    folders.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    folders
}

fn first_complete(folders: Vec<PathBuf>) -> Option<PathBuf> {
    folders.into_iter().find(|folder| is_complete(folder))
}

/// `pg_config` may come from a package without a server, so what it says is only a candidate.
fn pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").stdin(Stdio::null()).output().ok()?;
    let folder = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !folder.trim().is_empty()).then(|| PathBuf::from(folder.trim()))
}

/// The sub-folders of `root` whose names are a version, the newest first.
fn versioned(root: &str, version: impl Fn(&str) -> Option<f32>, inner: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let mut found: Vec<(f32, PathBuf)> =
        entries.filter_map(|entry| Some((version(entry.file_name().to_str()?)?, entry.path().join(inner)))).collect();
    found.sort_by_key(|(version, _)| Reverse((version * 100.0) as u32));
    found.into_iter().map(|(_, path)| path).collect()
}

fn homebrew(name: &str) -> Option<f32> {
    let version = name.strip_prefix("postgresql")?;
    if version.is_empty() { Some(0.0) } else { version.strip_prefix('@')?.parse().ok() }
}

fn is_complete(folder: &Path) -> bool {
    ["postgres", "initdb"].iter().all(|program| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_comes_first() {
        let root = tempfile::tempdir().expect("a folder");
        for name in ["9.6", "15", "17", "common"] {
            fs::create_dir_all(root.path().join(name)).expect("a sub-folder");
        }
        let root = root.path().to_str().expect("a plain path");
        let found = versioned(root, |name| name.parse().ok(), "bin");
        let names: Vec<String> = found.iter().map(|path| path.display().to_string().replace(root, "")).collect();
        assert_eq!(names, ["/17/bin", "/15/bin", "/9.6/bin"]);
    }

    #[test]
    fn a_folder_without_programs_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = Binaries::at(folder.path(), None).expect_err("an empty folder");
        assert!(error.to_string().contains(folder.path().to_str().expect("a plain path")), "{error}");
    }
}
