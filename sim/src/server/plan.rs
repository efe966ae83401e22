//! What a statement needs and gives: the types of its parameters, its columns, where its rows come from.

use super::error::PgError;
use super::eval::{self, Params, infer};
use super::sql::{Expr, From, Insert, Item, Rows, Select, Statement};
use super::table::{Changes, Store};
use super::value::{Column, Type};

/// A statement that was parsed.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) sql: String,
    pub(super) what: What,
    pub(super) params: Vec<Type>,
    /// `None`: it returns no rows.
    pub(super) columns: Option<Vec<Column>>,
}

#[derive(Debug)]
pub(super) enum What {
    Script(usize),
    Sql(Statement),
}

/// The columns of pg_stat_activity and its like, as far as they are simulated.
pub(super) fn view_columns(name: &str) -> Option<Vec<Column>> {
    let columns: &[(&str, Type)] = match name {
        "pg_stat_activity" => &[
            ("datname", Type::Name),
            ("pid", Type::Int4),
            ("usename", Type::Name),
            ("application_name", Type::Text),
            ("backend_start", Type::Timestamptz),
            ("query_start", Type::Timestamptz),
            ("state_change", Type::Timestamptz),
            ("state", Type::Text),
            ("query", Type::Text),
            ("backend_type", Type::Text),
        ],
        "pg_stat_database" => &[
            ("datname", Type::Name),
            ("numbackends", Type::Int4),
            ("xact_commit", Type::Int8),
            ("xact_rollback", Type::Int8),
            ("sessions", Type::Int8),
        ],
        "pg_settings" => &[("name", Type::Text), ("setting", Type::Text), ("source", Type::Text)],
        "pg_prepared_statements" => &[("name", Type::Text), ("statement", Type::Text)],
        _ => return None,
    };
    Some(columns.iter().map(|(name, type_)| Column::new(*name, *type_)).collect())
}

/// Tables as a transaction sees them.
#[derive(Clone, Copy)]
pub(super) struct Catalog<'a> {
    pub(super) store: &'a Store,
    pub(super) changes: &'a Changes,
}

impl Catalog<'_> {
    pub(super) fn columns(self, name: &str) -> Result<Vec<Column>, PgError> {
        match view_columns(name) {
            Some(columns) => Ok(columns),
            None => Ok(self.store.table(self.changes, name)?.columns()),
        }
    }

    /// What `from` offers.
    pub(super) fn source(self, from: Option<&From>, params: &mut Params) -> Result<Vec<Column>, PgError> {
        match from {
            None => Ok(Vec::new()),
            Some(From::Table { name, .. }) => self.columns(name),
            Some(From::Function { name, args, alias, column }) => {
                let label = column.as_ref().or(alias.as_ref()).unwrap_or(name);
                let type_ = match &**name {
                    "generate_series" => {
                        if !(2..=3).contains(&args.len()) {
                            return Err(PgError::error(
                                "42883",
                                "function generate_series needs two or three integers",
                            ));
                        }
                        let mut wide = Type::Int4;
                        for arg in args {
                            if infer(arg, &[], params, Some(Type::Int4))? == Type::Int8 {
                                wide = Type::Int8;
                            }
                        }
                        wide
                    }
                    "unnest" => {
                        let list =
                            args.first().ok_or_else(|| PgError::error("42883", "function unnest needs an array"))?;
                        infer(list, &[], params, Some(Type::TextArray))?.element().unwrap_or(Type::Text)
                    }
                    _ => infer(&Expr::Call { name: name.clone(), args: args.clone(), star: false }, &[], params, None)?,
                };
                Ok(vec![Column::new(label, type_)])
            }
        }
    }
}

/// `SELECT generate_series(1, 3)` is `SELECT generate_series FROM generate_series(1, 3)`.
pub(super) fn normalize(mut statement: Statement) -> Statement {
    if let Statement::Select(select) = &mut statement
        && select.from.is_none()
    {
        for item in &mut select.items {
            if let Item::One { expr, alias } = item
                && let Expr::Call { name, args, .. } = expr
                && matches!(&**name, "generate_series" | "unnest")
            {
                let column = Some(alias.get_or_insert_with(|| name.clone()).clone());
                select.from = Some(From::Function {
                    name: name.clone(),
                    args: args.clone(),
                    alias: column.clone(),
                    column: None,
                });
                *expr = Expr::Column(column.unwrap_or_default());
                break;
            }
        }
    }
    statement
}

/// The output of a select list or of RETURNING: expressions and what the columns are called.
pub(super) fn expand(items: &[Item], source: &[Column]) -> Vec<(Expr, String)> {
    let mut list = Vec::new();
    for item in items {
        match item {
            Item::All => {
                list.extend(source.iter().map(|column| (Expr::Column(column.name.clone()), column.name.clone())))
            }
            Item::One { expr, alias } => {
                let name = alias.clone().unwrap_or_else(|| label(expr).unwrap_or("?column?").to_owned());
                list.push((expr.clone(), name));
            }
        }
    }
    list
}

