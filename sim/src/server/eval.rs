//! Expressions: their types, and their values.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::error::PgError;
use super::settings::Settings;
use super::sql::{Binary, Expr, Unary};
use super::value::{self, Column, Type, Value};
use crate::net::LinkId;

/// The longest text that an expression makes.
const MAX_TEXT: usize = 64 << 20;

/// What a statement sees of its session and the server, and what it asks for.
#[derive(Debug)]
pub(super) struct Env {
    pub(super) now: i64,
    /// When the transaction began.
    pub(super) began: i64,
    pub(super) server_started: i64,
    pub(super) pid: i32,
    pub(super) xid: i64,
    pub(super) user: Arc<str>,
    pub(super) database: Arc<str>,
    pub(super) settings: Settings,
    pub(super) standby: bool,
    pub(super) read_only: bool,
    pub(super) pids: Arc<BTreeMap<i32, LinkId>>,
    pub(super) params: Arc<[Value]>,
    /// How long the statement sleeps.
    pub(super) sleep: Duration,
    pub(super) effects: Vec<Effect>,
}

/// What a function does beyond its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Effect {
    Terminate(i32),
    Cancel(i32),
    Notify { channel: String, payload: String },
    SetConfig { name: String, value: String, local: bool },
}

/// Parameters' types, as far as they are known.
pub(super) type Params = Vec<Option<Type>>;

fn undefined_column(name: &str) -> PgError {
    PgError::error("42703", format!("column \"{name}\" does not exist"))
}

