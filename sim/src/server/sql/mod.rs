//! The subset of SQL that the server knows.

mod ast;
mod expr;
mod parse;
mod token;

pub(super) use ast::{
    Access, Begin, Binary, Discard, Expr, From, Insert, Item, Modes, Rows, Select, SetValue, Statement, TableDef, Unary,
};
pub(super) use parse::parse;
pub(super) use token::{cast_of, count_parameters, same, split};
