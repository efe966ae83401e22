//! A copy of the tree, to be broken.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{BadList, Mutation};

/// A copy of what is in the repository, without what is built, and its own build directory.
#[derive(Debug)]
pub struct Scratch {
    tree: PathBuf,
    target: PathBuf,
}

impl Scratch {
    /// Copies the tree at `root` as it is now into `folder`. What was built there before is used again.
    ///
    /// # Errors
    /// git or the file system says no.
    pub fn new(root: &Path, folder: &Path) -> io::Result<Scratch> {
        let scratch = Scratch { tree: folder.join("tree"), target: folder.join("target") };
        match fs::remove_dir_all(&scratch.tree) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listed = Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
            .current_dir(root)
            .output()?;
        if !listed.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&listed.stderr).into_owned()));
        }
        for name in String::from_utf8_lossy(&listed.stdout).split_terminator('\0') {
            let (from, to) = (root.join(name), scratch.tree.join(name));
            // A file that is deleted but not yet out of git's index.
            if !from.is_file() {
                continue;
            }
            fs::create_dir_all(to.parent().unwrap_or(&scratch.tree))?;
            fs::copy(&from, &to)?;
            // What has not changed is not built again.
            File::options().write(true).open(&to)?.set_modified(from.metadata()?.modified()?)?;
        }
        Ok(scratch)
    }

    /// A command in the tree.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.target).env("CARGO_INCREMENTAL", "1");
        command
    }

    /// Where output is kept while a command runs.
    pub(super) fn output(&self) -> PathBuf {
        self.target.join("output.txt")
    }

    /// Applies `mutation` while `work` runs.
    ///
    /// # Errors
    /// It does not fit, or the file system says no.
    pub fn with<T>(&self, mutation: &Mutation, work: impl FnOnce() -> T) -> Result<T, BadList> {
        let path = self.tree.join(&mutation.file);
        let bad = |error: io::Error| BadList(format!("{}: {error}", mutation.file));
        let source = fs::read_to_string(&path).map_err(bad)?;
        fs::write(&path, mutation.apply(&source)?).map_err(bad)?;
        let result = work();
        fs::write(&path, source).map_err(bad)?;
        Ok(result)
    }
}
