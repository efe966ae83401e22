//! Tables: what is committed, and what a transaction has changed and nobody else sees yet.

use std::collections::{BTreeMap, BTreeSet};

use super::error::PgError;
use super::sql::TableDef;
use super::value::{Column, Value};
use crate::net::LinkId;

/// More rows of a table than this are not kept: the server is for tests, not for data.
pub(super) const MAX_ROWS: usize = 20_000;

type Values = Vec<Value>;

/// A table.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) def: TableDef,
    rows: BTreeMap<u64, Values>,
    next_serial: i64,
}

impl Table {
    pub(super) fn columns(&self) -> Vec<Column> {
        self.def.columns.iter().map(|column| Column::new(&column.name, column.type_)).collect()
    }
}

/// Everything that is committed.
#[derive(Debug, Default)]
pub(super) struct Store {
    tables: BTreeMap<String, Table>,
    next_row: u64,
    /// Rows that open transactions have changed.
    locks: BTreeMap<(String, u64), LinkId>,
}

/// What a transaction has changed.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    /// `None` is a table that was dropped.
    tables: BTreeMap<String, Option<Table>>,
    /// `None` is a row that was deleted.
    rows: BTreeMap<(String, u64), Option<Values>>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.rows.is_empty()
    }

    fn rows_of(&self, name: &str) -> impl Iterator<Item = (u64, &Option<Values>)> {
        let rows = self.rows.range((name.to_owned(), 0)..=(name.to_owned(), u64::MAX));
        rows.map(|((_, id), values)| (*id, values))
    }
}

fn missing(name: &str) -> PgError {
    PgError::error("42P01", format!("relation \"{name}\" does not exist"))
        .hint("CREATE TABLE it on the simulated server, or script the statement: postgres.on(\"...\", |call| ...).")
}

impl Store {
    pub(super) fn table<'a>(&'a self, changes: &'a Changes, name: &str) -> Result<&'a Table, PgError> {
        match changes.tables.get(name) {
            Some(table) => table.as_ref(),
            None => self.tables.get(name),
        }
        .ok_or_else(|| missing(name))
    }

    /// The rows that a transaction sees, in the order in which they were inserted.
    pub(super) fn rows(&self, changes: &Changes, name: &str) -> Result<Vec<(u64, Values)>, PgError> {
        let mut rows: Vec<_> = self.visible(changes, name)?.map(|(id, values)| (id, values.clone())).collect();
        rows.sort_by_key(|(id, _)| *id);
        Ok(rows)
    }

