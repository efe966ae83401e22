//! Scripts in YAML, for those who run the server by itself.

use std::time::Duration;

use serde::Deserialize;

use super::error::PgError;
use super::script::{Answer, Call, Script};
use super::value::{Column, Type, Value};
use crate::rng::Rng;
use crate::scenario::{BadScenario, Dist, Problem};
use crate::yaml::{self, Part, Raw};

/// An entry of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// The statement.
    query: Option<String>,
    /// Or how it begins.
    prefix: Option<String>,
    /// `int8`, ...
    #[serde(default)]
    params: Vec<String>,
    /// `price int8`, ...
    #[serde(default)]
    columns: Vec<String>,
    rows: Option<Vec<Vec<Raw>>>,
    /// The command tag, for what returns no rows.
    tag: Option<String>,
    error: Option<ErrorText>,
    delay: Option<Dist>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ErrorText {
    code: String,
    message: String,
}

impl Script {
    /// Reads a list of scripts:
    ///
    /// ```yaml
    /// - query: SELECT price FROM items WHERE id = $1
    ///   params: [int8]
    ///   columns: [price int8]
    ///   rows: [[250]]
    ///   delay: {exponential: 5ms}
    /// - prefix: UPDATE
    ///   tag: UPDATE 1
    /// - query: SELECT broken
    ///   error: {code: P0001, message: it is broken}
    /// ```
    ///
    /// # Errors
    /// All that is wrong with it, with its place.
    pub fn from_yaml(file: &str, text: &str) -> Result<Vec<Script>, BadScenario> {
        let bad = |problems| BadScenario { file: file.to_owned(), problems };
        let entries: Vec<Entry> = yaml::read(text).map_err(|misread| {
            let yaml::Misread { line, column, key, problem } = misread;
            bad(vec![Problem { line, column, key, problem }])
        })?;
        let mut scripts = Vec::new();
        let mut problems = Vec::new();
        for (index, entry) in entries.into_iter().enumerate() {
            match script(entry, index as u64) {
                Ok(script) => scripts.push(script),
                Err((key, problem)) => {
                    let path = [Part::Item(index), Part::from(key)];
                    let (line, column) = yaml::locate(text, &path);
                    problems.push(Problem { line, column, key: yaml::spell(&path), problem });
                }
            }
        }
        if problems.is_empty() { Ok(scripts) } else { Err(bad(problems)) }
    }
}

type Wrong = (&'static str, String);

fn script(entry: Entry, number: u64) -> Result<Script, Wrong> {
    let type_ = |key, name: &str| {
        Type::from_name(name).ok_or_else(|| (key, format!("`{name}` is no type: write int8, text, bool, ...")))
    };
    let params = entry.params.iter().map(|name| type_("params", name)).collect::<Result<Vec<_>, _>>()?;
    let mut columns = Vec::new();
    for text in &entry.columns {
        let form = || ("columns", format!("`{text}` is no column: write its name and type, as in `price int8`"));
        let (name, of) = text.trim().rsplit_once(' ').ok_or_else(form)?;
        columns.push(Column::new(name.trim(), type_("columns", of)?));
    }
    let answer = answer(entry.rows, entry.tag, entry.error, &columns)?;
    let (delay, mut rng) = (entry.delay.unwrap_or(Dist::Fixed(Duration::ZERO)), Rng::new(1, number));
    let reply = move |_: &Call<'_>| answer.clone().after(delay.draw(&mut rng));
    let mut script = match (entry.query, entry.prefix) {
        (Some(query), None) => Script::exactly(&query, reply),
        (None, Some(prefix)) => Script::prefix(&prefix, reply),
        _ => return Err(("query", "write either `query` or `prefix`".to_owned())),
    };
    script.params(params).columns(columns);
    Ok(script)
}

fn answer(
    rows: Option<Vec<Vec<Raw>>>,
    tag: Option<String>,
    error: Option<ErrorText>,
    columns: &[Column],
) -> Result<Answer, Wrong> {
    let rows = match (rows, tag, error) {
        (None, Some(tag), None) => return Ok(Answer::done(tag)),
        (None, None, Some(error)) => {
            let valid =
                error.code.len() == 5 && error.code.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase());
            if !valid {
                return Err((
                    "error",
                    format!("`{}` is no SQLSTATE: it has five digits or capital letters", error.code),
                ));
            }
            return Ok(Answer::failed(PgError::error(error.code, error.message)));
        }
        (rows, None, None) => rows.unwrap_or_default(),
        _ => return Err(("query", "write one of `rows`, `tag` and `error`".to_owned())),
    };
    let mut values = Vec::new();
    for row in rows {
        if row.len() != columns.len() {
            let message = format!("a row has {} values, and there are {} columns", row.len(), columns.len());
            return Err(("rows", message));
        }
        let mut converted = Vec::new();
        for (raw, column) in row.into_iter().zip(columns) {
            let value = value(raw).ok_or_else(|| ("rows", "a value is a scalar or a list of scalars".to_owned()))?;
            super::value::encode(&value, column, false).map_err(|error| ("rows", error.message))?;
            converted.push(value);
        }
        values.push(converted);
    }
    Ok(Answer::rows(columns.to_vec(), values))
}

fn value(raw: Raw) -> Option<Value> {
    Some(match raw {
        Raw::Null => Value::Null,
        Raw::Bool(value) => Value::Bool(value),
        Raw::Number(number) => match number.as_i64() {
            Some(value) => Value::Int(value),
            None => Value::Float(number.as_f64()?),
        },
        Raw::String(text) => Value::Text(text),
        Raw::Sequence(items) => Value::List(items.into_iter().map(value).collect::<Option<_>>()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_read_and_mistakes_have_a_place() {
        let text = "
- {query: 'SELECT price FROM items WHERE id = $1', params: [int8], columns: [price int8], rows: [[250]], delay: 5ms}
- {prefix: UPDATE, tag: UPDATE 1}
- {query: SELECT broken, error: {code: P0001, message: it is broken}}
";
        assert_eq!(Script::from_yaml("s.yaml", text).expect("three").len(), 3);
        for (text, said) in [
            ("- {query: a, prefix: b}", "s.yaml:1:4: [0].query: write either `query` or `prefix`"),
            ("- {tag: a}", "write either `query` or `prefix`"),
            ("- {query: a, columns: [price money]}", "[0].columns: `money` is no type"),
            ("- {query: a, columns: [x int8], rows: [[b]]}", "[0].rows: a value of the column \"x\" is no int8"),
            ("- {query: a, columns: [x int8], rows: [[1, 2]]}", "a row has 2 values, and there are 1 columns"),
            ("- {query: a, error: {code: p1, message: x}}", "`p1` is no SQLSTATE"),
            ("- {query: a, colums: []}", "unknown field `colums`"),
        ] {
            let problem = Script::from_yaml("s.yaml", text).expect_err(text).to_string();
            assert!(problem.contains(said), "{text}: {problem}");
        }
    }
}
