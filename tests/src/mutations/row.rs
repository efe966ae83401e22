//! The table's cells.

use super::{Mutation, Verdict};

/// A cell is no longer than this: what the simulator says of a connection fills a page.
const WIDTH: usize = 120;

/// What one judge said, as a cell of a table in Markdown.
pub fn cell(mutation: &Mutation, verdict: &Verdict) -> String {
    match verdict {
        Verdict::Caught(by) if by.split(", ").all(is_test_or_count) => {
            let names: Vec<String> = by.split(", ").map(quoted).collect();
            names.join(", ")
        }
        Verdict::Caught(by) => shortened(&by.replace('|', "/")),
        Verdict::Survived => match &mutation.explained {
            Some(why) => format!("nothing: {why}"),
            None => "**nothing**".to_owned(),
        },
        Verdict::NotBuilt(why) => format!("does not compile: {}", shortened(&why.replace('|', "/"))),
    }
}

fn is_test_or_count(word: &str) -> bool {
    let is_count = word.strip_prefix("and ").is_some_and(|rest| rest.ends_with(" more"));
    is_count || word.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':')
}

fn quoted(word: &str) -> String {
    if word.contains(' ') { word.to_owned() } else { format!("`{}`", word.rsplit("::").next().unwrap_or(word)) }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_markdown_and_not_long() {
        let mutation = super::super::without_own_checks();
        let cell = |verdict| cell(&mutation, &verdict);
        assert_eq!(cell(Verdict::Caught("lending::a, b, and 3 more".to_owned())), "`a`, `b`, and 3 more");
        assert_eq!(cell(Verdict::Caught("Cap: 3 | 4 exist".to_owned())), "Cap: 3 / 4 exist");
        assert_eq!(cell(Verdict::Caught("long ".repeat(99))).chars().count(), 120);
        assert_eq!(cell(Verdict::Survived), "**nothing**");
    }
}
