//! Statements, run: transactions, settings, and what the session itself is asked for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pgweir_core::time::Instant;

use super::error::{PgError, Severity};
use super::eval::{Effect, Env};
use super::plan::{self, Catalog, Prepared, What};
use super::postgres::{Postgres, view};
use super::run::{Ran, Runner, Source};
use super::script::{Answer, Call, Reply};
use super::session::{Active, Cursor, End, Savepoint, Session, Transaction, Wire};
use super::sql::{Access, Begin, Discard, From, Modes, SetValue, Statement};
use super::table::Changes;
use super::talk::check_failed;
use super::value::{Column, Type, Value};
use super::view::Event;
use crate::net::LinkId;

/// What a statement gave, before it is sent.
struct Outcome {
    ran: Ran,
    columns: Option<Vec<Column>>,
    notices: Vec<PgError>,
    delay: Duration,
    end: End,
}

impl Outcome {
    fn done(tag: &str) -> Self {
        Outcome {
            ran: Ran { rows: Source::none(), tag: Some(tag.to_owned()) },
            columns: None,
            notices: Vec::new(),
            delay: Duration::ZERO,
            end: End::Complete,
        }
    }

    fn warn(mut self, code: &'static str, message: &str) -> Self {
        self.notices.push(PgError::new(Severity::Warning, code, message));
        self
    }
}

impl Postgres {
    /// The parameters and columns of a statement.
    pub(super) fn describe_statement(
        &mut self,
        link: LinkId,
        session: &Session,
        what: &What,
        sql: &str,
        declared: &[Option<Type>],
    ) -> Result<(Vec<Type>, Option<Vec<Column>>), PgError> {
        match what {
            What::Script(index) => {
                let view = view(link, session);
                let Some(script) = self.scripts.get(*index) else { return Ok((Vec::new(), None)) };
                let types = script.param_types(sql, declared);
                let params = vec![Value::Null; types.len()];
                let call = Call { sql, params: &params, session: &view, describing: true };
                Ok((types, script.describe(&call)?))
            }
            What::Sql(statement) => {
                let none = Changes::default();
                let changes = session.transaction.as_ref().map_or(&none, |transaction| &transaction.changes);
                plan::describe(statement, Catalog { store: &self.store, changes }, declared)
            }
        }
    }

    /// Begins to run a statement.
    pub(super) fn run(
        &mut self,
        now: Instant,
        wire: &mut Wire,
        session: &mut Session,
        plan: &Arc<Prepared>,
        params: &Arc<[Value]>,
        simple: bool,
    ) -> Result<Active, PgError> {
        session.queries += 1;
        self.seen.counts.queries += 1;
        self.seen.note(now, Some(wire.id), Event::Query { pid: session.pid, sql: plan.sql.clone() });
        self.in_transaction(now, session);
        let mut columns = plan.columns.clone();
        let outcome = match &plan.what {
            What::Script(index) => {
                check_failed(session, &Statement::Listen(String::new()))?;
                self.scripted(wire.id, session, *index, &plan.sql, params)?
            }
            What::Sql(statement) => {
                check_failed(session, statement)?;
                if simple {
                    let (types, described) = self.describe_statement(wire.id, session, &plan.what, &plan.sql, &[])?;
                    if !types.is_empty() {
                        return Err(PgError::error("42P02", "there is no parameter $1"));
                    }
                    columns = described;
                }
                self.statement(now, wire, session, statement, params)?
            }
        };
        let delay = outcome.delay.saturating_add(self.config.query_time.draw(&mut self.query_times));
        let columns = outcome.columns.or(columns);
        let cursor = Cursor { columns, rows: outcome.ran.rows, tag: outcome.ran.tag, sent: 0, end: outcome.end };
        let mut active = self.active(now, session, cursor, delay);
        active.notices = outcome.notices;
        Ok(active)
    }

