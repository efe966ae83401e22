//! What each message from the server does.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use postgres_protocol::message::backend::{
    DataRowBody, ErrorResponseBody, Message, NoticeResponseBody, NotificationResponseBody, ParameterStatusBody,
    RowDescriptionBody,
};
use postgres_protocol::message::frontend;

use super::connection::{Connection, Phase};
use super::error::{CopyDirection, DbError, Error, Severity};
use super::exchange::{Exchange, Kind, Round, Step, check_row, read_columns, read_parameters, rows_of};
use super::frame::{Frame, malformed, message_name};
use super::login;
use super::request::{Event, TransactionStatus};
use super::session::CancelKey;
use super::settle::Cancel;
use super::statements::{Column, Statement};
use crate::pool::SqlState;
use crate::time::Instant;

/// Parameters with new names beyond this are not remembered; servers report about fifteen.
const MAX_PARAMETERS: usize = 256;

impl Connection {
    pub(super) fn on_frame(&mut self, now: Instant, frame: Frame) -> Result<(), Error> {
        match (self.phase, frame) {
            (Phase::Ready, Frame::Message(tag, message)) => self.on_message(now, tag, message),
            (Phase::Ready, Frame::Complete(tag)) => self.on_complete(tag),
            (Phase::Session, Frame::Message(tag, message)) => self.on_session(now, tag, message),
            (_, Frame::Message(tag, message)) => self.on_login(tag, message),
            (Phase::Startup | Phase::Authentication, Frame::Negotiate) => Ok(()),
            (_, Frame::OldError(message)) => {
                // insufficient_resources: the postmaster could not fork.
                let code = SqlState::parse("53000").expect("five digits");
                Err(Error::Server(Box::new(DbError::new(Severity::Fatal, code, message))))
            }
            (_, Frame::CopyBoth) => Err(self.protocol(
                "the server sent CopyBothResponse: replication commands are not supported on this connection".into(),
            )),
            (_, Frame::Negotiate) => Err(self.unexpected(b'v')),
            (_, Frame::Complete(_)) => Err(self.unexpected(b'C')),
        }
    }

    fn on_login(&mut self, tag: u8, message: Message) -> Result<(), Error> {
        match message {
            Message::ErrorResponse(body) => return Err(self.server_error(&body)?),
            Message::NoticeResponse(body) => return self.on_notice(&body),
            _ => {}
        }
        let login = self.login.take().ok_or_else(|| self.unexpected(tag))?;
        self.scratch.clear();
        match login.step(&message, &self.config, &mut self.scratch)? {
            login::Step::Continue(next) => {
                self.login = Some(next);
                self.phase = Phase::Authentication;
                self.outgoing.append(&mut self.scratch);
                Ok(())
            }
            login::Step::Done => {
                self.phase = Phase::Session;
                Ok(())
            }
            login::Step::Unexpected => Err(self.unexpected(tag)),
        }
    }

    fn on_session(&mut self, now: Instant, tag: u8, message: Message) -> Result<(), Error> {
        match message {
            Message::ParameterStatus(body) => self.on_parameter(&body).map(drop),
            Message::BackendKeyData(body) => {
                self.key = Some(CancelKey { process_id: body.process_id(), secret_key: body.secret_key() });
                Ok(())
            }
            Message::NoticeResponse(body) => self.on_notice(&body),
            Message::ErrorResponse(body) => Err(self.server_error(&body)?),
            Message::ReadyForQuery(body) => {
                self.status = self.read_status(body.status())?;
                self.phase = Phase::Ready;
                self.head_since = now;
                self.events.push(Event::Ready);
                Ok(())
            }
            _ => Err(self.unexpected(tag)),
        }
    }

    fn on_message(&mut self, now: Instant, tag: u8, message: Message) -> Result<(), Error> {
        match message {
            Message::DataRow(row) => self.on_row(row),
            Message::ReadyForQuery(body) => self.on_ready(now, body.status()),
            Message::ErrorResponse(body) => self.on_error(&body),
            Message::NoticeResponse(body) => self.on_notice(&body),
            Message::NotificationResponse(body) => self.on_notification(&body),
            Message::ParameterStatus(body) => {
                let event = self.on_parameter(&body)?;
                self.events.push_unasked(event);
                Ok(())
            }
            Message::RowDescription(body) => self.on_columns(tag, Some(&body)),
            Message::NoData => self.on_columns(tag, None),
            Message::EmptyQueryResponse => self.on_complete(Bytes::new()),
            Message::CopyInResponse(_) => self.on_copy_in(tag),
            _ => self.on_step(tag, message),
        }
    }

