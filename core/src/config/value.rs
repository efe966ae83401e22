//! How a field's value is read from text and from YAML, and how it is shown.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::connect::ResetPolicy;
use super::pool::{LeakStack, ValidationPolicy};
use super::yaml::Node;

/// Why a text is not a value: to be read after the field and the value, and something to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bad {
    pub(crate) rule: String,
    /// Close to what was written; otherwise the field's default is as good as any.
    pub(crate) instead: Option<String>,
}

/// A type that a field can have.
pub(crate) trait FieldValue: Sized + Clone {
    /// Whether the value may be quoted in an error.
    const SECRET: bool = false;

    /// From an environment variable.
    fn from_text(text: &str) -> Result<Self, Bad>;
    /// From a YAML value.
    fn from_yaml(node: &Node) -> Result<Self, Bad>;
    /// For people; [`from_text`](Self::from_text) reads it.
    fn show(&self) -> String;
}

/// How a field is serialised in a journal or a scenario.
pub(crate) trait Wired: Sized {
    type Wire: Serialize + for<'de> Deserialize<'de> + From<Self> + Into<Self>;
}

impl Wired for u16 {
    type Wire = u16;
}
impl Wired for u32 {
    type Wire = u32;
}
impl Wired for u64 {
    type Wire = u64;
}
impl Wired for bool {
    type Wire = bool;
}
impl Wired for f64 {
    type Wire = f64;
}
impl Wired for ValidationPolicy {
    type Wire = ValidationPolicy;
}
impl Wired for LeakStack {
    type Wire = LeakStack;
}
impl Wired for Duration {
    type Wire = DurationText;
}

fn bad<T>(rule: impl Into<String>) -> Result<T, Bad> {
    Err(Bad { rule: rule.into(), instead: None })
}

fn bad_but<T>(rule: &str, instead: impl Into<String>) -> Result<T, Bad> {
    Err(Bad { rule: rule.to_owned(), instead: Some(instead.into()) })
}

/// Numbers and words read alike from YAML and from the environment; a quoted "10" is a 10, since templates quote.
fn scalar<T: FieldValue>(node: &Node, what: &str) -> Result<T, Bad> {
    match node {
        Node::Number(text) | Node::Text(text) => T::from_text(text),
        Node::Bool(value) => T::from_text(if *value { "true" } else { "false" }),
        Node::Null | Node::List | Node::Map(_) => bad(format!("must be {what}")),
    }
}

