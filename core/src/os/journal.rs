//! Journals in files. The files are written by a thread of their own: the pool's task hands over what there is and goes
//! on. What cannot be written is logged.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use crate::journal::{Chunk, Dump, JournalSink, Stream, Why};

/// How many journals may wait to be written. A disk that does not keep up with that loses the newer ones, and a log
/// line says so.
const BACKLOG: usize = 16;
/// The ending of a journal's file.
const ENDING: &str = "pgweir";

/// Writes each journal to a file of its own in a directory, and keeps the last of them.
///
/// The names sort by time: `20260131T120000.000Z-000001-unhealthy.pgweir`. A file appears under its name when it is
/// whole. Several pools may share a directory, through one of these or through several.
#[derive(Debug)]
pub struct JournalDirectory {
    writer: Writer<Dump>,
}

impl JournalDirectory {
    /// Writes to `directory`, which is made if it is missing, and keeps the last `keep` journals in it, at least one.
    ///
    /// # Errors
    /// The operating system's, when the directory or the thread cannot be made.
    pub fn new(directory: impl Into<PathBuf>, keep: usize) -> io::Result<Self> {
        let directory = directory.into();
        fs::create_dir_all(&directory)?;
        let writer = Writer::start(move |dump: Dump| {
            let written = write_dump(&directory, &dump);
            report(&directory, dump.entries(), &dump.header().why, written);
            if let Err(error) = prune(&directory, keep.max(1)) {
                tracing::error!(
                    name: "pgweir.journal.failed",
                    path = %directory.display(),
                    "old journals could not be removed: {error}"
                );
            }
        })?;
        Ok(JournalDirectory { writer })
    }

    /// Waits until everything handed over so far is written, or given up. Blocks: for the end of a program or a test.
    pub fn flush(&self) {
        self.writer.flush();
    }
}

impl JournalSink for JournalDirectory {
    fn dump(&self, dump: Dump) {
        self.writer.send(dump);
    }
}

/// Appends everything that a pool does to a file, as it happens: about 15 bytes an event, and at most about a second
/// late, for which the pool's background task wakes once a second. The file grows without a limit.
///
/// A file that exists is not touched: `pool.pgweir` is followed by `pool.1.pgweir`, `pool.2.pgweir` and so on. A new one
/// is also begun when events were lost because the disk did not keep up, so that each file can be replayed by itself;
/// and each of several pools that share this has its own.
#[derive(Debug)]
pub struct JournalFile {
    writer: Writer<Chunk>,
    failed: Failed,
}

/// Pools of which a chunk could not be written: those that follow need a new file.
type Failed = Arc<Mutex<BTreeSet<u64>>>;

impl JournalFile {
    /// Writes to `path`, or to the first of its successors that does not exist.
    ///
    /// # Errors
    /// The operating system's, when the directory does not exist or the thread cannot be made.
    pub fn new(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !fs::metadata(directory)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let failed = Failed::default();
        let mut appending = Appending { path, pools: BTreeMap::new(), failed: failed.clone() };
        let writer = Writer::start(move |chunk: Chunk| appending.append(&chunk))?;
        Ok(JournalFile { writer, failed })
    }

    /// Waits until everything handed over so far is written, or given up. Blocks: for the end of a program or a test.
    pub fn flush(&self) {
        self.writer.flush();
    }
}

impl JournalSink for JournalFile {
    /// Nothing: what it holds is in the file anyway.
    fn dump(&self, _dump: Dump) {}

    fn is_continuous(&self) -> bool {
        true
    }

    fn append(&self, chunk: Chunk) -> bool {
        let failed = lock(&self.failed).remove(&chunk.pool());
        (!failed || chunk.begins().is_some()) && self.writer.send(chunk)
    }
}

/// Files that grow, by pool.
struct Appending {
    path: PathBuf,
    pools: BTreeMap<u64, Growing>,
    failed: Failed,
}

/// A pool's file.
struct Growing {
    path: PathBuf,
    file: File,
    stream: Stream,
}

