//! Finding the text files in a folder, within bounds.

use std::fs::Metadata;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};
use walkdir::{DirEntry, WalkDir};

/// Larger files are left out: they are data, and what PostgreSQL keeps of a document's words may not exceed 1 MiB.
pub(crate) const MAX_FILE_BYTES: u64 = 256 * 1024;
/// More files than this in one folder are left out.
pub(crate) const MAX_FILES: usize = 20_000;
/// Folders deeper than this are left out.
const MAX_DEPTH: usize = 64;

/// Folders that hold what others wrote or what was built.
const SKIPPED_FOLDERS: &[&str] = &["target", "node_modules", "__pycache__", "venv", "dist", "build"];

/// What is in a folder.
#[derive(Default)]
pub(crate) struct Walk {
    /// The files to index, in the order of their paths.
    pub(crate) files: Vec<Found>,
    /// Files that are left out since they are too large.
    pub(crate) too_large: usize,
    /// Whether all of the folder was seen: there were not too many files, and each folder could be read.
    pub(crate) complete: bool,
}

/// A file, by what the file system says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) path: String,
    pub(crate) size: i64,
    pub(crate) modified_ns: i64,
}

/// A file's text.
pub(crate) struct Text {
    pub(crate) hash: Vec<u8>,
    pub(crate) content: String,
}

/// Walks `folder`, without following links and leaving out what is hidden.
pub(crate) fn walk(folder: &Path) -> Walk {
    let mut walk = Walk { complete: true, ..Walk::default() };
    let entries = WalkDir::new(folder).max_depth(MAX_DEPTH).sort_by_file_name().into_iter();
    for entry in entries.filter_entry(|entry| entry.depth() == 0 || is_of_interest(entry)) {
        let Ok(entry) = entry else {
            walk.complete = false;
            continue;
        };
        // What is gone since, or has no readable name, is not there.
        let (Ok(metadata), Some(path)) = (entry.metadata(), entry.path().to_str()) else { continue };
        if !metadata.is_file() {
            continue;
        }
        if metadata.len() > MAX_FILE_BYTES {
            walk.too_large += 1;
        } else if walk.files.len() == MAX_FILES {
            walk.complete = false;
            break;
        } else {
            walk.files.push(Found::new(path, &metadata));
        }
    }
    walk.files.sort_by(|one, other| one.path.cmp(&other.path));
    walk
}

impl Found {
    fn new(path: &str, metadata: &Metadata) -> Found {
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Found {
            path: path.to_owned(),
            size: metadata.len().try_into().unwrap_or(i64::MAX),
            modified_ns: modified.map_or(0, |age| age.as_nanos().try_into().unwrap_or(i64::MAX)),
        }
    }
}

/// Reads a file; `None` if it is gone, has grown too large, or is no text.
pub(crate) fn read(path: &str) -> Option<Text> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).ok()?;
    if bytes.len() as u64 > MAX_FILE_BYTES || bytes.contains(&0) {
        return None;
    }
    let hash = Sha256::digest(&bytes).to_vec();
    Some(Text { hash, content: String::from_utf8(bytes).ok()? })
}

/// The folder that a client means; nothing outside of `root` is read.
pub(crate) fn resolve(root: &Path, folder: &str) -> Result<PathBuf, String> {
    let path = root.join(folder).canonicalize().map_err(|error| format!("folder {folder:?}: {error}"))?;
    if !path.starts_with(root) {
        return Err(format!("folder {folder:?} is not in {}: start this server with another --root", root.display()));
    }
    if !path.is_dir() {
        return Err(format!("{folder:?} is no folder"));
    }
    if path.to_str().is_none() {
        return Err(format!("the path of folder {folder:?} is not UTF-8"));
    }
    Ok(path)
}

/// The language by the file's name; `text` if it is not known.
pub(crate) fn language(path: &str) -> &'static str {
    match Path::new(path).extension().and_then(|extension| extension.to_str()).unwrap_or_default() {
        "rs" => "rust",
        "py" | "pyi" => "python",
        "js" | "mjs" | "cjs" | "jsx" => "javascript",
        "ts" | "tsx" => "typescript",
        "go" => "go",
        "java" => "java",
        "kt" => "kotlin",
        "c" | "h" => "c",
        "cc" | "cpp" | "cxx" | "hh" | "hpp" => "cpp",
        "cs" => "csharp",
        "rb" => "ruby",
        "php" => "php",
        "sh" | "bash" => "shell",
        "sql" => "sql",
        "html" | "css" => "web",
        "md" => "markdown",
        "toml" | "yaml" | "yml" | "json" => "configuration",
        _ => "text",
    }
}

fn is_of_interest(entry: &DirEntry) -> bool {
    let name = entry.file_name().to_string_lossy();
    let skipped = entry.file_type().is_dir() && SKIPPED_FOLDERS.contains(&name.as_ref());
    !name.starts_with('.') && !skipped
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn hidden_built_linked_and_large_files_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        put("src/b.rs", b"fn b() {}");
        put("src/a.rs", b"fn a() {}");
        put("target/debug/a.rs", b"built");
        put(".git/config", b"hidden");
        put("data.csv", &vec![b'x'; MAX_FILE_BYTES as usize + 1]);
        std::os::unix::fs::symlink("/etc", folder.path().join("etc")).unwrap();
        let walk = walk(folder.path());
        let names: Vec<&str> = walk.files.iter().map(|file| file.path.rsplit('/').next().unwrap()).collect();
        assert_eq!(names, ["a.rs", "b.rs"]);
        assert_eq!((walk.too_large, walk.complete), (1, true));
        assert_eq!(walk.files[0].size, 9);
    }

    #[test]
    fn only_text_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let read_back = |bytes: &[u8]| {
            let path = folder.path().join("file");
            fs::write(&path, bytes).unwrap();
            read(path.to_str().unwrap()).map(|text| text.content)
        };
        assert_eq!(read_back("naïve".as_bytes()).as_deref(), Some("naïve"));
        assert_eq!(read_back(b"a\0b"), None);
        assert_eq!(read_back(b"\xff\xfe"), None);
        assert!(read("/no/such/file").is_none());
    }

    #[test]
    fn nothing_outside_of_the_root_is_indexed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir(root.join("src")).unwrap();
        fs::write(root.join("file"), "").unwrap();
        std::os::unix::fs::symlink("/", root.join("out")).unwrap();
        assert_eq!(resolve(&root, "src"), Ok(root.join("src")));
        assert_eq!(resolve(&root, root.to_str().unwrap()), Ok(root.clone()));
        for (bad, why) in [("..", "--root"), ("out", "--root"), ("/", "--root"), ("file", "no folder"), ("x", "x")] {
            let error = resolve(&root, bad).unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
