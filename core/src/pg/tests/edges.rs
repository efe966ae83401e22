//! What happens seldom: texts of errors, limits, and the less travelled steps of the protocol.

use std::error::Error as _;
use std::sync::Arc;

use postgres_types::Type;

use super::requests::{prepare, prepared};
use super::wire::{self, auth, auth_ok, client_tags, complete, copy, empty};
use super::{T0, ask, config, events, flush, ready, words};
use crate::config::Secret;
use crate::pg::{
    Connection, Event, Fetch, Phase, Position, Request, SessionConfig, Settle, SubmitError, TransactionStatus,
};
use crate::pool::FaultClass;

fn refused(connection: &mut Connection, bytes: &[u8]) -> String {
    connection.receive(T0, bytes).unwrap_err().to_string()
}

#[test]
fn a_session_that_the_server_refuses_to_begin_ends_with_its_error() {
    let mut connection = Connection::new(Arc::new(config()), T0).unwrap();
    flush(&mut connection);
    connection.receive(T0, &auth_ok()).unwrap();
    assert_eq!(connection.phase(), Phase::Session);
    let error = connection.receive(T0, &wire::error("FATAL", "3D000", "no such database")).unwrap_err();
    assert_eq!((error.fault().class, error.to_string()), (FaultClass::Permanent, "no such database (3D000)".into()));
}

#[test]
fn answers_that_nobody_asked_for_end_the_connection() {
    for answer in [wire::columns(&[("a", 25)]), empty(b'n'), complete("SELECT 1"), empty(b'I'), copy(b'G')] {
        let text = refused(&mut ready(), &answer);
        assert!(text.contains("where nothing was asked"), "{text}");
    }
}

#[test]
fn answers_to_another_step_end_the_connection() {
    for answer in [wire::columns(&[("a", 25)]), complete("SELECT 1"), copy(b'G')] {
        let mut connection = ready();
        ask(&mut connection, Request::Prepare { sql: "SELECT", types: &[] });
        let text = refused(&mut connection, &answer);
        assert!(text.contains("where the answer to step Parse was due"), "{text}");
    }
    let mut connection = ready();
    ask(&mut connection, Request::Prepare { sql: "SELECT", types: &[] });
    let answered = prepared();
    connection.receive(T0, &answered[..answered.len() - 6]).unwrap();
    let text = refused(&mut connection, &empty(b'1'));
    assert!(text.contains("where ReadyForQuery was due"), "{text}");
}

#[test]
fn the_end_tells_what_the_server_had_said_and_in_which_phase() {
    let mut connection = ready();
    connection.receive(T0, &wire::notice("57P01", "going down")).unwrap();
    words(&mut connection);
    let error = connection.receive_eof(T0).unwrap_err();
    assert!(error.to_string().starts_with("the server closed the connection while in session: going down"), "{error}");
    assert_eq!(error.source().map(ToString::to_string), Some("going down (57P01)".to_owned()));

    let mut connection = ready();
    connection.receive(T0, &wire::notice("57P01", "going down")).unwrap();
    let text = connection.receive_io_error(T0, &std::io::ErrorKind::ConnectionReset.into()).to_string();
    assert!(text.contains("; the server had said: going down"), "{text}");
    assert!(ready().error().is_none());
}

#[test]
fn the_phases_after_the_session_have_names() {
    assert_eq!([Phase::Terminating, Phase::Closed].map(|phase| phase.to_string()), ["closing", "closed"]);
    let mut connection = ready();
    connection.terminate();
    let error = connection.submit(T0, Request::Simple { sql: "" }).unwrap_err();
    assert_eq!(error.to_string(), "the connection takes no requests while closing");
    assert!(error.source().is_none());
}

#[test]
fn a_request_that_is_refused_says_why() {
    let mut connection = ready();
    let statement = prepare(&mut connection, "SELECT $1");
    let none: Request<'_> = Request::Query { statement: &statement, params: &[], fetch: Fetch::All };
    let text = |error: &SubmitError| error.to_string();
    let error = connection.submit(T0, none).unwrap_err();
    assert_eq!(text(&error), "the statement has 1 parameters, 0 were given");
    let error = ready().submit(T0, none).unwrap_err();
    assert!(text(&error).contains("belongs to another connection"), "{error}");
    let wrong: Request<'_> = Request::Query { statement: &statement, params: &[&"text"], fetch: Fetch::All };
    let error = connection.submit(T0, wrong).unwrap_err();
    assert!(text(&error).starts_with("parameter $1 cannot be sent: "), "{error}");
    assert!(error.source().is_some());
    let error = connection.submit(T0, Request::Simple { sql: "a\0b" }).unwrap_err();
    assert!(text(&error).starts_with("the request cannot be sent: "), "{error}");
    assert!(error.source().is_some());
    let id = ask(&mut connection, Request::Unprepared { sql: "SELECT", types: &[] });
    let error = connection.submit(T0, Request::Simple { sql: "" }).unwrap_err();
    assert!(text(&error).contains("must end or be abandoned first"), "{error}");
    let error = connection.fetch(T0, id, Fetch::All).unwrap_err();
    assert_eq!(text(&error), "this request does not wait for this");
    connection.receive_eof(T0).unwrap_err();
    let error = connection.submit(T0, Request::Simple { sql: "" }).unwrap_err();
    assert!(text(&error).starts_with("the connection has ended: "), "{error}");
    assert!(text(&SubmitError::QueueFull).contains("read some answers first"));
}

