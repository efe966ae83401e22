//! Expressions, from tokens.

use super::ast::{Binary, Expr, Unary};
use super::parse::Parser;
use super::token::Token;
use crate::server::error::PgError;
use crate::server::value::{Type, Value};

/// Expressions nested deeper than this are refused.
const MAX_DEPTH: u32 = 50;

impl Parser<'_> {
    pub(super) fn expr(&mut self) -> Result<Expr, PgError> {
        self.binary(1)
    }

    fn binary(&mut self, least: u8) -> Result<Expr, PgError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(PgError::error("54001", "stack depth limit exceeded"));
        }
        let mut left = self.unary()?;
        loop {
            if least <= 4 && self.words("is") {
                let not = self.words("not");
                self.expect_words("null")?;
                left = Expr::IsNull(Box::new(left), not);
                continue;
            }
            if least <= 4 && (self.is_word("in") || self.is_not_in()) {
                left = self.in_list(left)?;
                continue;
            }
            let Some(operator) = self.operator().filter(|operator| operator.power() >= least) else { break };
            self.next()?;
            if operator == Binary::Equal && self.words("any") {
                self.expect("(")?;
                let list = self.expr()?;
                self.expect(")")?;
                left = Expr::Any(Box::new(left), Box::new(list));
                continue;
            }
            let right = self.binary(operator.power() + 1)?;
            left = Expr::Binary(operator, Box::new(left), Box::new(right));
        }
        self.depth -= 1;
        Ok(left)
    }

    fn is_not_in(&self) -> bool {
        self.is_word("not") && matches!(self.peek_at(1), Some(Token::Word(word)) if word == "in")
    }

    fn in_list(&mut self, left: Expr) -> Result<Expr, PgError> {
        let not = self.words("not");
        self.expect_words("in")?;
        self.expect("(")?;
        if self.is_word("select") {
            return Err(self.unknown());
        }
        let found = Expr::In(Box::new(left), self.arguments()?);
        Ok(if not { Expr::Unary(Unary::Not, Box::new(found)) } else { found })
    }

    fn operator(&self) -> Option<Binary> {
        Some(match self.peek()? {
            Token::Word(word) if word == "or" => Binary::Or,
            Token::Word(word) if word == "and" => Binary::And,
            Token::Sign(sign) => match *sign {
                "=" => Binary::Equal,
                "<>" | "!=" => Binary::NotEqual,
                "<" => Binary::Less,
                "<=" => Binary::LessOrEqual,
                ">" => Binary::Greater,
                ">=" => Binary::GreaterOrEqual,
                "+" => Binary::Add,
                "-" => Binary::Subtract,
                "*" => Binary::Multiply,
                "/" => Binary::Divide,
                "%" => Binary::Modulo,
                "||" => Binary::Concat,
                _ => return None,
            },
            _ => return None,
        })
    }

    fn unary(&mut self) -> Result<Expr, PgError> {
        if self.words("not") {
            return Ok(Expr::Unary(Unary::Not, Box::new(self.binary(3)?)));
        }
        if self.sign("-") {
            let inner = self.binary(8)?;
            return Ok(match inner {
                Expr::Literal(Value::Int(value), type_) => Expr::Literal(Value::Int(value.wrapping_neg()), type_),
                Expr::Literal(Value::Float(value), type_) => Expr::Literal(Value::Float(-value), type_),
                inner => Expr::Unary(Unary::Minus, Box::new(inner)),
            });
        }
        self.sign("+");
        let mut expr = self.primary()?;
        while self.sign("::") {
            expr = Expr::Cast(Box::new(expr), self.type_()?);
        }
        Ok(expr)
    }

    fn primary(&mut self) -> Result<Expr, PgError> {
        match self.peek() {
            Some(Token::Word(_) | Token::Quoted(_)) => return self.word(),
            Some(Token::Sign("(") | Token::Text(_) | Token::Number(_) | Token::Param(_)) => {}
            _ => return Err(self.unexpected()),
        }
        match self.next()? {
            Token::Text(text) => Ok(Expr::Literal(Value::Text(text), Type::Unknown)),
            Token::Number(text) => number(&text).ok_or_else(|| self.unknown()),
            Token::Param(0) => Err(PgError::error("42P02", "there is no parameter $0")),
            Token::Param(index) if index > usize::from(u16::MAX) => {
                Err(PgError::error("42P02", format!("there is no parameter ${index}")))
            }
            Token::Param(index) => Ok(Expr::Param(index - 1)),
            _ => {
                if self.is_word("select") {
                    return Err(self.unknown());
                }
                let inner = self.expr()?;
                self.expect(")")?;
                Ok(inner)
            }
        }
    }

    /// A column, a call, or one of the words with a meaning of their own.
    fn word(&mut self) -> Result<Expr, PgError> {
        let quoted = matches!(self.peek(), Some(Token::Quoted(_)));
        let reserved = ["from", "where", "order", "group", "limit", "select", "and", "or", "as", "values", "into"];
        if matches!(self.peek(), Some(Token::Word(word)) if reserved.contains(&&**word)) {
            return Err(self.unexpected());
        }
        let mut name = self.name()?;
        let call = matches!(self.peek(), Some(Token::Sign("(")));
        if !quoted {
            match &*name {
                "true" | "false" => return Ok(Expr::Literal(Value::Bool(name == "true"), Type::Bool)),
                "null" => return Ok(Expr::Literal(Value::Null, Type::Unknown)),
                "current_user" | "session_user" | "user" | "current_timestamp" | "current_role" | "current_catalog"
                | "current_schema"
                    if !call =>
                {
                    return Ok(Expr::Call { name, args: Vec::new(), star: false });
                }
                "cast" if call => {
                    self.next()?;
                    let inner = self.expr()?;
                    self.expect_words("as")?;
                    let type_ = self.type_()?;
                    self.expect(")")?;
                    return Ok(Expr::Cast(Box::new(inner), type_));
                }
                "array" if self.sign("[") => {
                    let mut items = Vec::new();
                    while !self.sign("]") {
                        items.push(self.expr()?);
                        self.sign(",");
                    }
                    return Ok(Expr::Array(items));
                }
                "array" | "exists" | "case" | "interval" | "extract" | "row" => return Err(self.unknown()),
                _ => {}
            }
            // `timestamptz '...'`.
            if let (Some(type_), Some(Token::Text(_))) = (Type::from_name(&name), self.peek()) {
                let Token::Text(text) = self.next()? else { return Err(self.unexpected()) };
                return Ok(Expr::Cast(Box::new(Expr::Literal(Value::Text(text), Type::Unknown)), type_));
            }
        }
        while self.sign(".") {
            name = self.name()?;
        }
        if !self.sign("(") {
            return Ok(Expr::Column(name));
        }
        if self.sign("*") {
            self.expect(")")?;
            return Ok(Expr::Call { name, args: Vec::new(), star: true });
        }
        Ok(Expr::Call { name, args: self.arguments()?, star: false })
    }

    /// Up to the closing parenthesis.
    pub(super) fn arguments(&mut self) -> Result<Vec<Expr>, PgError> {
        let mut args = Vec::new();
        if self.sign(")") {
            return Ok(args);
        }
        loop {
            args.push(self.expr()?);
            if !self.sign(",") {
                break;
            }
        }
        self.expect(")")?;
        Ok(args)
    }
}

fn number(text: &str) -> Option<Expr> {
    if let Ok(value) = text.parse::<i64>() {
        let type_ = if i32::try_from(value).is_ok() { Type::Int4 } else { Type::Int8 };
        return Some(Expr::Literal(Value::Int(value), type_));
    }
    text.parse().ok().map(|value| Expr::Literal(Value::Float(value), Type::Float8))
}
