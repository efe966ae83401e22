//! Values and their types: text and binary, in both directions.

use super::error::PgError;

/// A type of a column or a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "PostgreSQL's names")]
#[non_exhaustive]
pub enum Type {
    Bool,
    Bytea,
    /// `"char"`, one byte.
    Char,
    Name,
    Int8,
    Int2,
    Int4,
    Text,
    Oid,
    Json,
    Jsonb,
    Float4,
    Float8,
    Unknown,
    Varchar,
    Timestamptz,
    Uuid,
    Void,
    Int4Array,
    Int8Array,
    TextArray,
    OidArray,
}

/// All of them: the type, its OID, its size, its name in pg_type, and how else SQL calls it.
const TYPES: [(Type, u32, i16, &str, &[&str]); 22] = [
    (Type::Bool, 16, 1, "bool", &["boolean"]),
    (Type::Bytea, 17, -1, "bytea", &[]),
    (Type::Char, 18, 1, "char", &[]),
    (Type::Name, 19, 64, "name", &[]),
    (Type::Int8, 20, 8, "int8", &["bigint", "bigserial", "serial8"]),
    (Type::Int2, 21, 2, "int2", &["smallint", "smallserial"]),
    (Type::Int4, 23, 4, "int4", &["int", "integer", "serial", "serial4"]),
    (Type::Text, 25, -1, "text", &[]),
    (Type::Oid, 26, 4, "oid", &[]),
    (Type::Json, 114, -1, "json", &[]),
    (Type::Jsonb, 3802, -1, "jsonb", &[]),
    (Type::Float4, 700, 4, "float4", &["real"]),
    (Type::Float8, 701, 8, "float8", &["double precision", "float", "double"]),
    (Type::Unknown, 705, -2, "unknown", &[]),
    (Type::Varchar, 1043, -1, "varchar", &["character varying"]),
    (Type::Timestamptz, 1184, 8, "timestamptz", &["timestamp with time zone"]),
    (Type::Uuid, 2950, 16, "uuid", &[]),
    (Type::Void, 2278, 4, "void", &[]),
    (Type::Int4Array, 1007, -1, "_int4", &["int4[]", "int[]", "integer[]"]),
    (Type::Int8Array, 1016, -1, "_int8", &["int8[]", "bigint[]"]),
    (Type::TextArray, 1009, -1, "_text", &["text[]"]),
    (Type::OidArray, 1028, -1, "_oid", &["oid[]"]),
];

impl Type {
    fn entry(self) -> &'static (Type, u32, i16, &'static str, &'static [&'static str]) {
        TYPES.iter().find(|entry| entry.0 == self).unwrap_or(&TYPES[7])
    }

    /// Its OID.
    pub fn oid(self) -> u32 {
        self.entry().1
    }

    pub(super) fn size(self) -> i16 {
        self.entry().2
    }

    /// Its name in pg_type.
    pub fn name(self) -> &'static str {
        self.entry().3
    }

    /// The type with this OID.
    pub fn from_oid(oid: u32) -> Option<Type> {
        TYPES.iter().find(|entry| entry.1 == oid).map(|entry| entry.0)
    }

    /// The type that SQL calls so, such as `int8` or `bigint`.
    pub fn from_name(name: &str) -> Option<Type> {
        let name = name.to_ascii_lowercase();
        TYPES.iter().find(|entry| entry.3 == name || entry.4.contains(&&*name)).map(|entry| entry.0)
    }

    pub(super) fn element(self) -> Option<Type> {
        match self {
            Type::Int4Array => Some(Type::Int4),
            Type::Int8Array => Some(Type::Int8),
            Type::TextArray => Some(Type::Text),
            Type::OidArray => Some(Type::Oid),
            _ => None,
        }
    }

    pub(super) fn array(self) -> Option<Type> {
        match self {
            Type::Int4 => Some(Type::Int4Array),
            Type::Int8 => Some(Type::Int8Array),
            Type::Text | Type::Varchar | Type::Unknown => Some(Type::TextArray),
            Type::Oid => Some(Type::OidArray),
            _ => None,
        }
    }

    pub(super) fn is_integer(self) -> bool {
        matches!(self, Type::Int2 | Type::Int4 | Type::Int8 | Type::Oid)
    }

    pub(super) fn is_text(self) -> bool {
        matches!(self, Type::Text | Type::Varchar | Type::Name | Type::Unknown | Type::Json | Type::Jsonb)
    }
}

