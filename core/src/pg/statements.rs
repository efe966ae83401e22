//! Prepared statements and the bounded cache of them.
//!
//! Names are numbered and never used twice, so an outcome that nobody waited for can do no harm. A statement that the
//! cache has let go is closed once nobody holds it; the Close travels with the next request that is not a simple one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use postgres_types::{Kind, Oid, Type};

/// Which connection a statement or portal belongs to: names mean something else on another one.
#[derive(Clone, Debug, Default)]
pub(super) struct Owner(Arc<()>);

impl PartialEq for Owner {
    fn eq(&self, other: &Owner) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// A statement that the server has parsed on one connection. While one is held it stays prepared there, whether or not
/// the cache has let it go.
#[derive(Debug)]
pub struct Statement {
    pub(super) owner: Owner,
    /// Empty for the unnamed statement. Shared by all versions of the statement, which differ in what is known of its types.
    pub(super) name: Arc<str>,
    pub(super) sql: Arc<str>,
    pub(super) declared: Box<[Oid]>,
    pub(super) params: Box<[Type]>,
    pub(super) columns: Arc<[Column]>,
    /// Set when the server has it no more, or no more in this form: whoever still holds it is to prepare it again.
    /// Shared by all versions.
    pub(super) gone: Arc<AtomicBool>,
}

impl Statement {
    /// Its text.
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// The types of its parameters.
    pub fn params(&self) -> &[Type] {
        &self.params
    }

    /// The columns of its rows; empty if it returns none.
    pub fn columns(&self) -> &Arc<[Column]> {
        &self.columns
    }

    /// Types among parameters and columns that are neither built in nor known from
    /// [`Connection::learn_type`](super::Connection::learn_type): stand-ins with an empty name. Look them up in
    /// pg_type, learn them, then call [`Connection::resolve`](super::Connection::resolve).
    pub fn unknown_types(&self) -> Vec<Oid> {
        let all = self.params.iter().chain(self.columns.iter().map(|column| &column.type_));
        let mut oids: Vec<Oid> = all.filter(|type_| type_.name().is_empty()).map(Type::oid).collect();
        oids.sort_unstable();
        oids.dedup();
        oids
    }

    /// Whether it has to be prepared again.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Nobody but the caller's one Arc has it, in any version.
    fn is_unused(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) == 1 && Arc::strong_count(&self.name) == 1
    }
}

/// A column of a result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Column {
    /// Its name.
    pub name: Box<str>,
    /// Its type; with an empty name if the type is not known.
    pub type_: Type,
    /// The type's modifier, for instance a length; -1 if it has none.
    pub type_modifier: i32,
    /// The table it comes from, 0 if from none.
    pub table_oid: Oid,
    /// Its attribute number there, 0 if from none.
    pub column_id: i16,
    /// Whether its values are in binary format; text otherwise.
    pub binary: bool,
}

/// How the statement cache did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CacheStats {
    /// Statements in it.
    pub len: usize,
    /// Found.
    pub hits: u64,
    /// Not found.
    pub misses: u64,
    /// Pushed out by others.
    pub evictions: u64,
}

/// Types that are not built in, by OID.
#[derive(Default)]
pub(super) struct Types {
    learned: BTreeMap<Oid, Type>,
}

/// More types than this are not remembered.
const MAX_TYPES: usize = 10_000;

impl Types {
    pub(super) fn learn(&mut self, type_: Type) {
        if self.learned.len() >= MAX_TYPES {
            self.learned.pop_first();
        }
        self.learned.insert(type_.oid(), type_);
    }

    pub(super) fn known(&self, oid: Oid) -> Option<Type> {
        Type::from_oid(oid).or_else(|| self.learned.get(&oid).cloned())
    }

    /// The type, or a stand-in with an empty name.
    pub(super) fn get(&self, oid: Oid) -> Type {
        self.known(oid).unwrap_or_else(|| Type::new(String::new(), oid, Kind::Simple, String::new()))
    }
}

struct Entry {
    statement: Arc<Statement>,
    /// The cache's clock at its last use.
    used: u64,
}

/// The least recently used statement goes first.
pub(super) struct Statements {
    capacity: usize,
    /// By text; the few that differ only in declared types share a list.
    entries: BTreeMap<Arc<str>, Vec<Entry>>,
    len: usize,
    clock: u64,
    names: u64,
    /// Let go by the cache, or never in it, but still held by somebody.
    retired: VecDeque<Arc<Statement>>,
    /// Names to be closed on the server.
    closing: VecDeque<Arc<str>>,
    stats: CacheStats,
}

/// How many retired statements are looked at per request.
const SWEEP: usize = 8;

