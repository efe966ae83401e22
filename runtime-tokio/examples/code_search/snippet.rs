//! The part of a file that a search shows.

use crate::words::words;

/// Longer lines are cut.
const LINE: usize = 200;

/// The line with most of the words and its number, with its neighbours.
pub(crate) fn snippet(content: &str, wanted: &[&str]) -> (usize, String) {
    let lines: Vec<&str> = content.lines().collect();
    let score = |line: &str| {
        let words = words(line);
        let has = |word: &str| words.split(' ').any(|other| other == word);
        wanted.iter().filter(|word| has(word)).count()
    };
    let scores: Vec<usize> = lines.iter().map(|line| score(line)).collect();
    let most = scores.iter().copied().max().unwrap_or(0);
    let best = scores.iter().position(|score| *score == most).unwrap_or(0);
    let around = lines.iter().skip(best.saturating_sub(1)).take(if best == 0 { 2 } else { 3 });
    let cut = |line: &&str| line.chars().take(LINE).collect::<String>();
    (best + 1, around.map(cut).collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snippet_is_the_line_with_most_of_the_words() {
        let content = "use pool;\n\nfn main() {\n    let lease = pool.acquireTimeout();\n}\n";
        let expected = "fn main() {\n    let lease = pool.acquireTimeout();\n}";
        assert_eq!(snippet(content, &["pool", "acquire", "timeout"]), (4, expected.to_owned()));
        assert_eq!(snippet(content, &["pool"]), (1, "use pool;\n".to_owned()));
        assert_eq!(snippet("", &["pool"]), (1, String::new()));
        assert_eq!(snippet(&"ä".repeat(1_000), &["x"]), (1, "ä".repeat(LINE)));
    }
}
