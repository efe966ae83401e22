//! The lists: what is changed to what.

use std::path::Path;
use std::{fmt, fs};

/// Where the lists are, from the repository's root.
pub const LISTS: [&str; 2] = ["core/src/pool/tests/mutations.txt", "core/src/driver/loom/mutations.txt"];

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    /// What it breaks.
    pub name: String,
    /// Where, from the repository's root.
    pub file: String,
    old: String,
    new: String,
    /// The tool that is to notice, where it is a certain one: `loom MODEL`.
    pub by: Option<String>,
    /// Why nothing notices, if nothing can.
    pub explained: Option<String>,
}

/// A list that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadList(pub String);

impl fmt::Display for BadList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadList {}

/// Every mutation of every list.
///
/// # Errors
/// A file that cannot be read, or a block that is not as it should be.
pub fn read_lists(root: &Path) -> Result<Vec<Mutation>, BadList> {
    let mut all = Vec::new();
    for list in LISTS {
        let text = fs::read_to_string(root.join(list)).map_err(|error| BadList(format!("{list}: {error}")))?;
        all.extend(read(&text).map_err(|BadList(why)| BadList(format!("{list}: {why}")))?);
    }
    Ok(all)
}

/// Blocks between lines of `---`.
fn read(text: &str) -> Result<Vec<Mutation>, BadList> {
    let mut blocks: Vec<Vec<&str>> = vec![Vec::new()];
    for line in text.lines() {
        match line {
            "---" => blocks.push(Vec::new()),
            line => blocks.last_mut().expect("one at least").push(line),
        }
    }
    blocks.iter().filter(|block| block.iter().any(|line| !line.is_empty())).map(|block| read_block(block)).collect()
}

fn read_block(lines: &[&str]) -> Result<Mutation, BadList> {
    let (mut old, mut new) = (String::new(), String::new());
    let mut fields = [("name", None), ("file", None), ("by", None), ("explained", None)];
    let mut part: Option<&mut String> = None;
    for line in lines {
        let field = fields.iter_mut().find_map(|(name, value)| {
            let text = line.strip_prefix(*name)?.strip_prefix(": ")?;
            Some((value, text))
        });
        match (*line, field) {
            ("old:", _) => part = Some(&mut old),
            ("new:", _) => part = Some(&mut new),
            (_, Some((value, text))) => {
                *value = Some(text.to_owned());
                part = None;
            }
            (line, None) => match &mut part {
                Some(part) => {
                    part.push_str(line);
                    part.push('\n');
                }
                // Between blocks: a remark.
                None if line.is_empty() || line.starts_with('#') => {}
                None => return Err(BadList(format!("{line:?} is neither a field nor part of old: or new:"))),
            },
        }
    }
    let [name, file, by, explained] = fields.map(|(_, value)| value);
    let name = name.ok_or_else(|| BadList(format!("a block has no name: {lines:?}")))?;
    let file = file.ok_or_else(|| BadList(format!("{name}: no file")))?;
    // An empty line before the next block belongs to nothing.
    let new = if new.trim().is_empty() { String::new() } else { new };
    if old.is_empty() {
        return Err(BadList(format!("{name}: nothing is changed: old: has no lines")));
    }
    Ok(Mutation { name, file, old, new, by, explained })
}

/// What keeps the machine from checking itself, so that only what watches it from outside can notice a fault.
pub fn without_own_checks() -> Mutation {
    Mutation {
        name: "the machine does not check itself".to_owned(),
        file: "core/src/pool/invariants.rs".to_owned(),
        old: "        if let Err(broken) = self.invariants() {\n".to_owned(),
        new: "        if let Err(broken) = self.invariants().or(Ok::<(), String>(())) {\n".to_owned(),
        by: None,
        explained: None,
    }
}

impl Mutation {
    /// The file's text with the change.
    ///
    /// # Errors
    /// The old text is not there exactly once.
    pub fn apply(&self, source: &str) -> Result<String, BadList> {
        let lines = format!("\n{source}");
        let old = format!("\n{}", self.old);
        match lines.matches(&old).count() {
            1 => Ok(lines.replacen(&old, &format!("\n{}", self.new), 1)[1..].to_owned()),
            count => {
                let why = format!("{}: its old text is {count} times in {}, not once: mend it", self.name, self.file);
                Err(BadList(why))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_mutation_fits_the_source() {
        let root = crate::mutations::root();
        let all = read_lists(&root).expect("lists");
        for mutation in all.iter().chain([&without_own_checks()]) {
            let source = fs::read_to_string(root.join(&mutation.file)).expect("a file of the repository");
            let mutated = mutation.apply(&source).expect("fits");
            assert_ne!(mutated, source, "{} changes nothing", mutation.name);
        }
        let names: BTreeSet<&str> = all.iter().map(|mutation| mutation.name.as_str()).collect();
        assert_eq!(names.len(), all.len(), "two mutations have one name");
        let of_the_pool = all.iter().filter(|mutation| mutation.file.starts_with("core/src/pool/")).count();
        assert!(of_the_pool >= 40, "{of_the_pool} mutations of the pool machine are few");
    }

    #[test]
    fn a_block_is_read_in_any_order_of_its_fields() {
        let text = "name: a\nby: loom x\nfile: f\nold:\n  one\n  two\nnew:\n---\nfile: g\nname: b\nold:\n1\nnew:\n2\nexplained: so\n";
        let all = read(text).expect("two");
        assert_eq!((all[0].by.as_deref(), all[1].explained.as_deref()), (Some("loom x"), Some("so")));
        assert_eq!(all[0].apply("zero\n  one\n  two\nthree\n").as_deref(), Ok("zero\nthree\n"));
        assert_eq!(all[1].apply("1\n11\n").as_deref(), Ok("2\n11\n"), "whole lines");
        assert!(all[1].apply("1\n0\n1\n").is_err() && all[1].apply("").is_err());
    }

    #[test]
    fn a_block_that_lacks_something_is_refused() {
        for bad in ["file: f\nold:\n1\nnew:\n", "name: a\nold:\n1\nnew:\n", "name: a\nfile: f\nnew:\n1\n", "nonsense\n"]
        {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