    /// The messages that do no more than take the request at the head one step on.
    fn on_step(&mut self, tag: u8, message: Message) -> Result<(), Error> {
        let types = &self.types;
        let Some((head, events)) = head(&mut self.pending, &mut self.events, self.outgoing.written()) else {
            return Err(self.unexpected(tag));
        };
        match (head.steps.current(), message) {
            (Some(Step::Close), Message::CloseComplete) | (Some(Step::Parse), Message::ParseComplete) => {
                head.steps.advance();
            }
            (Some(Step::Parameters), Message::ParameterDescription(body)) => {
                let params = read_parameters(&body, types).map_err(|e| malformed(tag, Phase::Ready, &e.to_string()))?;
                if let Kind::Prepare(draft) = &mut head.kind {
                    draft.params = params;
                }
                head.steps.advance();
            }
            (Some(Step::Bind), Message::BindComplete) => {
                head.steps.advance();
                if let Kind::OpenPortal(portal) = &head.kind
                    && head.speaks()
                {
                    events.push(Event::PortalOpened { id: head.id, portal: portal.clone() });
                }
            }
            (Some(Step::Execute), Message::PortalSuspended) if !head.copying_out => {
                head.steps.advance();
                if head.round == Round::Open {
                    head.round = Round::Suspended;
                }
                if head.speaks() {
                    events.push(Event::Suspended { id: head.id });
                }
            }
            (Some(Step::Execute | Step::Simple), Message::CopyOutResponse(_)) if !head.copying_out => {
                if head.speaks() {
                    events.push(Event::Failed { id: head.id, error: Error::Copy(CopyDirection::Out) });
                }
                head.failed = true;
                head.copying_out = true;
            }
            (_, Message::CopyData(_)) if head.copying_out => {}
            (_, Message::CopyDone) if head.copying_out => head.copying_out = false,
            _ => return Err(self.unexpected(tag)),
        }
        Ok(())
    }

    fn on_row(&mut self, row: DataRowBody) -> Result<(), Error> {
        let Some((head, events)) = head(&mut self.pending, &mut self.events, self.outgoing.written()) else {
            return Err(self.unexpected(b'D'));
        };
        let Some(width) = head
            .width
            .filter(|_| matches!(head.steps.current(), Some(Step::Execute | Step::Simple)) && !head.copying_out)
        else {
            return Err(self.unexpected(b'D'));
        };
        match check_row(&row, width) {
            Ok(true) => {}
            Ok(false) => return Err(malformed(b'D', Phase::Ready, &format!("it does not have {width} columns"))),
            Err(error) => return Err(malformed(b'D', Phase::Ready, &error.to_string())),
        }
        if head.speaks() {
            events.push(Event::Row { id: head.id, row });
        }
        Ok(())
    }

    /// RowDescription or NoData.
    fn on_columns(&mut self, tag: u8, body: Option<&RowDescriptionBody>) -> Result<(), Error> {
        let types = &self.types;
        let Some((head, events)) = head(&mut self.pending, &mut self.events, self.outgoing.written()) else {
            return Err(self.unexpected(tag));
        };
        let columns: Arc<[Column]> = match body {
            Some(body) => read_columns(body, head.steps.current(), types)
                .map_err(|e| malformed(tag, Phase::Ready, &e.to_string()))?,
            None => Arc::default(),
        };
        match head.steps.current() {
            Some(Step::Portal) => head.steps.advance(),
            Some(Step::Simple) if head.width.is_none() && body.is_some() && !head.copying_out => {}
            Some(Step::Statement) => return self.on_described(columns),
            _ => return Err(self.unexpected(tag)),
        }
        head.width = Some(columns.len());
        if head.speaks() {
            events.push(Event::Columns { id: head.id, columns });
        }
        Ok(())
    }

    /// A statement is parsed and described.
    fn on_described(&mut self, columns: Arc<[Column]>) -> Result<(), Error> {
        let Some(head) = self.pending.front_mut() else { return Ok(()) };
        head.steps.advance();
        let Kind::Prepare(draft) = &mut head.kind else { return Ok(()) };
        let statement = Arc::new(Statement {
            owner: self.owner.clone(),
            name: draft.name.clone(),
            sql: draft.sql.clone(),
            declared: std::mem::take(&mut draft.declared),
            params: std::mem::take(&mut draft.params),
            columns,
            gone: Arc::default(),
        });
        if statement.name.is_empty() {
            head.statement = Some(statement.clone());
            if head.round == Round::Open {
                head.round = Round::AwaitsBind;
            }
        } else {
            // Wanted or not: it is there now.
            self.statements.insert(statement.clone());
        }
        if head.speaks() {
            self.events.push(Event::Prepared { id: head.id, statement });
        }
        Ok(())
    }

