//! Statements on tables, run.

use std::cmp::Ordering;
use std::collections::VecDeque;

use super::error::PgError;
use super::eval::{Env, Row, compare, eval, eval_over, truth};
use super::infer::aggregates;
use super::plan::{Catalog, expand, view_columns};
use super::sql::{Expr, From, Insert, Item, Rows, Select, Statement};
use super::table::{Changes, MAX_ROWS, Store};
use super::value::{self, Column, Type, Value};
use crate::net::LinkId;

/// Rows that are still to be sent.
#[derive(Debug)]
pub(super) enum Source {
    List(VecDeque<Vec<Value>>),
    Series(Box<Series>),
}

/// `generate_series`, a row at a time.
#[derive(Debug)]
pub(super) struct Series {
    next: Option<i64>,
    stop: i64,
    step: i64,
    column: [Column; 1],
    exprs: Vec<Expr>,
    filter: Option<Expr>,
    skip: u64,
    left: u64,
    /// What else its rows see.
    env: Env,
}

impl Source {
    pub(super) fn none() -> Self {
        Source::List(VecDeque::new())
    }

    pub(super) fn one(row: Vec<Value>) -> Self {
        Source::List(VecDeque::from([row]))
    }

    /// The next row.
    pub(super) fn next(&mut self) -> Result<Next, PgError> {
        match self {
            Source::List(rows) => Ok(rows.pop_front().map_or(Next::End, Next::Row)),
            Source::Series(series) => series.next(),
        }
    }
}

/// What a source gives.
pub(super) enum Next {
    Row(Vec<Value>),
    /// It has looked at many rows in vain: ask again, later.
    NotYet,
    End,
}

/// How many rows are looked at for one that is wanted, at a time.
const PATIENCE: u32 = 1000;

impl Series {
    fn next(&mut self) -> Result<Next, PgError> {
        let mut patience = PATIENCE;
        while let Some(value) = self.next.filter(|_| self.left > 0) {
            if (self.step > 0 && value > self.stop) || (self.step < 0 && value < self.stop) {
                break;
            }
            if patience == 0 {
                return Ok(Next::NotYet);
            }
            patience -= 1;
            self.next = value.checked_add(self.step);
            let values = [Value::Int(value)];
            let row = Row { columns: &self.column, values: &values };
            if let Some(filter) = &self.filter
                && truth(&eval(filter, row, &mut self.env)?)? != Some(true)
            {
                continue;
            }
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            self.left -= 1;
            let values = self.exprs.iter().map(|expr| eval(expr, row, &mut self.env));
            return values.collect::<Result<_, _>>().map(Next::Row);
        }
        Ok(Next::End)
    }
}

/// What a statement gave.
pub(super) struct Ran {
    pub(super) rows: Source,
    /// `None`: `SELECT` and the number of rows.
    pub(super) tag: Option<String>,
}

/// Runs one statement.
pub(super) struct Runner<'a> {
    pub(super) store: &'a mut Store,
    pub(super) changes: &'a mut Changes,
    pub(super) env: Env,
    pub(super) link: LinkId,
    /// The rows of the view that the statement reads.
    pub(super) view: Vec<Vec<Value>>,
}