fn label(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Column(name) | Expr::Call { name, .. } => Some(name),
        Expr::Cast(inner, type_) => Some(label(inner).unwrap_or(type_.name())),
        Expr::Literal(_, Type::Bool) => Some("bool"),
        Expr::Array(_) => Some("array"),
        _ => None,
    }
}

fn outputs(items: &[Item], source: &[Column], params: &mut Params) -> Result<Vec<Column>, PgError> {
    let list = expand(items, source);
    list.into_iter().map(|(expr, name)| Ok(Column::new(name, infer(&expr, source, params, None)?))).collect()
}

/// The types of the parameters, given those that the client has declared, and the columns.
pub(super) fn describe(
    statement: &Statement,
    catalog: Catalog<'_>,
    declared: &[Option<Type>],
) -> Result<(Vec<Type>, Option<Vec<Column>>), PgError> {
    let mut params = declared.to_vec();
    let columns = match statement {
        Statement::Select(select) => Some(select_columns(select, catalog, &mut params)?),
        Statement::Insert(insert) => insert_columns(insert, catalog, &mut params)?,
        Statement::Update { table, set, filter, returning } => {
            let source = catalog.columns(table)?;
            for (name, expr) in set {
                let type_ = infer(&Expr::Column(name.clone()), &source, &mut params, None)?;
                infer(expr, &source, &mut params, Some(type_))?;
            }
            changed_columns(&source, filter.as_ref(), returning, &mut params)?
        }
        Statement::Delete { table, filter, returning } => {
            changed_columns(&catalog.columns(table)?, filter.as_ref(), returning, &mut params)?
        }
        Statement::Show(name) if name == "all" => {
            Some(vec![Column::new("name", Type::Text), Column::new("setting", Type::Text)])
        }
        Statement::Show(name) => Some(vec![Column::new(name, Type::Text)]),
        _ => None,
    };
    Ok((params.into_iter().map(|type_| type_.unwrap_or(Type::Text)).collect(), columns))
}

fn select_columns(select: &Select, catalog: Catalog<'_>, params: &mut Params) -> Result<Vec<Column>, PgError> {
    let source = catalog.source(select.from.as_ref(), params)?;
    let columns = outputs(&select.items, &source, params)?;
    if let Some(filter) = &select.filter {
        infer(filter, &source, params, Some(Type::Bool))?;
    }
    for limit in [&select.limit, &select.offset].into_iter().flatten() {
        infer(limit, &[], params, Some(Type::Int8))?;
    }
    let mixed = select.items.iter().any(|item| matches!(item, Item::One { expr, .. } if eval::aggregates(expr)));
    if mixed && matches!(select.items.first(), Some(Item::All)) {
        return Err(PgError::error("42803", "columns must appear in the GROUP BY clause"));
    }
    Ok(columns)
}

fn insert_columns(insert: &Insert, catalog: Catalog<'_>, params: &mut Params) -> Result<Option<Vec<Column>>, PgError> {
    let source = catalog.columns(&insert.table)?;
    let targets: Vec<Type> = match insert.columns.is_empty() {
        true => source.iter().map(|column| column.type_).collect(),
        false => {
            let type_of = |name: &String| infer(&Expr::Column(name.clone()), &source, &mut Vec::new(), None);
            insert.columns.iter().map(type_of).collect::<Result<_, _>>()?
        }
    };
    match &insert.rows {
        Rows::Values(rows) => {
            for row in rows {
                if row.len() > targets.len() {
                    return Err(PgError::error("42601", "INSERT has more expressions than target columns"));
                }
                for (expr, type_) in row.iter().zip(&targets) {
                    if let Some(expr) = expr {
                        infer(expr, &[], params, Some(*type_))?;
                    }
                }
            }
        }
        Rows::Select(select) => {
            if select_columns(select, catalog, params)?.len() > targets.len() {
                return Err(PgError::error("42601", "INSERT has more expressions than target columns"));
            }
        }
    }
    if insert.returning.is_empty() { Ok(None) } else { outputs(&insert.returning, &source, params).map(Some) }
}

fn changed_columns(
    source: &[Column],
    filter: Option<&Expr>,
    returning: &[Item],
    params: &mut Params,
) -> Result<Option<Vec<Column>>, PgError> {
    if let Some(filter) = filter {
        infer(filter, source, params, Some(Type::Bool))?;
    }
    if returning.is_empty() { Ok(None) } else { outputs(returning, source, params).map(Some) }
}
