//! The types of expressions, and of the parameters in them.

use super::error::PgError;
use super::sql::{Binary, Expr, Unary};
use super::value::{Column, Type};

/// Parameters' types, as far as they are known.
pub(super) type Params = Vec<Option<Type>>;

pub(super) fn undefined_column(name: &str) -> PgError {
    PgError::error("42703", format!("column \"{name}\" does not exist"))
}

/// The result's type and the arguments' (the last one repeats); `None` takes any.
pub(super) fn signature(name: &str) -> Option<(Type, &'static [Option<Type>])> {
    const TEXT: Option<Type> = Some(Type::Text);
    const INT: Option<Type> = Some(Type::Int4);
    Some(match name {
        "now"
        | "current_timestamp"
        | "transaction_timestamp"
        | "statement_timestamp"
        | "clock_timestamp"
        | "pg_postmaster_start_time" => (Type::Timestamptz, &[]),
        "version" => (Type::Text, &[]),
        "current_setting" => (Type::Text, &[TEXT, Some(Type::Bool)]),
        "set_config" => (Type::Text, &[TEXT, TEXT, Some(Type::Bool)]),
        "pg_backend_pid" => (Type::Int4, &[]),
        "pg_is_in_recovery" => (Type::Bool, &[]),
        "txid_current" | "pg_current_xact_id" => (Type::Int8, &[]),
        "pg_sleep" => (Type::Void, &[Some(Type::Float8)]),
        "pg_terminate_backend" => (Type::Bool, &[INT, Some(Type::Int8)]),
        "pg_cancel_backend" => (Type::Bool, &[INT]),
        "pg_notify" => (Type::Void, &[TEXT, TEXT]),
        "pg_advisory_unlock_all" => (Type::Void, &[]),
        "current_user" | "session_user" | "user" | "current_role" | "current_database" | "current_catalog"
        | "current_schema" => (Type::Name, &[]),
        "length" | "char_length" | "octet_length" => (Type::Int4, &[TEXT]),
        "upper" | "lower" => (Type::Text, &[TEXT]),
        "repeat" => (Type::Text, &[TEXT, INT]),
        "concat" => (Type::Text, &[None]),
        "count" => (Type::Int8, &[None]),
        "coalesce" | "nullif" | "abs" | "sum" | "min" | "max" | "greatest" | "least" => (Type::Unknown, &[None]),
        _ => return None,
    })
}

pub(super) fn is_aggregate(name: &str) -> bool {
    matches!(name, "count" | "sum" | "min" | "max")
}

/// Whether rows are to be aggregated for it.
pub(super) fn aggregates(expr: &Expr) -> bool {
    match expr {
        Expr::Call { name, args, .. } => is_aggregate(name) || args.iter().any(aggregates),
        Expr::Unary(_, inner) | Expr::Cast(inner, _) | Expr::IsNull(inner, _) => aggregates(inner),
        Expr::Binary(_, left, right) | Expr::Any(left, right) => aggregates(left) || aggregates(right),
        Expr::In(left, list) => aggregates(left) || list.iter().any(aggregates),
        Expr::Array(list) => list.iter().any(aggregates),
        Expr::Literal(..) | Expr::Param(_) | Expr::Column(_) => false,
    }
}