impl Appending {
    fn append(&mut self, chunk: &Chunk) {
        if let Err((path, error)) = self.try_append(chunk) {
            // What follows would not fit what is there: it needs a journal that begins anew.
            self.pools.remove(&chunk.pool());
            lock(&self.failed).insert(chunk.pool());
            tracing::error!(
                name: "pgweir.journal.failed",
                path = %path.display(),
                "a journal could not be written on: {error}"
            );
        }
    }

    fn try_append(&mut self, chunk: &Chunk) -> Result<(), (PathBuf, io::Error)> {
        if chunk.begins().is_some() {
            let (path, file) = create_next(&self.path).map_err(|error| (self.path.clone(), error))?;
            self.pools.insert(chunk.pool(), Growing { path, file, stream: Stream::new() });
        }
        // Without a file: it was handed over before the one ahead of it could not be written.
        let Some(Growing { path, file, stream }) = self.pools.get_mut(&chunk.pool()) else { return Ok(()) };
        let bytes = stream.add(chunk);
        if let Err(error) = file.write_all(&bytes) {
            if chunk.begins().is_some() {
                // Without its beginning it is of no use; a second error says no more than the first.
                let _ = fs::remove_file(&path);
            }
            return Err((path.clone(), error));
        }
        if let Some(header) = chunk.begins() {
            report(path, chunk.entries(), &header.why, Ok((path.clone(), bytes.len())));
        }
        if chunk.ends() {
            self.pools.remove(&chunk.pool());
        }
        Ok(())
    }
}

fn lock(failed: &Failed) -> MutexGuard<'_, BTreeSet<u64>> {
    failed.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Creates the first of `path` and its successors that does not exist.
