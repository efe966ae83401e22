//! A session's messages: the simple and the extended protocol, and rows on their way.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use pgweir_core::time::Instant;

use super::error::{PgError, Severity};
use super::plan::{Prepared, What};
use super::postgres::{Postgres, Step};
use super::read::{self, Bind, Frontend, Target};
use super::session::{Active, Cursor, End, Portal, Progress, Session, Wire};
use super::sql::{self, Statement};
use super::value::{self, Type, Value};
use super::view::Event;
use super::write::{Status, format_of};
use crate::net::Output;

/// Answers are sent when there is this much of them, as PostgreSQL's buffer has it.
const BUFFER: usize = 8 << 10;
/// Rows are made in slices of this size, and each takes this long: so a large result takes time, can be cancelled, and
/// does not keep others from theirs.
const SLICE: usize = 32 << 10;
const SLICE_TIME: Duration = Duration::from_micros(50);

impl Postgres {
    /// One thing that a session has to do.
    pub(super) fn talk(&mut self, now: Instant, wire: &mut Wire, session: &mut Session) -> Step {
        if session.active.is_some() {
            return self.proceed(now, wire, session);
        }
        if let Some(rest) = &mut session.simple {
            match rest.pop_front() {
                Some((at, plan)) => self.simple_statement(now, wire, session, at, plan),
                None => {
                    session.simple = None;
                    self.end_of_request(now, wire, session, true);
                }
            }
            return Step::Done;
        }
        match read::frame(&mut wire.input, self.config.max_message) {
            Ok(Some(frame)) => {
                self.seen.message(now, wire.id, frame.tag, &frame.body, false);
                match frame.parse() {
                    Ok(message) => self.message(now, wire, session, message),
                    Err(error) => self.fail(now, wire, session, error),
                }
                if wire.out.len() >= BUFFER {
                    self.flush(now, wire);
                }
                Step::Done
            }
            Ok(None) => {
                if session.status() == Status::Idle && session.transaction.is_none() {
                    self.notify_idle(now, wire, session);
                }
                Step::Waits
            }
            Err(error) => {
                self.fail(now, wire, session, error);
                Step::Done
            }
        }
    }

    fn message(&mut self, now: Instant, wire: &mut Wire, session: &mut Session, message: Frontend) {
        match message {
            Frontend::Terminate => {
                wire.closing = Some(Output::Close);
                return;
            }
            Frontend::Sync => {
                session.skip = false;
                return self.end_of_request(now, wire, session, false);
            }
            _ if session.skip => return,
            _ => {}
        }
        let result = match message {
            Frontend::Query(sql) => {
                session.query_start = now;
                session.state_since = now;
                session.statements.remove("");
                session.portals.remove("");
                session.simple_text = sql;
                session.simple = Some(VecDeque::new());
                self.split(session)
            }
            Frontend::Parse { name, sql, types } => self.parse(wire, session, name, &sql, &types),
            Frontend::Bind(bind) => self.bind(now, wire, session, bind),
            Frontend::Describe(target, name) => self.describe(wire, session, target, &name),
            Frontend::Close(target, name) => {
                match target {
                    Target::Statement => drop(session.statements.remove(&name)),
                    Target::Portal => drop(session.portals.remove(&name)),
                }
                wire.out.bare(b'3');
                Ok(())
            }
            Frontend::Execute { portal, max_rows } => self.execute_portal(now, wire, session, &portal, max_rows),
            Frontend::Flush => {
                self.flush(now, wire);
                Ok(())
            }
            Frontend::FunctionCall => Err(PgError::unknown("function calls by the fast-path protocol")),
            Frontend::Password(_) => Err(PgError::violation("unexpected password message")),
            Frontend::Copy | Frontend::Sync | Frontend::Terminate => Ok(()),
        };
        if let Err(error) = result {
            self.fail(now, wire, session, error);
        }
    }

    /// An error of what the client has asked for: it is told, and its transaction has failed.
    pub(super) fn fail(&mut self, now: Instant, wire: &mut Wire, session: &mut Session, error: PgError) {
        session.active = None;
        *self.seen.counts.errors.entry(error.code.to_string()).or_default() += 1;
        self.seen.note(now, Some(wire.id), Event::Failed { pid: session.pid, code: error.code.to_string() });
        if error.is_fatal() {
            return self.end_session(wire, &error);
        }
        wire.out.error(&PgError { severity: Severity::Error, ..error });
        match &mut session.transaction {
            Some(transaction) if transaction.block => transaction.failed = true,
            _ => self.roll_back(wire, session),
        }
        if session.simple.is_some() {
            session.simple = None;
            self.end_of_request(now, wire, session, true);
        } else {
            session.skip = true;
        }
        self.flush(now, wire);
    }

