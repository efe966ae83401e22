//! Statements, from tokens.

use super::ast::{
    Access, Begin, ColumnDef, Discard, Expr, From, Insert, Item, Modes, Rows, Select, SetValue, Statement, TableDef,
};
use super::token::{Placed, Token, place, tokens};
use crate::server::error::PgError;
use crate::server::value::Type;

/// One statement.
///
/// # Errors
/// 42601 for what cannot be SQL, 0A000 for what the server does not know.
pub(crate) fn parse(sql: &str) -> Result<Statement, PgError> {
    let tokens = tokens(sql)?;
    let mut parser = Parser { sql, tokens, at: 0, depth: 0 };
    let statement = parser.statement()?;
    if parser.peek().is_some() {
        return Err(parser.unexpected());
    }
    Ok(statement)
}

pub(super) struct Parser<'a> {
    sql: &'a str,
    tokens: Vec<Placed>,
    at: usize,
    /// How deep expressions are nested.
    pub(super) depth: u32,
}

/// The small things.
impl Parser<'_> {
    pub(super) fn peek(&self) -> Option<&Token> {
        self.peek_at(0)
    }

    pub(super) fn peek_at(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.at + ahead).map(|placed| &placed.token)
    }

    pub(super) fn next(&mut self) -> Result<Token, PgError> {
        let token = self.peek().cloned().ok_or_else(|| self.unexpected())?;
        self.at += 1;
        Ok(token)
    }

    /// A syntax error here; well-formed SQL beyond the subset looks the same, so the hint names both.
    pub(super) fn unexpected(&self) -> PgError {
        let (near, at) = match self.tokens.get(self.at) {
            Some(placed) => (&self.sql[placed.start..placed.end], placed.start),
            None => ("", self.sql.len()),
        };
        PgError::syntax(near, place(self.sql, at))
            .hint("If PostgreSQL knows this statement: the simulated server knows a subset; script it with postgres.on(\"...\", |call| ...).")
    }

    pub(super) fn unknown(&self) -> PgError {
        PgError::unknown(self.sql)
    }

    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Some(Token::Word(found)) if found == word)
    }

    /// Takes these words, if they come next.
    pub(super) fn words(&mut self, words: &str) -> bool {
        let count = words.split(' ').count();
        let all = words
            .split(' ')
            .enumerate()
            .all(|(ahead, word)| matches!(self.peek_at(ahead), Some(Token::Word(found)) if found == word));
        if all {
            self.at += count;
        }
        all
    }

    pub(super) fn sign(&mut self, sign: &str) -> bool {
        let is = matches!(self.peek(), Some(Token::Sign(found)) if *found == sign);
        self.at += usize::from(is);
        is
    }

    pub(super) fn expect_words(&mut self, words: &str) -> Result<(), PgError> {
        if self.words(words) { Ok(()) } else { Err(self.unexpected()) }
    }

    pub(super) fn expect(&mut self, sign: &str) -> Result<(), PgError> {
        if self.sign(sign) { Ok(()) } else { Err(self.unexpected()) }
    }

    pub(super) fn name(&mut self) -> Result<String, PgError> {
        match self.peek() {
            Some(Token::Word(_) | Token::Quoted(_)) => match self.next()? {
                Token::Word(name) | Token::Quoted(name) => Ok(name),
                _ => Err(self.unexpected()),
            },
            _ => Err(self.unexpected()),
        }
    }

    /// A name, its schema dropped.
    fn table_name(&mut self) -> Result<String, PgError> {
        let mut name = self.name()?;
        while self.sign(".") {
            name = self.name()?;
        }
        Ok(name)
    }

    fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> Result<T, PgError>) -> Result<Vec<T>, PgError> {
        let mut list = vec![one(self)?];
        while self.sign(",") {
            list.push(one(self)?);
        }
        Ok(list)
    }

    /// A type, such as `int8`, `pg_catalog.text`, `varchar(20)` or `int4[]`.
    pub(super) fn type_(&mut self) -> Result<Type, PgError> {
        let mut name = match (self.peek(), self.peek_at(1)) {
            (Some(Token::Quoted(name)), _) if name == "char" => {
                self.at += 1;
                return Ok(Type::Char);
            }
            _ => self.name()?,
        };
        if name == "pg_catalog" && self.sign(".") {
            name = self.name()?;
        }
        for (first, second) in [("double", "precision"), ("character", "varying"), ("timestamp", "with time zone")] {
            if name == first && self.words(second) {
                name = format!("{first} {second}");
            }
        }
        if self.sign("(") {
            while !self.sign(")") {
                self.next()?;
            }
        }
        if self.sign("[") {
            self.expect("]")?;
            name.push_str("[]");
        }
        let name = match &*name {
            "numeric" | "decimal" => return Err(self.unknown()),
            "regclass" | "regtype" => return Err(self.unknown()),
            "char" | "character" | "bpchar" => "text",
            name => name,
        };
        Type::from_name(name).ok_or_else(|| PgError::error("42704", format!("type \"{name}\" does not exist")))
    }
}