impl Runner<'_> {
    pub(super) fn run(&mut self, statement: &Statement) -> Result<Ran, PgError> {
        match statement {
            Statement::Select(select) => Ok(Ran { rows: self.select(select)?, tag: None }),
            Statement::Insert(insert) => self.insert(insert),
            Statement::Update { table, set, filter, returning } => {
                self.change(table, Some(set), filter.as_ref(), returning)
            }
            Statement::Delete { table, filter, returning } => self.change(table, None, filter.as_ref(), returning),
            Statement::CreateTable { if_not_exists, table } => {
                if !(*if_not_exists && self.store.table(self.changes, &table.name).is_ok()) {
                    self.store.create(self.changes, table.clone())?;
                }
                Ok(done("CREATE TABLE"))
            }
            Statement::DropTable { if_exists, tables } => {
                for table in tables {
                    match self.store.drop(self.changes, table) {
                        Err(_) if *if_exists => {}
                        other => other?,
                    }
                }
                Ok(done("DROP TABLE"))
            }
            Statement::Truncate(tables) => {
                for table in tables {
                    for (id, _) in self.store.rows(self.changes, table)? {
                        self.store.change(self.changes, table, id, None, self.link)?;
                    }
                }
                Ok(done("TRUNCATE TABLE"))
            }
            _ => Err(PgError::error("XX000", "this is no statement on tables")),
        }
    }

    fn catalog(&self) -> Catalog<'_> {
        Catalog { store: self.store, changes: self.changes }
    }

    fn count(&mut self, limit: Option<&Expr>) -> Result<Option<u64>, PgError> {
        let Some(limit) = limit else { return Ok(None) };
        match value::cast(eval(limit, Row::default(), &mut self.env)?, Type::Int8)? {
            Value::Int(count) => match u64::try_from(count) {
                Ok(count) => Ok(Some(count)),
                Err(_) => Err(PgError::error("2201W", "LIMIT must not be negative")),
            },
            _ => Ok(None),
        }
    }

    fn select(&mut self, select: &Select) -> Result<Source, PgError> {
        let mut types = Vec::new();
        let source = self.catalog().source(select.from.as_ref(), &mut types)?;
        let exprs = expand(&select.items, &source);
        let skip = self.count(select.offset.as_ref())?.unwrap_or(0);
        let limit = self.count(select.limit.as_ref())?.unwrap_or(u64::MAX);
        let aggregate = exprs.iter().any(|(expr, _)| aggregates(expr));
        if let Some(From::Function { name, args, .. }) = &select.from
            && name == "generate_series"
            && select.order.is_empty()
            && !aggregate
        {
            let (start, stop, step) = self.series(args)?;
            let column = [source.into_iter().next().unwrap_or_else(|| Column::new("generate_series", Type::Int4))];
            let env = self.env_for_rows();
            return Ok(Source::Series(Box::new(Series {
                next: start,
                stop,
                step,
                column,
                exprs: exprs.into_iter().map(|(expr, _)| expr).collect(),
                filter: select.filter.clone(),
                skip,
                left: limit,
                env,
            })));
        }
        let mut rows = self.rows(select.from.as_ref(), select.filter.as_ref(), &source)?;
        if aggregate {
            let row = exprs.iter().map(|(expr, _)| eval_over(expr, &source, &rows, &mut self.env));
            return Ok(Source::one(row.collect::<Result<_, _>>()?));
        }
        self.sort(&mut rows, &select.order, &exprs, &source)?;
        let mut out = VecDeque::new();
        let skipped = rows.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX));
        for values in skipped.take(usize::try_from(limit).unwrap_or(usize::MAX)) {
            let row = Row { columns: &source, values };
            out.push_back(exprs.iter().map(|(expr, _)| eval(expr, row, &mut self.env)).collect::<Result<_, _>>()?);
        }
        Ok(Source::List(out))
    }

    fn env_for_rows(&self) -> Env {
        let Env { now, began, server_started, pid, xid, standby, read_only, .. } = self.env;
        Env {
            now,
            began,
            server_started,
            pid,
            xid,
            standby,
            read_only,
            user: self.env.user.clone(),
            database: self.env.database.clone(),
            settings: self.env.settings.clone(),
            pids: self.env.pids.clone(),
            params: self.env.params.clone(),
            sleep: std::time::Duration::ZERO,
            effects: Vec::new(),
        }
    }

    /// The bounds and the step; no start: no rows.
    fn series(&mut self, args: &[Expr]) -> Result<(Option<i64>, i64, i64), PgError> {
        let mut numbers = [None, None, Some(1)];
        for (index, arg) in args.iter().take(3).enumerate() {
            numbers[index] = value::cast(eval(arg, Row::default(), &mut self.env)?, Type::Int8)?.as_int();
        }
        match numbers {
            [_, _, Some(0)] => Err(PgError::error("22023", "step size cannot equal zero")),
            [Some(start), Some(stop), Some(step)] => Ok((Some(start), stop, step)),
            _ => Ok((None, 0, 1)),
        }
    }

    /// The rows of `from` that pass the filter.
    fn rows(
        &mut self,
        from: Option<&From>,
        filter: Option<&Expr>,
        source: &[Column],
    ) -> Result<Vec<Vec<Value>>, PgError> {
        let rows = match from {
            None => vec![Vec::new()],
            Some(From::Table { name, .. }) if view_columns(name).is_some() => std::mem::take(&mut self.view),
            Some(From::Table { name, .. }) => return self.table_rows(name, filter, source),
            Some(From::Function { name, args, .. }) if name == "generate_series" => {
                let (start, stop, step) = self.series(args)?;
                let mut rows = Vec::new();
                let mut next = start;
                while let Some(value) = next.filter(|value| if step > 0 { *value <= stop } else { *value >= stop }) {
                    if rows.len() >= 1_000_000 {
                        return Err(PgError::error(
                            "53100",
                            "the simulated server sorts and counts a million rows at most",
                        ));
                    }
                    rows.push(vec![Value::Int(value)]);
                    next = value.checked_add(step);
                }
                rows
            }
            Some(From::Function { name, args, .. }) if name == "unnest" => {
                let list = match args.first() {
                    Some(list) => eval(list, Row::default(), &mut self.env)?,
                    None => Value::Null,
                };
                match list {
                    Value::List(list) => list.into_iter().map(|value| vec![value]).collect(),
                    _ => Vec::new(),
                }
            }
            Some(From::Function { name, args, .. }) => {
                let call = Expr::Call { name: name.clone(), args: args.clone(), star: false };
                vec![vec![eval(&call, Row::default(), &mut self.env)?]]
            }
        };
        let Some(filter) = filter else { return Ok(rows) };
        let mut kept = Vec::new();
        for values in rows {
            if truth(&eval(filter, Row { columns: source, values: &values }, &mut self.env)?)? == Some(true) {
                kept.push(values);
            }
        }
        Ok(kept)
    }

    /// As [`Runner::rows`]. Only what passes is copied: a lookup in a long table is what services do most.
    fn table_rows(&mut self, name: &str, filter: Option<&Expr>, source: &[Column]) -> Result<Vec<Vec<Value>>, PgError> {
        let mut kept = Vec::new();
        for (id, values) in self.store.visible(self.changes, name)? {
            let passes = match filter {
                Some(filter) => truth(&eval(filter, Row { columns: source, values }, &mut self.env)?)? == Some(true),
                None => true,
            };
            if passes {
                kept.push((id, values.clone()));
            }
        }
        kept.sort_by_key(|(id, _)| *id);
        Ok(kept.into_iter().map(|(_, values)| values).collect())
    }

    /// ORDER BY: expressions, names of output columns, or their numbers. NULLs come last.
    fn sort(
        &mut self,
        rows: &mut Vec<Vec<Value>>,
        order: &[(Expr, bool)],
        exprs: &[(Expr, String)],
        source: &[Column],
    ) -> Result<(), PgError> {
        if order.is_empty() {
            return Ok(());
        }
        let mut keyed = Vec::new();
        for values in rows.drain(..) {
            let mut keys = Vec::new();
            for (expr, _) in order {
                let expr = match expr {
                    Expr::Literal(Value::Int(number), _) => {
                        let index = usize::try_from(*number).ok().and_then(|number| number.checked_sub(1));
                        let found = index.and_then(|index| exprs.get(index));
                        let outside =
                            || PgError::error("42P10", format!("ORDER BY position {number} is not in select list"));
                        &found.ok_or_else(outside)?.0
                    }
                    Expr::Column(name) => exprs.iter().find(|(_, label)| label == name).map_or(expr, |(expr, _)| expr),
                    other => other,
                };
                keys.push(eval(expr, Row { columns: source, values: &values }, &mut self.env)?);
            }
            keyed.push((keys, values));
        }
        let mut failed = None;
        keyed.sort_by(|(left, _), (right, _)| {
            for ((left, right), (_, descending)) in left.iter().zip(right).zip(order) {
                let ordering = match (left.is_null(), right.is_null()) {
                    (false, false) => compare(left, right).unwrap_or_else(|error| {
                        failed = Some(error);
                        Ordering::Equal
                    }),
                    (left, right) => left.cmp(&right),
                };
                let ordering = if *descending { ordering.reverse() } else { ordering };
                if ordering.is_ne() {
                    return ordering;
                }
            }
            Ordering::Equal
        });
        *rows = keyed.into_iter().map(|(_, values)| values).collect();
        failed.map_or(Ok(()), Err)
    }

    fn returning(&mut self, items: &[Item], source: &[Column], rows: &[Vec<Value>]) -> Result<Source, PgError> {
        if items.is_empty() {
            return Ok(Source::none());
        }
        let exprs = expand(items, source);
        let mut out = VecDeque::new();
        for values in rows {
            let row = Row { columns: source, values };
            out.push_back(exprs.iter().map(|(expr, _)| eval(expr, row, &mut self.env)).collect::<Result<_, _>>()?);
        }
        Ok(Source::List(out))
    }

    fn insert(&mut self, insert: &Insert) -> Result<Ran, PgError> {
        let def = self.store.table(self.changes, &insert.table)?.def.clone();
        let source = self.catalog().columns(&insert.table)?;
        let place = |name: &String| {
            source.iter().position(|column| column.name == *name).ok_or_else(|| {
                let message = format!("column \"{name}\" of relation \"{}\" does not exist", insert.table);
                PgError::error("42703", message)
            })
        };
        let targets: Vec<usize> = match insert.columns.is_empty() {
            true => (0..source.len()).collect(),
            false => insert.columns.iter().map(place).collect::<Result<_, _>>()?,
        };
        let given: Vec<Vec<Option<Value>>> = match &insert.rows {
            Rows::Values(rows) => {
                let mut given = Vec::new();
                for row in rows {
                    let value = |expr: &Option<Expr>| {
                        expr.as_ref().map(|expr| eval(expr, Row::default(), &mut self.env)).transpose()
                    };
                    given.push(row.iter().map(value).collect::<Result<_, _>>()?);
                }
                given
            }
            Rows::Select(select) => {
                let mut rows = self.select(select)?;
                let mut given = Vec::new();
                let mut vain = 0;
                loop {
                    match rows.next()? {
                        Next::Row(row) => given.push(row.into_iter().map(Some).collect()),
                        Next::NotYet => vain += 1,
                        Next::End => break,
                    }
                    if given.len() > MAX_ROWS || vain > MAX_ROWS {
                        let message = format!("the simulated server keeps {MAX_ROWS} rows of a table at most");
                        return Err(PgError::error("53100", message));
                    }
                }
                given
            }
        };
        let mut inserted = Vec::new();
        for row in given {
            let mut values: Vec<Option<Value>> = vec![None; source.len()];
            for (at, value) in targets.iter().zip(row) {
                values[*at] = value;
            }
            let mut complete = Vec::new();
            for (value, column) in values.into_iter().zip(&def.columns) {
                let value = match (value, &column.default) {
                    (Some(value), _) => value,
                    (None, _) if column.serial => Value::Int(self.store.next_serial(self.changes, &def.name)?),
                    (None, Some(default)) => eval(default, Row::default(), &mut self.env)?,
                    (None, None) => Value::Null,
                };
                complete.push(value::cast(value, column.type_)?);
            }
            if self.store.insert(self.changes, &def.name, complete.clone(), insert.ignore_conflicts)? {
                inserted.push(complete);
            }
        }
        let rows = self.returning(&insert.returning, &source, &inserted)?;
        Ok(Ran { rows, tag: Some(format!("INSERT 0 {}", inserted.len())) })
    }

    /// UPDATE, or DELETE if nothing is set.
    fn change(
        &mut self,
        table: &str,
        set: Option<&[(String, Expr)]>,
        filter: Option<&Expr>,
        returning: &[Item],
    ) -> Result<Ran, PgError> {
        let source = self.store.table(self.changes, table)?.columns();
        let mut changed = Vec::new();
        for (id, values) in self.store.rows(self.changes, table)? {
            let row = Row { columns: &source, values: &values };
            if let Some(filter) = filter
                && truth(&eval(filter, row, &mut self.env)?)? != Some(true)
            {
                continue;
            }
            let mut new = values.clone();
            for (name, expr) in set.unwrap_or_default() {
                let at = source.iter().position(|column| column.name == *name).ok_or_else(|| {
                    PgError::error("42703", format!("column \"{name}\" of relation \"{table}\" does not exist"))
                })?;
                new[at] = value::cast(eval(expr, row, &mut self.env)?, source[at].type_)?;
            }
            self.store.change(self.changes, table, id, set.is_some().then(|| new.clone()), self.link)?;
            changed.push(new);
        }
        let rows = self.returning(returning, &source, &changed)?;
        let verb = if set.is_some() { "UPDATE" } else { "DELETE" };
        Ok(Ran { rows, tag: Some(format!("{verb} {}", changed.len())) })
    }
}

fn done(tag: &str) -> Ran {
    Ran { rows: Source::none(), tag: Some(tag.to_owned()) }
}