    /// The end of a simple query, or Sync.
    fn end_of_request(&mut self, now: Instant, wire: &mut Wire, session: &mut Session, simple: bool) {
        if session.transaction.as_ref().is_some_and(|transaction| !transaction.block)
            && let Err(error) = self.commit(now, wire, session)
        {
            wire.out.error(&error);
        }
        if simple && session.transaction.is_none() {
            session.portals.clear();
        }
        session.state_since = now;
        self.report(wire, session);
        if session.transaction.is_none() {
            self.send_notifications(wire, session);
        }
        wire.out.ready(session.status());
        self.flush(now, wire);
    }

    fn send_notifications(&mut self, wire: &mut Wire, session: &mut Session) {
        while let Some((pid, channel, payload)) = session.notifications.pop_front() {
            wire.out.notification(pid, &channel, &payload);
        }
    }

    fn notify_idle(&mut self, now: Instant, wire: &mut Wire, session: &mut Session) {
        if !session.notifications.is_empty() {
            self.send_notifications(wire, session);
            self.flush(now, wire);
        }
    }

    /// Parses the statements of a simple query, all of them before the first one runs.
    fn split(&mut self, session: &mut Session) -> Result<(), PgError> {
        let text = session.simple_text.clone();
        let mut plans = VecDeque::new();
        // What a later one needs may be made by an earlier one, so only their syntax is looked at here.
        for (at, sql) in sql::split(&text)? {
            let what = self.what(sql).map_err(|error| shifted(error, &text, at))?;
            let plan = Prepared { sql: sql.to_owned(), what, params: Vec::new(), columns: None };
            plans.push_back((at, Arc::new(plan)));
        }
        session.simple = Some(plans);
        Ok(())
    }

    fn what(&self, sql: &str) -> Result<What, PgError> {
        match self.scripts.find(sql) {
            Some(index) => Ok(What::Script(index)),
            None => sql::parse(sql).map(super::plan::normalize).map(What::Sql),
        }
    }

    fn simple_statement(
        &mut self,
        now: Instant,
        wire: &mut Wire,
        session: &mut Session,
        at: usize,
        plan: Arc<Prepared>,
    ) {
        session.last_query.clone_from(&session.simple_text);
        let text = session.simple_text.clone();
        match self.run(now, wire, session, &plan, &Arc::from([]), true) {
            Ok(mut active) => {
                active.portal = None;
                session.active = Some(active);
            }
            Err(error) => self.fail(now, wire, session, shifted(error, &text, at)),
        }
    }

    fn parse(
        &mut self,
        wire: &mut Wire,
        session: &mut Session,
        name: String,
        sql: &str,
        types: &[u32],
    ) -> Result<(), PgError> {
        let parts = sql::split(sql)?;
        let [(_, statement)] = parts[..] else {
            return Err(PgError::error("42601", "cannot insert multiple commands into a prepared statement"));
        };
        if !name.is_empty() && session.statements.contains_key(&name) {
            return Err(PgError::error("42P05", format!("prepared statement \"{name}\" already exists")));
        }
        session.statements.remove("");
        let mut declared = Vec::new();
        for oid in types {
            declared.push(match oid {
                0 | 705 => None,
                oid => Some(Type::from_oid(*oid).ok_or_else(|| {
                    PgError::error("42704", format!("type with OID {oid} does not exist"))
                        .hint("The simulated server knows few types.")
                })?),
            });
        }
        let what = self.what(statement)?;
        if let What::Sql(statement) = &what {
            check_failed(session, statement)?;
        }
        let (params, columns) = self.describe_statement(wire.id, session, &what, statement, &declared)?;
        let plan = Prepared { sql: statement.to_owned(), what, params, columns };
        session.statements.insert(name, Arc::new(plan));
        wire.out.bare(b'1');
        Ok(())
    }

