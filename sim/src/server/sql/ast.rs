//! What statements are made of.

use crate::server::value::{Type, Value};

/// A statement.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Statement {
    Empty,
    Select(Box<Select>),
    Insert(Box<Insert>),
    Update { table: String, set: Vec<(String, Expr)>, filter: Option<Expr>, returning: Vec<Item> },
    Delete { table: String, filter: Option<Expr>, returning: Vec<Item> },
    CreateTable { if_not_exists: bool, table: TableDef },
    DropTable { if_exists: bool, tables: Vec<String> },
    Truncate(Vec<String>),
    Begin(Begin),
    Commit,
    Rollback,
    Savepoint(String),
    Release(String),
    RollbackTo(String),
    Set { name: String, value: SetValue, local: bool },
    SetTransaction { modes: Modes, session: bool },
    Show(String),
    Reset(Option<String>),
    Discard(Discard),
    Deallocate(Option<String>),
    CloseCursors,
    Listen(String),
    Unlisten(Option<String>),
    Notify { channel: String, payload: String },
}

/// BEGIN or START TRANSACTION.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Begin {
    pub(crate) start: bool,
    pub(crate) modes: Modes,
}

/// The modes of a transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Modes {
    pub(crate) access: Option<Access>,
    pub(crate) isolation: Option<&'static str>,
}

/// What a transaction may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    ReadOnly,
    ReadWrite,
}

/// The value of SET.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SetValue {
    Default,
    To(String),
}

/// What DISCARD discards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Discard {
    All,
    Plans,
    Temp,
    Sequences,
}

/// SELECT.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Select {
    pub(crate) items: Vec<Item>,
    pub(crate) from: Option<From>,
    pub(crate) filter: Option<Expr>,
    pub(crate) order: Vec<(Expr, bool)>,
    pub(crate) limit: Option<Expr>,
    pub(crate) offset: Option<Expr>,
}

/// A column of a result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    All,
    One { expr: Expr, alias: Option<String> },
}

/// Where rows come from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum From {
    Table { name: String, alias: Option<String> },
    Function { name: String, args: Vec<Expr>, alias: Option<String>, column: Option<String> },
}

/// INSERT.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Insert {
    pub(crate) table: String,
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Rows,
    pub(crate) returning: Vec<Item>,
    pub(crate) ignore_conflicts: bool,
}

/// What is inserted. `None` in a row is DEFAULT.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Rows {
    Values(Vec<Vec<Option<Expr>>>),
    Select(Box<Select>),
}

/// CREATE TABLE.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TableDef {
    pub(crate) name: String,
    pub(crate) columns: Vec<ColumnDef>,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ColumnDef {
    pub(crate) name: String,
    pub(crate) type_: Type,
    pub(crate) serial: bool,
    pub(crate) not_null: bool,
    pub(crate) unique: bool,
    pub(crate) default: Option<Expr>,
}

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expr {
    Literal(Value, Type),
    Param(usize),
    Column(String),
    Unary(Unary, Box<Expr>),
    Binary(Binary, Box<Expr>, Box<Expr>),
    Cast(Box<Expr>, Type),
    Call {
        name: String,
        args: Vec<Expr>,
        star: bool,
    },
    IsNull(Box<Expr>, bool),
    In(Box<Expr>, Vec<Expr>),
    /// `= ANY(array)`.
    Any(Box<Expr>, Box<Expr>),
    Array(Vec<Expr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unary {
    Not,
    Minus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binary {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Concat,
}

impl Binary {
    /// How strongly it binds.
    pub(crate) fn power(self) -> u8 {
        match self {
            Binary::Or => 1,
            Binary::And => 2,
            Binary::Equal
            | Binary::NotEqual
            | Binary::Less
            | Binary::LessOrEqual
            | Binary::Greater
            | Binary::GreaterOrEqual => 4,
            Binary::Concat => 5,
            Binary::Add | Binary::Subtract => 6,
            Binary::Multiply | Binary::Divide | Binary::Modulo => 7,
        }
    }

    pub(crate) fn is_comparison(self) -> bool {
        self.power() == 4
    }

    pub(crate) fn symbol(self) -> &'static str {
        match self {
            Binary::Or => "OR",
            Binary::And => "AND",
            Binary::Equal => "=",
            Binary::NotEqual => "<>",
            Binary::Less => "<",
            Binary::LessOrEqual => "<=",
            Binary::Greater => ">",
            Binary::GreaterOrEqual => ">=",
            Binary::Add => "+",
            Binary::Subtract => "-",
            Binary::Multiply => "*",
            Binary::Divide => "/",
            Binary::Modulo => "%",
            Binary::Concat => "||",
        }
    }
}