    fn scripted(
        &mut self,
        link: LinkId,
        session: &Session,
        index: usize,
        sql: &str,
        params: &[Value],
    ) -> Result<Outcome, PgError> {
        let view = view(link, session);
        let call = Call { sql, params, session: &view, describing: false };
        let script = self.scripts.get(index).ok_or_else(|| PgError::unknown(sql))?;
        let Answer { outcome, delay, notices } = script.call(&call);
        let mut result = Outcome { delay, notices, ..Outcome::done("") };
        match outcome {
            Reply::Rows { columns, rows } => {
                result.columns = Some(columns);
                result.ran = Ran { rows: Source::List(rows.into()), tag: None };
            }
            Reply::Done(tag) => result.ran.tag = Some(tag),
            Reply::Error(error) => result.end = End::Error(error),
            Reply::Close => result.end = End::Close,
            Reply::Never => result.end = End::Never,
        }
        Ok(result)
    }

    /// Makes sure that there is a transaction.
    pub(super) fn in_transaction(&mut self, now: Instant, session: &mut Session) {
        if session.transaction.is_none() {
            session.transaction = Some(Transaction {
                block: false,
                failed: false,
                read_only: self.standby || session.settings.get("default_transaction_read_only") == "on",
                began: now,
                xid: self.new_xid(),
                changes: Changes::default(),
                settings: session.settings.clone(),
                local: BTreeSet::new(),
                notifies: Vec::new(),
                listens: Vec::new(),
                savepoints: Vec::new(),
            });
        }
    }

    fn read_only(&self, session: &Session) -> bool {
        self.standby || session.transaction.as_ref().is_some_and(|transaction| transaction.read_only)
    }

    fn statement(
        &mut self,
        now: Instant,
        wire: &mut Wire,
        session: &mut Session,
        statement: &Statement,
        params: &Arc<[Value]>,
    ) -> Result<Outcome, PgError> {
        match statement {
            Statement::Empty => Ok(Outcome { end: End::Empty, ..Outcome::done("") }),
            Statement::Begin(begin) => self.begin_block(session, begin),
            Statement::Commit => {
                let block = session.transaction.as_ref().is_some_and(|transaction| transaction.block);
                if session.transaction.as_ref().is_some_and(|transaction| transaction.failed) {
                    self.roll_back(wire, session);
                    return Ok(Outcome::done("ROLLBACK"));
                }
                self.commit(now, wire, session)?;
                let done = Outcome::done("COMMIT");
                Ok(if block { done } else { done.warn("25P01", "there is no transaction in progress") })
            }
            Statement::Rollback => {
                let block = session.transaction.as_ref().is_some_and(|transaction| transaction.block);
                self.roll_back(wire, session);
                let done = Outcome::done("ROLLBACK");
                Ok(if block { done } else { done.warn("25P01", "there is no transaction in progress") })
            }
            Statement::Savepoint(_) | Statement::Release(_) | Statement::RollbackTo(_) => savepoint(session, statement),
            Statement::Set { .. } | Statement::SetTransaction { .. } | Statement::Show(_) | Statement::Reset(_) => {
                self.setting(session, statement)
            }
            Statement::Discard(what) => discard(session, *what),
            Statement::Deallocate(name) => {
                match name {
                    None => session.statements.clear(),
                    Some(name) => {
                        let missing =
                            || PgError::error("26000", format!("prepared statement \"{name}\" does not exist"));
                        session.statements.remove(name).ok_or_else(missing)?;
                    }
                }
                Ok(Outcome::done(if name.is_none() { "DEALLOCATE ALL" } else { "DEALLOCATE" }))
            }
            Statement::CloseCursors => Ok(Outcome::done("CLOSE CURSOR ALL")),
            Statement::Listen(_) | Statement::Unlisten(_) | Statement::Notify { .. } => {
                self.channel(session, statement)
            }
            _ => self.on_tables(now, wire, session, statement, params),
        }
    }

    fn begin_block(&mut self, session: &mut Session, begin: &Begin) -> Result<Outcome, PgError> {
        let standby = self.standby;
        let Some(transaction) = &mut session.transaction else { return Ok(Outcome::done("BEGIN")) };
        let done = Outcome::done(if begin.start { "START TRANSACTION" } else { "BEGIN" });
        if std::mem::replace(&mut transaction.block, true) {
            return Ok(done.warn("25001", "there is already a transaction in progress"));
        }
        set_modes(standby, session, &begin.modes)?;
        Ok(done)
    }