fn create_next(path: &Path) -> io::Result<(PathBuf, File)> {
    let mut candidate = path.to_owned();
    for number in 1_u32.. {
        match OpenOptions::new().write(true).create_new(true).open(&candidate) {
            Ok(file) => return Ok((candidate, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let ending = path.extension().map_or_else(String::new, |ending| format!(".{}", ending.display()));
                let stem = path.file_stem().unwrap_or_default().display();
                candidate.set_file_name(format!("{stem}.{number}{ending}"));
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Distinguishes what is written in one millisecond.
static NUMBER: AtomicU64 = AtomicU64::new(1);

fn write_dump(directory: &Path, dump: &Dump) -> io::Result<(PathBuf, usize)> {
    let header = dump.header();
    let written = UNIX_EPOCH.checked_add(header.unix(header.written)).unwrap_or(UNIX_EPOCH);
    let time: String =
        humantime::format_rfc3339_millis(written).to_string().chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let why = match header.why {
        Why::Unhealthy => "unhealthy",
        Why::Timeout => "timeout",
        Why::Demand | Why::Continuous | Why::Simulated { .. } => "demand",
    };
    let path = directory.join(format!("{time}-{number:06}-{why}.{ENDING}"));
    let unfinished = path.with_extension("unfinished");
    let bytes = dump.to_bytes();
    let result = fs::write(&unfinished, &bytes).and_then(|()| fs::rename(&unfinished, &path));
    if result.is_err() {
        // It may hold a part; a second error says no more than the first.
        let _ = fs::remove_file(&unfinished);
    }
    result.map(|()| (path, bytes.len()))
}

/// Removes all but the last `keep` journals.
fn prune(directory: &Path, keep: usize) -> io::Result<()> {
    let mut journals = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == ENDING) {
            journals.insert(path.file_name().map(ToOwned::to_owned), path);
        }
    }
    let surplus = journals.len().saturating_sub(keep);
    for path in journals.values().take(surplus) {
        match fs::remove_file(path) {
            // Another of us was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
    }
    Ok(())
}

fn report(place: &Path, entries: usize, why: &Why, written: io::Result<(PathBuf, usize)>) {
    match written {
        Ok((path, bytes)) => tracing::info!(
            name: "pgweir.journal.written",
            path = %path.display(),
            entries,
            bytes,
            "a journal was written {why}"
        ),
        Err(error) => tracing::error!(
            name: "pgweir.journal.failed",
            path = %place.display(),
            entries,
            "a journal could not be written: {error}"
        ),
    }
}

/// A thread that does one thing after another.
#[derive(Debug)]
struct Writer<T> {
    queue: SyncSender<Order<T>>,
}

enum Order<T> {
    Write(T),
    /// Answered when everything before it is done.
    Flush(SyncSender<()>),
}

impl<T: Send + 'static> Writer<T> {
    /// The thread ends when this is dropped and everything is written.
    fn start(mut write: impl FnMut(T) + Send + 'static) -> io::Result<Self> {
        let (queue, orders): (_, Receiver<Order<T>>) = sync_channel(BACKLOG);
        // What is logged goes where the maker's log goes, if that is not simply the program's.
        let dispatch = tracing::dispatcher::get_default(Clone::clone);
        std::thread::Builder::new().name("pgweir-journal".to_owned()).spawn(move || {
            let scoped = !dispatch.is::<tracing::subscriber::NoSubscriber>();
            let _log = scoped.then(|| tracing::dispatcher::set_default(&dispatch));
            for order in orders {
                match order {
                    Order::Write(what) => write(what),
                    // Whoever asked may have gone.
                    Order::Flush(done) => drop(done.send(())),
                }
            }
        })?;
        Ok(Writer { queue })
    }

    /// Whether it was taken; if not, a log line says so.
    fn send(&self, what: T) -> bool {
        let sent = self.queue.try_send(Order::Write(what));
        match &sent {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => tracing::error!(
                name: "pgweir.journal.failed",
                "a journal was dropped: {BACKLOG} wait to be written already"
            ),
            Err(TrySendError::Disconnected(_)) => tracing::error!(
                name: "pgweir.journal.failed",
                "a journal was dropped: the thread that writes them has ended"
            ),
        }
        sent.is_ok()
    }

    fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.queue.send(Order::Flush(done)).is_ok() {
            // An error means that the thread has ended, and with it whatever could be waited for.
            let _ = wait.recv();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "files")]
    fn successors_are_found_and_nothing_is_overwritten() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pool.pgweir");
        let names: Vec<String> = (0..3)
            .map(|_| create_next(&path).expect("created").0.file_name().expect("named").display().to_string())
            .collect();
        assert_eq!(names, ["pool.pgweir", "pool.1.pgweir", "pool.2.pgweir"]);
        assert!(create_next(&directory.path().join("missing/pool.pgweir")).is_err());
        assert!(JournalFile::new(directory.path().join("missing/pool.pgweir")).is_err());
    }

    #[test]
    #[cfg_attr(miri, ignore = "files")]
    fn only_the_last_journals_stay_and_foreign_files_too() {
        let directory = tempfile::tempdir().expect("a directory");
        for name in ["2-b.pgweir", "1-a.pgweir", "3-c.pgweir", "notes.txt"] {
            fs::write(directory.path().join(name), "").expect("written");
        }
        prune(directory.path(), 2).expect("pruned");
        let mut left: Vec<String> = fs::read_dir(directory.path())
            .expect("there")
            .map(|entry| entry.expect("readable").file_name().display().to_string())
            .collect();
        left.sort();
        assert_eq!(left, ["2-b.pgweir", "3-c.pgweir", "notes.txt"]);
    }

    #[test]
    fn a_writer_that_is_dropped_still_writes_what_it_was_given() {
        let (sender, receiver) = sync_channel(8);
        let writer = Writer::start(move |number: u32| sender.send(number).expect("received")).expect("a thread");
        (0..5).for_each(|number| assert!(writer.send(number)));
        drop(writer);
        let written: Vec<u32> = receiver.iter().collect();
        assert_eq!(written, [0, 1, 2, 3, 4]);
    }
}
