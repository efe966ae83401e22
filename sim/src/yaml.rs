//! YAML in and out: the only file that names serde_yaml, which is no longer developed.

use std::cell::Cell;
use std::fmt;

use serde::Serialize;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Longer documents are not scenarios.
pub(crate) const MAX_BYTES: usize = 1 << 20;

/// A value that is read later.
pub(crate) type Raw = serde_yaml::Value;

/// One step from a value to a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Key(String),
    Item(usize),
}

impl From<&str> for Part {
    fn from(key: &str) -> Self {
        Part::Key(key.to_owned())
    }
}

impl From<usize> for Part {
    fn from(item: usize) -> Self {
        Part::Item(item)
    }
}

/// The parts of a path that [`spell`] spelt.
fn parts(spelt: &str) -> Vec<Part> {
    let pieces = spelt.split(['.', '[']).filter(|piece| !piece.is_empty());
    pieces
        .map(|piece| match piece.strip_suffix(']').and_then(|item| item.parse().ok()) {
            Some(item) => Part::Item(item),
            None => Part::from(piece),
        })
        .collect()
}

/// `timeline[2].crash`, as people write it.
pub(crate) fn spell(path: &[Part]) -> String {
    let mut text = String::new();
    for part in path {
        match part {
            Part::Key(key) if text.is_empty() => text.push_str(key),
            Part::Key(key) => {
                text.push('.');
                text.push_str(key);
            }
            Part::Item(item) => text.push_str(&format!("[{item}]")),
        }
    }
    text
}

/// What is wrong with a document, and where: line and column count from 1, 0 is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Misread {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) key: String,
    pub(crate) problem: String,
}

/// Reads a document.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<T, Misread> {
    if text.len() > MAX_BYTES {
        let problem = format!("the file has {} bytes, more than {MAX_BYTES}: it is not a scenario", text.len());
        return Err(Misread { line: 0, column: 0, key: String::new(), problem });
    }
    serde_yaml::from_str(text).map_err(|error| {
        let mut misread = misread(&error);
        // The position that comes with this one is the mapping's.
        if let Some(key) = misread.problem.strip_prefix("duplicate field `").and_then(|rest| rest.strip_suffix('`')) {
            let mut path = parts(&misread.key);
            path.push(key.into());
            (misread.line, misread.column) = locate_nth(text, &path, 1);
        }
        misread
    })
}

/// Writes a document.
pub(crate) fn write<T: Serialize>(value: &T) -> Result<String, String> {
    serde_yaml::to_string(value).map_err(|error| error.to_string())
}

/// Reads a part that was kept back; the error says nothing about where.
pub(crate) fn read_raw<T: DeserializeOwned>(raw: Raw) -> Result<T, String> {
    serde_yaml::from_value(raw).map_err(|error| error.to_string())
}

/// A value as it would be written.
pub(crate) fn write_raw<T: Serialize>(value: &T) -> Result<Raw, String> {
    serde_yaml::to_value(value).map_err(|error| error.to_string())
}

/// A scalar from the command line: a number, true or false, or else a text.
pub(crate) fn scalar(text: &str) -> Raw {
    match serde_yaml::from_str(text) {
        Ok(scalar @ (Raw::Number(_) | Raw::Bool(_))) => scalar,
        _ => Raw::String(text.to_owned()),
    }
}

/// As people write it.
pub(crate) fn show(raw: &Raw) -> String {
    serde_yaml::to_string(raw).map_or_else(|error| error.to_string(), |text| text.trim_end().to_owned())
}

/// The mapping with one value set.
pub(crate) fn with(raw: Raw, key: &str, value: Raw) -> Raw {
    let Raw::Mapping(mut mapping) = raw else { return raw };
    mapping.insert(key.into(), value);
    Raw::Mapping(mapping)
}

/// The keys of a mapping, with their values.
pub(crate) fn entries(raw: &Raw) -> Vec<(String, Raw)> {
    let Raw::Mapping(mapping) = raw else { return Vec::new() };
    let text = |key: &Raw| key.as_str().map(str::to_owned);
    mapping.iter().filter_map(|(key, value)| Some((text(key)?, value.clone()))).collect()
}

/// A mapping with one key.
pub(crate) fn single(key: &str, value: Raw) -> Raw {
    mapping([(key, value)])
}

/// A mapping.
pub(crate) fn mapping<'a>(entries: impl IntoIterator<Item = (&'a str, Raw)>) -> Raw {
    Raw::Mapping(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
}

/// serde_yaml says `key: what is wrong at line 3 column 5` in one text.
fn misread(error: &serde_yaml::Error) -> Misread {
    let (line, column) = error.location().map_or((0, 0), |place| (place.line(), place.column()));
    let text = error.to_string();
    let text = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text);
    let (key, problem) = match text.split_once(": ") {
        Some((key, problem)) if !key.contains(' ') => (key, problem),
        _ => ("", text),
    };
    let problem = match problem {
        "unknown field `<<`" => "merge keys (`<<`) are not supported: write the values out".to_owned(),
        "more than one document" | "deserializing from YAML containing more than one document is not supported" => {
            "the file has more than one document: keep one, without `---` between".to_owned()
        }
        other => other.to_owned(),
    };
    Misread { line, column, key: key.to_owned(), problem }
}