    /// CommandComplete, or EmptyQueryResponse with an empty tag.
    fn on_complete(&mut self, tag: Bytes) -> Result<(), Error> {
        let letter = if tag.is_empty() { b'I' } else { b'C' };
        let Some((head, events)) = head(&mut self.pending, &mut self.events, self.outgoing.written()) else {
            return Err(self.unexpected(letter));
        };
        match head.steps.current() {
            Some(Step::Execute) if !head.copying_out => {
                head.steps.advance();
            }
            Some(Step::Simple) if !head.copying_out => {}
            _ => return Err(self.unexpected(letter)),
        }
        head.width = None;
        if matches!(&*tag, b"DISCARD ALL" | b"DEALLOCATE ALL") {
            self.statements.forget_all();
        }
        if head.speaks() {
            events.push(Event::Complete { id: head.id, rows: rows_of(&tag), tag });
        }
        if head.round == Round::Open {
            self.sync(0);
        }
        Ok(())
    }

    /// COPY FROM STDIN in a query: nothing is sent, the server is told so. In an extended query it has thrown our Sync
    /// away (protocol section 55.2.6), so it gets another one.
    fn on_copy_in(&mut self, tag: u8) -> Result<(), Error> {
        let written = self.outgoing.written();
        let Some((head, events)) = head(&mut self.pending, &mut self.events, written) else {
            return Err(self.unexpected(tag));
        };
        let extended = match head.steps.current() {
            Some(Step::Execute) if !head.copying_out => true,
            Some(Step::Simple) if !head.copying_out => false,
            _ => return Err(self.unexpected(tag)),
        };
        if head.speaks() {
            events.push(Event::Failed { id: head.id, error: Error::Copy(CopyDirection::In) });
        }
        head.failed = true;
        head.round = Round::Synced;
        if self.pending.get(1).is_some_and(|next| next.start < written) {
            // The server takes what follows for COPY data: nobody can say any more which answer is whose.
            return Err(self.protocol("COPY ... FROM STDIN cannot be followed by other requests in a pipeline".into()));
        }
        self.scratch.clear();
        frontend::copy_fail("COPY ... FROM STDIN was run as a query", &mut self.scratch)
            .map_err(|error| self.protocol(error.to_string().into()))?;
        if extended {
            frontend::sync(&mut self.scratch);
        }
        self.append_to(0);
        Ok(())
    }

    fn on_error(&mut self, body: &ErrorResponseBody) -> Result<(), Error> {
        let error = match self.server_error(body)? {
            Error::Server(error) if !error.is_fatal() => error,
            fatal => return Err(fatal),
        };
        let Some((head, events)) = head(&mut self.pending, &mut self.events, self.outgoing.written()) else {
            // An error that answers nothing: the server gives the session up.
            return Err(Error::Server(error));
        };
        if let Some(statement) = &head.statement
            && (error.code.code() == "26000"
                || (error.is_stale_statement() && head.steps.current() == Some(Step::Bind)))
            && !statement.name.is_empty()
        {
            self.statements.forget(statement);
            self.statements.close(statement.name.clone());
        }
        if let Kind::Prepare(draft) = &head.kind
            && matches!(head.steps.current(), Some(Step::Parameters | Step::Statement))
            && !draft.name.is_empty()
        {
            self.statements.close(draft.name.clone());
        }
        head.steps.clear();
        head.width = None;
        head.copying_out = false;
        if head.speaks() {
            events.push(Event::Failed { id: head.id, error: Error::Server(error) });
        }
        head.failed = true;
        self.sync(0);
        Ok(())
    }

