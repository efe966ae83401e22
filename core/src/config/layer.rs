//! One source's settings, each with the place where it was written; three of them make a configuration.

use std::time::Duration;

use super::connect::{ResetPolicy, Secret, SessionOptions};
use super::environment::{Environment, TIMEOUT_ALIAS};
use super::error::{Problems, Source, shown};
use super::fields::{BACKOFF, DATABASE_URL, FIELDS, Sources, config_fields, did_you_mean};
use super::pool::{LeakStack, PoolConfig, ValidationPolicy};
use super::value::{Bad, FieldValue};
use super::yaml::{self, Entry, Node};

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(crate) struct Setting<T> {
    pub(crate) value: T,
    pub(crate) source: Source,
}

macro_rules! layer {
    (pool { $($(#[$pd:meta])* $p:ident: $pt:ty = $pdef:literal, $pr:literal;)* }
     session { $($(#[$sd:meta])* $s:ident: $st:ty = $sdef:literal, $sr:literal;)* }) => {
        /// What one source says.
        #[derive(Clone, Debug, Default)]
        pub(crate) struct Layer {
            pub(crate) database_url: Option<Setting<Secret>>,
            $(pub(crate) $p: Option<Setting<$pt>>,)*
            $(pub(crate) $s: Option<Setting<$st>>,)*
        }

        impl Layer {
            /// What this layer says, and what `lower` says where this one is silent.
            pub(crate) fn over(self, lower: Layer) -> Layer {
                Layer {
                    database_url: self.database_url.or(lower.database_url),
                    $($p: self.$p.or(lower.$p),)*
                    $($s: self.$s.or(lower.$s),)*
                }
            }

            /// Puts the settings in place of the defaults and says where each came from.
            pub(crate) fn apply(self, pool: &mut PoolConfig, session: &mut SessionOptions, sources: &mut Sources) {
                $(if let Some(setting) = self.$p {
                    pool.$p = setting.value;
                    sources.insert(stringify!($p), setting.source);
                })*
                $(if let Some(setting) = self.$s {
                    session_field::$s(session, setting.value);
                    sources.insert(stringify!($s), setting.source);
                })*
            }

            /// Reads one field. False: there is none of that name.
            fn read(&mut self, field: &str, input: Input<'_>, source: Source, problems: &mut Problems) -> bool {
                match field {
                    DATABASE_URL => self.database_url = value(field, input, source, problems),
                    $(stringify!($p) => self.$p = value(field, input, source, problems),)*
                    $(stringify!($s) => self.$s = value(field, input, source, problems),)*
                    _ => return false,
                }
                true
            }
        }
    };
}
config_fields!(layer);

/// The one place that knows where a session field is kept.
mod session_field {
    use super::{Duration, ResetPolicy, SessionOptions};

    pub(super) fn command_timeout(session: &mut SessionOptions, value: Duration) {
        session.command_timeout = value;
    }

    pub(super) fn statement_cache_size(session: &mut SessionOptions, value: usize) {
        session.statement_cache_size = value;
    }

    pub(super) fn reset_policy(session: &mut SessionOptions, value: ResetPolicy) {
        session.reset = value;
    }
}

/// What a value is read from.
#[derive(Clone, Copy)]
enum Input<'a> {
    Text(&'a str),
    Node(&'a Node),
}

fn value<T: FieldValue>(field: &str, input: Input<'_>, source: Source, problems: &mut Problems) -> Option<Setting<T>> {
    let (read, text) = match input {
        Input::Text(text) => (T::from_text(text.trim()), text.to_owned()),
        Input::Node(node) => (T::from_yaml(node), node.show()),
    };
    match read {
        Ok(value) => return Some(Setting { value, source }),
        Err(Bad { rule, instead }) => {
            let default = FIELDS.iter().find(|info| info.name == field).map_or("", |info| info.default);
            let default = if field == DATABASE_URL { "postgres://user@host/database" } else { default };
            let fix = source.advise(field, instead.as_deref().unwrap_or(default));
            if T::SECRET {
                problems.add_unshown(field, &rule, fix, &source);
            } else {
                problems.add(field, &text, &rule, fix, &source);
            }
        }
    }
    None
}

impl Layer {
    /// The `POOL_*` variables and `DATABASE_URL`.
    pub(crate) fn from_environment(
        environment: &Environment,
        problems: &mut Problems,
        warnings: &mut Vec<String>,
    ) -> Layer {
        let mut layer = Layer::default();
        let mut read = |field: &str, name: &str| {
            if let Some(text) = environment.get(name) {
                layer.read(field, Input::Text(text), Source::Variable(name.to_owned()), problems);
            }
        };
        // The general names first: the specific ones replace them.
        read(DATABASE_URL, "DATABASE_URL");
        read("acquire_timeout", TIMEOUT_ALIAS);
        for field in FIELDS {
            read(field.name, &field.variable());
        }
        for (name, meant) in environment.unknown() {
            match meant {
                Some(meant) => {
                    let fix = format!("did you mean {meant}?");
                    let name = shown(name);
                    problems.add_unshown(&name, "is not a setting", fix, &Source::Variable(name.clone()));
                }
                // Not a typo of ours: perhaps some other program's.
                None => warnings.push(format!("{} is not a setting of this pool and is ignored", shown(name))),
            }
        }
        for name in environment.unreadable() {
            problems.add_unshown(name, "is not Unicode", "set it again", &Source::Variable(name.clone()));
        }
        layer
    }

    /// A YAML document; `file` is its name for the problems.
    pub(crate) fn from_yaml(text: &str, file: Option<&str>, problems: &mut Problems) -> Layer {
        let mut reader = YamlReader { text, file, problems, layer: Layer::default(), seen: Vec::new() };
        match yaml::read(text) {
            Ok(entries) => reader.document(&entries),
            Err(fault) => {
                let source = reader.source(fault.line, fault.column);
                reader.problems.add_unshown("the document", &fault.rule, fault.fix, &source);
            }
        }
        reader.layer
    }
}

struct YamlReader<'a> {
    text: &'a str,
    file: Option<&'a str>,
    problems: &'a mut Problems,
    layer: Layer,
    /// Fields and the lines where they were given.
    seen: Vec<(String, usize)>,
}

impl YamlReader<'_> {
    fn source(&self, line: usize, column: usize) -> Source {
        Source::Yaml { file: self.file.map(str::to_owned), line, column }
    }

    fn document(&mut self, entries: &[Entry]) {
        for (index, entry) in entries.iter().enumerate() {
            // Each entry is located by reading the text again, so the work must be bounded.
            if self.problems.is_full() {
                return;
            }
            match &entry.value {
                Node::Map(inner) if entry.key == BACKOFF => {
                    if self.is_new(BACKOFF, &[index]) {
                        self.backoff(index, inner);
                    }
                }
                Node::Null if entry.key == BACKOFF => {}
                _ => self.field(&entry.key, &entry.key, &entry.value, &[index]),
            }
        }
    }

    fn backoff(&mut self, index: usize, entries: &[Entry]) {
        for (inner, entry) in entries.iter().enumerate() {
            if self.problems.is_full() {
                return;
            }
            self.field(&format!("{BACKOFF}_{}", entry.key), &entry.key, &entry.value, &[index, inner]);
        }
    }

    /// `key` is the field's name where it stands.
    fn field(&mut self, field: &str, key: &str, node: &Node, path: &[usize]) {
        let (line, column) = yaml::locate(self.text, path);
        let source = self.source(line, column);
        if key == "<<" {
            let fix = "write the keys out";
            return self.problems.add_unshown("<<", "is a merge key, which is not supported", fix, &source);
        }
        if field == BACKOFF {
            let fix = "write `backoff: {initial: 1s, max: 16s, multiplier: 2, jitter: 0.1}`".to_owned();
            return self.problems.add(field, &node.show(), "must be a mapping", fix, &source);
        }
        let known = FIELDS.iter().any(|info| info.name == field);
        if !known {
            return self.unknown(field, key, &source);
        }
        // A key without a value is how people comment a value out.
        if self.is_new_at(field, line, &source) && *node != Node::Null {
            self.layer.read(field, Input::Node(node), source, self.problems);
        }
    }

    fn unknown(&mut self, field: &str, key: &str, source: &Source) {
        let nested = field != key;
        let prefix = format!("{BACKOFF}_");
        let names = FIELDS.iter().map(|info| info.name);
        let meant = if nested {
            did_you_mean(key, names.filter_map(|name| name.strip_prefix(&prefix)))
        } else {
            did_you_mean(key, names.chain([BACKOFF]))
        };
        let fix = match meant {
            Some(meant) => format!("did you mean {meant}?"),
            None => "remove it; the fields are listed in the documentation of pgweir_core::config".to_owned(),
        };
        // `? 3` and `"": 3` have a key that nobody could see.
        let key = if key.trim().is_empty() { &format!("\"{key}\"") } else { key };
        let name = if nested { format!("{BACKOFF}.{key}") } else { key.to_owned() };
        self.problems.add_unshown(&shown(&name), "is not a field", fix, source);
    }

    fn is_new(&mut self, field: &str, path: &[usize]) -> bool {
        let (line, column) = yaml::locate(self.text, path);
        let source = self.source(line, column);
        self.is_new_at(field, line, &source)
    }

    /// Whether this is the first time that the field is given; if not, that is a problem (YAML 1.2, section 3.2.1.1).
    fn is_new_at(&mut self, field: &str, line: usize, source: &Source) -> bool {
        match self.seen.iter().find(|(seen, _)| seen == field) {
            Some((_, first)) => {
                let rule = format!("is given twice, first in line {first}");
                self.problems.add_unshown(field, &rule, "keep one of them", source);
                false
            }
            None => {
                self.seen.push((field.to_owned(), line));
                true
            }
        }
    }
}
