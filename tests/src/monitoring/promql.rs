//! What a PromQL expression asks for: its metrics, and the labels that it selects and groups by. Not a parser: it knows
//! the parts of the language that the dashboard and the rules use.

use std::collections::BTreeSet;

/// What an expression uses.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// Metrics, with the labels by which they are selected.
    pub selectors: Vec<Selector>,
    /// Labels after `by`, `without`, `on` and `ignoring`.
    pub labels: BTreeSet<String>,
}

/// A metric and its matchers.
#[derive(Debug, PartialEq, Eq)]
pub struct Selector {
    /// The metric's name.
    pub metric: String,
    /// The matchers between braces.
    pub matchers: Vec<Matcher>,
}

/// `label="value"` and its relatives.
#[derive(Debug, PartialEq, Eq)]
pub struct Matcher {
    /// The label.
    pub label: String,
    /// `=`, `!=`, `=~` or `!~`.
    pub operator: String,
    /// What stands between the quotes.
    pub value: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Name(String),
    Text(String),
    Sign(String),
}

/// Takes an expression apart.
///
/// # Panics
/// At what is no PromQL.
pub fn uses(expression: &str) -> Uses {
    let tokens = tokens(expression);
    let mut uses = Uses::default();
    let mut at = 0;
    while at < tokens.len() {
        let next = tokens.get(at + 1);
        match &tokens[at] {
            Token::Name(name) if is_grouping(name) && is(next, "(") => {
                let end = find(&tokens, at, ")");
                uses.labels.extend(tokens[at + 2..end].iter().filter_map(|token| match token {
                    Token::Name(label) => Some(label.clone()),
                    _ => None,
                }));
                at = end;
            }
            Token::Name(name) if is_word(name) || is(next, "(") => {}
            Token::Name(name) => {
                let matchers = if is(next, "{") {
                    let end = find(&tokens, at, "}");
                    let inner = &tokens[at + 2..end];
                    at = end;
                    inner.split(|token| is(Some(token), ",")).filter(|one| !one.is_empty()).map(matcher).collect()
                } else {
                    Vec::new()
                };
                uses.selectors.push(Selector { metric: name.clone(), matchers });
            }
            Token::Sign(sign) if sign == "[" => at = find(&tokens, at, "]"),
            _ => {}
        }
        at += 1;
    }
    uses
}

fn matcher(tokens: &[Token]) -> Matcher {
    let [Token::Name(label), Token::Sign(operator), Token::Text(value)] = tokens else {
        panic!("no matcher: {tokens:?}");
    };
    Matcher { label: label.clone(), operator: operator.clone(), value: value.clone() }
}

fn is(token: Option<&Token>, sign: &str) -> bool {
    matches!(token, Some(Token::Sign(found)) if found == sign)
}

fn find(tokens: &[Token], from: usize, sign: &str) -> usize {
    let found = tokens[from..].iter().position(|token| is(Some(token), sign));
    from + found.unwrap_or_else(|| panic!("no {sign} in {tokens:?}"))
}

fn is_grouping(name: &str) -> bool {
    ["by", "without", "on", "ignoring", "group_left", "group_right"].contains(&name)
}

fn is_word(name: &str) -> bool {
    // An aggregation may have its grouping before its parentheses.
    let words = ["and", "or", "unless", "bool", "offset", "sum", "max", "min", "avg", "count", "group", "topk"];
    is_grouping(name) || words.contains(&name)
}

fn tokens(expression: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = expression.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if first.is_ascii_alphabetic() || first == '_' {
            let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
            tokens.push(Token::Name(rest[..length].to_owned()));
            length
        } else if first == '"' {
            let length = rest[1..].find('"').expect("the text's end");
            tokens.push(Token::Text(rest[1..=length].to_owned()));
            length + 2
        } else if first.is_ascii_digit() {
            // A number, or a duration in brackets.
            rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(rest.len())
        } else {
            let two = ["=~", "!~", "!=", "==", ">=", "<="].iter().find(|two| rest.starts_with(**two));
            let sign = two.map_or(&rest[..first.len_utf8()], |two| two);
            tokens.push(Token::Sign(sign.to_owned()));
            sign.len()
        };
        rest = rest[length..].trim_start();
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_taken_apart() {
        let uses = uses(
            "histogram_quantile(0.95, sum by (le, pool) (rate(a_bucket{x=\"1\",y=~\"b|c\"}[5m]))) > 0.5 \
             unless ignoring (state) d{state!=\"e\"} == 1 and sum(f) without (g) >= 1e3",
        );
        let names: Vec<&str> = uses.selectors.iter().map(|selector| selector.metric.as_str()).collect();
        assert_eq!(names, ["a_bucket", "d", "f"]);
        assert_eq!(uses.labels, ["g", "le", "pool", "state"].map(str::to_owned).into());
        let matcher = |label: &str, operator: &str, value: &str| Matcher {
            label: label.to_owned(),
            operator: operator.to_owned(),
            value: value.to_owned(),
        };
        assert_eq!(uses.selectors[0].matchers, [matcher("x", "=", "1"), matcher("y", "=~", "b|c")]);
        assert_eq!(uses.selectors[1].matchers, [matcher("state", "!=", "e")]);
    }
}