    fn on_ready(&mut self, now: Instant, status: u8) -> Result<(), Error> {
        let status = self.read_status(status)?;
        let written = self.outgoing.written();
        let done = self.pending.front().is_some_and(|head| {
            let answered = match head.steps.current() {
                None => true,
                Some(Step::Simple) => head.width.is_none() && !head.copying_out,
                Some(_) => false,
            };
            answered && head.round == Round::Synced && head.end <= written
        });
        if !done {
            return Err(self.unexpected(b'Z'));
        }
        let Some(head) = self.pending.pop_front() else { return Ok(()) };
        self.status = status;
        self.head_since = now;
        self.cause = None;
        if matches!(self.cancel, Cancel::Barrier(first) if head.id >= first) {
            self.cancel = Cancel::None;
        }
        if !head.abandoned {
            self.events.push(Event::Done { id: head.id, status });
        }
        Ok(())
    }

    fn on_notice(&mut self, body: &NoticeResponseBody) -> Result<(), Error> {
        let notice = DbError::parse(body.fields(), Severity::Notice)
            .map_err(|error| malformed(b'N', self.phase, &error.to_string()))?;
        if matches!(notice.code.code(), "57P01" | "57P02") {
            self.cause = Some(Box::new(notice.clone()));
        }
        self.events.push_unasked(Event::Notice(Box::new(notice)));
        Ok(())
    }

    fn on_notification(&mut self, body: &NotificationResponseBody) -> Result<(), Error> {
        let text = |text: std::io::Result<&str>| {
            text.map(str::to_owned).map_err(|error| malformed(b'A', Phase::Ready, &error.to_string()))
        };
        let (channel, payload) = (text(body.channel())?, text(body.message())?);
        self.events.push_unasked(Event::Notification { process_id: body.process_id(), channel, payload });
        Ok(())
    }

    fn on_parameter(&mut self, body: &ParameterStatusBody) -> Result<Event, Error> {
        let text = |text: std::io::Result<&str>| {
            text.map(str::to_owned).map_err(|error| malformed(b'S', self.phase, &error.to_string()))
        };
        let (name, value) = (text(body.name())?, text(body.value())?);
        if name == "client_encoding" && !is_utf8(&value) {
            return Err(self.protocol(Cow::Owned(format!(
                "client_encoding was set to {value:?}: texts cannot be read any more, leave it at UTF8"
            ))));
        }
        if self.parameters.len() < MAX_PARAMETERS || self.parameters.contains_key(&name) {
            self.parameters.insert(name.clone(), value.clone());
        }
        Ok(Event::Parameter { name, value })
    }

    /// The error in an ErrorResponse, or the error of reading it.
    fn server_error(&self, body: &ErrorResponseBody) -> Result<Error, Error> {
        match DbError::parse(body.fields(), Severity::Error) {
            Ok(error) => Ok(Error::Server(Box::new(error))),
            Err(error) => Err(malformed(b'E', self.phase, &error.to_string())),
        }
    }

    fn read_status(&self, status: u8) -> Result<TransactionStatus, Error> {
        match status {
            b'I' => Ok(TransactionStatus::Idle),
            b'T' => Ok(TransactionStatus::Transaction),
            b'E' => Ok(TransactionStatus::Failed),
            _ => Err(malformed(b'Z', self.phase, "its transaction status is not I, T or E")),
        }
    }

    fn protocol(&self, message: Cow<'static, str>) -> Error {
        Error::Protocol { phase: self.phase, message }
    }

    /// A message that is none of those that may come now.
    fn unexpected(&self, tag: u8) -> Error {
        let name = message_name(tag).unwrap_or("a message");
        let waiting = match self.pending.front() {
            _ if self.phase != Phase::Ready => String::new(),
            None => ", where nothing was asked".to_owned(),
            Some(head) if head.start >= self.outgoing.written() => ", before the request was sent".to_owned(),
            Some(head) => match head.steps.current() {
                Some(step) => format!(", where the answer to step {step:?} was due"),
                None => ", where ReadyForQuery was due".to_owned(),
            },
        };
        self.protocol(Cow::Owned(format!("the server sent {name} while {}{waiting}", self.phase)))
    }
}

/// The request that answers belong to, of which something was sent, and where its events go.
fn head<'a>(
    pending: &'a mut std::collections::VecDeque<Exchange>,
    events: &'a mut super::events::Events,
    written: u64,
) -> Option<(&'a mut Exchange, &'a mut super::events::Events)> {
    let head = pending.front_mut().filter(|head| head.start < written)?;
    Some((head, events))
}

fn is_utf8(encoding: &str) -> bool {
    let plain: String = encoding.chars().filter(char::is_ascii_alphanumeric).collect();
    plain.eq_ignore_ascii_case("utf8") || plain.eq_ignore_ascii_case("unicode")
}
