//! The two codecs against each other: what pgweir's connection machine writes, the server's own reader reads, and the
//! reverse. They share no code, so an agreement means that both follow the protocol.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use fallible_iterator::FallibleIterator;
use pgweir_core::config::Secret;
use pgweir_core::pg::{
    Connection, Event, Fetch, Limits, Position, Request, SessionConfig, TransactionStatus, cancel_request,
};
use postgres_types::{ToSql, Type as Theirs};
use quickcheck::{Arbitrary, Gen, quickcheck};

use super::T0;
use crate::server::read::{Bind, Frontend, Input, Opening, Target, frame, opening};
use crate::server::write::{Out, Status};
use crate::server::{Column, PgError, Severity, Type};

/// A text that the protocol can carry: it ends with a zero byte, so it has none.
#[derive(Clone, Debug, PartialEq)]
struct Text(String);

impl Arbitrary for Text {
    fn arbitrary(g: &mut Gen) -> Self {
        Text(String::arbitrary(g).replace('\0', ""))
    }
}

fn config(parameters: Vec<(String, String)>) -> SessionConfig {
    SessionConfig {
        user: "alice".into(),
        password: Some(Secret::new("secret")),
        database: "app".into(),
        parameters,
        statement_cache_size: 4,
        command_timeout: Duration::from_secs(60),
        limits: Limits::default(),
    }
}

fn sent(connection: &mut Connection) -> Vec<u8> {
    let bytes = connection.outgoing().to_vec();
    connection.sent(bytes.len());
    bytes
}

/// Logged in, by messages of the server's writer.
fn ready() -> Connection {
    let mut connection = Connection::new(Arc::new(config(Vec::new())), T0).expect("a session");
    sent(&mut connection);
    let mut out = Out::default();
    out.authentication(0, &[]);
    out.key(1, 2);
    out.ready(Status::Idle);
    connection.receive(T0, &out.take()).expect("a welcome");
    assert!(matches!(connection.poll_event(), Some(Event::Ready)));
    connection
}

/// The client's messages, from bytes that arrive in pieces.
fn read(bytes: &[u8], piece: u8) -> Vec<Frontend> {
    let (mut input, mut messages) = (Input::default(), Vec::new());
    for piece in bytes.chunks(usize::from(piece).max(1)) {
        input.push(piece);
        while let Some(frame) = frame(&mut input, 1 << 30).expect("a frame") {
            messages.push(frame.parse().expect("a message"));
        }
    }
    assert_eq!(input.len(), 0, "half a message");
    messages
}

/// The events that the server's messages make.
fn received(connection: &mut Connection, out: &mut Out, piece: u8) -> Vec<Event> {
    let mut events = Vec::new();
    for piece in out.take().chunks(usize::from(piece).max(1)) {
        connection.receive(T0, piece).expect("what the server says is understood");
        events.extend(std::iter::from_fn(|| connection.poll_event()));
    }
    events
}