    fn bind(&mut self, now: Instant, wire: &mut Wire, session: &mut Session, bind: Bind) -> Result<(), PgError> {
        let plan = statement(session, &bind.statement)?;
        if let What::Sql(statement) = &plan.what {
            check_failed(session, statement)?;
        }
        if bind.params.len() != plan.params.len() {
            return Err(PgError::error(
                "08P01",
                format!(
                    "bind message supplies {} parameters, but prepared statement \"{}\" requires {}",
                    bind.params.len(),
                    bind.statement,
                    plan.params.len()
                ),
            ));
        }
        if bind.formats.len() > 1 && bind.formats.len() != bind.params.len() {
            let (formats, params) = (bind.formats.len(), bind.params.len());
            let message = format!("bind message has {formats} parameter formats but {params} parameters");
            return Err(PgError::error("08P01", message));
        }
        let columns = plan.columns.as_ref().map_or(0, Vec::len);
        if bind.results.len() > 1 && bind.results.len() != columns {
            let message =
                format!("bind message has {} result formats but query has {columns} columns", bind.results.len());
            return Err(PgError::error("08P01", message));
        }
        if let Some(format) = bind.formats.iter().chain(&bind.results).find(|format| !(0..=1).contains(*format)) {
            return Err(PgError::error("22023", format!("unsupported format code: {format}")));
        }
        if !bind.portal.is_empty() && session.portals.contains_key(&bind.portal) {
            return Err(PgError::error("42P03", format!("cursor \"{}\" already exists", bind.portal)));
        }
        let mut params = Vec::new();
        for (index, (bytes, type_)) in bind.params.iter().zip(&plan.params).enumerate() {
            params.push(match bytes {
                None => Value::Null,
                Some(bytes) => value::decode(bytes, *type_, format_of(&bind.formats, index) == 1)?,
            });
        }
        // A portal lives in a transaction.
        self.in_transaction(now, session);
        let portal = Portal { plan, params: params.into(), formats: bind.results, progress: Progress::New };
        session.portals.insert(bind.portal, portal);
        wire.out.bare(b'2');
        Ok(())
    }

    fn describe(&mut self, wire: &mut Wire, session: &mut Session, target: Target, name: &str) -> Result<(), PgError> {
        let (plan, formats) = match target {
            Target::Statement => {
                let plan = statement(session, name)?;
                wire.out.parameters(&plan.params);
                (plan, Vec::new())
            }
            Target::Portal => {
                let portal = session.portals.get(name).ok_or_else(|| no_portal(name))?;
                (portal.plan.clone(), portal.formats.clone())
            }
        };
        match &plan.columns {
            Some(columns) => wire.out.columns(columns, &formats),
            None => wire.out.bare(b'n'),
        }
        Ok(())
    }

    fn execute_portal(
        &mut self,
        now: Instant,
        wire: &mut Wire,
        session: &mut Session,
        name: &str,
        max_rows: i32,
    ) -> Result<(), PgError> {
        let limit = u64::try_from(max_rows).unwrap_or(0);
        let portal = session.portals.get_mut(name).ok_or_else(|| no_portal(name))?;
        let (plan, params, formats) = (portal.plan.clone(), portal.params.clone(), portal.formats.clone());
        let mut active = match std::mem::replace(&mut portal.progress, Progress::Done) {
            Progress::New => {
                session.query_start = now;
                session.state_since = now;
                session.last_query.clone_from(&plan.sql);
                self.run(now, wire, session, &plan, &params, false)?
            }
            Progress::Suspended(cursor) => self.active(now, session, cursor, Duration::ZERO),
            Progress::Done => {
                let cursor = Cursor {
                    columns: None,
                    rows: super::run::Source::none(),
                    tag: plan.columns.is_none().then(String::new),
                    sent: 0,
                    end: End::Complete,
                };
                if plan.columns.is_none() {
                    return Err(PgError::error("55000", format!("portal \"{name}\" cannot be run")));
                }
                self.active(now, session, cursor, Duration::ZERO)
            }
        };
        active.portal = Some((name.to_owned(), limit));
        active.formats = formats;
        active.described = true;
        session.active = Some(active);
        Ok(())
    }

    pub(super) fn active(&self, now: Instant, session: &Session, cursor: Cursor, delay: Duration) -> Active {
        let timeout = session.settings.duration("statement_timeout").map_or(Instant::MAX, |timeout| now + timeout);
        let until = now.saturating_add(delay);
        Active {
            cursor,
            until,
            timeout,
            notices: Vec::new(),
            portal: None,
            formats: Vec::new(),
            rows: 0,
            described: false,
        }
    }

