//! initdb once, copy ever after: an initialised cluster is kept per version and shared by all test processes.

use super::binaries::Binaries;
use super::builder::Auth;
use super::user::{self, RunAs};
use crate::state::{self, FileLock};
use crate::{Error, Result};
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};

/// The superuser's password in a template.
pub(super) const PASSWORD: &str = "pgweir";

/// Part of the key: raise it when the arguments of initdb change.
const FORMAT: u32 = 1;

/// Makes `target` a freshly initialised cluster that belongs to the server's user.
pub(super) fn instantiate(
    binaries: &Binaries,
    run_as: Option<&RunAs>,
    auth: Auth,
    base: &Path,
    target: &Path,
) -> Result<()> {
    let key = key(binaries, auth);
    let folder = state::folder(base, "templates")?;
    let template = folder.join(&key);
    let manifest = folder.join(format!("{key}.files"));
    let lock = FileLock::acquire(&folder.join(format!("{key}.lock")))?;
    if !template.is_dir() || !manifest.is_file() {
        build(binaries, run_as, auth, base, &template, &manifest)?;
    }
    drop(lock);
    if copy_whole(&template, &manifest, target, run_as)? {
        return Ok(());
    }
    // A cleaner of temporary folders has been at it: build it anew.
    let _lock = FileLock::acquire(&folder.join(format!("{key}.lock")))?;
    remove(target)?;
    if copy_whole(&template, &manifest, target, run_as)? {
        return Ok(());
    }
    remove(target)?;
    build(binaries, run_as, auth, base, &template, &manifest)?;
    if copy_whole(&template, &manifest, target, run_as)? {
        return Ok(());
    }
    Err(Error::Failed { what: format!("copy the template {}", template.display()), output: "files are missing".into() })
}

fn key(binaries: &Binaries, auth: Auth) -> String {
    let place = state::stable_hash(binaries.folder.as_os_str());
    let stored = if auth == Auth::Md5 { "md5" } else { "scram" };
    format!("{FORMAT}-{}-{stored}-{place:016x}", state::file_name(&binaries.version))
}

fn build(
    binaries: &Binaries,
    run_as: Option<&RunAs>,
    auth: Auth,
    base: &Path,
    template: &Path,
    manifest: &Path,
) -> Result<()> {
    // Built beside the cache, where the server's user can write, and moved into it in one step.
    let workshop = tempfile::Builder::new().prefix("pgw").tempdir_in(base).map_err(Error::io("make a folder"))?;
    let password_file = workshop.path().join("password");
    fs::write(&password_file, format!("{PASSWORD}\n")).map_err(Error::io("write the password file"))?;
    give(workshop.path(), run_as)?;
    give(&password_file, run_as)?;
    let data = workshop.path().join("data");
    // initdb stores the superuser's password the way that its -A method needs it.
    let method = if auth == Auth::Md5 { "md5" } else { "scram-sha-256" };
    let output = user::command(&binaries.folder.join("initdb"), run_as, workshop.path())
        .arg("-D")
        .arg(&data)
        .args(["-U", "postgres", "-E", "UTF8", "--no-locale", "--no-sync", "--wal-segsize=1", "-A", method])
        .arg(format!("--pwfile={}", password_file.display()))
        .output()
        .map_err(Error::io(format!("run {}", binaries.folder.join("initdb").display())))?;
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        let output = String::from_utf8_lossy(&text).into_owned();
        return Err(Error::Failed { what: format!("initdb of {} failed", binaries.version), output });
    }
    remove(template)?;
    remove(manifest)?;
    let files = count(&data)?;
    fs::rename(&data, template).map_err(Error::io(format!("move the template to {}", template.display())))?;
    fs::write(manifest, files.to_string()).map_err(Error::io(format!("write {}", manifest.display())))
}

/// Copies the template; false if it is not whole any more.
fn copy_whole(template: &Path, manifest: &Path, target: &Path, run_as: Option<&RunAs>) -> Result<bool> {
    let expected = fs::read_to_string(manifest).ok().and_then(|text| text.parse::<u64>().ok());
    match copy(template, target, run_as) {
        Ok(copied) => Ok(Some(copied) == expected),
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Copies a tree and returns how many files and folders it has.
fn copy(from: &Path, to: &Path, run_as: Option<&RunAs>) -> Result<u64> {
    DirBuilder::new().mode(0o700).create(to).map_err(Error::io(format!("create {}", to.display())))?;
    give(to, run_as)?;
    let mut copied = 1;
    for (path, is_folder) in list(from)? {
        let target = to.join(path.file_name().unwrap_or_default());
        if is_folder {
            copied += copy(&path, &target, run_as)?;
        } else {
            fs::copy(&path, &target).map_err(Error::io(format!("copy {}", path.display())))?;
            give(&target, run_as)?;
            copied += 1;
        }
    }
    Ok(copied)
}

fn count(folder: &Path) -> Result<u64> {
    list(folder)?.into_iter().try_fold(1, |sum, (path, is_folder)| Ok(sum + if is_folder { count(&path)? } else { 1 }))
}

fn list(folder: &Path) -> Result<Vec<(PathBuf, bool)>> {
    let what = || format!("list {}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(what()))? {
        let entry = entry.map_err(Error::io(what()))?;
        let kind = entry.file_type().map_err(Error::io(what()))?;
        found.push((entry.path(), kind.is_dir()));
    }
    Ok(found)
}

/// Hands a file to the server's user.
pub(super) fn give(path: &Path, run_as: Option<&RunAs>) -> Result<()> {
    let Some(user) = run_as else { return Ok(()) };
    chown(path, Some(user.uid), Some(user.gid)).map_err(Error::io(format!("hand {} to {}", path.display(), user.name)))
}

fn remove(path: &Path) -> Result<()> {
    let gone = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match gone {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}
