//! YAML in, plain nodes out: the only file that names serde_yaml.
//!
//! serde_yaml lets the last of two equal keys win and gives positions only with its errors. So a document is read into
//! nodes that keep every key, in order, and the position of a key is found by reading once more with a visitor that
//! fails there.

use std::cell::Cell;
use std::fmt;

use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A configuration is a page of text; more is a mistake or an attack.
pub(crate) const MAX_BYTES: usize = 64 * 1024;
/// Aliases can multiply a small text into any number of nodes.
const MAX_NODES: u32 = 10_000;
/// No field is nested deeper than `backoff: {initial: ..}`; what lies deeper is skipped unread.
const MAX_DEPTH: usize = 2;

/// A YAML value, as far as a configuration needs it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    /// As a decimal text.
    Number(String),
    Text(String),
    /// No field is a list: the items are not kept.
    List,
    /// Every entry, duplicates included, in order. Empty below [`MAX_DEPTH`].
    Map(Vec<Entry>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: Node,
}

/// Why a text is not a configuration document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) rule: String,
    pub(crate) fix: String,
    /// From 1; 0 when unknown.
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Node {
    /// For an error.
    pub(crate) fn show(&self) -> String {
        match self {
            Node::Null => "null".to_owned(),
            Node::Bool(value) => value.to_string(),
            Node::Number(text) | Node::Text(text) => text.clone(),
            Node::List => "a list".to_owned(),
            Node::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// The entries of the document's top-level mapping; none for an empty document.
pub(crate) fn read(text: &str) -> Result<Vec<Entry>, Fault> {
    if text.len() > MAX_BYTES {
        return Err(Fault {
            rule: format!("is larger than {} KiB", MAX_BYTES / 1024),
            fix: "keep only the pool's configuration in it".to_owned(),
            line: 0,
            column: 0,
        });
    }
    match walk(text, None)? {
        Node::Map(entries) => Ok(entries),
        Node::Null => Ok(Vec::new()),
        other => Err(Fault {
            rule: format!("must be a mapping, and is {}", kind(&other)),
            fix: "write one `field: value` per line".to_owned(),
            line: 1,
            column: 1,
        }),
    }
}

/// Line and column of a key: `path` has the entry's position at each level. Zeros if there is no such entry.
pub(crate) fn locate(text: &str, path: &[usize]) -> (usize, usize) {
    match walk(text, Some(path)) {
        Err(fault) => (fault.line, fault.column),
        Ok(_) => (0, 0),
    }
}

fn kind(node: &Node) -> &'static str {
    match node {
        Node::Null => "empty",
        Node::Bool(_) | Node::Number(_) | Node::Text(_) => "a single value",
        Node::List => "a list",
        Node::Map(_) => "a mapping",
    }
}

fn walk(text: &str, target: Option<&[usize]>) -> Result<Node, Fault> {
    let walk = Walk { target, nodes: Cell::new(0), too_many: Cell::new(false) };
    let result = Seed { walk: &walk, depth: 0, on_path: true }.deserialize(serde_yaml::Deserializer::from_str(text));
    result.map_err(|error| fault(&error, walk.too_many.get()))
}

fn fault(error: &serde_yaml::Error, too_many: bool) -> Fault {
    let (line, column) = error.location().map_or((0, 0), |place| (place.line(), place.column()));
    let message = error.to_string();
    let (rule, fix) = if too_many {
        ("has too many values".to_owned(), "remove the aliases, or what is not configuration")
    } else if message.contains("more than one document") {
        ("has more than one document".to_owned(), "keep one, without `---` between")
    } else if message.contains("repetition limit") || message.contains("recursion limit") {
        ("is nested or repeated too deeply".to_owned(), "write the values out, without aliases")
    } else if message.contains("invalid type: enum") {
        ("has a tag (`!name`)".to_owned(), "remove it")
    } else {
        // The parser's messages speak of tokens and never quote the text.
        (format!("is not YAML that can be read ({message})"), "check the indentation and quotes around that line")
    };
    Fault { rule, fix: fix.to_owned(), line, column }
}

struct Walk<'a> {
    target: Option<&'a [usize]>,
    nodes: Cell<u32>,
    too_many: Cell<bool>,
}

impl Walk<'_> {
    fn count<E: de::Error>(&self) -> Result<(), E> {
        self.nodes.set(self.nodes.get() + 1);
        if self.nodes.get() > MAX_NODES {
            self.too_many.set(true);
            return Err(E::custom("too many values"));
        }
        Ok(())
    }
}