    /// The statement that runs goes on.
    fn proceed(&mut self, now: Instant, wire: &mut Wire, session: &mut Session) -> Step {
        let Some(mut active) = session.active.take() else { return Step::Done };
        if now >= active.timeout && (now < active.until || active.timeout < active.until) {
            let error = PgError::error("57014", "canceling statement due to statement timeout");
            self.fail(now, wire, session, error);
            return Step::Done;
        }
        if now < active.until || wire.congested {
            session.active = Some(active);
            return Step::Waits;
        }
        for notice in active.notices.drain(..) {
            wire.out.notice(&notice);
        }
        match active.cursor.end.clone() {
            End::Error(error) => {
                self.fail(now, wire, session, error);
                return Step::Done;
            }
            End::Close => {
                wire.closing = Some(Output::Close);
                return Step::Done;
            }
            End::Never => {
                active.until = Instant::MAX;
                session.active = Some(active);
                return Step::Waits;
            }
            End::Complete | End::Empty => {}
        }
        match self.rows(now, wire, &mut active) {
            Ok(Progressed::Slice) => {
                active.until = now + SLICE_TIME;
                session.active = Some(active);
                Step::Waits
            }
            Ok(Progressed::Limit) => {
                wire.out.bare(b's');
                let name = active.portal.map_or_else(String::new, |(name, _)| name);
                if let Some(portal) = session.portals.get_mut(&name) {
                    portal.progress = Progress::Suspended(active.cursor);
                }
                Step::Done
            }
            Ok(Progressed::End) => {
                match &active.cursor.end {
                    End::Empty => wire.out.bare(b'I'),
                    _ => match &active.cursor.tag {
                        Some(tag) => wire.out.complete(tag),
                        // A portal that was suspended counts the rows since then.
                        None => wire.out.complete(&format!("SELECT {}", active.rows)),
                    },
                }
                Step::Done
            }
            Err(error) => {
                self.fail(now, wire, session, error);
                Step::Done
            }
        }
    }

    fn rows(&mut self, now: Instant, wire: &mut Wire, active: &mut Active) -> Result<Progressed, PgError> {
        let Some(columns) = active.cursor.columns.clone() else {
            return Ok(Progressed::End);
        };
        if !std::mem::replace(&mut active.described, true) {
            wire.out.columns(&columns, &active.formats);
        }
        let limit = active.portal.as_ref().map_or(0, |(_, limit)| *limit);
        let mut made = 0;
        loop {
            if limit > 0 && active.rows >= limit {
                return Ok(Progressed::Limit);
            }
            let Some(row) = active.cursor.rows.next()? else { return Ok(Progressed::End) };
            let before = wire.out.len();
            let encoded = columns.iter().enumerate().map(|(index, column)| {
                let value = row.get(index).unwrap_or(&Value::Null);
                value::encode(value, column, format_of(&active.formats, index) == 1)
            });
            wire.out.row(&encoded.collect::<Result<Vec<_>, _>>()?);
            active.rows += 1;
            active.cursor.sent += 1;
            made += wire.out.len() - before;
            if wire.out.len() >= BUFFER {
                self.flush(now, wire);
            }
            if made >= SLICE {
                return Ok(Progressed::Slice);
            }
        }
    }
}

enum Progressed {
    Slice,
    Limit,
    End,
}

fn statement(session: &Session, name: &str) -> Result<Arc<Prepared>, PgError> {
    session.statements.get(name).cloned().ok_or_else(|| match name {
        "" => PgError::error("26000", "unnamed prepared statement does not exist"),
        name => PgError::error("26000", format!("prepared statement \"{name}\" does not exist")),
    })
}

fn no_portal(name: &str) -> PgError {
    PgError::error("34000", format!("portal \"{name}\" does not exist"))
}

/// In a failed transaction only its end is taken.
pub(super) fn check_failed(session: &Session, statement: &Statement) -> Result<(), PgError> {
    let ends =
        matches!(statement, Statement::Commit | Statement::Rollback | Statement::RollbackTo(_) | Statement::Empty);
    if session.status() == Status::Failed && !ends {
        return Err(PgError::error(
            "25P02",
            "current transaction is aborted, commands ignored until end of transaction block",
        ));
    }
    Ok(())
}

/// The error of a statement that begins at a byte of a longer text.
fn shifted(mut error: PgError, text: &str, at: usize) -> PgError {
    let before = text.get(..at).map_or(0, |before| before.chars().count());
    error.position = error.position.map(|position| position + before);
    error
}