/// The type of `expr`; what is open, a parameter or a literal in quotes, becomes `expected`.
pub(super) fn infer(
    expr: &Expr,
    columns: &[Column],
    params: &mut Params,
    expected: Option<Type>,
) -> Result<Type, PgError> {
    Ok(match expr {
        Expr::Literal(_, Type::Unknown) => expected.unwrap_or(Type::Text),
        Expr::Literal(_, type_) => *type_,
        Expr::Param(index) => {
            if params.len() <= *index {
                params.resize(*index + 1, None);
            }
            if params[*index].is_none() {
                params[*index] = expected.filter(|type_| *type_ != Type::Unknown);
            }
            params[*index].unwrap_or(Type::Text)
        }
        Expr::Column(name) => {
            columns.iter().find(|column| column.name == *name).ok_or_else(|| undefined_column(name))?.type_
        }
        Expr::Unary(Unary::Not, inner) => {
            infer(inner, columns, params, Some(Type::Bool))?;
            Type::Bool
        }
        Expr::Unary(Unary::Minus, inner) => infer(inner, columns, params, expected)?,
        Expr::Binary(operator, left, right) => infer_binary(*operator, left, right, columns, params)?,
        Expr::Cast(inner, type_) => {
            infer(inner, columns, params, Some(*type_))?;
            *type_
        }
        Expr::IsNull(inner, _) => {
            infer(inner, columns, params, None)?;
            Type::Bool
        }
        Expr::In(left, list) => {
            let type_ = infer(left, columns, params, None)?;
            for item in list {
                infer(item, columns, params, Some(type_))?;
            }
            Type::Bool
        }
        Expr::Any(left, list) => {
            let type_ = infer(left, columns, params, None)?;
            infer(list, columns, params, type_.array())?;
            Type::Bool
        }
        Expr::Array(items) => {
            let mut element = None;
            for item in items {
                element = Some(infer(item, columns, params, element)?);
            }
            element.unwrap_or(Type::Text).array().unwrap_or(Type::TextArray)
        }
        Expr::Call { name, args, .. } => infer_call(name, args, columns, params, expected)?,
    })
}

fn is_open(expr: &Expr, params: &Params) -> bool {
    match expr {
        Expr::Param(index) => params.get(*index).copied().flatten().is_none(),
        Expr::Literal(_, Type::Unknown) => true,
        _ => false,
    }
}

fn infer_binary(
    operator: Binary,
    left: &Expr,
    right: &Expr,
    columns: &[Column],
    params: &mut Params,
) -> Result<Type, PgError> {
    if matches!(operator, Binary::And | Binary::Or) {
        infer(left, columns, params, Some(Type::Bool))?;
        infer(right, columns, params, Some(Type::Bool))?;
        return Ok(Type::Bool);
    }
    if operator == Binary::Concat {
        infer(left, columns, params, Some(Type::Text))?;
        infer(right, columns, params, Some(Type::Text))?;
        return Ok(Type::Text);
    }
    let (left_type, right_type) = if is_open(left, params) {
        let type_ = if is_open(right, params) { None } else { Some(infer(right, columns, params, None)?) };
        (infer(left, columns, params, type_)?, type_.unwrap_or(Type::Text))
    } else {
        let type_ = infer(left, columns, params, None)?;
        (type_, infer(right, columns, params, Some(type_))?)
    };
    if operator.is_comparison() {
        return Ok(Type::Bool);
    }
    let rank = |type_: Type| match type_ {
        Type::Int2 => Some(1),
        Type::Int4 => Some(2),
        Type::Int8 | Type::Oid => Some(3),
        Type::Float4 => Some(4),
        Type::Float8 => Some(5),
        _ => None,
    };
    match (rank(left_type), rank(right_type)) {
        (Some(one), Some(other)) => Ok(if one >= other { left_type } else { right_type }),
        _ => Err(PgError::error(
            "42883",
            format!("operator does not exist: {} {} {}", left_type.name(), operator.symbol(), right_type.name()),
        )),
    }
}

fn infer_call(
    name: &str,
    args: &[Expr],
    columns: &[Column],
    params: &mut Params,
    expected: Option<Type>,
) -> Result<Type, PgError> {
    let Some((result, wanted)) = signature(name) else {
        return Err(PgError::error("42883", format!("function {name} does not exist")).hint(
            "The simulated server knows few functions: script the statement with postgres.on(\"...\", |call| ...).",
        ));
    };
    if wanted.is_empty() && !args.is_empty() {
        return Err(PgError::error("42883", format!("function {name} takes no arguments")));
    }
    let any = wanted.last() == Some(&None);
    if !any && args.len() > wanted.len() {
        return Err(PgError::error("42883", format!("function {name} has too many arguments")));
    }
    let mut found = None;
    for (index, arg) in args.iter().enumerate() {
        let want = wanted.get(index).copied().flatten().or(found).or(if any { expected } else { None });
        found = Some(infer(arg, columns, params, want)?);
    }
    Ok(match (name, result, found) {
        ("sum", ..) => match found {
            Some(Type::Float4 | Type::Float8) => Type::Float8,
            _ => Type::Int8,
        },
        (_, Type::Unknown, found) => found.unwrap_or(Type::Text),
        (_, result, _) => result,
    })
}