    /// The same, in no order.
    pub(super) fn visible<'a>(
        &'a self,
        changes: &'a Changes,
        name: &str,
    ) -> Result<impl Iterator<Item = (u64, &'a Values)>, PgError> {
        let table = self.table(changes, name)?;
        let changed: BTreeMap<u64, &Option<Values>> = changes.rows_of(name).collect();
        let own: Vec<(u64, &Values)> =
            changed.iter().filter_map(|(id, values)| Some((*id, values.as_ref()?))).collect();
        let others = table.rows.iter().filter(move |(id, _)| !changed.contains_key(id));
        Ok(others.map(|(id, values)| (*id, values)).chain(own))
    }

    pub(super) fn create(&self, changes: &mut Changes, def: TableDef) -> Result<(), PgError> {
        if self.table(changes, &def.name).is_ok() {
            return Err(PgError::error("42P07", format!("relation \"{}\" already exists", def.name)));
        }
        let table = Table { def: def.clone(), rows: BTreeMap::new(), next_serial: 1 };
        changes.tables.insert(def.name, Some(table));
        Ok(())
    }

    pub(super) fn drop(&self, changes: &mut Changes, name: &str) -> Result<(), PgError> {
        self.table(changes, name).map_err(|_| PgError::error("42P01", format!("table \"{name}\" does not exist")))?;
        changes.tables.insert(name.to_owned(), None);
        changes.rows.retain(|(table, _), _| table != name);
        Ok(())
    }

    /// The next number of a serial column; as in PostgreSQL a rollback does not give it back.
    pub(super) fn next_serial(&mut self, changes: &mut Changes, name: &str) -> Result<i64, PgError> {
        let table = match changes.tables.get_mut(name) {
            Some(table) => table.as_mut(),
            None => self.tables.get_mut(name),
        };
        let table = table.ok_or_else(|| missing(name))?;
        table.next_serial += 1;
        Ok(table.next_serial - 1)
    }

    /// Inserts a row. False if it is there already and `ignore` says that this is fine.
    pub(super) fn insert(
        &mut self,
        changes: &mut Changes,
        name: &str,
        values: Values,
        ignore: bool,
    ) -> Result<bool, PgError> {
        let table = self.table(changes, name)?;
        if table.rows.len() + changes.rows.len() >= MAX_ROWS {
            let message = format!("the simulated server keeps {MAX_ROWS} rows of a table at most");
            return Err(PgError::error("53100", message));
        }
        check_null(&table.def, &values)?;
        if table.def.columns.iter().any(|column| column.unique) {
            let others = self.visible(changes, name)?.map(|(_, row)| row);
            if let Err(error) = check_unique(&table.def, &values, others) {
                return if ignore { Ok(false) } else { Err(error) };
            }
        }
        changes.rows.insert((name.to_owned(), self.next_row), Some(values));
        self.next_row += 1;
        Ok(true)
    }

    /// Changes a row, or deletes it.
    pub(super) fn change(
        &mut self,
        changes: &mut Changes,
        name: &str,
        id: u64,
        values: Option<Values>,
        by: LinkId,
    ) -> Result<(), PgError> {
        let key = (name.to_owned(), id);
        if self.locks.get(&key).is_some_and(|owner| *owner != by) {
            return Err(PgError::error("40001", "could not serialize access due to concurrent update")
                .detail("The simulated server does not wait for another transaction's row."));
        }
        if let Some(values) = &values {
            let table = self.table(changes, name)?;
            check_null(&table.def, values)?;
            if table.def.columns.iter().any(|column| column.unique) {
                let others = self.visible(changes, name)?.filter(|(other, _)| *other != id);
                check_unique(&table.def, values, others.map(|(_, row)| row))?;
            }
        }
        self.locks.insert(key.clone(), by);
        changes.rows.insert(key, values);
        Ok(())
    }

    /// Makes `changes` everybody's. On an error nothing has changed.
    pub(super) fn commit(&mut self, changes: Changes, by: LinkId) -> Result<(), PgError> {
        self.release(by);
        if changes.is_empty() {
            return Ok(());
        }
        for ((name, id), values) in &changes.rows {
            let (Some(values), Ok(table)) = (values, self.table(&changes, name)) else { continue };
            let own: BTreeSet<u64> = changes.rows_of(name).map(|(own, _)| own).collect();
            let others = table.rows.iter().filter(|(other, _)| *other != id && !own.contains(*other));
            check_unique(&table.def, values, others.map(|(_, row)| row))?;
        }
        for (name, table) in changes.tables {
            match table {
                Some(table) => drop(self.tables.insert(name, table)),
                None => drop(self.tables.remove(&name)),
            }
        }
        for ((name, id), values) in changes.rows {
            let Some(table) = self.tables.get_mut(&name) else { continue };
            match values {
                Some(values) => drop(table.rows.insert(id, values)),
                None => drop(table.rows.remove(&id)),
            }
        }
        Ok(())
    }

    /// A transaction has ended: its rows are free.
    pub(super) fn release(&mut self, by: LinkId) {
        self.locks.retain(|_, owner| *owner != by);
    }
}

fn check_null(def: &TableDef, values: &[Value]) -> Result<(), PgError> {
    match def.columns.iter().zip(values).find(|(column, value)| column.not_null && value.is_null()) {
        None => Ok(()),
        Some((column, _)) => Err(PgError::error(
            "23502",
            format!(
                "null value in column \"{}\" of relation \"{}\" violates not-null constraint",
                column.name, def.name
            ),
        )),
    }
}

fn check_unique<'a>(def: &TableDef, values: &[Value], others: impl Iterator<Item = &'a Values>) -> Result<(), PgError> {
    let unique: Vec<usize> = (0..def.columns.len()).filter(|at| def.columns[*at].unique).collect();
    if unique.is_empty() {
        return Ok(());
    }
    for other in others {
        if let Some(at) = unique.iter().find(|at| !values[**at].is_null() && values[**at] == other[**at]) {
            let column = &def.columns[*at].name;
            let message = format!("duplicate key value violates unique constraint \"{}_{column}_key\"", def.name);
            let shown = super::value::to_text(&values[*at]);
            return Err(PgError::error("23505", message).detail(format!("Key ({column})=({shown}) already exists.")));
        }
    }
    Ok(())
}