#[test]
fn an_error_points_into_the_query() {
    let mut connection = ready();
    ask(&mut connection, Request::Simple { sql: "SELECT oops" });
    let fields = [(b'S', "ERROR"), (b'V', "ERROR"), (b'C', "42703"), (b'M', "no"), (b'P', "8"), (b'p', "3")];
    connection.receive(T0, &[wire::fields(b'E', &fields), wire::ready(b'I')].concat()).unwrap();
    let all = events(&mut connection);
    let [Event::Failed { error, .. }, Event::Done { .. }] = &all[..] else { panic!("{all:?}") };
    assert_eq!(error.db_error().unwrap().position, Some(Position::Original(8)));
}

#[test]
fn a_notice_may_quote_the_query_of_a_function() {
    let mut connection = ready();
    let fields = [(b'S', "NOTICE"), (b'V', "NOTICE"), (b'C', "00000"), (b'M', "hm"), (b'p', "3"), (b'q', "SELECT 1")];
    connection.receive(T0, &wire::fields(b'N', &fields)).unwrap();
    let all = events(&mut connection);
    let [Event::Notice(notice)] = &all[..] else { panic!("{all:?}") };
    assert_eq!(notice.position, Some(Position::Internal { position: 3, query: "SELECT 1".into() }));
}

#[test]
fn a_password_with_a_zero_byte_cannot_be_sent() {
    let password = Some(Secret::new("won\0der"));
    let mut connection = Connection::new(Arc::new(SessionConfig { password, ..config() }), T0).unwrap();
    flush(&mut connection);
    let error = connection.receive(T0, &auth(3, &[])).unwrap_err();
    assert!(error.to_string().contains("contains a zero byte"), "{error}");
    assert_eq!(error.fault().class, FaultClass::Permanent);
}

#[test]
fn a_list_of_mechanisms_without_an_end_is_malformed() {
    let mut connection = Connection::new(Arc::new(config()), T0).unwrap();
    flush(&mut connection);
    let error = connection.receive(T0, &auth(10, b"SCRAM-SHA-256")).unwrap_err();
    assert!(error.to_string().contains("Authentication"), "{error}");
}

#[test]
fn null_is_sent_as_such() {
    let mut connection = ready();
    let statement = prepare(&mut connection, "SELECT $1");
    connection
        .submit(T0, Request::Query { statement: &statement, params: &[&None::<i32>], fetch: Fetch::All })
        .unwrap();
    let sent = wire::client_messages(&flush(&mut connection));
    assert_eq!(sent[0], ('B', b"\0pgweir_1\0\0\x01\0\x01\0\x01\xff\xff\xff\xff\0\x01\0\x01".to_vec()));
}

#[test]
fn the_rest_of_the_rows_may_be_fetched_at_once() {
    let mut connection = ready();
    let statement = prepare(&mut connection, "SELECT $1");
    let fetch = Fetch::Rows(std::num::NonZeroU32::MIN);
    let id = ask(&mut connection, Request::Query { statement: &statement, params: &[&1], fetch });
    connection.receive(T0, &[empty(b'2'), wire::row(&["a"]), empty(b's')].concat()).unwrap();
    assert_eq!(words(&mut connection), ["row a", "suspended"]);
    connection.fetch(T0, id, Fetch::All).unwrap();
    assert_eq!(client_tags(&flush(&mut connection)), "ES", "nothing is left to ask for");
    connection.receive(T0, &[wire::row(&["b"]), complete("SELECT 1"), wire::ready(b'I')].concat()).unwrap();
    assert_eq!(words(&mut connection), ["row b", "complete Some(1) SELECT 1", "done Idle"]);
}

