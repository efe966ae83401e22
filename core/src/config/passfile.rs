//! `~/.pgpass` (PostgreSQL's manual, "The Password File").

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// More is not a password file.
const MAX_BYTES: u64 = 1024 * 1024;

/// A line: what host, port, database and user must be (`None`: anything), and the password.
pub(crate) struct Entry {
    host: Option<String>,
    port: Option<String>,
    dbname: Option<String>,
    user: Option<String>,
    password: String,
}

/// Why a password file is not used.
#[derive(Debug)]
pub(crate) enum Unread {
    Missing,
    NotPlain,
    Exposed,
    TooLarge,
    Io(io::Error),
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unread::Missing => f.write_str("it does not exist"),
            Unread::NotPlain => f.write_str("it is not a plain file"),
            Unread::Exposed => f.write_str("others can read it; run chmod 600 on it"),
            Unread::TooLarge => f.write_str("it is larger than 1 MiB"),
            Unread::Io(error) => write!(f, "{error}"),
        }
    }
}

/// The entries of the file at `path`, if it is the owner's alone.
pub(crate) fn read(path: &Path) -> Result<Vec<Entry>, Unread> {
    // Asked before it is opened: opening a named pipe would wait for a writer.
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unread::Missing),
        Err(error) => return Err(Unread::Io(error)),
    };
    if !metadata.is_file() {
        return Err(Unread::NotPlain);
    }
    #[cfg(unix)]
    if std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077 != 0 {
        return Err(Unread::Exposed);
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)).map_err(Unread::Io)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Unread::TooLarge);
    }
    Ok(parse(&bytes))
}

/// Lines that are not entries are skipped, as libpq does.
pub(crate) fn parse(bytes: &[u8]) -> Vec<Entry> {
    bytes.split(|byte| *byte == b'\n').filter_map(|line| entry(std::str::from_utf8(line).ok()?)).collect()
}

/// The password of the first entry that fits.
pub(crate) fn find<'a>(entries: &'a [Entry], host: &str, port: u16, dbname: &str, user: &str) -> Option<&'a str> {
    let port = port.to_string();
    let fits = |pattern: &Option<String>, value: &str| pattern.as_deref().is_none_or(|pattern| pattern == value);
    entries
        .iter()
        .find(|entry| {
            fits(&entry.host, host)
                && fits(&entry.port, &port)
                && fits(&entry.dbname, dbname)
                && fits(&entry.user, user)
        })
        .map(|entry| entry.password.as_str())
}

fn entry(line: &str) -> Option<Entry> {
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.starts_with('#') || line.contains('\0') {
        return None;
    }
    let mut rest = line;
    let mut pattern = || {
        let (raw, value, after) = field(rest)?;
        rest = after?;
        Some(if raw == "*" { None } else { Some(value) })
    };
    let (host, port, dbname, user) = (pattern()?, pattern()?, pattern()?, pattern()?);
    let (_, password, _) = field(rest)?;
    (!password.is_empty()).then_some(Entry { host, port, dbname, user, password })
}

/// A field as written, without its escapes (`\:` and `\\`), and what follows its colon, if there is one.
fn field(text: &str) -> Option<(&str, String, Option<&str>)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((index, c)) = chars.next() {
        match c {
            ':' => return Some((&text[..index], value, Some(&text[index + 1..]))),
            '\\' => value.push(chars.next().map_or('\\', |(_, c)| c)),
            c => value.push(c),
        }
    }
    Some((text, value, None))
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    const FILE: &str = "# a comment:*:*:*:no\n\
        broken line\n\
        db1:5432:app:alice:first\n\
        db1:*:*:alice:any\\:port\\\\\r\n\
        ::1:*:*:*:never\n\
        \\:\\:1:*:*:*:six\n\
        *:5433:*:*:\n\
        *:5433:*:b\\*b:starred:ignored\n\
        localhost:5432:*:*:local\n";

    fn password(host: &str, port: u16, dbname: &str, user: &str) -> Option<String> {
        find(&parse(FILE.as_bytes()), host, port, dbname, user).map(str::to_owned)
    }

    #[test]
    fn the_first_entry_that_fits_wins() {
        assert_eq!(password("db1", 5432, "app", "alice").as_deref(), Some("first"));
        assert_eq!(password("db1", 5433, "app", "alice").as_deref(), Some("any:port\\"));
        assert_eq!(password("db1", 5432, "app", "bob"), None);
    }

    #[test]
    fn escapes_and_wildcards_are_told_apart() {
        assert_eq!(password("::1", 5432, "app", "bob").as_deref(), Some("six"));
        assert_eq!(password("db9", 5433, "app", "b*b").as_deref(), Some("starred"));
        assert_eq!(password("db9", 5433, "app", "bob"), None);
    }

    #[test]
    fn what_is_not_an_entry_is_skipped() {
        assert!(parse(b"\xff:*:*:*:x\na:b\n\n:::::\n").is_empty());
        assert_eq!(parse(b"a:b:c:d:e").len(), 1);
    }

    quickcheck! {
        fn any_bytes_are_a_password_file(bytes: Vec<u8>, host: String, user: String) -> bool {
            let _ = find(&parse(&bytes), &host, 5432, &user, &user);
            true
        }
    }
}