    /// Ends the transaction well.
    pub(super) fn commit(&mut self, now: Instant, wire: &mut Wire, session: &mut Session) -> Result<(), PgError> {
        let Some(transaction) = session.transaction.take() else { return Ok(()) };
        session.portals.clear();
        let before = transaction.settings.clone();
        if let Err(error) = self.store.commit(transaction.changes, wire.id) {
            session.settings = before;
            self.seen.counts.rollbacks += 1;
            return Err(error);
        }
        self.seen.counts.commits += 1;
        for name in &transaction.local {
            match before.show(name) {
                Ok(value) => session.settings.put(name, &value),
                Err(_) => drop(session.settings.reset(name)),
            }
        }
        for (channel, on) in transaction.listens {
            match (channel, on) {
                (Some(channel), true) => drop(session.listening.insert(channel)),
                (Some(channel), false) => drop(session.listening.remove(&channel)),
                (None, _) => session.listening.clear(),
            }
        }
        for (channel, payload) in transaction.notifies {
            self.deliver(now, session, &channel, &payload);
        }
        Ok(())
    }

    /// A notification, to everybody who listens.
    fn deliver(&mut self, now: Instant, session: &mut Session, channel: &str, payload: &str) {
        let pid = session.pid;
        let message = || (pid, channel.to_owned(), payload.to_owned());
        if session.listening.contains(channel) {
            session.notifications.push_back(message());
        }
        let ids: Vec<LinkId> = self.links.keys().copied().collect();
        for id in ids {
            let Some(link) = self.links.get_mut(&id) else { continue };
            if let super::session::Stage::Session(other) = &mut link.stage
                && other.listening.contains(channel)
            {
                other.notifications.push_back(message());
                self.touch(now, id);
            }
        }
    }

    /// Undoes the transaction.
    pub(super) fn roll_back(&mut self, wire: &mut Wire, session: &mut Session) {
        let Some(transaction) = session.transaction.take() else { return };
        self.seen.counts.rollbacks += 1;
        self.store.release(wire.id);
        session.settings = transaction.settings;
        session.portals.clear();
    }

    fn setting(&mut self, session: &mut Session, statement: &Statement) -> Result<Outcome, PgError> {
        match statement {
            Statement::Set { name, value, local } => {
                if name == "transaction_read_only" {
                    let access = match value {
                        SetValue::To(value) if matches!(&**value, "on" | "true" | "1" | "yes") => Access::ReadOnly,
                        _ => Access::ReadWrite,
                    };
                    set_modes(self.standby, session, &Modes { access: Some(access), isolation: None })?;
                    return Ok(Outcome::done("SET"));
                }
                match value {
                    SetValue::Default => session.settings.reset(name)?,
                    SetValue::To(value) => drop(session.settings.set(name, value)?),
                }
                let block = session.transaction.as_ref().is_some_and(|transaction| transaction.block);
                if *local {
                    if let Some(transaction) = &mut session.transaction {
                        transaction.local.insert(name.to_lowercase());
                    }
                    if !block {
                        let done = Outcome::done("SET");
                        return Ok(done.warn("25P01", "SET LOCAL can only be used in transaction blocks"));
                    }
                }
                Ok(Outcome::done("SET"))
            }
            Statement::SetTransaction { modes, session: true } => {
                if let Some(access) = modes.access {
                    let value = if access == Access::ReadOnly { "on" } else { "off" };
                    session.settings.set("default_transaction_read_only", value)?;
                }
                if let Some(isolation) = modes.isolation {
                    session.settings.set("default_transaction_isolation", isolation)?;
                }
                Ok(Outcome::done("SET"))
            }
            Statement::SetTransaction { modes, .. } => {
                set_modes(self.standby, session, modes)?;
                Ok(Outcome::done("SET"))
            }
            Statement::Reset(name) => {
                match name {
                    None => session.settings.reset_all(),
                    Some(name) => session.settings.reset(name)?,
                }
                Ok(Outcome::done("RESET"))
            }
            Statement::Show(name) => {
                let rows: Vec<Vec<Value>> = match &**name {
                    "all" => {
                        let row = |(name, value, _): (&str, &str, bool)| vec![Value::from(name), Value::from(value)];
                        session.settings.all().map(row).collect()
                    }
                    "transaction_read_only" => {
                        vec![vec![Value::from(if self.read_only(session) { "on" } else { "off" })]]
                    }
                    name => vec![vec![Value::from(session.settings.show(name)?)]],
                };
                let ran = Ran { rows: Source::List(rows.into()), tag: Some("SHOW".to_owned()) };
                Ok(Outcome { ran, ..Outcome::done("SHOW") })
            }
            _ => Err(PgError::error("XX000", "this is no statement on settings")),
        }
    }