/// A column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// What it is called.
    pub name: String,
    /// Its type.
    pub type_: Type,
}

impl Column {
    /// A column.
    pub fn new(name: impl Into<String>, type_: Type) -> Self {
        Column { name: name.into(), type_ }
    }
}

impl<N: Into<String>> From<(N, Type)> for Column {
    fn from((name, type_): (N, Type)) -> Self {
        Column::new(name, type_)
    }
}

/// A value. Its column or parameter says the type.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// NULL.
    Null,
    /// bool.
    Bool(bool),
    /// int2, int4, int8, oid.
    Int(i64),
    /// float4, float8.
    Float(f64),
    /// text, varchar, name, json, jsonb, uuid; `""` is also void.
    Text(String),
    /// bytea.
    Bytes(Vec<u8>),
    /// timestamptz: microseconds since 2000-01-01 UTC.
    Time(i64),
    /// An array.
    List(Vec<Value>),
}

impl Value {
    /// Whether it is NULL.
    pub fn is_null(&self) -> bool {
        *self == Value::Null
    }

    /// An integer, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// A text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Text(value) => Some(value),
            _ => None,
        }
    }
}

macro_rules! from {
    ($($type:ty => $kind:ident($convert:expr)),*) => {$(
        impl From<$type> for Value {
            fn from(value: $type) -> Self {
                let convert: fn($type) -> _ = $convert;
                Value::$kind(convert(value))
            }
        }
    )*};
}
from!(
    bool => Bool(|v| v), i16 => Int(i64::from), i32 => Int(i64::from), i64 => Int(|v| v), u32 => Int(i64::from),
    f64 => Float(|v| v), &str => Text(str::to_owned), String => Text(|v| v), Vec<u8> => Bytes(|v| v),
    Vec<Value> => List(|v| v)
);

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

fn bad(type_: Type, text: &str) -> PgError {
    let shown: String = text.chars().take(100).collect();
    let name = match type_ {
        Type::Int2 => "smallint",
        Type::Int4 => "integer",
        Type::Int8 => "bigint",
        Type::Bool => "boolean",
        Type::Float8 => "double precision",
        Type::Timestamptz => "timestamp with time zone",
        other => other.name(),
    };
    let code = if type_ == Type::Timestamptz { "22007" } else { "22P02" };
    PgError::error(code, format!("invalid input syntax for type {name}: \"{shown}\""))
}

fn out_of_range(type_: Type) -> PgError {
    let name = match type_ {
        Type::Int2 => "smallint",
        Type::Int4 => "integer",
        Type::Int8 => "bigint",
        other => other.name(),
    };
    PgError::error("22003", format!("{name} out of range"))
}

/// Whether an integer fits.
pub(super) fn fits(value: i64, type_: Type) -> Result<i64, PgError> {
    let fits = match type_ {
        Type::Int2 => i16::try_from(value).is_ok(),
        Type::Int4 => i32::try_from(value).is_ok(),
        Type::Oid => u32::try_from(value).is_ok(),
        _ => true,
    };
    if fits { Ok(value) } else { Err(out_of_range(type_)) }
}

