//! What is wrong with a configuration, where it was written, and how to put it right.

use std::fmt;

/// More problems than this are counted, not listed: an error must stay readable and bounded whatever the input.
const MAX_PROBLEMS: usize = 64;
/// A value is quoted up to this many characters.
const MAX_SHOWN: usize = 60;

/// Everything that is wrong with a configuration, found in one pass.
///
/// Displays as one line per problem. Neither Display nor Debug ever contains a password, a connection URL, or a part
/// of one that might belong to a password.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<Problem>,
    unlisted: usize,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The field, as in the table of [`config`](crate::config), or the connection parameter.
    pub field: String,
    /// The offending value. `None` when there is none, or when it is secret or might be.
    pub value: Option<String>,
    /// The rule it breaks, to be read after field and value: "must be at least min_size (10)".
    pub rule: String,
    /// What to do about it.
    pub fix: String,
    /// Where the value was written.
    pub source: Source,
}

/// Where a value was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// Nowhere: it is the built-in default.
    #[default]
    Default,
    /// The program: a setter of a builder.
    Code,
    /// An environment variable, by name.
    Variable(String),
    /// A place in a YAML document. Lines and columns start at 1; 0 means that the place is not known.
    Yaml {
        /// The file's path; `None` for a text.
        file: Option<String>,
        /// The line.
        line: usize,
        /// The column, in characters.
        column: usize,
    },
    /// A connection URL or `key=value` string.
    Url {
        /// Where that was written.
        origin: Box<Source>,
    },
}

impl ConfigError {
    /// The problems, in the order in which they were found.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How many problems were found beyond those listed.
    pub fn unlisted(&self) -> usize {
        self.unlisted
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        if self.unlisted > 0 {
            write!(f, "\nand {} more problems", self.unlisted)?;
        }
        Ok(())
    }
}

// The derived form is hard to read where it is seen most: in `unwrap` and in `main() -> Result`.
impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfigError: {self}")
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.field)?;
        if let Some(value) = &self.value {
            write!(f, " ({value})")?;
        }
        write!(f, " {}: {}", self.rule, self.fix)?;
        let place = self.source.to_string();
        let named = self.fix.contains(&place) || self.rule.contains(&place);
        match self.source {
            Source::Default | Source::Code => Ok(()),
            _ if named => Ok(()),
            _ => write!(f, " (in {place})"),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("the default"),
            Source::Code => f.write_str("the code"),
            Source::Variable(name) => f.write_str(name),
            Source::Yaml { file: Some(file), line: 0, .. } => f.write_str(file),
            Source::Yaml { file: None, line: 0, .. } => f.write_str("the YAML text"),
            Source::Yaml { file: Some(file), line, column } => write!(f, "{file}:{line}:{column}"),
            Source::Yaml { file: None, line, column } => write!(f, "line {line}, column {column} of the YAML text"),
            Source::Url { origin } => match **origin {
                Source::Code => f.write_str("the connection URL"),
                _ => write!(f, "the connection URL of {origin}"),
            },
        }
    }
}

impl Source {
    /// How to call this field when it was written here, in a fix: "raise POOL_MAX_SIZE to 10".
    pub(crate) fn name_of(&self, field: &str) -> String {
        match self {
            Source::Variable(name) => name.clone(),
            Source::Default => format!("{field} ({self})"),
            Source::Code => field.to_owned(),
            _ => format!("{field} in {self}"),
        }
    }

    /// The advice to write `value` into this field, in the words of the place where it is written.
    pub(crate) fn advise(&self, field: &str, value: &str) -> String {
        match self {
            Source::Variable(name) => format!("set {name} to {value}"),
            Source::Yaml { .. } => format!("write `{field}: {value}` at {self}"),
            Source::Code => format!("pass {value} to {field}()"),
            Source::Default => format!("set {field} to {value}"),
            Source::Url { .. } => format!("write {field}={value} in {self}"),
        }
    }
}

/// Collects problems, up to a bound.
#[derive(Clone, Debug, Default)]
pub(crate) struct Problems {
    list: Vec<Problem>,
    unlisted: usize,
}