/// Statements.
impl Parser<'_> {
    fn statement(&mut self) -> Result<Statement, PgError> {
        let first = match self.peek() {
            None => return Ok(Statement::Empty),
            Some(Token::Word(word)) => word.clone(),
            Some(_) => return Err(self.unexpected()),
        };
        if first == "select" {
            return self.select().map(|select| Statement::Select(Box::new(select)));
        }
        self.at += 1;
        match &*first {
            "insert" => self.insert(),
            "update" => self.update(),
            "delete" => self.delete(),
            "create" => self.create(),
            "drop" => self.drop_table(),
            "truncate" => {
                self.words("table");
                Ok(Statement::Truncate(self.list(Self::table_name)?))
            }
            "begin" | "start" | "commit" | "end" | "rollback" | "abort" | "savepoint" | "release" => {
                self.transaction(&first)
            }
            "set" => self.set(),
            "show" => self.setting_name().map(Statement::Show),
            "reset" => Ok(Statement::Reset(if self.words("all") { None } else { Some(self.setting_name()?) })),
            "discard" => self.discard(),
            "deallocate" => {
                self.words("prepare");
                Ok(Statement::Deallocate(if self.words("all") { None } else { Some(self.name()?) }))
            }
            "close" => match self.words("all") {
                true => Ok(Statement::CloseCursors),
                false => Err(self.unknown()),
            },
            "listen" => self.name().map(Statement::Listen),
            "unlisten" => Ok(Statement::Unlisten(if self.sign("*") { None } else { Some(self.name()?) })),
            "notify" => self.notify(),
            "alter" | "analyze" | "call" | "checkpoint" | "cluster" | "comment" | "copy" | "declare" | "do"
            | "execute" | "explain" | "fetch" | "grant" | "import" | "load" | "lock" | "merge" | "move" | "prepare"
            | "reassign" | "refresh" | "reindex" | "revoke" | "security" | "table" | "vacuum" | "values" | "with" => {
                Err(self.unknown())
            }
            _ => {
                self.at -= 1;
                Err(PgError { hint: None, ..self.unexpected() })
            }
        }
    }

    pub(super) fn select(&mut self) -> Result<Select, PgError> {
        self.expect_words("select")?;
        if self.is_word("distinct") {
            return Err(self.unknown());
        }
        self.words("all");
        let items = match self.peek() {
            None => Vec::new(),
            Some(Token::Word(word)) if word == "from" => Vec::new(),
            _ => self.list(Self::item)?,
        };
        let from = if self.words("from") { Some(self.from()?) } else { None };
        let filter = self.filter()?;
        let mut order = Vec::new();
        if self.words("order by") {
            order = self.list(|parser| {
                let expr = parser.expr()?;
                let descending = parser.words("desc");
                parser.words("asc");
                Ok((expr, descending))
            })?;
        }
        let (mut limit, mut offset) = (None, None);
        loop {
            if self.words("limit") {
                limit = if self.words("all") { None } else { Some(self.expr()?) };
            } else if self.words("offset") {
                offset = Some(self.expr()?);
            } else if self.words("for update") || self.words("for share") {
                self.words("skip locked");
                self.words("nowait");
            } else {
                break;
            }
        }
        if ["group", "having", "union", "join", "left", "inner", "window"].iter().any(|word| self.is_word(word)) {
            return Err(self.unknown());
        }
        Ok(Select { items, from, filter, order, limit, offset })
    }

    fn item(&mut self) -> Result<Item, PgError> {
        if self.sign("*") {
            return Ok(Item::All);
        }
        let expr = self.expr()?;
        let reserved = ["from", "where", "order", "limit", "offset", "for", "group", "union", "having", "into"];
        let alias = self.alias(&reserved)?;
        Ok(Item::One { expr, alias })
    }

    /// `AS name`, or a name that is none of the words that may follow.
    fn alias(&mut self, reserved: &[&str]) -> Result<Option<String>, PgError> {
        if self.words("as") {
            return self.name().map(Some);
        }
        let is_name = match self.peek() {
            Some(Token::Word(word)) => !reserved.contains(&&**word),
            Some(Token::Quoted(_)) => true,
            _ => false,
        };
        if is_name { self.name().map(Some) } else { Ok(None) }
    }

    fn from(&mut self) -> Result<From, PgError> {
        if matches!(self.peek(), Some(Token::Sign("("))) {
            return Err(self.unknown());
        }
        let name = self.table_name()?;
        let args = if self.sign("(") { Some(self.arguments()?) } else { None };
        let ends =
            ["where", "order", "limit", "offset", "for", "group", "union", "having", "join", "left", "inner", "cross"];
        let alias = self.alias(&ends)?;
        let mut column = None;
        if alias.is_some() && self.sign("(") {
            column = Some(self.name()?);
            self.expect(")")?;
        }
        if matches!(self.peek(), Some(Token::Sign(",")))
            || ["join", "left", "inner", "cross"].iter().any(|w| self.is_word(w))
        {
            return Err(self.unknown());
        }
        Ok(match args {
            Some(args) => From::Function { name, args, alias, column },
            None => From::Table { name, alias },
        })
    }

    fn filter(&mut self) -> Result<Option<Expr>, PgError> {
        if self.words("where") { self.expr().map(Some) } else { Ok(None) }
    }

    fn returning(&mut self) -> Result<Vec<Item>, PgError> {
        if self.words("returning") { self.list(Self::item) } else { Ok(Vec::new()) }
    }

    fn insert(&mut self) -> Result<Statement, PgError> {
        self.expect_words("into")?;
        let table = self.table_name()?;
        let mut columns = Vec::new();
        if self.sign("(") {
            columns = self.list(Self::name)?;
            self.expect(")")?;
        }
        let rows = if self.words("default values") {
            Rows::Values(vec![Vec::new()])
        } else if self.is_word("select") {
            Rows::Select(Box::new(self.select()?))
        } else {
            self.expect_words("values")?;
            Rows::Values(self.list(|parser| {
                parser.expect("(")?;
                let row =
                    parser.list(|parser| if parser.words("default") { Ok(None) } else { parser.expr().map(Some) })?;
                parser.expect(")")?;
                Ok(row)
            })?)
        };
        let ignore_conflicts = self.words("on conflict do nothing");
        if self.is_word("on") {
            return Err(self.unknown());
        }
        let returning = self.returning()?;
        Ok(Statement::Insert(Box::new(Insert { table, columns, rows, returning, ignore_conflicts })))
    }

    fn update(&mut self) -> Result<Statement, PgError> {
        let table = self.table_name()?;
        self.expect_words("set")?;
        let set = self.list(|parser| {
            let name = parser.name()?;
            parser.expect("=")?;
            Ok((name, parser.expr()?))
        })?;
        let filter = self.filter()?;
        Ok(Statement::Update { table, set, filter, returning: self.returning()? })
    }

    fn delete(&mut self) -> Result<Statement, PgError> {
        self.expect_words("from")?;
        let table = self.table_name()?;
        let filter = self.filter()?;
        Ok(Statement::Delete { table, filter, returning: self.returning()? })
    }

    fn create(&mut self) -> Result<Statement, PgError> {
        for word in ["temporary", "temp", "unlogged"] {
            self.words(word);
        }
        if !self.words("table") {
            return Err(self.unknown());
        }
        let if_not_exists = self.words("if not exists");
        let name = self.table_name()?;
        self.expect("(")?;
        let mut columns: Vec<ColumnDef> = Vec::new();
        loop {
            if self.words("primary key") || self.words("unique") {
                self.expect("(")?;
                let keys = self.list(Self::name)?;
                self.expect(")")?;
                if keys.len() != 1 {
                    return Err(self.unknown());
                }
                let column = columns.iter_mut().find(|column| column.name == keys[0]);
                column
                    .ok_or_else(|| PgError::error("42703", format!("column \"{}\" does not exist", keys[0])))?
                    .unique = true;
            } else {
                columns.push(self.column()?);
            }
            if !self.sign(",") {
                break;
            }
        }
        self.expect(")")?;
        Ok(Statement::CreateTable { if_not_exists, table: TableDef { name, columns } })
    }

    fn column(&mut self) -> Result<ColumnDef, PgError> {
        let name = self.name()?;
        let serial = matches!(self.peek(), Some(Token::Word(word)) if word.contains("serial"));
        let type_ = self.type_()?;
        let mut column = ColumnDef { name, type_, serial, not_null: serial, unique: false, default: None };
        loop {
            if self.words("primary key") {
                (column.not_null, column.unique) = (true, true);
            } else if self.words("not null") {
                column.not_null = true;
            } else if self.words("unique") {
                column.unique = true;
            } else if self.words("default") {
                column.default = Some(self.expr()?);
            } else if self.words("generated always as identity") || self.words("generated by default as identity") {
                (column.serial, column.not_null) = (true, true);
            } else if !self.words("null") {
                return Ok(column);
            }
        }
    }

    fn drop_table(&mut self) -> Result<Statement, PgError> {
        if !self.words("table") {
            return Err(self.unknown());
        }
        let if_exists = self.words("if exists");
        let tables = self.list(Self::table_name)?;
        let _ = self.words("cascade") || self.words("restrict");
        Ok(Statement::DropTable { if_exists, tables })
    }

    fn transaction(&mut self, first: &str) -> Result<Statement, PgError> {
        match first {
            "savepoint" => return self.name().map(Statement::Savepoint),
            "release" => {
                self.words("savepoint");
                return self.name().map(Statement::Release);
            }
            "start" => {
                self.expect_words("transaction")?;
                return Ok(Statement::Begin(Begin { start: true, modes: self.modes()? }));
            }
            _ => {
                let _ = self.words("work") || self.words("transaction");
            }
        }
        match first {
            "begin" => Ok(Statement::Begin(Begin { start: false, modes: self.modes()? })),
            "commit" | "end" if self.is_word("prepared") => Err(self.unknown()),
            "commit" | "end" => Ok(Statement::Commit),
            _ if self.words("to") => {
                self.words("savepoint");
                self.name().map(Statement::RollbackTo)
            }
            _ if self.is_word("prepared") => Err(self.unknown()),
            _ => Ok(Statement::Rollback),
        }
    }

    fn modes(&mut self) -> Result<Modes, PgError> {
        let mut modes = Modes::default();
        while self.peek().is_some() {
            if self.words("isolation level") {
                let levels = ["serializable", "repeatable read", "read committed", "read uncommitted"];
                let level = levels.into_iter().find(|level| self.words(level));
                modes.isolation = Some(level.ok_or_else(|| self.unexpected())?);
            } else if self.words("read only") {
                modes.access = Some(Access::ReadOnly);
            } else if self.words("read write") {
                modes.access = Some(Access::ReadWrite);
            } else if !self.words("not deferrable") && !self.words("deferrable") {
                return Err(self.unexpected());
            }
            self.sign(",");
        }
        Ok(modes)
    }

    fn setting_name(&mut self) -> Result<String, PgError> {
        for (words, name) in [
            ("transaction isolation level", "transaction_isolation"),
            ("time zone", "timezone"),
            ("session authorization", "session_authorization"),
            ("all", "all"),
        ] {
            if self.words(words) {
                return Ok(name.to_owned());
            }
        }
        let mut name = self.name()?;
        while self.sign(".") {
            name = format!("{name}.{}", self.name()?);
        }
        Ok(name)
    }

    fn set(&mut self) -> Result<Statement, PgError> {
        if self.words("session characteristics as transaction") {
            return Ok(Statement::SetTransaction { modes: self.modes()?, session: true });
        }
        let local = self.words("local");
        if !local && !matches!(self.peek_at(1), Some(Token::Word(word)) if word == "authorization") {
            self.words("session");
        }
        if self.words("transaction") {
            return Ok(Statement::SetTransaction { modes: self.modes()?, session: false });
        }
        let two_words = self.is_word("time") || self.is_word("session");
        let name = self.setting_name()?;
        if !two_words && !self.words("to") {
            self.expect("=")?;
        }
        let value = if self.words("default") {
            SetValue::Default
        } else {
            let values = self.list(|parser| {
                let minus = if parser.sign("-") { "-" } else { "" };
                Ok(match parser.next()? {
                    Token::Word(text) | Token::Quoted(text) | Token::Number(text) | Token::Text(text) => {
                        format!("{minus}{text}")
                    }
                    _ => {
                        parser.at -= 1;
                        return Err(parser.unexpected());
                    }
                })
            })?;
            SetValue::To(values.join(", "))
        };
        Ok(Statement::Set { name, value, local })
    }

    fn discard(&mut self) -> Result<Statement, PgError> {
        for (word, what) in [
            ("all", Discard::All),
            ("plans", Discard::Plans),
            ("temp", Discard::Temp),
            ("temporary", Discard::Temp),
            ("sequences", Discard::Sequences),
        ] {
            if self.words(word) {
                return Ok(Statement::Discard(what));
            }
        }
        Err(self.unexpected())
    }

    fn notify(&mut self) -> Result<Statement, PgError> {
        let channel = self.name()?;
        let payload = match self.sign(",") {
            false => String::new(),
            true => match self.next()? {
                Token::Text(text) => text,
                _ => {
                    self.at -= 1;
                    return Err(self.unexpected());
                }
            },
        };
        Ok(Statement::Notify { channel, payload })
    }
}