macro_rules! whole_number {
    ($($type:ty),*) => {$(
        impl FieldValue for $type {
            fn from_text(text: &str) -> Result<Self, Bad> {
                let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                match text.parse() {
                    Ok(value) if digits => Ok(value),
                    _ if digits => bad("is too large"),
                    _ if text.starts_with('-') => bad("must not be negative"),
                    _ => bad("must be a whole number"),
                }
            }

            fn from_yaml(node: &Node) -> Result<Self, Bad> {
                scalar(node, "a whole number")
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
whole_number!(u16, u32, u64, usize);

impl FieldValue for bool {
    fn from_text(text: &str) -> Result<Self, Bad> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Ok(true),
            "false" | "no" | "off" | "0" => Ok(false),
            _ => bad("must be true or false"),
        }
    }

    fn from_yaml(node: &Node) -> Result<Self, Bad> {
        scalar(node, "true or false")
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl FieldValue for f64 {
    fn from_text(text: &str) -> Result<Self, Bad> {
        // Rust would also read `inf`, `nan` and exponents, which nobody means here.
        if text.strip_prefix('-').is_some_and(is_decimal) {
            return bad("must not be negative");
        }
        match text.parse() {
            Ok(value) if is_decimal(text) => Ok(value),
            _ => bad("must be a number"),
        }
    }

    fn from_yaml(node: &Node) -> Result<Self, Bad> {
        scalar(node, "a number")
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl FieldValue for Duration {
    /// A number with a unit, or a bare number of seconds.
    fn from_text(text: &str) -> Result<Self, Bad> {
        if text.starts_with('-') {
            return bad("must not be negative");
        }
        if is_decimal(text) {
            let seconds = text.parse().map_err(drop).and_then(|s| Duration::try_from_secs_f64(s).map_err(drop));
            return seconds.or_else(|()| bad("is too long"));
        }
        duration(text)
    }

    fn from_yaml(node: &Node) -> Result<Self, Bad> {
        match node {
            Node::Text(text) | Node::Number(text) if is_decimal(text) => {
                let seconds = Duration::from_text(text)?;
                if seconds.is_zero() {
                    return Ok(seconds);
                }
                bad_but("needs a unit", seconds.show())
            }
            Node::Text(text) | Node::Number(text) if text.starts_with('-') => Duration::from_text(text),
            Node::Text(text) => duration(text),
            _ => bad("must be a duration"),
        }
    }

    fn show(&self) -> String {
        show_duration(*self)
    }
}

impl FieldValue for ValidationPolicy {
    fn from_text(text: &str) -> Result<Self, Bad> {
        match text.to_ascii_lowercase().as_str() {
            "interval" => Ok(ValidationPolicy::Interval),
            "always" => Ok(ValidationPolicy::Always),
            "suspect" => Ok(ValidationPolicy::Suspect),
            _ => bad("must be interval, always or suspect"),
        }
    }

    fn from_yaml(node: &Node) -> Result<Self, Bad> {
        scalar(node, "interval, always or suspect")
    }

    fn show(&self) -> String {
        match self {
            ValidationPolicy::Interval => "interval",
            ValidationPolicy::Always => "always",
            ValidationPolicy::Suspect => "suspect",
        }
        .to_owned()
    }
}

impl FieldValue for LeakStack {
    fn from_text(text: &str) -> Result<Self, Bad> {
        match text.to_ascii_lowercase().as_str() {
            "adaptive" => Ok(LeakStack::Adaptive),
            "always" => Ok(LeakStack::Always),
            "never" => Ok(LeakStack::Never),
            _ => bad("must be adaptive, always or never"),
        }
    }

    fn from_yaml(node: &Node) -> Result<Self, Bad> {
        scalar(node, "adaptive, always or never")
    }

    fn show(&self) -> String {
        match self {
            LeakStack::Adaptive => "adaptive",
            LeakStack::Always => "always",
            LeakStack::Never => "never",
        }
        .to_owned()
    }
}

const RESET_RULE: &str = "must be nothing, discard_all or sql: and the statements";

impl FieldValue for ResetPolicy {
    fn from_text(text: &str) -> Result<Self, Bad> {
        match text.to_ascii_lowercase().as_str() {
            "nothing" => return Ok(ResetPolicy::Nothing),
            "discard_all" => return Ok(ResetPolicy::DiscardAll),
            _ => {}
        }
        match text.split_once(':') {
            Some((kind, sql)) if kind.trim().eq_ignore_ascii_case("sql") => Ok(ResetPolicy::Sql(sql.trim().to_owned())),
            _ => bad(RESET_RULE),
        }
    }

    fn from_yaml(node: &Node) -> Result<Self, Bad> {
        match node {
            Node::Text(text) => ResetPolicy::from_text(text),
            Node::Map(entries) => match entries.as_slice() {
                [entry] if entry.key == "sql" => match &entry.value {
                    Node::Text(sql) => Ok(ResetPolicy::Sql(sql.clone())),
                    _ => bad_but(RESET_RULE, "{sql: \"RESET ALL\"}"),
                },
                _ => bad_but(RESET_RULE, "{sql: \"RESET ALL\"}"),
            },
            _ => bad(RESET_RULE),
        }
    }

    fn show(&self) -> String {
        match self {
            ResetPolicy::Nothing => "nothing".to_owned(),
            ResetPolicy::DiscardAll => "discard_all".to_owned(),
            ResetPolicy::Sql(sql) => format!("sql: {sql}"),
        }
    }
}

/// A connection URL is read elsewhere: here it is a secret text.
impl FieldValue for super::connect::Secret {
    const SECRET: bool = true;

    fn from_text(text: &str) -> Result<Self, Bad> {
        Ok(Self::new(text))
    }

    fn from_yaml(node: &Node) -> Result<Self, Bad> {
        match node {
            Node::Text(text) => Ok(Self::new(text.as_str())),
            _ => bad("must be a connection URL"),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

fn is_decimal(text: &str) -> bool {
    let mut parts = text.splitn(2, '.');
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let whole = parts.next().unwrap_or_default();
    !whole.is_empty() && digits(whole) && parts.next().is_none_or(|part| !part.is_empty() && digits(part))
}

fn duration(text: &str) -> Result<Duration, Bad> {
    match humantime::parse_duration(text) {
        Ok(duration) => Ok(duration),
        Err(humantime::DurationError::NumberOverflow) => bad("is too long or finer than a nanosecond"),
        Err(_) => bad("must be a duration such as 500ms, 30s, 5m or 1h"),
    }
}

pub(crate) fn show_duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// A duration as `30s` in scenarios and wherever people read; exact to the nanosecond, there and in journals.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DurationText(Duration);

impl From<Duration> for DurationText {
    fn from(duration: Duration) -> Self {
        DurationText(duration)
    }
}

impl From<DurationText> for Duration {
    fn from(text: DurationText) -> Self {
        text.0
    }
}

impl Serialize for DurationText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&show_duration(self.0))
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return Duration::deserialize(deserializer).map(DurationText);
        }
        let node = Node::deserialize(deserializer)?;
        match Duration::from_yaml(&node) {
            Ok(duration) => Ok(DurationText(duration)),
            Err(bad) => Err(serde::de::Error::custom(format_args!(
                "the duration {} {}: write {}",
                node.show(),
                bad.rule,
                bad.instead.as_deref().unwrap_or("30s")
            ))),
        }
    }
}
