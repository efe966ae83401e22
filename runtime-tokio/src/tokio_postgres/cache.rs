//! Prepared statements that are kept with their connection.

use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Statement};

use super::wire::lock;

/// One connection's prepared statements, by text and parameter types. When it is full, the one that was used longest ago
/// is closed.
pub struct StatementCache {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: HashMap<String, Vec<Entry>>,
    size: usize,
    clock: u64,
}

struct Entry {
    types: Vec<Type>,
    statement: Statement,
    used: u64,
}

impl StatementCache {
    pub(super) fn new(limit: usize) -> Self {
        StatementCache { limit, state: Mutex::default() }
    }

    /// How many statements are kept.
    pub fn size(&self) -> usize {
        lock(&self.state).size
    }

    /// Forgets all. A statement is closed on the server when its last user has dropped it.
    pub fn clear(&self) {
        let entries = {
            let mut state = lock(&self.state);
            state.size = 0;
            std::mem::take(&mut state.entries)
        };
        drop(entries);
    }

    /// Forgets one, and returns it.
    pub fn remove(&self, query: &str, types: &[Type]) -> Option<Statement> {
        lock(&self.state).remove(query, types)
    }

    /// The kept statement for `query`, or a new one, which is kept.
    ///
    /// # Errors
    /// As [`Client::prepare`].
    pub async fn prepare(&self, client: &Client, query: &str) -> Result<Statement, Error> {
        self.prepare_typed(client, query, &[]).await
    }

    /// As [`prepare`](StatementCache::prepare), with the types of the first parameters; those beyond are inferred.
    ///
    /// # Errors
    /// As [`Client::prepare_typed`].
    pub async fn prepare_typed(&self, client: &Client, query: &str, types: &[Type]) -> Result<Statement, Error> {
        if let Some(statement) = lock(&self.state).find(query, types) {
            return Ok(statement);
        }
        let statement = client.prepare_typed(query, types).await?;
        if self.limit > 0 {
            let evicted = lock(&self.state).insert(self.limit, query, types, &statement);
            drop(evicted);
        }
        Ok(statement)
    }
}

impl State {
    fn find(&mut self, query: &str, types: &[Type]) -> Option<Statement> {
        self.clock += 1;
        let entry = self.entries.get_mut(query)?.iter_mut().find(|entry| entry.types == types)?;
        entry.used = self.clock;
        Some(entry.statement.clone())
    }

    /// Keeps `statement`. What had to go for it.
    fn insert(&mut self, limit: usize, query: &str, types: &[Type], statement: &Statement) -> Option<Statement> {
        let replaced = self.remove(query, types);
        let evicted = match self.size >= limit {
            true => self.oldest().and_then(|(query, types)| self.remove(&query, &types)),
            false => None,
        };
        self.clock += 1;
        let entry = Entry { types: types.to_vec(), statement: statement.clone(), used: self.clock };
        self.entries.entry(query.to_owned()).or_default().push(entry);
        self.size += 1;
        replaced.or(evicted)
    }

    fn oldest(&self) -> Option<(String, Vec<Type>)> {
        let entries = self.entries.iter().flat_map(|(query, entries)| entries.iter().map(move |entry| (query, entry)));
        let (query, entry) = entries.min_by_key(|(_, entry)| entry.used)?;
        Some((query.clone(), entry.types.clone()))
    }

    fn remove(&mut self, query: &str, types: &[Type]) -> Option<Statement> {
        let entries = self.entries.get_mut(query)?;
        let at = entries.iter().position(|entry| entry.types == types)?;
        let entry = entries.swap_remove(at);
        if entries.is_empty() {
            self.entries.remove(query);
        }
        self.size -= 1;
        Some(entry.statement)
    }
}

impl fmt::Debug for StatementCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatementCache").field("size", &self.size()).field("limit", &self.limit).finish()
    }
}
