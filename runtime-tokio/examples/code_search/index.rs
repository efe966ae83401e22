//! `index_folder`: what changed in a folder since the last time goes into the table.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use pgweir_core::client::Transaction;
use pgweir_tokio::TokioRuntime;
use rmcp::schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use crate::database::Database;
use crate::errors::Failure;
use crate::walk::{self, Found, Text, Walk};
use crate::words::words;

/// Files in one transaction: few enough that a connection is not held for long, and memory stays small.
const BATCH: usize = 64;

/// One indexing at a time writes, so that two of the same folder cannot lock each other out.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7043226281943297025)";

/// What `index_folder` takes.
#[derive(Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
pub(crate) struct Request {
    /// The folder, relative to the server's root or absolute; "." is all of it.
    pub(crate) folder: String,
}

/// What `index_folder` did.
#[derive(Serialize, JsonSchema, Default)]
#[schemars(crate = "rmcp::schemars")]
pub(crate) struct Indexed {
    /// The folder's full path.
    folder: String,
    /// Files that were not there before.
    added: usize,
    /// Files with another content than before.
    changed: usize,
    /// Files that are as they were.
    unchanged: usize,
    /// Files that are gone from the folder, and so from the index.
    removed: u64,
    /// Files that are left out: larger than 256 KiB, or no text.
    skipped: usize,
    /// Whether all of the folder was seen. If not there were more than 20,000 files, or some folder could not be read;
    /// then nothing is removed.
    complete: bool,
    /// How long it took.
    took_ms: u64,
}

/// A file in the table.
struct Known {
    size: i64,
    modified_ns: i64,
    hash: Vec<u8>,
}

/// Brings the index of a folder up to date. What is committed stays if it fails half-way; the next time goes on there.
pub(crate) async fn run(database: &Database, root: PathBuf, request: Request) -> Result<Indexed, Failure> {
    let begun = Instant::now();
    let (folder, walk) = spawn_blocking(move || {
        let folder = walk::resolve(&root, &request.folder)?;
        let walk = walk::walk(&folder);
        Ok::<_, String>((folder, walk))
    })
    .await?
    .map_err(Failure::Refused)?;
    let known = known(database, &folder).await?;
    let mut indexed = Indexed {
        folder: folder.display().to_string(),
        skipped: walk.too_large,
        complete: walk.complete,
        ..Indexed::default()
    };
    let gone = gone(&known, &walk);
    let fresh: Vec<Found> = walk.files.into_iter().filter(|file| !is_as_before(file, &known)).collect();
    indexed.unchanged = known.len() - gone.len() - fresh.iter().filter(|file| known.contains_key(&file.path)).count();
    for batch in fresh.chunks(BATCH) {
        let files = batch.to_vec();
        let texts = spawn_blocking(move || files.into_iter().map(|file| (walk::read(&file.path), file)).collect());
        store(database, texts.await?, &known, &mut indexed).await?;
    }
    indexed.removed = remove(database, &gone).await?;
    indexed.took_ms = begun.elapsed().as_millis() as u64;
    Ok(indexed)
}

async fn known(database: &Database, folder: &Path) -> Result<HashMap<String, Known>, Failure> {
    let prefix = format!("{}/", folder.display().to_string().trim_end_matches('/'));
    let sql = "SELECT path, size, modified_ns, hash FROM code_search.file WHERE starts_with(path, $1)";
    let rows = database.get().await?.query(sql, &[&prefix]).await?;
    let known = rows.iter().map(|row| {
        let (size, modified_ns, hash) = (row.get("size"), row.get("modified_ns"), row.get("hash"));
        (row.get("path"), Known { size, modified_ns, hash })
    });
    Ok(known.collect())
}

/// Paths that are in the table and not in the folder; none if not all of the folder was seen.
fn gone(known: &HashMap<String, Known>, walk: &Walk) -> Vec<String> {
    if !walk.complete {
        return Vec::new();
    }
    let there = |path: &str| walk.files.binary_search_by(|file| file.path.as_str().cmp(path)).is_ok();
    known.keys().filter(|path| !there(path)).cloned().collect()
}

fn is_as_before(file: &Found, known: &HashMap<String, Known>) -> bool {
    let before = known.get(&file.path);
    before.is_some_and(|before| before.size == file.size && before.modified_ns == file.modified_ns)
}

/// Writes one batch, in a transaction on a connection of its own.
async fn store(
    database: &Database,
    texts: Vec<(Option<Text>, Found)>,
    known: &HashMap<String, Known>,
    indexed: &mut Indexed,
) -> Result<(), Failure> {
    let mut lease = database.get().await?;
    let mut transaction = lease.transaction().await?;
    transaction.batch_execute(LOCK).await?;
    let mut counts = (0, 0, 0, 0);
    for (text, file) in texts {
        let before = known.get(&file.path);
        match (text, before) {
            (None, before) => {
                counts.3 += 1;
                if before.is_some() {
                    transaction.execute("DELETE FROM code_search.file WHERE path = $1", &[&file.path]).await?;
                }
            }
            (Some(text), Some(before)) if before.hash == text.hash => {
                let sql = "UPDATE code_search.file SET size = $2, modified_ns = $3 WHERE path = $1";
                transaction.execute(sql, &[&file.path, &file.size, &file.modified_ns]).await?;
                counts.2 += 1;
            }
            (Some(text), before) => {
                write(&mut transaction, &file, &text).await?;
                if before.is_some() { counts.1 += 1 } else { counts.0 += 1 }
            }
        }
    }
    transaction.commit().await?;
    indexed.added += counts.0;
    indexed.changed += counts.1;
    indexed.unchanged += counts.2;
    indexed.skipped += counts.3;
    Ok(())
}

async fn write(transaction: &mut Transaction<'_, TokioRuntime>, file: &Found, text: &Text) -> Result<(), Failure> {
    let sql = "INSERT INTO code_search.file (path, language, size, modified_ns, hash, content, words)
         VALUES ($1, $2, $3, $4, $5, $6, to_tsvector('simple', $7))
         ON CONFLICT (path) DO UPDATE SET language = excluded.language, size = excluded.size,
             modified_ns = excluded.modified_ns, hash = excluded.hash, content = excluded.content,
             words = excluded.words, indexed_at = now()";
    let (language, words) = (walk::language(&file.path), words(&text.content));
    transaction
        .execute(sql, &[&file.path, &language, &file.size, &file.modified_ns, &text.hash, &text.content, &words])
        .await?;
    Ok(())
}

async fn remove(database: &Database, gone: &[String]) -> Result<u64, Failure> {
    if gone.is_empty() {
        return Ok(0);
    }
    let sql = "DELETE FROM code_search.file WHERE path = ANY($1)";
    Ok(database.get().await?.execute(sql, &[&gone]).await?)
}
