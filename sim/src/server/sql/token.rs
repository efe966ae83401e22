//! Words, numbers, strings and signs, with their places.

use crate::server::error::PgError;
use crate::server::value::Type;

/// A piece of SQL.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// A name or key word, in small letters.
    Word(String),
    /// A name in quotes.
    Quoted(String),
    Number(String),
    Text(String),
    Param(usize),
    Sign(&'static str),
}

/// A token and where it stands, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Placed {
    pub(crate) token: Token,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

const SIGNS: [&str; 26] = [
    "::", "||", "<>", "!=", "<=", ">=", ":=", "(", ")", ",", ";", "+", "-", "*", "/", "%", "=", "<", ">", ".", "[",
    "]", ":", "@", "~", "^",
];

/// All tokens of `sql`.
pub(crate) fn tokens(sql: &str) -> Result<Vec<Placed>, PgError> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(first) = sql[at..].chars().next() {
        let start = at;
        let rest = &sql[at..];
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        if rest.starts_with("--") {
            at += rest.find('\n').unwrap_or(rest.len());
            continue;
        }
        if rest.starts_with("/*") {
            at += comment(rest).ok_or_else(|| unterminated(sql, at, "/* comment"))?;
            continue;
        }
        let (token, length) = one(sql, at, first)?;
        at += length;
        found.push(Placed { token, start, end: at });
    }
    Ok(found)
}

fn one(sql: &str, at: usize, first: char) -> Result<(Token, usize), PgError> {
    let rest = &sql[at..];
    let open = |what| unterminated(sql, at, what);
    if first == '\'' {
        let (text, length) = quoted(rest, '\'').ok_or_else(|| open("quoted string"))?;
        return Ok((Token::Text(text), length));
    }
    if matches!(first, 'e' | 'E') && rest[1..].starts_with('\'') {
        let (text, length) = escaped(&rest[1..]).ok_or_else(|| open("quoted string"))?;
        return Ok((Token::Text(text), length + 1));
    }
    if first == '"' {
        let (name, length) = quoted(rest, '"').ok_or_else(|| open("quoted identifier"))?;
        return Ok((Token::Quoted(name), length));
    }
    if first == '$' {
        return dollar(rest).ok_or_else(|| open("dollar-quoted string"));
    }
    if first.is_ascii_digit() || (first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit())) {
        let length = number(rest);
        return Ok((Token::Number(rest[..length].to_owned()), length));
    }
    if first.is_alphabetic() || first == '_' {
        let in_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
        let length = rest.find(|c: char| !in_word(c)).unwrap_or(rest.len());
        return Ok((Token::Word(rest[..length].to_lowercase()), length));
    }
    match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
        Some(sign) => Ok((Token::Sign(sign), sign.len())),
        None => Err(PgError::syntax(&first.to_string(), place(sql, at))),
    }
}

fn unterminated(sql: &str, at: usize, what: &str) -> PgError {
    PgError::error("42601", format!("unterminated {what}")).at(place(sql, at))
}

/// Characters from 1.
pub(crate) fn place(sql: &str, at: usize) -> usize {
    sql[..at].chars().count() + 1
}

fn comment(rest: &str) -> Option<usize> {
    let (mut depth, mut at) = (0, 0);
    loop {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += rest[at..].chars().next()?.len_utf8();
        }
    }
}

fn quoted(rest: &str, quote: char) -> Option<(String, usize)> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c != quote {
            text.push(c);
        } else if chars.peek().is_some_and(|(_, next)| *next == quote) {
            chars.next();
            text.push(quote);
        } else {
            return Some((text, at + 1));
        }
    }
    None
}

/// `'...'` of an E string.
fn escaped(rest: &str) -> Option<(String, usize)> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => text.push(match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'b' => '\u{8}',
                'f' => '\u{c}',
                other => other,
            }),
            '\'' if chars.peek().is_some_and(|(_, next)| *next == '\'') => {
                chars.next();
                text.push('\'');
            }
            '\'' => return Some((text, at + 1)),
            other => text.push(other),
        }
    }
    None
}