/// Makes `value` one of type `type_`, as a cast does.
pub(super) fn cast(value: Value, type_: Type) -> Result<Value, PgError> {
    if let Some(element) = type_.element() {
        return match value {
            Value::List(list) => Ok(Value::List(list.into_iter().map(|v| cast(v, element)).collect::<Result<_, _>>()?)),
            Value::Text(text) => from_text(&text, type_),
            Value::Null => Ok(Value::Null),
            _ => Err(PgError::error("42846", format!("cannot cast to {}", type_.name()))),
        };
    }
    let refused = |value: &Value| {
        let shown = to_text(value);
        Err(PgError::error("42846", format!("cannot cast {shown:?} to {}", type_.name())))
    };
    Ok(match (value, type_) {
        (Value::Null, _) => Value::Null,
        (value, Type::Void) => value,
        (Value::Int(v), t) if t.is_integer() => Value::Int(fits(v, t)?),
        (Value::Int(v), Type::Float4 | Type::Float8) => Value::Float(v as f64),
        (Value::Int(v), Type::Bool) => Value::Bool(v != 0),
        (Value::Bool(v), t) if t.is_integer() => Value::Int(v.into()),
        (Value::Bool(v), Type::Bool) => Value::Bool(v),
        (Value::Float(v), t) if t.is_integer() => {
            let rounded = v.round_ties_even();
            if !rounded.is_finite() || rounded.abs() >= 9.2e18 {
                return Err(out_of_range(t));
            }
            Value::Int(fits(rounded as i64, t)?)
        }
        (Value::Float(v), Type::Float4) => Value::Float(f64::from(v as f32)),
        (Value::Float(v), Type::Float8) => Value::Float(v),
        (Value::Bytes(v), Type::Bytea) => Value::Bytes(v),
        (Value::Time(v), Type::Timestamptz) => Value::Time(v),
        (Value::Text(v), t) => from_text(&v, t)?,
        (value, Type::Bool) if matches!(value, Value::Float(_)) => return refused(&value),
        (value, t) if t.is_text() => Value::Text(to_text(&value)),
        (value, _) => return refused(&value),
    })
}

/// Reads PostgreSQL's text form.
pub(super) fn from_text(text: &str, type_: Type) -> Result<Value, PgError> {
    if let Some(element) = type_.element() {
        return list_from_text(text, type_, element);
    }
    let trimmed = text.trim();
    Ok(match type_ {
        Type::Bool => match &*trimmed.to_ascii_lowercase() {
            "t" | "true" | "y" | "yes" | "on" | "1" => Value::Bool(true),
            "f" | "false" | "n" | "no" | "off" | "0" => Value::Bool(false),
            _ => return Err(bad(type_, text)),
        },
        t if t.is_integer() => {
            let wide: i128 = trimmed.parse().map_err(|_| bad(type_, text))?;
            let value = i64::try_from(wide).ok().and_then(|value| fits(value, t).ok());
            let shown = trimmed.chars().take(100).collect::<String>();
            Value::Int(value.ok_or_else(|| {
                PgError::error("22003", format!("value \"{shown}\" is out of range for type {}", t.name()))
            })?)
        }
        Type::Float4 | Type::Float8 => match &*trimmed.to_ascii_lowercase() {
            "infinity" | "inf" => Value::Float(f64::INFINITY),
            "-infinity" | "-inf" => Value::Float(f64::NEG_INFINITY),
            "nan" => Value::Float(f64::NAN),
            _ => Value::Float(trimmed.parse().map_err(|_| bad(type_, text))?),
        },
        Type::Bytea => match text.strip_prefix("\\x") {
            Some(hex) => Value::Bytes(from_hex(hex).ok_or_else(|| bad(type_, text))?),
            None => Value::Bytes(text.as_bytes().to_vec()),
        },
        Type::Timestamptz => Value::Time(super::clock::parse(trimmed).ok_or_else(|| bad(type_, text))?),
        Type::Uuid => {
            let hex: String = trimmed.chars().filter(|c| !matches!(c, '-' | '{' | '}')).collect();
            let bytes = from_hex(&hex).filter(|bytes| bytes.len() == 16).ok_or_else(|| bad(type_, text))?;
            Value::Text(uuid(&bytes))
        }
        _ => Value::Text(text.to_owned()),
    })
}

/// Writes PostgreSQL's text form.
pub(super) fn to_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(v) => if *v { "t" } else { "f" }.to_owned(),
        Value::Int(v) => v.to_string(),
        Value::Float(v) if v.is_nan() => "NaN".to_owned(),
        Value::Float(v) if v.is_infinite() => if *v > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
        Value::Float(v) if *v != 0.0 && (v.abs() >= 1e15 || v.abs() < 1e-4) => {
            let text = format!("{v:e}");
            match text.split_once('e') {
                Some((digits, power)) if !power.starts_with('-') => format!("{digits}e+{power:0>2}"),
                Some((digits, power)) => format!("{digits}e-{:0>2}", &power[1..]),
                None => text,
            }
        }
        Value::Float(v) => v.to_string(),
        Value::Text(v) => v.clone(),
        Value::Bytes(v) => format!("\\x{}", v.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        Value::Time(v) => super::clock::show(*v),
        Value::List(list) => {
            let items: Vec<String> = list.iter().map(list_item).collect();
            format!("{{{}}}", items.join(","))
        }
    }
}