/// Reads one node. `on_path`: whether all positions so far agree with the target's.
#[derive(Clone, Copy)]
struct Seed<'w, 't> {
    walk: &'w Walk<'t>,
    depth: usize,
    on_path: bool,
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Number(format!("{value:?}")))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {
            self.walk.count()?;
        }
        Ok(Node::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        if self.depth >= MAX_DEPTH {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                self.walk.count()?;
            }
            return Ok(Node::Map(entries));
        }
        loop {
            let here = match self.walk.target {
                Some(target) if self.on_path => target.get(self.depth) == Some(&entries.len()),
                _ => false,
            };
            let last = self.walk.target.is_some_and(|target| target.len() == self.depth + 1);
            let Some(key) = map.next_key_seed(Key { stop: here && last })? else {
                return Ok(Node::Map(entries));
            };
            self.walk.count()?;
            let value = map.next_value_seed(Seed { walk: self.walk, depth: self.depth + 1, on_path: here })?;
            entries.push(Entry { key, value });
        }
    }
}

/// A key, as written. `stop`: this is the one whose position is wanted.
struct Key {
    stop: bool,
}

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name as the key")
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<String, E> {
        if self.stop { Err(E::custom("here")) } else { Ok(value.to_owned()) }
    }
}

/// From any self-describing format, for values inside somebody else's document.
impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let walk = Walk { target: None, nodes: Cell::new(0), too_many: Cell::new(false) };
        Seed { walk: &walk, depth: 0, on_path: false }.deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<String> {
        read(text).expect("a mapping").into_iter().map(|entry| entry.key).collect()
    }

    #[test]
    fn empty_documents_have_no_entries() {
        for text in ["", "\n", "# nothing\n", "---\n", "{}", "~"] {
            assert_eq!(read(text), Ok(vec![]), "{text:?}");
        }
    }

    #[test]
    fn duplicate_and_merge_keys_are_seen() {
        assert_eq!(keys("a: 1\nb: 2\na: 3\n"), ["a", "b", "a"]);
        assert_eq!(keys("x: &x {a: 1}\n<<: *x\n"), ["x", "<<"]);
    }

    #[test]
    fn keys_are_located() {
        let text = "# c\na: 1\n  \nb:\n  c: 1\n  d: {e: 2}\n\"f\": 3\n1: 2\n";
        assert_eq!(locate(text, &[0]), (2, 1));
        assert_eq!(locate(text, &[1]), (4, 1));
        assert_eq!(locate(text, &[1, 1]), (6, 3));
        assert_eq!(locate(text, &[2]), (7, 1));
        assert_eq!(locate(text, &[3]), (8, 1));
        assert_eq!(locate(text, &[4]), (0, 0));
        assert_eq!(locate(text, &[0, 0]), (0, 0));
    }

    #[test]
    fn documents_that_are_no_mapping_are_refused_with_a_place() {
        for (text, rule, line) in [
            ("- a\n- b\n", "must be a mapping, and is a list", 1),
            ("hello", "must be a mapping, and is a single value", 1),
            ("a: 1\n---\nb: 2\n", "has more than one document", 0),
            ("a: !foo b\n", "has a tag (`!name`)", 1),
        ] {
            let fault = read(text).expect_err(text);
            assert_eq!((fault.rule.as_str(), fault.line), (rule, line), "{text:?}");
        }
        let fault = read("a: 1\nb: [1\nc: 2\n").expect_err("unclosed");
        assert!(fault.rule.starts_with("is not YAML that can be read") && fault.line >= 2, "{fault:?}");
    }

    #[test]
    #[cfg_attr(miri, ignore = "large documents take minutes")]
    fn hostile_documents_are_bounded() {
        assert!(read(&" ".repeat(MAX_BYTES + 1)).expect_err("size").rule.contains("64 KiB"));
        for text in ["[", "{a: ", "- ", "? ", "&a [", "!a ", "'", "*a ", "a: &a\n"] {
            let _ = read(&text.repeat(MAX_BYTES / text.len()));
        }
        let mut laughs = "a: &a {k: v, l: v, m: v, n: v, o: v, p: v, q: v, r: v}\n".to_owned();
        for level in 1..20 {
            let (this, last) = ((b'a' + level) as char, (b'a' + level - 1) as char);
            let body: Vec<_> = (0..8).map(|index| format!("k{index}: *{last}")).collect();
            laughs += &format!("{this}: &{this} {{{}}}\n", body.join(", "));
        }
        assert!(read(&laughs).is_ok(), "what lies deeper than two levels is not expanded");
        let mut wide = format!("a: &a {{{}}}\n", "k: v, ".repeat(5_000));
        wide += &"b: *a\n".repeat(5_000);
        assert_eq!(read(&wide).expect_err("too many").rule, "has too many values");
    }

    #[test]
    fn an_anchor_that_contains_itself_ends() {
        for text in ["a: &a {b: *a}", "&a {b: *a}", "a: &a [*a]", "&a [*a, *a]"] {
            let _ = read(text);
        }
    }
}