    fn channel(&mut self, session: &mut Session, statement: &Statement) -> Result<Outcome, PgError> {
        let tag = match statement {
            Statement::Listen(_) => "LISTEN",
            Statement::Unlisten(_) => "UNLISTEN",
            _ => "NOTIFY",
        };
        if self.standby && tag != "UNLISTEN" {
            return Err(PgError::error("25006", format!("cannot execute {tag} during recovery")));
        }
        let Some(transaction) = &mut session.transaction else { return Ok(Outcome::done(tag)) };
        match statement {
            Statement::Listen(channel) => transaction.listens.push((Some(channel.clone()), true)),
            Statement::Unlisten(channel) => transaction.listens.push((channel.clone(), false)),
            Statement::Notify { channel, payload } => notify(transaction, channel, payload),
            _ => {}
        }
        Ok(Outcome::done(tag))
    }

    fn on_tables(
        &mut self,
        now: Instant,
        wire: &mut Wire,
        session: &mut Session,
        statement: &Statement,
        params: &Arc<[Value]>,
    ) -> Result<Outcome, PgError> {
        let verb = match statement {
            Statement::Insert(_) => Some("INSERT"),
            Statement::Update { .. } => Some("UPDATE"),
            Statement::Delete { .. } => Some("DELETE"),
            Statement::CreateTable { .. } => Some("CREATE TABLE"),
            Statement::DropTable { .. } => Some("DROP TABLE"),
            Statement::Truncate(_) => Some("TRUNCATE TABLE"),
            _ => None,
        };
        let read_only = self.read_only(session);
        if let Some(verb) = verb.filter(|_| read_only) {
            return Err(PgError::error("25006", format!("cannot execute {verb} in a read-only transaction")));
        }
        let Some(mut transaction) = session.transaction.take() else { return Ok(Outcome::done("")) };
        let rows = match statement {
            Statement::Select(select) => match &select.from {
                Some(From::Table { name, .. }) => self.view_rows(name, session, &transaction.changes),
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
        let env = Env {
            now: self.wall(now),
            began: self.wall(transaction.began),
            server_started: self.wall(self.started),
            pid: session.pid,
            xid: transaction.xid,
            user: session.user.clone(),
            database: session.database.clone(),
            settings: session.settings.clone(),
            standby: self.standby,
            read_only,
            pids: self.pids.clone(),
            params: params.clone(),
            sleep: Duration::ZERO,
            effects: Vec::new(),
        };
        let mut runner =
            Runner { store: &mut self.store, changes: &mut transaction.changes, env, link: wire.id, view: rows };
        let ran = runner.run(statement);
        let (delay, effects) = (runner.env.sleep, runner.env.effects);
        session.transaction = Some(transaction);
        let ran = ran?;
        let mut outcome = Outcome { ran, delay, ..Outcome::done("") };
        for effect in effects {
            self.take_effect(now, wire, session, effect, &mut outcome);
        }
        Ok(outcome)
    }

    fn take_effect(
        &mut self,
        now: Instant,
        wire: &mut Wire,
        session: &mut Session,
        effect: Effect,
        outcome: &mut Outcome,
    ) {
        match effect {
            Effect::Terminate(pid) if pid == session.pid => outcome.end = End::Error(super::error::terminated()),
            Effect::Cancel(pid) if pid == session.pid => outcome.end = End::Error(cancelled()),
            Effect::Terminate(pid) => drop(self.kill(now, pid)),
            Effect::Cancel(pid) => drop(self.cancel(now, pid)),
            Effect::Notify { channel, payload } => {
                if let Some(transaction) = &mut session.transaction {
                    notify(transaction, &channel, &payload);
                }
            }
            Effect::SetConfig { name, value, local } => {
                let _ = session.settings.set(&name, &value);
                if let Some(transaction) = session.transaction.as_mut().filter(|_| local) {
                    transaction.local.insert(name.to_lowercase());
                }
            }
        }
        let _ = wire;
    }
}

pub(super) fn cancelled() -> PgError {
    PgError::error("57014", "canceling statement due to user request")
}

/// The same notification twice in a transaction is sent once.
fn notify(transaction: &mut Transaction, channel: &str, payload: &str) {
    let new = (channel.to_owned(), payload.to_owned());
    if !transaction.notifies.contains(&new) {
        transaction.notifies.push(new);
    }
}

fn set_modes(standby: bool, session: &mut Session, modes: &Modes) -> Result<(), PgError> {
    let Some(transaction) = &mut session.transaction else { return Ok(()) };
    match modes.access {
        Some(Access::ReadWrite) if standby => {
            return Err(PgError::error("0A000", "cannot set transaction read-write mode during recovery"));
        }
        Some(access) => transaction.read_only = access == Access::ReadOnly,
        None => {}
    }
    if let Some(isolation) = modes.isolation {
        session.settings.put("transaction_isolation", isolation);
        transaction.local.insert("transaction_isolation".to_owned());
    }
    Ok(())
}

fn savepoint(session: &mut Session, statement: &Statement) -> Result<Outcome, PgError> {
    let (tag, name) = match statement {
        Statement::Savepoint(name) => ("SAVEPOINT", name),
        Statement::Release(name) => ("RELEASE SAVEPOINT", name),
        Statement::RollbackTo(name) => ("ROLLBACK TO SAVEPOINT", name),
        _ => return Err(PgError::error("XX000", "this is no statement on savepoints")),
    };
    let settings = session.settings.clone();
    let transaction = session.transaction.as_mut().filter(|transaction| transaction.block);
    let transaction =
        transaction.ok_or_else(|| PgError::error("25P01", format!("{tag} can only be used in transaction blocks")))?;
    if matches!(statement, Statement::Savepoint(_)) {
        let (changes, notifies) = (transaction.changes.clone(), transaction.notifies.len());
        transaction.savepoints.push(Savepoint { name: name.clone(), changes, settings, notifies });
        return Ok(Outcome::done("SAVEPOINT"));
    }
    let found = transaction.savepoints.iter().rposition(|savepoint| savepoint.name == *name);
    let at = found.ok_or_else(|| PgError::error("3B001", format!("savepoint \"{name}\" does not exist")))?;
    if matches!(statement, Statement::Release(_)) {
        transaction.savepoints.truncate(at);
        return Ok(Outcome::done("RELEASE"));
    }
    transaction.savepoints.truncate(at + 1);
    if let Some(savepoint) = transaction.savepoints.last() {
        transaction.changes = savepoint.changes.clone();
        transaction.notifies.truncate(savepoint.notifies);
        session.settings = savepoint.settings.clone();
    }
    transaction.failed = false;
    Ok(Outcome::done("ROLLBACK"))
}

fn discard(session: &mut Session, what: Discard) -> Result<Outcome, PgError> {
    let tag = match what {
        Discard::All => "DISCARD ALL",
        Discard::Plans => "DISCARD PLANS",
        Discard::Temp => "DISCARD TEMP",
        Discard::Sequences => "DISCARD SEQUENCES",
    };
    if what == Discard::All {
        if session.transaction.as_ref().is_some_and(|transaction| transaction.block) {
            return Err(PgError::error("25001", "DISCARD ALL cannot run inside a transaction block"));
        }
        session.settings.reset_all();
        session.statements.clear();
        if let Some(transaction) = &mut session.transaction {
            transaction.listens.push((None, false));
        }
    }
    Ok(Outcome::done(tag))
}