fn list_item(value: &Value) -> String {
    let text = match value {
        Value::Null => return "NULL".to_owned(),
        Value::Text(text) => text,
        other => return to_text(other),
    };
    let plain = !text.is_empty()
        && !text.eq_ignore_ascii_case("null")
        && !text.contains(|c: char| c.is_whitespace() || matches!(c, '{' | '}' | ',' | '"' | '\\'));
    if plain { text.clone() } else { format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")) }
}

fn list_from_text(text: &str, type_: Type, element: Type) -> Result<Value, PgError> {
    let malformed = || PgError::error("22P02", format!("malformed array literal: {text:?} for {}", type_.name()));
    let inner = text.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).ok_or_else(malformed)?;
    let mut list = Vec::new();
    let mut chars = inner.chars().peekable();
    while chars.peek().is_some() {
        let (mut item, mut quoted) = (String::new(), false);
        loop {
            match chars.next() {
                None | Some(',') => break,
                Some('{' | '}') => return Err(malformed()),
                Some('"') => {
                    quoted = true;
                    loop {
                        match chars.next().ok_or_else(malformed)? {
                            '"' => break,
                            '\\' => item.push(chars.next().ok_or_else(malformed)?),
                            other => item.push(other),
                        }
                    }
                }
                Some('\\') => item.push(chars.next().ok_or_else(malformed)?),
                Some(other) => item.push(other),
            }
        }
        list.push(match item.trim() {
            null if !quoted && null.eq_ignore_ascii_case("null") => Value::Null,
            trimmed if !quoted => from_text(trimmed, element)?,
            _ => from_text(&item, element)?,
        });
    }
    Ok(Value::List(list))
}

fn from_hex(hex: &str) -> Option<Vec<u8>> {
    if !hex.is_ascii() || hex.len() % 2 != 0 {
        return None;
    }
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok()).collect()
}

