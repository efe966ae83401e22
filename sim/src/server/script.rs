//! Answers that a test writes itself.

use std::fmt;
use std::time::Duration;

use super::error::{PgError, Severity};
use super::sql;
use super::value::{Column, Type, Value};
use super::view::SessionView;

/// What a scripted statement is called with.
#[derive(Debug)]
#[non_exhaustive]
pub struct Call<'a> {
    /// The statement as it was sent.
    pub sql: &'a str,
    /// Its parameters.
    pub params: &'a [Value],
    /// Who asks.
    pub session: &'a SessionView,
    /// The client has not executed it, it wants to know the columns: the parameters are all NULL. Does not happen if
    /// [`Script::columns`] says them.
    pub describing: bool,
}

/// What is answered to a statement.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub(super) outcome: Reply,
    pub(super) delay: Duration,
    pub(super) notices: Vec<PgError>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reply {
    Rows { columns: Vec<Column>, rows: Vec<Vec<Value>> },
    Done(String),
    Error(PgError),
    Close,
    Never,
}

impl Answer {
    fn new(outcome: Reply) -> Self {
        Answer { outcome, delay: Duration::ZERO, notices: Vec::new() }
    }

    /// Rows with these columns.
    pub fn rows<C, R>(columns: impl IntoIterator<Item = C>, rows: impl IntoIterator<Item = R>) -> Self
    where
        C: Into<Column>,
        R: IntoIterator<Item = Value>,
    {
        let columns = columns.into_iter().map(Into::into).collect();
        let rows = rows.into_iter().map(|row| row.into_iter().collect()).collect();
        Answer::new(Reply::Rows { columns, rows })
    }

    /// One row of one column.
    pub fn value(name: &str, type_: Type, value: impl Into<Value>) -> Self {
        Answer::rows([(name, type_)], [[value.into()]])
    }

    /// No rows, and this command tag: `INSERT 0 1`, `UPDATE 3`.
    pub fn done(tag: impl Into<String>) -> Self {
        Answer::new(Reply::Done(tag.into()))
    }

    /// An error with this SQLSTATE (five characters); the session lives on.
    pub fn error(code: impl Into<String>, message: impl Into<String>) -> Self {
        Answer::new(Reply::Error(PgError::error(code.into(), message)))
    }

    /// An error with all that belongs to it.
    pub fn failed(error: PgError) -> Self {
        Answer::new(Reply::Error(error))
    }

    /// The connection ends, without a word.
    pub fn close() -> Self {
        Answer::new(Reply::Close)
    }

    /// Nothing, until the statement is cancelled or the session ends.
    pub fn never() -> Self {
        Answer::new(Reply::Never)
    }

    /// So much later.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// With a notice before it.
    #[must_use]
    pub fn notice(mut self, message: impl Into<String>) -> Self {
        self.notices.push(PgError::new(Severity::Notice, "00000", message));
        self
    }
}

type Answerer = dyn FnMut(&Call<'_>) -> Answer + Send;

/// Which statements it is for.
enum Matches {
    Exactly(String),
    Prefix(String),
    When(Box<dyn Fn(&str) -> bool + Send>),
}

/// A scripted statement. The last one that matches counts, and scripts come before everything that the server knows
/// itself.
pub struct Script {
    matches: Matches,
    params: Vec<Type>,
    columns: Option<Vec<Column>>,
    answer: Box<Answerer>,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let matches = match &self.matches {
            Matches::Exactly(sql) => sql.clone(),
            Matches::Prefix(sql) => format!("{sql}..."),
            Matches::When(_) => "a predicate".to_owned(),
        };
        f.debug_struct("Script").field("matches", &matches).field("params", &self.params).finish_non_exhaustive()
    }
}

impl Script {
    fn new(matches: Matches, answer: impl FnMut(&Call<'_>) -> Answer + Send + 'static) -> Self {
        Script { matches, params: Vec::new(), columns: None, answer: Box::new(answer) }
    }

    /// For this statement; space, comments, the case of key words and a semicolon at the end do not matter.
    pub fn exactly(sql: &str, answer: impl FnMut(&Call<'_>) -> Answer + Send + 'static) -> Self {
        Script::new(Matches::Exactly(sql.to_owned()), answer)
    }

    /// For every statement that begins so, to the letter.
    pub fn prefix(sql: &str, answer: impl FnMut(&Call<'_>) -> Answer + Send + 'static) -> Self {
        Script::new(Matches::Prefix(sql.to_owned()), answer)
    }

    /// For every statement that `matches` says yes to.
    pub fn when(
        matches: impl Fn(&str) -> bool + Send + 'static,
        answer: impl FnMut(&Call<'_>) -> Answer + Send + 'static,
    ) -> Self {
        Script::new(Matches::When(Box::new(matches)), answer)
    }

    /// The types of `$1`, `$2`, ... Those that are not said are what a cast in the statement says (`$1::int8`), else
    /// text.
    pub fn params(&mut self, types: impl IntoIterator<Item = Type>) -> &mut Self {
        self.params = types.into_iter().collect();
        self
    }

    /// The columns, for clients that prepare the statement. Without them the answer itself is asked, see
    /// [`Call::describing`].
    pub fn columns<C: Into<Column>>(&mut self, columns: impl IntoIterator<Item = C>) -> &mut Self {
        self.columns = Some(columns.into_iter().map(Into::into).collect());
        self
    }

    fn is_for(&self, sql: &str) -> bool {
        match &self.matches {
            Matches::Exactly(text) => sql::same(text, sql),
            Matches::Prefix(text) => sql.trim_start().starts_with(&**text),
            Matches::When(matches) => matches(sql),
        }
    }

    /// The parameters' types, given those that the client has declared.
    pub(super) fn param_types(&self, sql: &str, declared: &[Option<Type>]) -> Vec<Type> {
        let count = sql::count_parameters(sql).max(self.params.len()).max(declared.len());
        let of = |index: usize| {
            let declared = declared.get(index).copied().flatten();
            declared
                .or_else(|| self.params.get(index).copied())
                .or_else(|| sql::cast_of(sql, index))
                .unwrap_or(Type::Text)
        };
        (0..count).map(of).collect()
    }

    pub(super) fn describe(&mut self, call: &Call<'_>) -> Result<Option<Vec<Column>>, PgError> {
        if let Some(columns) = &self.columns {
            return Ok((!columns.is_empty()).then(|| columns.clone()));
        }
        match (self.answer)(call).outcome {
            Reply::Rows { columns, .. } => Ok(Some(columns)),
            _ => Ok(None),
        }
    }

    pub(super) fn call(&mut self, call: &Call<'_>) -> Answer {
        (self.answer)(call)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Scripts(Vec<Script>);

impl Scripts {
    pub(super) fn add(&mut self, script: Script) -> &mut Script {
        self.0.push(script);
        let last = self.0.len() - 1;
        &mut self.0[last]
    }

    pub(super) fn find(&self, sql: &str) -> Option<usize> {
        self.0.iter().rposition(|script| script.is_for(sql))
    }

    pub(super) fn get(&mut self, index: usize) -> Option<&mut Script> {
        self.0.get_mut(index)
    }
}
