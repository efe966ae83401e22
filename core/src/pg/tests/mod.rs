//! The connection machine against server bytes written by hand.

mod abandon;
mod backend;
mod edges;
mod hostile;
mod login;
mod requests;
mod settle;
mod statements;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use super::{Connection, Event, Limits, Phase, Request, RequestId, SessionConfig};
use crate::config::Secret;
use crate::time::Instant;

const T0: Instant = Instant::ZERO;

fn config() -> SessionConfig {
    SessionConfig {
        user: "alice".into(),
        password: Some(Secret::new("wonderland")),
        database: "app".into(),
        parameters: vec![("application_name".into(), "tests".into())],
        statement_cache_size: 4,
        command_timeout: Duration::from_secs(60),
        limits: Limits::default(),
    }
}

/// Logged in by trust; the startup message and the Ready event are taken.
fn ready_with(config: SessionConfig) -> Connection {
    let mut connection = Connection::new(Arc::new(config), T0).unwrap();
    flush(&mut connection);
    connection.receive(T0, &wire::welcome()).unwrap();
    assert!(matches!(connection.poll_event(), Some(Event::Ready)));
    assert!(connection.poll_event().is_none());
    connection
}

fn ready() -> Connection {
    ready_with(config())
}

/// Takes everything that is to be sent.
fn flush(connection: &mut Connection) -> Vec<u8> {
    let bytes = connection.outgoing().to_vec();
    connection.sent(bytes.len());
    bytes
}

fn events(connection: &mut Connection) -> Vec<Event> {
    std::iter::from_fn(|| connection.poll_event()).collect()
}

/// Submits and sends.
fn ask(connection: &mut Connection, request: Request<'_>) -> RequestId {
    let id = connection.submit(T0, request).unwrap();
    flush(connection);
    id
}

/// What happened, in short: one word per event.
fn words(connection: &mut Connection) -> Vec<String> {
    events(connection)
        .iter()
        .map(|event| match event {
            Event::Ready => "ready".to_owned(),
            Event::Prepared { statement, .. } => format!("prepared {}", statement.sql()),
            Event::PortalOpened { .. } => "portal".to_owned(),
            Event::Columns { columns, .. } => format!("columns {}", columns.len()),
            Event::Row { row, .. } => format!("row {}", wire::only_value(row)),
            Event::Suspended { .. } => "suspended".to_owned(),
            Event::Complete { rows, tag, .. } => format!("complete {:?} {}", rows, String::from_utf8_lossy(tag)),
            Event::Failed { error, .. } => format!("failed {error}"),
            Event::Done { status, .. } => format!("done {status:?}"),
            Event::Notice(notice) => format!("notice {notice}"),
            Event::Notification { process_id, channel, payload } => {
                format!("notification {process_id} {channel} {payload}")
            }
            Event::Parameter { name, value } => format!("parameter {name}={value}"),
        })
        .collect()
}

#[test]
fn a_connection_can_move_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<Connection>();
    is_send::<Event>();
    is_send::<super::Error>();
}

#[test]
fn debug_shows_no_secret() {
    let connection = ready();
    let all = format!("{connection:?} {:?} {:?}", config(), connection.backend_key());
    assert!(!all.contains("wonderland") && !all.contains("4711"), "{all}");
    assert_eq!(connection.phase(), Phase::Ready);
}