fn uuid(bytes: &[u8]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// A value for the wire; `None` is NULL. What does not fit its column is an error of whoever gave it.
pub(super) fn encode(value: &Value, column: &Column, binary: bool) -> Result<Option<Vec<u8>>, PgError> {
    if value.is_null() {
        return Ok(None);
    }
    let type_ = column.type_;
    let value = cast(value.clone(), type_).map_err(|error| {
        let why = format!("a value of the column \"{}\" is no {}: {}", column.name, type_.name(), error.message);
        PgError::error("42804", why)
    })?;
    Ok(Some(if binary { to_binary(&value, type_)? } else { to_text(&value).into_bytes() }))
}

fn to_binary(value: &Value, type_: Type) -> Result<Vec<u8>, PgError> {
    Ok(match (value, type_) {
        (_, Type::Void) => Vec::new(),
        (Value::Bool(v), _) => vec![u8::from(*v)],
        (Value::Int(v), Type::Int2) => (*v as i16).to_be_bytes().to_vec(),
        (Value::Int(v), Type::Int8) => v.to_be_bytes().to_vec(),
        (Value::Int(v), _) => (*v as i32).to_be_bytes().to_vec(),
        (Value::Float(v), Type::Float4) => (*v as f32).to_be_bytes().to_vec(),
        (Value::Float(v), _) => v.to_be_bytes().to_vec(),
        (Value::Text(v), Type::Uuid) => from_hex(&v.replace('-', "")).ok_or_else(|| bad(type_, v))?,
        (Value::Text(v), Type::Jsonb) => [&[1], v.as_bytes()].concat(),
        (Value::Text(v), _) => v.clone().into_bytes(),
        (Value::Bytes(v), _) => v.clone(),
        (Value::Time(v), _) => v.to_be_bytes().to_vec(),
        (Value::List(list), _) => list_to_binary(list, type_)?,
        (Value::Null, _) => Vec::new(),
    })
}

fn list_to_binary(list: &[Value], type_: Type) -> Result<Vec<u8>, PgError> {
    let element = type_.element().unwrap_or(Type::Text);
    let mut out = Vec::new();
    let dimensions = i32::from(!list.is_empty());
    out.extend(dimensions.to_be_bytes());
    out.extend(i32::from(list.contains(&Value::Null)).to_be_bytes());
    out.extend(element.oid().to_be_bytes());
    if !list.is_empty() {
        out.extend((list.len() as u32).to_be_bytes());
        out.extend(1i32.to_be_bytes());
    }
    for value in list {
        if value.is_null() {
            out.extend((-1i32).to_be_bytes());
        } else {
            let bytes = to_binary(value, element)?;
            out.extend((bytes.len() as u32).to_be_bytes());
            out.extend(bytes);
        }
    }
    Ok(out)
}

/// A parameter from the wire.
pub(super) fn decode(bytes: &[u8], type_: Type, binary: bool) -> Result<Value, PgError> {
    let text = |bytes: &[u8]| {
        let invalid = || PgError::error("22021", "invalid byte sequence for encoding \"UTF8\"");
        String::from_utf8(bytes.to_vec()).map_err(|_| invalid())
    };
    if !binary {
        return from_text(&text(bytes)?, type_);
    }
    let wrong = || PgError::error("22P03", format!("incorrect binary data format for type {}", type_.name()));
    if let Some(element) = type_.element() {
        return list_from_binary(bytes, element).ok_or_else(wrong)?;
    }
    Ok(match type_ {
        Type::Bool => Value::Bool(*exactly::<1>(bytes).ok_or_else(wrong)?.first().unwrap_or(&0) != 0),
        Type::Int2 => Value::Int(i16::from_be_bytes(exactly(bytes).ok_or_else(wrong)?).into()),
        Type::Int4 => Value::Int(i32::from_be_bytes(exactly(bytes).ok_or_else(wrong)?).into()),
        Type::Oid => Value::Int(u32::from_be_bytes(exactly(bytes).ok_or_else(wrong)?).into()),
        Type::Int8 => Value::Int(i64::from_be_bytes(exactly(bytes).ok_or_else(wrong)?)),
        Type::Float4 => Value::Float(f32::from_be_bytes(exactly(bytes).ok_or_else(wrong)?).into()),
        Type::Float8 => Value::Float(f64::from_be_bytes(exactly(bytes).ok_or_else(wrong)?)),
        Type::Timestamptz => Value::Time(i64::from_be_bytes(exactly(bytes).ok_or_else(wrong)?)),
        Type::Bytea => Value::Bytes(bytes.to_vec()),
        Type::Uuid => Value::Text(uuid(&exactly::<16>(bytes).ok_or_else(wrong)?)),
        Type::Jsonb => match bytes.split_first() {
            Some((1, rest)) => Value::Text(text(rest)?),
            _ => return Err(wrong()),
        },
        Type::Void => Value::Text(String::new()),
        _ => Value::Text(text(bytes)?),
    })
}

fn exactly<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

fn list_from_binary(bytes: &[u8], element: Type) -> Option<Result<Value, PgError>> {
    let word = |at: usize| Some(i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let dimensions = word(0)?;
    if dimensions == 0 {
        return Some(Ok(Value::List(Vec::new())));
    }
    if dimensions != 1 || word(8)? as u32 != element.oid() {
        return None;
    }
    let (count, mut at) = (word(12)?, 20);
    let mut list = Vec::new();
    for _ in 0..count {
        let length = word(at)?;
        at += 4;
        if length == -1 {
            list.push(Value::Null);
            continue;
        }
        let end = at.checked_add(usize::try_from(length).ok()?)?;
        match decode(bytes.get(at..end)?, element, true) {
            Ok(value) => list.push(value),
            Err(error) => return Some(Err(error)),
        }
        at = end;
    }
    (at == bytes.len()).then_some(Ok(Value::List(list)))
}