/// The result's type and the arguments' (the last one repeats); `None` takes any.
fn signature(name: &str) -> Option<(Type, &'static [Option<Type>])> {
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

fn is_aggregate(name: &str) -> bool {
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

/// A row that columns are looked up in.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Row<'a> {
    pub(super) columns: &'a [Column],
    pub(super) values: &'a [Value],
}

/// The value of `expr`.
pub(super) fn eval(expr: &Expr, row: Row<'_>, env: &mut Env) -> Result<Value, PgError> {
    Ok(match expr {
        Expr::Literal(value, _) => value.clone(),
        Expr::Param(index) => env
            .params
            .get(*index)
            .cloned()
            .ok_or_else(|| PgError::error("42P02", format!("there is no parameter ${}", index + 1)))?,
        Expr::Column(name) => {
            let at =
                row.columns.iter().position(|column| column.name == *name).ok_or_else(|| undefined_column(name))?;
            row.values.get(at).cloned().unwrap_or(Value::Null)
        }
        Expr::Unary(Unary::Not, inner) => truth(&eval(inner, row, env)?)?.map_or(Value::Null, |v| Value::Bool(!v)),
        Expr::Unary(Unary::Minus, inner) => match eval(inner, row, env)? {
            Value::Int(value) => Value::Int(value.checked_neg().ok_or_else(overflow)?),
            Value::Float(value) => Value::Float(-value),
            other => other,
        },
        Expr::Binary(operator @ (Binary::And | Binary::Or), left, right) => {
            let stops = *operator == Binary::Or;
            let left = truth(&eval(left, row, env)?)?;
            if left == Some(stops) {
                return Ok(Value::Bool(stops));
            }
            match (left, truth(&eval(right, row, env)?)?) {
                (_, Some(right)) if right == stops => Value::Bool(stops),
                (Some(_), Some(_)) => Value::Bool(!stops),
                _ => Value::Null,
            }
        }
        Expr::Binary(operator, left, right) => {
            let (left, right) = (eval(left, row, env)?, eval(right, row, env)?);
            binary(*operator, left, right)?
        }
        Expr::Cast(inner, type_) => value::cast(eval(inner, row, env)?, *type_)?,
        Expr::IsNull(inner, not) => Value::Bool(eval(inner, row, env)?.is_null() != *not),
        Expr::In(left, list) => {
            let wanted = eval(left, row, env)?;
            let list = list.iter().map(|item| eval(item, row, env)).collect::<Result<Vec<_>, _>>()?;
            any_equal(&wanted, list)?
        }
        Expr::Any(left, list) => match (eval(left, row, env)?, eval(list, row, env)?) {
            (wanted, Value::List(list)) => any_equal(&wanted, list)?,
            (_, Value::Null) => Value::Null,
            (wanted, Value::Text(text)) => {
                let type_ = if wanted.as_int().is_some() { Type::Int8Array } else { Type::TextArray };
                match value::from_text(&text, type_)? {
                    Value::List(list) => any_equal(&wanted, list)?,
                    _ => Value::Null,
                }
            }
            _ => return Err(PgError::error("42809", "op ANY/ALL (array) requires array on right side")),
        },
        Expr::Array(items) => Value::List(items.iter().map(|item| eval(item, row, env)).collect::<Result<_, _>>()?),
        Expr::Call { name, .. } if is_aggregate(name) => {
            return Err(PgError::error("42803", "aggregate functions are not allowed here"));
        }
        Expr::Call { name, args, .. } => {
            let args = args.iter().map(|arg| eval(arg, row, env)).collect::<Result<Vec<_>, _>>()?;
            call(name, args, env)?
        }
    })
}

/// The value of `expr`, which aggregates `rows`.
pub(super) fn eval_over(expr: &Expr, columns: &[Column], rows: &[Vec<Value>], env: &mut Env) -> Result<Value, PgError> {
    match expr {
        Expr::Call { name, args, star } if is_aggregate(name) => {
            if *star || args.is_empty() {
                return Ok(Value::Int(rows.len() as i64));
            }
            let mut values = Vec::new();
            for values_of in rows {
                let value = eval(&args[0], Row { columns, values: values_of }, env)?;
                if !value.is_null() {
                    values.push(value);
                }
            }
            aggregate(name, values)
        }
        Expr::Cast(inner, type_) => value::cast(eval_over(inner, columns, rows, env)?, *type_),
        Expr::Binary(operator, left, right) => {
            let left = eval_over(left, columns, rows, env)?;
            binary(*operator, left, eval_over(right, columns, rows, env)?)
        }
        Expr::Call { name, args, .. } => {
            let args = args.iter().map(|arg| eval_over(arg, columns, rows, env)).collect::<Result<Vec<_>, _>>()?;
            call(name, args, env)
        }
        Expr::Column(name) => Err(PgError::error(
            "42803",
            format!("column \"{name}\" must appear in the GROUP BY clause or be used in an aggregate function"),
        )),
        other => eval(other, Row::default(), env),
    }
}

fn aggregate(name: &str, values: Vec<Value>) -> Result<Value, PgError> {
    if name == "count" {
        return Ok(Value::Int(values.len() as i64));
    }
    let mut values = values.into_iter();
    let Some(mut result) = values.next() else { return Ok(Value::Null) };
    for value in values {
        result = match name {
            "sum" => binary(Binary::Add, result, value)?,
            _ => {
                let replace = if name == "min" { Ordering::Less } else { Ordering::Greater };
                if compare(&value, &result)? == replace { value } else { result }
            }
        };
    }
    Ok(result)
}

fn overflow() -> PgError {
    PgError::error("22003", "bigint out of range")
}

/// What WHERE makes of a value.
pub(super) fn truth(value: &Value) -> Result<Option<bool>, PgError> {
    match value {
        Value::Null => Ok(None),
        Value::Bool(value) => Ok(Some(*value)),
        other => match value::cast(other.clone(), Type::Bool)? {
            Value::Bool(value) => Ok(Some(value)),
            _ => Ok(None),
        },
    }
}

fn any_equal(wanted: &Value, list: Vec<Value>) -> Result<Value, PgError> {
    let mut result = Value::Bool(false);
    for item in list {
        match binary(Binary::Equal, wanted.clone(), item)? {
            Value::Bool(true) => return Ok(Value::Bool(true)),
            Value::Null => result = Value::Null,
            _ => {}
        }
    }
    Ok(result)
}

/// The order of two values that are not NULL.
pub(super) fn compare(left: &Value, right: &Value) -> Result<Ordering, PgError> {
    let as_type = |value: &Value, type_| value::cast(value.clone(), type_);
    Ok(match (left, right) {
        (Value::Int(left), Value::Int(right)) => left.cmp(right),
        (Value::Text(left), Value::Text(right)) => left.cmp(right),
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (Value::Bytes(left), Value::Bytes(right)) => left.cmp(right),
        (Value::Time(left), Value::Time(right)) => left.cmp(right),
        (Value::Float(left), Value::Float(right)) => left.total_cmp(right),
        (Value::Int(left), Value::Float(right)) => (*left as f64).total_cmp(right),
        (Value::Float(left), Value::Int(right)) => left.total_cmp(&(*right as f64)),
        (Value::List(left), Value::List(right)) => {
            for (left, right) in left.iter().zip(right) {
                match compare(left, right)? {
                    Ordering::Equal => {}
                    other => return Ok(other),
                }
            }
            left.len().cmp(&right.len())
        }
        // A literal in quotes is of the other's type.
        (Value::Text(_), Value::Int(_)) => return compare(&as_type(left, Type::Int8)?, right),
        (Value::Int(_), Value::Text(_)) => return compare(left, &as_type(right, Type::Int8)?),
        (Value::Text(_), Value::Float(_)) => return compare(&as_type(left, Type::Float8)?, right),
        (Value::Float(_), Value::Text(_)) => return compare(left, &as_type(right, Type::Float8)?),
        (Value::Text(_), Value::Bool(_)) => return compare(&as_type(left, Type::Bool)?, right),
        (Value::Bool(_), Value::Text(_)) => return compare(left, &as_type(right, Type::Bool)?),
        (Value::Text(_), Value::Time(_)) => return compare(&as_type(left, Type::Timestamptz)?, right),
        (Value::Time(_), Value::Text(_)) => return compare(left, &as_type(right, Type::Timestamptz)?),
        _ => return Err(PgError::error("42883", "operator does not exist: these types cannot be compared")),
    })
}

fn binary(operator: Binary, left: Value, right: Value) -> Result<Value, PgError> {
    if left.is_null() || right.is_null() {
        return Ok(Value::Null);
    }
    if operator.is_comparison() {
        let order = compare(&left, &right)?;
        return Ok(Value::Bool(match operator {
            Binary::Equal => order.is_eq(),
            Binary::NotEqual => order.is_ne(),
            Binary::Less => order.is_lt(),
            Binary::LessOrEqual => order.is_le(),
            Binary::Greater => order.is_gt(),
            _ => order.is_ge(),
        }));
    }
    if operator == Binary::Concat {
        return concat([left, right]);
    }
    let number = |value: Value| match value {
        Value::Text(_) => value::cast(value, Type::Int8),
        other => Ok(other),
    };
    match (number(left)?, number(right)?) {
        (Value::Int(left), Value::Int(right)) => integers(operator, left, right),
        (Value::Int(left), Value::Float(right)) => floats(operator, left as f64, right),
        (Value::Float(left), Value::Int(right)) => floats(operator, left, right as f64),
        (Value::Float(left), Value::Float(right)) => floats(operator, left, right),
        _ => Err(PgError::error("42883", format!("operator does not exist: {}", operator.symbol()))),
    }
}

fn division_by_zero() -> PgError {
    PgError::error("22012", "division by zero")
}

fn integers(operator: Binary, left: i64, right: i64) -> Result<Value, PgError> {
    if right == 0 && matches!(operator, Binary::Divide | Binary::Modulo) {
        return Err(division_by_zero());
    }
    let result = match operator {
        Binary::Add => left.checked_add(right),
        Binary::Subtract => left.checked_sub(right),
        Binary::Multiply => left.checked_mul(right),
        Binary::Divide => left.checked_div(right),
        _ => Some(left.wrapping_rem(right)),
    };
    result.map(Value::Int).ok_or_else(overflow)
}

fn floats(operator: Binary, left: f64, right: f64) -> Result<Value, PgError> {
    if right == 0.0 && matches!(operator, Binary::Divide | Binary::Modulo) {
        return Err(division_by_zero());
    }
    Ok(Value::Float(match operator {
        Binary::Add => left + right,
        Binary::Subtract => left - right,
        Binary::Multiply => left * right,
        Binary::Divide => left / right,
        _ => left % right,
    }))
}

fn concat(values: impl IntoIterator<Item = Value>) -> Result<Value, PgError> {
    let mut text = String::new();
    for value in values {
        text.push_str(&value::to_text(&value));
        check_length(text.len())?;
    }
    Ok(Value::Text(text))
}

fn check_length(length: usize) -> Result<(), PgError> {
    if length > MAX_TEXT { Err(PgError::error("54000", "requested length too large")) } else { Ok(()) }
}

fn text(args: &[Value], index: usize) -> String {
    args.get(index).map(value::to_text).unwrap_or_default()
}

fn int(args: &[Value], index: usize) -> Result<i64, PgError> {
    let value = value::cast(args.get(index).cloned().unwrap_or(Value::Null), Type::Int8)?;
    Ok(value.as_int().unwrap_or_default())
}

fn call(name: &str, args: Vec<Value>, env: &mut Env) -> Result<Value, PgError> {
    match name {
        "coalesce" => return Ok(args.into_iter().find(|value| !value.is_null()).unwrap_or(Value::Null)),
        "concat" => return concat(args),
        "nullif" => {
            let equal = binary(Binary::Equal, args[0].clone(), args.get(1).cloned().unwrap_or(Value::Null))?;
            return Ok(if equal == Value::Bool(true) {
                Value::Null
            } else {
                args.into_iter().next().unwrap_or(Value::Null)
            });
        }
        _ if args.contains(&Value::Null) => return Ok(Value::Null),
        _ => {}
    }
    let (least, _) = (signature(name).map_or(0, |(_, wanted)| wanted.len().min(1)), ());
    if args.len() < least {
        return Err(PgError::error("42883", format!("function {name}() does not exist")));
    }
    Ok(match name {
        "now" | "current_timestamp" | "transaction_timestamp" => Value::Time(env.began),
        "statement_timestamp" | "clock_timestamp" => Value::Time(env.now),
        "pg_postmaster_start_time" => Value::Time(env.server_started),
        "version" => {
            Value::Text(format!("PostgreSQL {} (pgweir-sim, simulated)", env.settings.show("server_version")?))
        }
        "pg_backend_pid" => Value::Int(env.pid.into()),
        "pg_is_in_recovery" => Value::Bool(env.standby),
        "txid_current" | "pg_current_xact_id" if env.standby => {
            return Err(PgError::error("25006", "cannot assign TransactionIds during recovery"));
        }
        "txid_current" | "pg_current_xact_id" => Value::Int(env.xid),
        "current_database" | "current_catalog" => Value::Text(env.database.to_string()),
        "current_schema" => Value::Text("public".to_owned()),
        "current_user" | "session_user" | "user" | "current_role" => Value::Text(env.user.to_string()),
        "pg_advisory_unlock_all" => Value::Text(String::new()),
        "length" | "char_length" => Value::Int(text(&args, 0).chars().count() as i64),
        "octet_length" => Value::Int(text(&args, 0).len() as i64),
        "upper" => Value::Text(text(&args, 0).to_uppercase()),
        "lower" => Value::Text(text(&args, 0).to_lowercase()),
        "repeat" => {
            let (piece, times) = (text(&args, 0), usize::try_from(int(&args, 1)?).unwrap_or(0));
            check_length(piece.len().saturating_mul(times))?;
            Value::Text(piece.repeat(times))
        }
        "abs" => match &args[0] {
            Value::Float(value) => Value::Float(value.abs()),
            _ => Value::Int(int(&args, 0)?.checked_abs().ok_or_else(overflow)?),
        },
        "greatest" | "least" => aggregate(if name == "least" { "min" } else { "max" }, args)?,
        _ => return effect(name, &args, env),
    })
}

/// Functions that do something.
fn effect(name: &str, args: &[Value], env: &mut Env) -> Result<Value, PgError> {
    Ok(match name {
        "current_setting" => match env.settings.show(&text(args, 0)) {
            Ok(value) if text(args, 0).eq_ignore_ascii_case("transaction_read_only") => {
                Value::Text(if env.read_only { "on".to_owned() } else { value })
            }
            Ok(value) => Value::Text(value),
            Err(_) if args.get(1) == Some(&Value::Bool(true)) => Value::Null,
            Err(error) => return Err(error),
        },
        "set_config" => {
            let (name, value) = (text(args, 0), text(args, 1));
            let value = env.settings.set(&name, &value)?;
            let local = args.get(2) == Some(&Value::Bool(true));
            env.effects.push(Effect::SetConfig { name, value: value.clone(), local });
            Value::Text(value)
        }
        "pg_sleep" => {
            let seconds = match value::cast(args[0].clone(), Type::Float8)? {
                Value::Float(seconds) => seconds,
                _ => 0.0,
            };
            let sleep = Duration::try_from_secs_f64(seconds.clamp(0.0, 1e9)).unwrap_or_default();
            env.sleep = env.sleep.saturating_add(sleep);
            Value::Text(String::new())
        }
        "pg_terminate_backend" | "pg_cancel_backend" => {
            let pid = i32::try_from(int(args, 0)?).unwrap_or(0);
            let known = env.pids.contains_key(&pid);
            if known {
                env.effects.push(if name == "pg_cancel_backend" {
                    Effect::Cancel(pid)
                } else {
                    Effect::Terminate(pid)
                });
            }
            Value::Bool(known)
        }
        "pg_notify" => {
            env.effects.push(Effect::Notify { channel: text(args, 0), payload: text(args, 1) });
            Value::Text(String::new())
        }
        _ => return Err(PgError::error("42883", format!("function {name} does not exist"))),
    })
}
