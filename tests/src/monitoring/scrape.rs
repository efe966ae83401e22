//! The samples of a scrape.

use std::collections::BTreeMap;

/// A line of a scrape.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its name, with `_bucket` and the like.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// Every sample of a scrape in either text.
///
/// # Panics
/// At a line that is none.
pub fn samples(text: &str) -> Vec<Sample> {
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(sample).collect()
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let mut rest = labels.strip_suffix('}').unwrap_or_else(|| panic!("no labels: {line}"));
    let mut labels = BTreeMap::new();
    while let Some((label, after)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next().unwrap_or_else(|| panic!("no end of a label: {line}")) {
                (_, '\\') => match characters.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, other)) => value.push(other),
                    None => panic!("no end of a label: {line}"),
                },
                (at, '"') => break at,
                (_, other) => value.push(other),
            }
        };
        assert!(labels.insert(label.to_owned(), value).is_none(), "a label twice: {line}");
        rest = after[end + 1..].trim_start_matches(',');
    }
    Sample { name: name.to_owned(), labels, value: value.parse().unwrap_or_else(|_| panic!("no value: {line}")) }
}
