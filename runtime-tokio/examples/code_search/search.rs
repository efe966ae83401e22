//! `search_code` and `index_status`.

use rmcp::schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::database::Database;
use crate::errors::Failure;
use crate::snippet::snippet;
use crate::words::{question, wanted};

const MOST: u32 = 50;

/// What `search_code` takes.
#[derive(Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
pub(crate) struct Request {
    /// Words or identifiers that all must occur; "phrases" in quotes, `or`, and `-word` for what must not occur.
    query: String,
    /// Only files of this language, as index_status names it.
    #[serde(default)]
    language: Option<String>,
    /// At most so many files, 1 to 50; 10 unless told.
    #[serde(default)]
    limit: Option<u32>,
}

/// What `search_code` found.
#[derive(Serialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
pub(crate) struct Matches {
    /// The files, the best first.
    matches: Vec<Match>,
}

/// A file that was found.
#[derive(Serialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
struct Match {
    path: String,
    language: String,
    /// The line with most of the words, from 1.
    line: usize,
    /// That line, with the one before and the one after.
    snippet: String,
    rank: f32,
}

/// What is indexed.
#[derive(Serialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
pub(crate) struct Status {
    files: i64,
    bytes: i64,
    /// When a file was last written to the index.
    last_indexed: Option<String>,
    languages: Vec<Language>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
struct Language {
    language: String,
    files: i64,
}

/// Full-text search, by rank.
pub(crate) async fn run(database: &Database, request: Request) -> Result<Matches, Failure> {
    let question = question(&request.query);
    let wanted = wanted(&question);
    if wanted.is_empty() {
        return Err(Failure::Refused(format!("query {:?} has no word to look for", request.query)));
    }
    let limit = request.limit.unwrap_or(10);
    if !(1..=MOST).contains(&limit) {
        return Err(Failure::Refused(format!("limit {limit} is not within 1 to {MOST}")));
    }
    // 1: a word in a long file says less.
    let sql = "SELECT path, language, content, ts_rank_cd(words, query, 1) AS rank
         FROM code_search.file, websearch_to_tsquery('simple', $1) AS query
         WHERE words @@ query AND ($2::text IS NULL OR language = $2)
         ORDER BY rank DESC, path LIMIT $3";
    let rows = database.get().await?.query(sql, &[&question, &request.language, &i64::from(limit)]).await?;
    let matches = rows.iter().map(|row| {
        let (line, snippet) = snippet(row.get("content"), &wanted);
        Match { path: row.get("path"), language: row.get("language"), line, snippet, rank: row.get("rank") }
    });
    Ok(Matches { matches: matches.collect() })
}

/// How much is indexed, by language, from one moment.
pub(crate) async fn status(database: &Database) -> Result<Status, Failure> {
    let sql = "SELECT language, count(*) AS files, sum(size)::bigint AS bytes,
             to_char(max(indexed_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') AS last_indexed
         FROM code_search.file GROUP BY language ORDER BY files DESC, language";
    let rows = database.get().await?.query(sql, &[]).await?;
    Ok(Status {
        files: rows.iter().map(|row| row.get::<_, i64>("files")).sum(),
        bytes: rows.iter().map(|row| row.get::<_, i64>("bytes")).sum(),
        last_indexed: rows.iter().filter_map(|row| row.get("last_indexed")).max(),
        languages: rows.iter().map(|row| Language { language: row.get("language"), files: row.get("files") }).collect(),
    })
}