quickcheck! {
    fn a_startup_message_is_read_as_it_was_meant(parameters: Vec<(Text, Text)>) -> bool {
        let reserved = |name: &str| ["user", "database", "client_encoding"].iter().any(|ours| name.eq_ignore_ascii_case(ours));
        let parameters: Vec<(String, String)> = parameters
            .into_iter()
            .map(|(Text(name), Text(value))| (name, value))
            .filter(|(name, _)| !name.is_empty() && !reserved(name))
            .scan(0, |length, pair| {
                *length += pair.0.len() + pair.1.len() + 2;
                (*length < 9_000).then_some(pair)
            })
            .collect();
        let mut connection = Connection::new(Arc::new(config(parameters.clone())), T0).expect("a session");
        let mut input = Input::default();
        input.push(&sent(&mut connection));
        let Ok(Some(Opening::Startup { minor: 0, parameters: read })) = opening(&mut input) else { return false };
        let ours = [("user", "alice"), ("database", "app"), ("client_encoding", "UTF8")];
        let ours = ours.map(|(name, value)| (name.to_owned(), value.to_owned()));
        read == [&ours[..], &parameters].concat() && input.len() == 0
    }

    fn a_simple_query_is_read_as_it_was_meant(sql: Text, piece: u8) -> bool {
        let mut connection = ready();
        connection.submit(T0, Request::Simple { sql: &sql.0 }).expect("it is ready");
        read(&sent(&mut connection), piece) == [Frontend::Query(sql.0)]
    }

    fn a_typed_query_is_read_as_it_was_meant(sql: Text, number: i64, text: Option<Text>, bytes: Vec<u8>, rows: u32, piece: u8) -> bool {
        let mut connection = ready();
        let text = text.map(|Text(text)| text);
        let params: [(&(dyn ToSql + Sync), Theirs); 3] =
            [(&number, Theirs::INT8), (&text, Theirs::TEXT), (&bytes, Theirs::BYTEA)];
        let rows = rows & 0x7fff_ffff;
        let fetch = NonZeroU32::new(rows).map_or(Fetch::All, Fetch::Rows);
        connection.submit(T0, Request::QueryTyped { sql: &sql.0, params: &params, fetch }).expect("it is ready");
        let messages = read(&sent(&mut connection), piece);
        let bind = Bind {
            portal: String::new(),
            statement: String::new(),
            formats: vec![1; 3],
            params: vec![Some(number.to_be_bytes().to_vec()), text.map(String::into_bytes), Some(bytes)],
            results: vec![1],
        };
        let mut expected = vec![
            Frontend::Parse { name: String::new(), sql: sql.0, types: vec![20, 25, 17] },
            Frontend::Bind(bind),
            Frontend::Describe(Target::Portal, String::new()),
            Frontend::Execute { portal: String::new(), max_rows: rows as i32 },
        ];
        // With rows to come the round stays open.
        expected.push(if rows == 0 { Frontend::Sync } else { Frontend::Flush });
        messages == expected
    }

    fn a_statement_is_prepared_under_the_name_that_is_described(sql: Text, types: Vec<bool>, piece: u8) -> bool {
        let mut connection = ready();
        let types: Vec<Theirs> = types.iter().map(|int| if *int { Theirs::INT4 } else { Theirs::UUID }).collect();
        connection.submit(T0, Request::Prepare { sql: &sql.0, types: &types }).expect("it is ready");
        let messages = read(&sent(&mut connection), piece);
        let [Frontend::Parse { name, sql: read, types: oids }, Frontend::Describe(Target::Statement, described), Frontend::Sync] =
            &messages[..]
        else {
            return false;
        };
        !name.is_empty() && name == described && *read == sql.0 && oids.iter().copied().eq(types.iter().map(Theirs::oid))
    }

    fn a_cancel_request_names_the_session(pid: i32, key: i32) -> bool {
        let mut connection = Connection::new(Arc::new(config(Vec::new())), T0).expect("a session");
        let mut out = Out::default();
        sent(&mut connection);
        out.authentication(0, &[]);
        out.key(pid, key);
        out.ready(Status::Idle);
        received(&mut connection, &mut out, 255);
        let mut input = Input::default();
        input.push(&cancel_request(&connection.backend_key().expect("it was given one")));
        opening(&mut input) == Ok(Some(Opening::Cancel { pid, key }))
    }

    fn a_result_is_read_as_it_was_meant(names: Vec<Text>, rows: Vec<Vec<Option<Vec<u8>>>>, tag: Text, piece: u8) -> bool {
        const TYPES: [Type; 6] = [Type::Int4, Type::Text, Type::Bytea, Type::Uuid, Type::Jsonb, Type::Int8Array];
        let columns: Vec<Column> =
            names.iter().take(20).enumerate().map(|(index, name)| Column::new(&*name.0, TYPES[index % 6])).collect();
        let rows: Vec<Vec<Option<Vec<u8>>>> = rows
            .into_iter()
            .map(|row| row.into_iter().chain(std::iter::repeat(None)).take(columns.len()).collect())
            .collect();
        let mut connection = ready();
        connection.submit(T0, Request::Simple { sql: "SELECT" }).expect("it is ready");
        sent(&mut connection);
        let mut out = Out::default();
        out.columns(&columns, &[0]);
        rows.iter().for_each(|row| out.row(row));
        out.complete(&tag.0);
        out.ready(Status::InTransaction);
        let mut events = received(&mut connection, &mut out, piece).into_iter();
        let Some(Event::Columns { columns: read, .. }) = events.next() else { return false };
        let described = read.iter().map(|column| (&*column.name, column.type_.oid(), column.binary));
        let described = described.eq(columns.iter().map(|column| (&*column.name, column.type_.oid(), false)));
        let same_rows = rows.iter().all(|row| events.next().is_some_and(|event| values(&event) == *row));
        let complete = matches!(events.next(), Some(Event::Complete { tag: read, .. }) if read == tag.0.as_bytes());
        let done = matches!(events.next(), Some(Event::Done { status: TransactionStatus::Transaction, .. }));
        described && same_rows && complete && done && events.next().is_none()
    }

    fn complaints_are_read_as_they_were_meant(message: Text, detail: Option<Text>, hint: Option<Text>, position: u32, code: (u8, u8)) -> bool {
        let code = format!("{}{:03}{}", char::from(b'A' + code.0 % 26), code.1, code.0 % 10);
        let position = position.max(1);
        let complaint = PgError {
            severity: Severity::Error,
            code: code.clone().into(),
            message: message.0,
            detail: detail.map(|Text(text)| text),
            hint: hint.map(|Text(text)| text),
            position: Some(position as usize),
        };
        let mut connection = ready();
        connection.submit(T0, Request::Simple { sql: "SELECT" }).expect("it is ready");
        sent(&mut connection);
        let mut out = Out::default();
        out.notice(&complaint);
        out.error(&complaint);
        out.ready(Status::Failed);
        let events = received(&mut connection, &mut out, 7);
        let [Event::Notice(notice), Event::Failed { error, .. }, Event::Done { status: TransactionStatus::Failed, .. }] = &events[..]
        else {
            return false;
        };
        let same = |read: &pgweir_core::pg::DbError| {
            (read.code.code(), &read.message, &read.detail, &read.hint) == (&*code, &complaint.message, &complaint.detail, &complaint.hint)
                && read.position == Some(Position::Original(position))
        };
        same(notice) && error.db_error().is_some_and(same)
    }

    fn what_comes_unasked_is_read_as_it_was_meant(name: Text, value: Text, pid: i32, piece: u8) -> bool {
        let mut connection = ready();
        let mut out = Out::default();
        out.parameter(&name.0, &value.0);
        out.notification(pid, &name.0, &value.0);
        let events = received(&mut connection, &mut out, piece);
        matches!(
            &events[..],
            [Event::Parameter { name: n, value: v }, Event::Notification { process_id, channel, payload }]
                if (n, v, *process_id, channel, payload) == (&name.0, &value.0, pid, &name.0, &value.0)
        ) && connection.parameter(&name.0) == Some(&value.0)
    }
}

/// A row's values.
fn values(event: &Event) -> Vec<Option<Vec<u8>>> {
    let Event::Row { row, .. } = event else { panic!("no row: {event:?}") };
    row.ranges().map(|range| Ok(range.map(|range| row.buffer()[range].to_vec()))).collect().expect("checked lengths")
}