/// Where `path` leads in `text`: to a key, or to an item of a list; to what exists of it if it leads too far.
pub(crate) fn locate(text: &str, path: &[Part]) -> (usize, usize) {
    locate_nth(text, path, 0)
}

/// As [`locate`], after so many others with the same last key.
fn locate_nth(text: &str, path: &[Part], nth: u32) -> (usize, usize) {
    for length in (1..=path.len()).rev() {
        let (found, skip) = (Cell::new(false), Cell::new(nth));
        let seek = Seek { path: &path[..length], found: &found, skip: &skip };
        let result = seek.deserialize(serde_yaml::Deserializer::from_str(text));
        if let (true, Err(error)) = (found.get(), result)
            && let Some(place) = error.location()
        {
            return (place.line(), place.column());
        }
    }
    (1, 1)
}

/// Reads along a path and stops at its end with an error, since serde_yaml gives positions with errors only.
#[derive(Clone, Copy)]
struct Seek<'a> {
    path: &'a [Part],
    found: &'a Cell<bool>,
    /// How many of the keys that are looked for are not meant.
    skip: &'a Cell<u32>,
}

impl Seek<'_> {
    fn stop<T, E: de::Error>(self) -> Result<T, E> {
        if self.path.is_empty() {
            self.found.set(true);
        }
        Err(E::custom("here"))
    }
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.stop()
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        self.stop()
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        self.stop()
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        self.stop()
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        self.stop()
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        self.stop()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Some((Part::Item(wanted), rest)) = self.path.split_first() else { return self.stop() };
        for _ in 0..*wanted {
            if items.next_element::<IgnoredAny>()?.is_none() {
                return self.stop();
            }
        }
        items.next_element_seed(Seek { path: rest, ..self })?;
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((Part::Key(wanted), rest)) = self.path.split_first() else { return self.stop() };
        while let Some(matches) = map.next_key_seed(SeekKey { wanted, last: rest.is_empty(), seek: self })? {
            if matches {
                map.next_value_seed(Seek { path: rest, ..self })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

struct SeekKey<'a> {
    wanted: &'a str,
    last: bool,
    seek: Seek<'a>,
}

impl<'de> DeserializeSeed<'de> for SeekKey<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for SeekKey<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<bool, E> {
        if key == self.wanted && self.last {
            if let Some(left) = self.seek.skip.get().checked_sub(1) {
                self.seek.skip.set(left);
                return Ok(false);
            }
            self.seek.found.set(true);
            return Err(E::custom("here"));
        }
        Ok(key == self.wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# c\nname: x\npool:\n  max_size: 3\ntimeline:\n  - at: 1s\n  - {at: 2s, crash: {}}\n";

    fn place(path: &[Part]) -> (usize, usize) {
        locate(TEXT, path)
    }

    #[test]
    fn keys_and_items_are_located() {
        assert_eq!(place(&["name".into()]), (2, 1));
        assert_eq!(place(&["pool".into(), "max_size".into()]), (4, 3));
        assert_eq!(place(&["timeline".into(), 0.into()]), (6, 5));
        assert_eq!(place(&["timeline".into(), 1.into(), "crash".into()]), (7, 14));
    }

    #[test]
    fn a_path_that_leads_too_far_leads_to_what_exists() {
        assert_eq!(place(&["pool".into(), "min_size".into()]), (3, 1));
        assert_eq!(place(&["timeline".into(), 9.into(), "at".into()]), (5, 1));
        assert_eq!(place(&["nothing".into()]), (1, 1));
        assert_eq!(locate("[", &["a".into()]), (1, 1));
    }

    #[test]
    fn paths_are_spelt_as_people_write_them() {
        let path: [Part; 4] = ["timeline".into(), 2.into(), "crash".into(), "down".into()];
        assert_eq!(spell(&path), "timeline[2].crash.down");
        assert_eq!(parts("timeline[2].crash.down"), path);
    }

    #[test]
    fn hostile_documents_end() {
        assert!(read::<Raw>(&" ".repeat(MAX_BYTES + 1)).expect_err("size").problem.contains("not a scenario"));
        for text in ["[", "{a: ", "- ", "? ", "&a [", "!a ", "'", "*a ", "a: &a\n"] {
            let text = text.repeat(2_000);
            let _ = read::<Raw>(&text);
            let _ = locate(&text, &["a".into(), 3.into()]);
        }
    }
}
