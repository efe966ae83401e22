//! The folder where the test processes of one user meet: locks, reserved ports, the initdb cache.

use crate::{Error, Result};
use rustix::fs::{FlockOperation, flock};
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A lock between processes (and between threads), given back on drop or when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct FileLock {
    _file: File,
}

impl FileLock {
    /// Waits for the lock.
    pub(crate) fn acquire(path: &Path) -> Result<FileLock> {
        let file = open(path)?;
        loop {
            match flock(&file, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(FileLock { _file: file }),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::io(format!("lock {}", path.display()))(error.into())),
            }
        }
    }

    /// Takes the lock if nobody has it.
    pub(crate) fn try_acquire(path: &Path) -> Result<Option<FileLock>> {
        let file = open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(FileLock { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => Ok(None),
            Err(error) => Err(Error::io(format!("lock {}", path.display()))(error.into())),
        }
    }
}

/// The temporary folder to use: the system's, unless its path is too long for a Unix socket in it (`sun_path` holds
/// 107 bytes) or, where the server runs as another user (`shared`), that user could not enter it.
pub(crate) fn base_folder(shared: bool) -> PathBuf {
    let system = std::env::temp_dir();
    let system = system.canonicalize().unwrap_or(system);
    let short = system.as_os_str().as_bytes().len() <= 64;
    if short && (!shared || open_to_all(&system)) { system } else { PathBuf::from("/tmp") }
}

/// The folder of this user's test processes in `base`, with one sub-folder, made if need be.
pub(crate) fn folder(base: &Path, name: &str) -> Result<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let root = base.join(format!("pgweir-tests-{user}"));
    let path = root.join(name);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&path)
        .map_err(Error::io(format!("create the folder {}", path.display())))?;
    // The name can be foreseen: what another user put there (a link, say) is not followed.
    let found = fs::symlink_metadata(&root).map_err(Error::io(format!("look at {}", root.display())))?;
    if !found.is_dir() || found.uid() != user {
        let source = std::io::Error::other("it belongs to another user: remove it or set TMPDIR");
        return Err(Error::io(format!("use the folder {}", root.display()))(source));
    }
    Ok(path)
}

/// A name that is safe as one component of a path.
pub(crate) fn file_name(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}

/// FNV-1a: a hash that stays the same between processes and releases.
pub(crate) fn stable_hash(text: &OsStr) -> u64 {
    text.as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(Error::io(format!("open the lock file {}", path.display())))
}

fn open_to_all(path: &Path) -> bool {
    path.ancestors().all(|part| fs::metadata(part).is_ok_and(|m| m.permissions().mode() & 0o001 != 0))
}
