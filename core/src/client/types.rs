//! User-defined types, looked up in the catalog when a statement uses them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postgres_types::{Field, Kind, Oid, Type};

use super::connection::Client;
use super::error::Error;
use super::row::Row;
use crate::pg::{Column, Event, Fetch, Request};
use crate::pool::HostId;
use crate::runtime::Runtime;
use crate::time::Instant;

/// Everything that a [`Type`] is made of, for several types at once. Names are cast so that every column has a
/// built-in type, and qualified so that no search_path can change their meaning.
const CATALOG: &str = "SELECT t.oid, t.typname::pg_catalog.text, n.nspname::pg_catalog.text, t.typtype, t.typcategory, \
     t.typelem, t.typbasetype, t.typrelid, r.rngsubtype, \
     ARRAY(SELECT e.enumlabel::pg_catalog.text FROM pg_catalog.pg_enum e \
           WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder), \
     ARRAY(SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_attribute a \
           WHERE t.typrelid <> 0 AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped \
           ORDER BY a.attnum), \
     ARRAY(SELECT a.atttypid FROM pg_catalog.pg_attribute a \
           WHERE t.typrelid <> 0 AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped \
           ORDER BY a.attnum) \
     FROM pg_catalog.pg_type t \
     JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
     LEFT JOIN pg_catalog.pg_range r ON r.rngtypid = t.oid \
     WHERE t.oid = ANY($1)";

/// Types nested deeper than this are not believed.
const MAX_DEPTH: usize = 64;

/// What one connection has looked up serves the others of its host for this long; each connection keeps what it has
/// learned for its lifetime. So an enum's new value is seen by new connections soon.
const SHARED_FOR: Duration = Duration::from_secs(300);

/// More types than this are forgotten and looked up again.
const MAX_SHARED: usize = 10_000;

/// Types that connections of a pool have looked up. By host, since two databases that are to look alike may still
/// number their types differently.
#[derive(Debug, Default)]
pub(super) struct TypeCache {
    types: Mutex<BTreeMap<(HostId, Oid), (Type, Instant)>>,
}

impl TypeCache {
    fn get(&self, host: HostId, oid: Oid, now: Instant) -> Option<Type> {
        let types = self.lock();
        let (found, since) = types.get(&(host, oid))?;
        (now - *since < SHARED_FOR).then(|| found.clone())
    }