#[test]
fn a_portal_knows_its_statement_and_its_request() {
    let mut connection = ready();
    let statement = prepare(&mut connection, "SELECT $1");
    let id = ask(&mut connection, Request::OpenPortal { statement: &statement, params: &[&1] });
    connection.receive(T0, &[empty(b'2'), wire::ready(b'T')].concat()).unwrap();
    let all = events(&mut connection);
    assert!(all.iter().all(|event| event.request() == Some(id)), "{all:?}");
    let [Event::PortalOpened { portal, .. }, Event::Done { .. }] = &all[..] else { panic!("{all:?}") };
    assert!(Arc::ptr_eq(portal.statement(), &statement));
    assert_eq!(connection.transaction_status(), TransactionStatus::Transaction);
}

#[test]
fn a_connection_that_is_not_logged_in_yet_cannot_be_settled() {
    let mut connection = Connection::new(Arc::new(config()), T0).unwrap();
    let Settle::Close(fault) = connection.settle(T0) else { panic!("it waits") };
    assert!(fault.to_string().contains("waiting for the answer to the startup message"), "{fault}");
}

#[test]
fn two_cancels_are_over_when_both_streams_have_ended() {
    let mut connection = ready();
    ask(&mut connection, Request::Simple { sql: "SELECT pg_sleep(9)" });
    connection.cancel_started();
    connection.cancel_started();
    connection.receive(T0, &[wire::error("ERROR", "57014", "cancelled"), wire::ready(b'I')].concat()).unwrap();
    connection.cancel_ended();
    let wait = Settle::Wait { cancel: false };
    assert_eq!((connection.settle(T0), connection.unsent()), (wait.clone(), 0), "one stream is still open");
    connection.cancel_ended();
    assert_eq!(connection.settle(T0), wait);
    flush(&mut connection);
    connection.receive(T0, &[empty(b'I'), wire::ready(b'I')].concat()).unwrap();
    assert_eq!(connection.settle(T0), Settle::Settled);
    connection.cancel_ended();
    assert_eq!(connection.settle(T0), Settle::Settled, "an end without a begin is none");
}

#[test]
fn a_close_that_is_taken_back_is_made_up_for() {
    let mut connection = ready();
    let statement = prepare(&mut connection, "SELECT $1");
    let id = connection.submit(T0, Request::CloseStatement { statement: &statement }).unwrap();
    connection.abandon(id);
    assert_eq!(connection.unsent(), 0);
    connection.submit(T0, Request::Simple { sql: "" }).unwrap();
    flush(&mut connection);
    connection.receive(T0, &[empty(b'I'), wire::ready(b'I')].concat()).unwrap();
    connection.submit(T0, Request::Prepare { sql: "another", types: &[] }).unwrap();
    assert_eq!(wire::client_messages(&flush(&mut connection))[0], ('C', b"Spgweir_1\0".to_vec()));
}

#[test]
fn one_of_two_statements_of_a_text_can_be_closed() {
    let mut connection = ready();
    let untyped = prepare(&mut connection, "SELECT $1");
    ask(&mut connection, Request::Prepare { sql: "SELECT $1", types: &[Type::INT4] });
    connection.receive(T0, &prepared()).unwrap();
    events(&mut connection);
    ask(&mut connection, Request::CloseStatement { statement: &untyped });
    connection.receive(T0, &[empty(b'3'), wire::ready(b'I')].concat()).unwrap();
    events(&mut connection);
    assert!(connection.cached("SELECT $1", &[]).is_none());
    assert!(connection.cached("SELECT $1", &[Type::INT4]).is_some());
}

#[test]
#[cfg_attr(miri, ignore = "megabytes take minutes")]
fn a_large_request_behind_a_small_one_leaves_no_large_buffer() {
    let mut connection = ready();
    let large = "x".repeat(2 << 20);
    for sql in ["small", large.as_str(), "small again"] {
        connection.submit(T0, Request::Simple { sql }).unwrap();
    }
    let sent = wire::client_messages(&flush(&mut connection));
    assert_eq!(sent.iter().map(|(_, body)| body.len()).collect::<Vec<_>>(), [6, large.len() + 1, 12]);
}

#[test]
#[cfg_attr(miri, ignore = "ten thousand take minutes")]
fn ten_thousand_types_are_remembered_and_no_more() {
    let mut connection = ready();
    for oid in 0..=10_000 {
        let name = format!("type_{oid}");
        connection.learn_type(Type::new(name, 100_000 + oid, postgres_types::Kind::Simple, "public".into()));
    }
    assert!(connection.known_type(100_000).is_none(), "the smallest gave way");
    assert_eq!(connection.known_type(110_000).map(|type_| type_.name().to_owned()), Some("type_10000".to_owned()));
    let statement = prepare(&mut connection, "SELECT $1");
    assert!(Arc::ptr_eq(&connection.resolve(&statement), &statement), "nothing was unknown");
}
