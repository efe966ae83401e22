//! Words of code, cut the same way for what is stored and for what is asked.
//!
//! PostgreSQL's parser is made for prose and takes `self.pool` for a host and `a/b` for a path. So it is given words of
//! letters and digits only, and identifiers in their parts: `acquireTimeout` and `ACQUIRE_TIMEOUT` are both
//! `acquire timeout`.

/// The words of a text, in lower case, with a space in between.
pub(crate) fn words(text: &str) -> String {
    let mut words = String::with_capacity(text.len() + text.len() / 8);
    let mut before = ' ';
    for letter in text.chars() {
        let hump = before.is_lowercase() && letter.is_uppercase();
        if (hump || !letter.is_alphanumeric()) && !words.is_empty() && !words.ends_with(' ') {
            words.push(' ');
        }
        if letter.is_alphanumeric() {
            words.extend(letter.to_lowercase());
        }
        before = letter;
    }
    words.truncate(words.trim_end().len());
    words
}

/// A question in the syntax of `websearch_to_tsquery`: words, `"phrases"`, `or` and a minus before what must not occur.
/// An identifier of several parts is a phrase.
pub(crate) fn question(text: &str) -> String {
    let mut terms = Vec::new();
    for (n, piece) in text.split('"').enumerate() {
        let quoted = n % 2 == 1;
        let pieces: Vec<&str> = if quoted { vec![piece] } else { piece.split_whitespace().collect() };
        for piece in pieces {
            let minus = if !quoted && piece.starts_with('-') { "-" } else { "" };
            let words = words(piece);
            if words.contains(' ') {
                terms.push(format!("{minus}\"{words}\""));
            } else if !words.is_empty() {
                terms.push(format!("{minus}{words}"));
            }
        }
    }
    terms.join(" ")
}

/// The words of a [`question`] that are wanted.
pub(crate) fn wanted(question: &str) -> Vec<&str> {
    let mut wanted = Vec::new();
    let mut excluded = false;
    for (n, piece) in question.split('"').enumerate() {
        if n % 2 == 1 {
            wanted.extend(piece.split(' ').filter(|_| !excluded));
        } else {
            wanted.extend(piece.split_whitespace().filter(|word| !word.starts_with('-') && *word != "or"));
        }
        excluded = piece.ends_with('-');
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_fall_into_their_parts() {
        let cases = [
            ("let x = self.pool.get();", "let x self pool get"),
            ("acquireTimeout ACQUIRE_TIMEOUT", "acquire timeout acquire timeout"),
            ("std::io::{Read, Write}", "std io read write"),
            ("HTTPServer v2 größeÄnderung", "httpserver v2 größe änderung"),
            ("  // --- \n", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(words(text), expected, "{text}");
        }
    }

    #[test]
    fn questions_keep_phrases_and_exclusions() {
        let cases = [
            ("pool get", "pool get", vec!["pool", "get"]),
            ("AcquireTimeout -test", "\"acquire timeout\" -test", vec!["acquire", "timeout"]),
            (
                "\"dead connection\" or self.pool",
                "\"dead connection\" or \"self pool\"",
                vec!["dead", "connection", "self", "pool"],
            ),
            ("max-size -foo_bar x", "\"max size\" -\"foo bar\" x", vec!["max", "size", "x"]),
            ("'; DROP TABLE", "drop table", vec!["drop", "table"]),
            ("-- \"\" ", "", vec![]),
        ];
        for (text, expected, words) in cases {
            let question = question(text);
            assert_eq!(question, expected, "{text}");
            assert_eq!(wanted(&question), words, "{text}");
        }
    }
}