    fn put(&self, host: HostId, learned: &Type, now: Instant) {
        let mut types = self.lock();
        if types.len() >= MAX_SHARED {
            types.clear();
        }
        types.insert((host, learned.oid()), (learned.clone(), now));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(HostId, Oid), (Type, Instant)>> {
        self.types.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A row of the catalog query.
struct Described {
    name: String,
    schema: String,
    shape: Shape,
}

/// What a type is made of, by OID.
enum Shape {
    Simple,
    Pseudo,
    Enum(Vec<String>),
    Domain(Oid),
    Array(Oid),
    Range(Oid),
    Composite(Vec<(String, Oid)>),
}

impl Shape {
    fn parts(&self) -> Vec<Oid> {
        match self {
            Shape::Simple | Shape::Pseudo | Shape::Enum(_) => Vec::new(),
            Shape::Domain(oid) | Shape::Array(oid) | Shape::Range(oid) => vec![*oid],
            Shape::Composite(fields) => fields.iter().map(|(_, oid)| *oid).collect(),
        }
    }
}

impl<R: Runtime> Client<R> {
    /// Makes these types, and those they are made of, known to the connection: one query per level of nesting.
    pub(super) async fn learn_types(&mut self, oids: &[Oid]) -> Result<(), Error> {
        let now = self.channel.runtime().now();
        let mut described = BTreeMap::new();
        let mut wanted: BTreeSet<Oid> = oids.iter().copied().collect();
        for _ in 0..MAX_DEPTH {
            wanted.retain(|oid| !described.contains_key(oid) && self.known(*oid, now).is_none());
            if wanted.is_empty() {
                break;
            }
            let asked: Vec<Oid> = std::mem::take(&mut wanted).into_iter().collect();
            for row in self.catalog(&asked).await? {
                let (oid, found) = describe(&row)?;
                wanted.extend(found.shape.parts());
                described.insert(oid, found);
            }
        }
        for &oid in oids {
            let learned = self.build(oid, &described, now, 0)?;
            self.types.put(self.origin.host, &learned, now);
            self.channel.machine_mut().learn_type(learned);
        }
        Ok(())
    }

    /// What this connection, or one of its siblings, knows already.
    fn known(&self, oid: Oid, now: Instant) -> Option<Type> {
        self.channel.machine().known_type(oid).or_else(|| self.types.get(self.origin.host, oid, now))
    }

    async fn catalog(&mut self, oids: &[Oid]) -> Result<Vec<Row>, Error> {
        let params: [(&(dyn postgres_types::ToSql + Sync), Type); 1] = [(&oids, Type::OID_ARRAY)];
        let request = Request::QueryTyped { sql: CATALOG, params: &params, fetch: Fetch::All };
        let mut rows = Vec::new();
        let mut columns: Arc<[Column]> = Arc::default();
        let mut active = self.begin(request)?;
        loop {
            match active.next().await? {
                Event::Columns { columns: described, .. } => columns = described,
                Event::Row { row, .. } => rows.push(Row::new(Arc::clone(&columns), &row)?),
                Event::Done { .. } => return Ok(rows),
                _ => {}
            }
        }
    }

    fn build(&self, oid: Oid, described: &BTreeMap<Oid, Described>, now: Instant, depth: usize) -> Result<Type, Error> {
        if let Some(known) = self.known(oid, now) {
            return Ok(known);
        }
        let found = described.get(&oid).filter(|_| depth < MAX_DEPTH).ok_or(Error::UnknownType { oid })?;
        let part = |oid: &Oid| self.build(*oid, described, now, depth + 1);
        let kind = match &found.shape {
            Shape::Simple => Kind::Simple,
            Shape::Pseudo => Kind::Pseudo,
            Shape::Enum(labels) => Kind::Enum(labels.clone()),
            Shape::Domain(base) => Kind::Domain(part(base)?),
            Shape::Array(element) => Kind::Array(part(element)?),
            Shape::Range(subtype) => Kind::Range(part(subtype)?),
            Shape::Composite(fields) => {
                let field = |(name, oid): &(String, Oid)| Ok(Field::new(name.clone(), part(oid)?));
                Kind::Composite(fields.iter().map(field).collect::<Result<_, Error>>()?)
            }
        };
        Ok(Type::new(found.name.clone(), oid, kind, found.schema.clone()))
    }
}

fn describe(row: &Row) -> Result<(Oid, Described), Error> {
    let typtype: i8 = row.try_get(3)?;
    let category: i8 = row.try_get(4)?;
    let (element, base, relation): (Oid, Oid, Oid) = (row.try_get(5)?, row.try_get(6)?, row.try_get(7)?);
    let subtype: Option<Oid> = row.try_get(8)?;
    let shape = match (u8::try_from(typtype).unwrap_or(0), subtype) {
        (b'e', _) => Shape::Enum(row.try_get(9)?),
        (b'p', _) => Shape::Pseudo,
        (b'd', _) => Shape::Domain(base),
        (b'r', Some(subtype)) => Shape::Range(subtype),
        (b'c', _) if relation != 0 => {
            let (names, oids): (Vec<String>, Vec<Oid>) = (row.try_get(10)?, row.try_get(11)?);
            Shape::Composite(names.into_iter().zip(oids).collect())
        }
        // Some types of fixed length have elements too, but are no arrays on the wire.
        _ if element != 0 && category == b'A' as i8 => Shape::Array(element),
        _ => Shape::Simple,
    };
    Ok((row.try_get(0)?, Described { name: row.try_get(1)?, schema: row.try_get(2)?, shape }))
}