impl Problems {
    pub(crate) fn push(&mut self, problem: Problem) {
        if self.list.len() < MAX_PROBLEMS {
            self.list.push(problem);
        } else {
            self.unlisted += 1;
        }
    }

    /// A problem whose value is shown.
    pub(crate) fn add(&mut self, field: &str, value: &str, rule: &str, fix: String, source: &Source) {
        self.push(Problem {
            field: field.to_owned(),
            value: Some(shown(value)),
            rule: rule.to_owned(),
            fix,
            source: source.clone(),
        });
    }

    /// A problem whose value is secret, might be, or does not exist.
    pub(crate) fn add_unshown(&mut self, field: &str, rule: &str, fix: impl Into<String>, source: &Source) {
        self.push(Problem {
            field: field.to_owned(),
            value: None,
            rule: rule.to_owned(),
            fix: fix.into(),
            source: source.clone(),
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many so far.
    pub(crate) fn count(&self) -> usize {
        self.list.len() + self.unlisted
    }

    pub(crate) fn is_full(&self) -> bool {
        self.list.len() == MAX_PROBLEMS
    }

    pub(crate) fn into_result<T>(self, value: T) -> Result<T, ConfigError> {
        if self.is_empty() { Ok(value) } else { Err(self.into()) }
    }
}

impl From<Problems> for ConfigError {
    fn from(problems: Problems) -> Self {
        ConfigError { problems: problems.list, unlisted: problems.unlisted }
    }
}

/// `text` for an error: shortened, and without anything that could break or forge a line of a log. Escaping makes text
/// longer, so what is counted is what is shown.
pub(crate) fn shown(text: &str) -> String {
    let (mut shown, mut left) = (String::new(), MAX_SHOWN);
    for char in text.chars() {
        // Quotes are harmless here, and escaped ones hard to read.
        let escaped = if matches!(char, '"' | '\'') { String::from(char) } else { char.escape_debug().collect() };
        let length = escaped.chars().count();
        if length > left {
            shown.push('…');
            break;
        }
        left -= length;
        shown.push_str(&escaped);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_problem_is_one_line_and_names_its_source() {
        let mut problems = Problems::default();
        let source = Source::Variable("POOL_MAX_SIZE".into());
        problems.add("max_size", "a\nb", "must be a whole number", "write digits".into(), &source);
        let yaml = Source::Yaml { file: Some("pool.yaml".into()), line: 3, column: 7 };
        problems.add_unshown("x", "is not a field", "remove it", &yaml);
        let error = ConfigError::from(problems);
        assert_eq!(
            error.to_string(),
            "max_size (a\\nb) must be a whole number: write digits (in POOL_MAX_SIZE)\n\
             x is not a field: remove it (in pool.yaml:3:7)"
        );
    }

    #[test]
    fn a_value_is_shown_within_its_bound_however_it_is_escaped() {
        assert_eq!(shown("it's \"so\"\n\\"), "it's \"so\"\\n\\\\");
        assert_eq!(shown(&"x".repeat(MAX_SHOWN)), "x".repeat(MAX_SHOWN));
        assert_eq!(shown(&"x".repeat(MAX_SHOWN + 1)), format!("{}…", "x".repeat(MAX_SHOWN)));
        assert_eq!(shown(&"\u{3}".repeat(50)), format!("{}…", "\\u{3}".repeat(12)));
        assert_eq!(shown(&"\u{1d173}".repeat(50)).chars().count(), 6 * 9 + 1, "nothing is cut in the middle");
    }

    #[test]
    fn problems_and_values_are_bounded() {
        let (mut problems, count) = (Problems::default(), if cfg!(miri) { 100 } else { 1000 });
        for _ in 0..count {
            problems.add("f", &"x".repeat(10_000), "is wrong", "stop".into(), &Source::Code);
        }
        let error = ConfigError::from(problems);
        assert_eq!((error.problems().len(), error.unlisted()), (MAX_PROBLEMS, count - MAX_PROBLEMS));
        assert!(error.to_string().len() < MAX_PROBLEMS * 200);
        assert!(error.to_string().ends_with(&format!("and {} more problems", count - MAX_PROBLEMS)));
    }
}