/// `$1`, or `$tag$...$tag$`.
fn dollar(rest: &str) -> Option<(Token, usize)> {
    let digits = rest[1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - 1);
    if digits > 0 {
        return Some((Token::Param(rest[1..=digits].parse().ok()?), digits + 1));
    }
    let end = rest[1..].find('$')? + 2;
    let tag = &rest[..end];
    if !tag[1..end - 1].chars().all(|c| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let length = rest[end..].find(tag)?;
    Some((Token::Text(rest[end..end + length].to_owned()), end + length + end))
}

fn number(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let digits = |mut at: usize| {
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    let mut at = digits(0);
    if bytes.get(at) == Some(&b'.') {
        at = digits(at + 1);
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let end = digits(at + 1 + sign);
        if end > at + 1 + sign {
            at = end;
        }
    }
    at
}

/// The statements of a string and where each begins; a string without any has one that is empty.
pub(crate) fn split(sql: &str) -> Result<Vec<(usize, &str)>, PgError> {
    let mut parts = Vec::new();
    let mut first: Option<usize> = None;
    let mut end = 0;
    for placed in tokens(sql)? {
        if placed.token == Token::Sign(";") {
            if let Some(start) = first.take() {
                parts.push((start, &sql[start..end]));
            }
            continue;
        }
        first.get_or_insert(placed.start);
        end = placed.end;
    }
    if let Some(start) = first {
        parts.push((start, &sql[start..end]));
    }
    if parts.is_empty() {
        parts.push((0, ""));
    }
    Ok(parts)
}

/// The highest number of a parameter.
pub(crate) fn count_parameters(sql: &str) -> usize {
    let numbers = tokens(sql).unwrap_or_default().into_iter().filter_map(|placed| match placed.token {
        Token::Param(number) => Some(number),
        _ => None,
    });
    numbers.max().unwrap_or(0).min(usize::from(u16::MAX))
}

/// The type that a parameter (from 0) is cast to, as in `$1::int8`.
pub(crate) fn cast_of(sql: &str, index: usize) -> Option<Type> {
    let tokens = tokens(sql).ok()?;
    tokens.windows(3).find_map(|three| match three {
        [
            Placed { token: Token::Param(number), .. },
            Placed { token: Token::Sign("::"), .. },
            Placed { token: Token::Word(name), .. },
        ] if *number == index + 1 => Type::from_name(name),
        _ => None,
    })
}

/// Whether two statements are the same but for space, comments and the case of key words.
pub(crate) fn same(one: &str, other: &str) -> bool {
    let plain = |sql: &str| {
        let mut list: Vec<Token> = tokens(sql).ok()?.into_iter().map(|placed| placed.token).collect();
        while list.last() == Some(&Token::Sign(";")) {
            list.pop();
        }
        Some(list)
    };
    one == other || plain(one).is_some_and(|one| Some(one) == plain(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(sql: &str) -> Vec<Token> {
        tokens(sql).expect(sql).into_iter().map(|placed| placed.token).collect()
    }

    #[test]
    fn strings_names_numbers_and_comments_are_told_apart() {
        assert_eq!(
            words("SELECT -- c\n 'it''s' /* a /* b */ */"),
            [Token::Word("select".into()), Token::Text("it's".into())]
        );
        assert_eq!(
            words(r"E'a\n''b' $$x$y$$ $t$'$t$"),
            [Token::Text("a\n'b".into()), Token::Text("x$y".into()), Token::Text("'".into())]
        );
        assert_eq!(
            words("\"A\"\"b\" $12::int 1.5e-3"),
            [
                Token::Quoted("A\"b".into()),
                Token::Param(12),
                Token::Sign("::"),
                Token::Word("int".into()),
                Token::Number("1.5e-3".into())
            ]
        );
        for bad in ["'a", "\"a", "/* a", "$a$ b", "SELECT \u{0}", "$", "E'\\"] {
            assert_eq!(tokens(bad).expect_err(bad).code, "42601", "{bad}");
        }
    }

    #[test]
    fn statements_are_split_at_semicolons_outside_of_strings() {
        assert_eq!(split("a; 'b;c' ;; d").expect("three"), [(0, "a"), (3, "'b;c'"), (12, "d")]);
        assert_eq!(split(" ; -- x").expect("none"), [(0, "")]);
        assert!(same("select  1;", "SELECT 1 -- one") && !same("SELECT 1", "SELECT 2"));
        assert_eq!(count_parameters("SELECT $2, '$7'"), 2);
    }
}
