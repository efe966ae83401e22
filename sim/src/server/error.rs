//! What the server complains about: the fields of ErrorResponse and NoticeResponse.

use std::borrow::Cow;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The statement, and the transaction that it is in, have failed.
    Error,
    /// The session ends.
    Fatal,
    /// A notice that something is amiss.
    Warning,
    /// A notice.
    Notice,
}

impl Severity {
    pub(super) fn text(self) -> &'static str {
        match self {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
            Severity::Warning => "WARNING",
            Severity::Notice => "NOTICE",
        }
    }
}

/// An error or a notice of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgError {
    /// How bad it is.
    pub severity: Severity,
    /// The SQLSTATE, five characters.
    pub code: Cow<'static, str>,
    /// What has happened.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Where in the statement, in characters from 1.
    pub position: Option<usize>,
}

impl PgError {
    /// Any severity.
    pub fn new(severity: Severity, code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        let (code, message) = (code.into(), message.into());
        PgError { severity, code, message, detail: None, hint: None, position: None }
    }

    /// An error of a statement.
    pub fn error(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        PgError::new(Severity::Error, code, message)
    }

    /// An error that ends the session.
    pub fn fatal(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        PgError::new(Severity::Fatal, code, message)
    }

    pub(super) fn violation(message: impl Into<String>) -> Self {
        PgError::fatal("08P01", message)
    }

    pub(super) fn unknown(what: &str) -> Self {
        let short: String = what.chars().take(200).collect();
        PgError::error("0A000", format!("the simulated server does not know: {short}"))
            .hint("Script it: postgres.on(\"SELECT ...\", |call| Answer::rows(...)).")
    }

    pub(super) fn syntax(near: &str, position: usize) -> Self {
        let message = match near {
            "" => "syntax error at end of input".to_owned(),
            near => format!("syntax error at or near \"{near}\""),
        };
        PgError { position: Some(position), ..PgError::error("42601", message) }
    }

    pub(super) fn at(mut self, position: usize) -> Self {
        self.position.get_or_insert(position);
        self
    }

    /// With a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With a detail.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Whether the session ends with it.
    pub fn is_fatal(&self) -> bool {
        self.severity == Severity::Fatal
    }
}

/// A termination by an administrator.
pub(super) fn terminated() -> PgError {
    PgError::fatal("57P01", "terminating connection due to administrator command")
}