impl Statements {
    pub(super) fn new(capacity: usize) -> Self {
        Statements {
            capacity,
            entries: BTreeMap::new(),
            len: 0,
            clock: 0,
            names: 0,
            retired: VecDeque::new(),
            closing: VecDeque::new(),
            stats: CacheStats::default(),
        }
    }

    /// A name that this connection has never used.
    pub(super) fn fresh_name(&mut self) -> Arc<str> {
        self.names += 1;
        format!("pgweir_{}", self.names).into()
    }

    pub(super) fn get(&mut self, sql: &str, types: &[Type]) -> Option<Arc<Statement>> {
        self.clock += 1;
        let same = |entry: &&mut Entry| entry.statement.declared.iter().copied().eq(types.iter().map(Type::oid));
        match self.entries.get_mut(sql).and_then(|list| list.iter_mut().find(same)) {
            Some(entry) => {
                entry.used = self.clock;
                self.stats.hits += 1;
                Some(entry.statement.clone())
            }
            None => {
                self.stats.misses += 1;
                None
            }
        }
    }

    /// Takes a statement that the server has just parsed. If there is one of the same text and types already (two
    /// requests in flight at once) that one stays.
    pub(super) fn insert(&mut self, statement: Arc<Statement>) {
        let taken = self
            .entries
            .get(&statement.sql)
            .is_some_and(|list| list.iter().any(|entry| entry.statement.declared == statement.declared));
        if self.capacity == 0 || taken {
            self.retired.push_back(statement);
            return;
        }
        if self.len >= self.capacity {
            self.evict();
        }
        self.clock += 1;
        self.len += 1;
        let entry = Entry { used: self.clock, statement };
        self.entries.entry(entry.statement.sql.clone()).or_default().push(entry);
    }

    /// Replaces a statement by a version of it that knows more types.
    pub(super) fn replace(&mut self, statement: &Arc<Statement>) {
        let list = self.entries.get_mut(&statement.sql).map(|list| list.iter_mut().map(|entry| &mut entry.statement));
        let known = list.into_iter().flatten().chain(self.retired.iter_mut());
        for old in known.filter(|old| old.name == statement.name) {
            *old = statement.clone();
        }
    }

    /// Drops a statement that is not usable any more, or not wanted. Whether it was one of ours.
    pub(super) fn forget(&mut self, statement: &Statement) -> bool {
        statement.gone.store(true, Ordering::Relaxed);
        self.take_out(statement)
    }

    fn take_out(&mut self, statement: &Statement) -> bool {
        let before = self.len + self.retired.len();
        self.retired.retain(|old| old.name != statement.name);
        if let Some(list) = self.entries.get_mut(&statement.sql) {
            let entries = list.len();
            list.retain(|entry| entry.statement.name != statement.name);
            self.len -= entries - list.len();
            if list.is_empty() {
                self.entries.remove(&statement.sql);
            }
        }
        before != self.len + self.retired.len()
    }

    /// The server has dropped all prepared statements (DISCARD ALL, DEALLOCATE ALL).
    pub(super) fn forget_all(&mut self) {
        let cached = self.entries.values().flatten().map(|entry| &entry.statement);
        for statement in cached.chain(&self.retired) {
            statement.gone.store(true, Ordering::Relaxed);
        }
        self.entries.clear();
        self.len = 0;
        self.retired.clear();
        self.closing.clear();
    }

    /// A name to be closed. Closing one that does not exist is not an error.
    pub(super) fn close(&mut self, name: Arc<str>) {
        self.closing.push_back(name);
    }

    /// The first `max` names to be closed; they stay queued until [`Statements::closed`].
    pub(super) fn due_for_close(&mut self, max: usize) -> impl Iterator<Item = &Arc<str>> {
        for _ in 0..SWEEP.min(self.retired.len()) {
            let statement = self.retired.pop_front().expect("not more than there are");
            if statement.is_unused() {
                self.closing.push_back(statement.name.clone());
            } else {
                self.retired.push_back(statement);
            }
        }
        self.closing.iter().take(max)
    }

    /// The first `count` of them are on their way.
    pub(super) fn closed(&mut self, count: usize) -> Vec<Arc<str>> {
        self.closing.drain(..count).collect()
    }

    pub(super) fn stats(&self) -> CacheStats {
        CacheStats { len: self.len, ..self.stats }
    }

    /// Only before a Parse, which costs a round trip: going through all of them does not matter then.
    fn evict(&mut self) {
        let oldest = self.entries.values().flatten().min_by_key(|entry| entry.used);
        if let Some(statement) = oldest.map(|entry| entry.statement.clone()) {
            self.take_out(&statement);
            self.retired.push_back(statement);
            self.stats.evictions += 1;
        }
    }
}
