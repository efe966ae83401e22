//! Requests and their answers, one at a time and in a pipeline.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use postgres_types::Type;

use super::wire::{self, client_tags, complete, empty};
use super::{T0, ask, config, events, flush, ready, ready_with, words};
use crate::pg::{
    Connection, Event, Fetch, Limits, Phase, Request, SessionConfig, Statement, SubmitError, TransactionStatus,
};
use crate::pool::{Fate, FaultClass};
use crate::time::Instant;

const INT4: u32 = 23;
const TEXT: u32 = 25;

/// A statement with one int4 parameter and one text column.
pub(super) fn prepare(connection: &mut Connection, sql: &str) -> Arc<Statement> {
    ask(connection, Request::Prepare { sql, types: &[] });
    connection.receive(T0, &prepared()).unwrap();
    let all = events(connection);
    let [Event::Prepared { statement, .. }, Event::Done { .. }] = &all[..] else { panic!("{all:?}") };
    statement.clone()
}

pub(super) fn prepared() -> Vec<u8> {
    [empty(b'1'), wire::parameters(&[INT4]), wire::columns(&[("name", TEXT)]), wire::ready(b'I')].concat()
}

fn rows(n: u32) -> Fetch {
    Fetch::Rows(NonZeroU32::new(n).unwrap())
}

#[test]
fn a_simple_query_has_any_number_of_results() {
    let mut connection = ready();
    let sql = "SELECT 'a'; SET x = 1; ; SELECT 'b'";
    let id = connection.submit(T0, Request::Simple { sql }).unwrap();
    assert_eq!(connection.fate(), Fate::Dirty);
    assert_eq!(flush(&mut connection), wire::message(b'Q', &wire::texts(&[sql])));
    let answer = [
        wire::columns(&[("a", TEXT)]),
        wire::row(&["a"]),
        complete("SELECT 1"),
        complete("SET"),
        empty(b'I'),
        wire::columns(&[("b", TEXT)]),
        wire::row(&["b"]),
        wire::row(&["c"]),
        complete("SELECT 2"),
        wire::ready(b'T'),
    ];
    connection.receive(T0, &answer.concat()).unwrap();
    assert_eq!(
        words(&mut connection),
        [
            "columns 1",
            "row a",
            "complete Some(1) SELECT 1",
            "complete None SET",
            "complete None ",
            "columns 1",
            "row b",
            "row c",
            "complete Some(2) SELECT 2",
            "done Transaction"
        ]
    );
    assert_eq!(connection.transaction_status(), TransactionStatus::Transaction);
    assert_eq!((connection.pending(), connection.fate(), connection.take_queries()), (0, Fate::Dirty, 1));
    connection.abandon(id);
}

#[test]
fn an_error_ends_a_request_and_not_the_connection() {
    let mut connection = ready();
    ask(&mut connection, Request::Simple { sql: "SELECT 1/0; SELECT 2" });
    let answer = [wire::columns(&[("a", INT4)]), wire::error("ERROR", "22012", "division by zero"), wire::ready(b'I')];
    connection.receive(T0, &answer.concat()).unwrap();
    assert_eq!(words(&mut connection), ["columns 1", "failed division by zero (22012)", "done Idle"]);
    assert_eq!(connection.fate(), Fate::Clean);
}

#[test]
fn a_prepared_query_binds_and_reads_binary() {
    let mut connection = ready();
    let statement = prepare(&mut connection, "SELECT name FROM t WHERE id = $1");
    assert_eq!(connection.take_queries(), 0, "nothing has run");
    assert_eq!(statement.params(), [Type::INT4]);
    assert!(statement.columns()[0].binary);
    connection.submit(T0, Request::Query { statement: &statement, params: &[&7_i32], fetch: Fetch::All }).unwrap();
    let sent = wire::client_messages(&flush(&mut connection));
    let bind = b"\0pgweir_1\0\0\x01\0\x01\0\x01\0\0\0\x04\0\0\0\x07\0\x01\0\x01";
    assert_eq!(sent[0], ('B', bind.to_vec()));
    assert_eq!(sent[1], ('E', b"\0\0\0\0\0".to_vec()));
    assert_eq!(sent[2], ('S', vec![]));
    let answer = [empty(b'2'), wire::row(&["x"]), complete("SELECT 1"), wire::ready(b'I')];
    connection.receive(T0, &answer.concat()).unwrap();
    assert_eq!(words(&mut connection), ["row x", "complete Some(1) SELECT 1", "done Idle"]);
    assert_eq!(connection.take_queries(), 1);
    let id = connection.submit(T0, Request::Prepare { sql: "later", types: &[] }).unwrap();
    connection.abandon(id);
    let id =
        connection.submit(T0, Request::Query { statement: &statement, params: &[&7_i32], fetch: Fetch::All }).unwrap();
    connection.abandon(id);
    assert_eq!(connection.take_queries(), 0, "neither was begun");
}

#[test]
fn a_request_that_cannot_be_encoded_leaves_no_trace() {
    let mut connection = ready();
    let statement = prepare(&mut connection, "SELECT $1");
    connection.take_queries();
    let query = |params| Request::Query { statement: &statement, params, fetch: Fetch::All };
    let error = connection.submit(T0, query(&[&"seven"])).unwrap_err();
    assert!(matches!(error, SubmitError::Encode { index: 0, .. }), "{error}");
    let error = connection.submit(T0, query(&[])).unwrap_err();
    assert!(matches!(error, SubmitError::ParameterCount { expected: 1, given: 0 }), "{error}");
    let error = connection.submit(T0, Request::Simple { sql: "a\0b" }).unwrap_err();
    assert!(matches!(error, SubmitError::Unsendable(_)), "{error}");
    let stranger = prepare(&mut ready(), "SELECT $1");
    let request = Request::Query { statement: &stranger, params: &[&1], fetch: Fetch::All };
    assert!(matches!(connection.submit(T0, request), Err(SubmitError::Foreign)));
    assert_eq!((connection.unsent(), connection.pending(), connection.take_queries()), (0, 0, 0));
    assert_eq!(connection.fate(), Fate::Clean);
}

#[test]
fn rows_come_in_parts_and_the_round_ends_with_them() {
    let mut connection = ready();
    let statement = prepare(&mut connection, "SELECT $1");
    let request = Request::Query { statement: &statement, params: &[&1], fetch: rows(2) };
    let id = connection.submit(T0, request).unwrap();
    assert_eq!(client_tags(&flush(&mut connection)), "BEH");
    assert!(matches!(connection.submit(T0, Request::Simple { sql: "" }), Err(SubmitError::RoundOpen)));
    assert!(matches!(connection.fetch(T0, id, rows(2)), Err(SubmitError::UnknownRequest)));
    connection.receive(T0, &[empty(b'2'), wire::row(&["a"]), wire::row(&["b"]), empty(b's')].concat()).unwrap();
    assert_eq!(words(&mut connection), ["row a", "row b", "suspended"]);
    assert_eq!(connection.deadline(), None);
    connection.fetch(T0, id, rows(5)).unwrap();
    assert_eq!(wire::client_messages(&flush(&mut connection))[0], ('E', b"\0\0\0\0\x05".to_vec()));
    connection.receive(T0, &[wire::row(&["c"]), complete("SELECT 1")].concat()).unwrap();
    assert_eq!(client_tags(&flush(&mut connection)), "S");
    connection.receive(T0, &wire::ready(b'I')).unwrap();
    assert_eq!(words(&mut connection), ["row c", "complete Some(1) SELECT 1", "done Idle"]);
    assert_eq!(connection.fate(), Fate::Clean);
}

#[test]
fn an_error_in_an_open_round_is_followed_by_a_sync() {
    let mut connection = ready();
    ask(&mut connection, Request::Unprepared { sql: "SELECT nonsense", types: &[] });
    connection.receive(T0, &wire::error("ERROR", "42703", "no such column")).unwrap();
    assert_eq!(client_tags(&flush(&mut connection)), "S");
    connection.receive(T0, &wire::ready(b'I')).unwrap();
    assert_eq!(words(&mut connection), ["failed no such column (42703)", "done Idle"]);
}

#[test]
fn an_unprepared_statement_is_one_round() {
    let mut connection = ready_with(SessionConfig { statement_cache_size: 0, ..config() });
    let id = connection.submit(T0, Request::Unprepared { sql: "SELECT $1", types: &[] }).unwrap();
    let sent = wire::client_messages(&flush(&mut connection));
    assert_eq!(sent.iter().map(|(tag, _)| *tag).collect::<String>(), "PDH");
    assert_eq!(sent[0].1, b"\0SELECT $1\0\0\0");
    let described = [empty(b'1'), wire::parameters(&[INT4]), wire::columns(&[("name", TEXT)])];
    connection.receive(T0, &described.concat()).unwrap();
    assert_eq!(words(&mut connection), ["prepared SELECT $1"]);
    // A wrong value leaves the round open: another one may do.
    assert!(matches!(connection.bind(T0, id, &[&"x"], Fetch::All), Err(SubmitError::Encode { .. })));
    connection.bind(T0, id, &[&1], Fetch::All).unwrap();
    assert_eq!(client_tags(&flush(&mut connection)), "BES");
    let answer = [empty(b'2'), wire::row(&["x"]), complete("SELECT 1"), wire::ready(b'I')];
    connection.receive(T0, &answer.concat()).unwrap();
    assert_eq!(words(&mut connection), ["row x", "complete Some(1) SELECT 1", "done Idle"]);
    assert_eq!(connection.cache_stats().len, 0);
}

#[test]
fn a_typed_query_is_one_round_trip() {
    let mut connection = ready();
    let params: &[(&(dyn postgres_types::ToSql + Sync), Type)] = &[(&5_i32, Type::INT4)];
    let request = Request::QueryTyped { sql: "SELECT $1", params, fetch: Fetch::All };
    connection.submit(T0, request).unwrap();
    assert_eq!(client_tags(&flush(&mut connection)), "PBDES");
    let answer = [empty(b'1'), empty(b'2'), empty(b'n'), complete("UPDATE 3"), wire::ready(b'I')];
    connection.receive(T0, &answer.concat()).unwrap();
    assert_eq!(words(&mut connection), ["columns 0", "complete Some(3) UPDATE 3", "done Idle"]);
}

#[test]
fn a_portal_is_read_between_other_requests() {
    let mut connection = ready();
    let statement = prepare(&mut connection, "SELECT $1");
    ask(&mut connection, Request::OpenPortal { statement: &statement, params: &[&1] });
    connection.receive(T0, &[empty(b'2'), wire::ready(b'T')].concat()).unwrap();
    let all = events(&mut connection);
    let [Event::PortalOpened { portal, .. }, Event::Done { .. }] = &all[..] else { panic!("{all:?}") };
    ask(&mut connection, Request::FetchPortal { portal, fetch: rows(1) });
    ask(&mut connection, Request::Simple { sql: "" });
    let first = [wire::row(&["a"]), empty(b's'), wire::ready(b'T'), empty(b'I'), wire::ready(b'T')];
    connection.receive(T0, &first.concat()).unwrap();
    let expected = ["row a", "suspended", "done Transaction", "complete None ", "done Transaction"];
    assert_eq!(words(&mut connection), expected);
    ask(&mut connection, Request::ClosePortal { portal });
    connection.receive(T0, &[empty(b'3'), wire::ready(b'T')].concat()).unwrap();
    assert_eq!(words(&mut connection), ["done Transaction"]);
}

#[test]
fn pipelined_requests_get_their_own_answers() {
    let mut connection = ready();
    let ids: Vec<_> =
        ["a", "b", "c"].map(|sql| connection.submit(T0, Request::Simple { sql }).unwrap()).into_iter().collect();
    flush(&mut connection);
    let answers = [
        complete("A"),
        wire::ready(b'I'),
        wire::error("ERROR", "42601", "syntax"),
        wire::ready(b'I'),
        complete("C"),
        wire::ready(b'I'),
    ];
    connection.receive(T0, &answers.concat()).unwrap();
    let got: Vec<_> = events(&mut connection).iter().map(|event| event.request().unwrap()).collect();
    assert_eq!(got, [ids[0], ids[0], ids[1], ids[1], ids[2], ids[2]]);
}

#[test]
fn what_is_checked_at_commit_fails_after_completion() {
    let mut connection = ready();
    let statement = prepare(&mut connection, "INSERT INTO t VALUES ($1)");
    ask(&mut connection, Request::Query { statement: &statement, params: &[&1], fetch: Fetch::All });
    let late = wire::error("ERROR", "23503", "no such parent");
    connection.receive(T0, &[empty(b'2'), complete("INSERT 0 1"), late, wire::ready(b'I')].concat()).unwrap();
    assert_eq!(words(&mut connection), ["complete Some(1) INSERT 0 1", "failed no such parent (23503)", "done Idle"]);
}

#[test]
fn what_comes_unasked_is_accepted_at_any_time() {
    let mut connection = ready();
    let note = |text| wire::notification(5, "jobs", text);
    connection.receive(T0, &[note("idle"), wire::parameter("TimeZone", "UTC")].concat()).unwrap();
    assert_eq!(connection.fate(), Fate::Clean);
    ask(&mut connection, Request::Simple { sql: "SELECT" });
    let answer = [
        wire::notice("01000", "careful"),
        wire::columns(&[("a", TEXT)]),
        note("between"),
        wire::row(&["a"]),
        complete("SELECT 1"),
        note("late"),
        wire::ready(b'I'),
    ];
    connection.receive(T0, &answer.concat()).unwrap();
    assert_eq!(
        words(&mut connection),
        [
            "notification 5 jobs idle",
            "parameter TimeZone=UTC",
            "notice careful (01000)",
            "columns 1",
            "notification 5 jobs between",
            "row a",
            "complete Some(1) SELECT 1",
            "notification 5 jobs late",
            "done Idle"
        ]
    );
    assert_eq!(connection.parameter("TimeZone"), Some("UTC"));
}

#[test]
fn unasked_events_are_bounded_and_the_oldest_go() {
    let limits = Limits { unasked_events: 3, ..Limits::default() };
    let mut connection = ready_with(SessionConfig { limits, ..config() });
    for n in 0..10 {
        connection.receive(T0, &wire::notification(1, "c", &n.to_string())).unwrap();
    }
    assert_eq!(words(&mut connection), ["notification 1 c 7", "notification 1 c 8", "notification 1 c 9"]);
    assert_eq!(connection.dropped_events(), 7);
}

#[test]
#[cfg_attr(miri, ignore = "megabytes take minutes")]
fn unasked_events_are_bounded_by_size_too() {
    let mut connection = ready();
    // A megabyte in all.
    for n in 0..100 {
        connection.receive(T0, &wire::notification(n, "c", &"x".repeat(60_000))).unwrap();
    }
    assert!(words(&mut connection).len() <= 18);
}

#[test]
fn the_cause_of_an_end_is_remembered() {
    let mut connection = ready();
    connection.receive(T0, &wire::notice("57P02", "another process crashed")).unwrap();
    let error = connection.receive_eof(T0).unwrap_err();
    assert_eq!(error.sqlstate().unwrap().code(), "57P02");
    let fault = connection.fault().unwrap();
    assert_eq!(fault.class, FaultClass::Transient);
    assert!(fault.to_string().ends_with("in session: another process crashed (SQLSTATE 57P02)"), "{fault}");

    // Unless the session went on: a function may raise what it likes.
    let mut connection = ready();
    ask(&mut connection, Request::Simple { sql: "SELECT raise()" });
    let notice = wire::notice("57P01", "only joking");
    connection.receive(T0, &[notice, complete("SELECT 1"), wire::ready(b'I')].concat()).unwrap();
    assert_eq!(connection.receive_eof(T0).unwrap_err().sqlstate(), None);

    let mut connection = ready();
    ask(&mut connection, Request::Simple { sql: "SELECT 1" });
    let error = connection.receive(T0, &wire::error("FATAL", "57P01", "terminating connection")).unwrap_err();
    assert_eq!(error.sqlstate().unwrap().code(), "57P01");
    assert_eq!((connection.fate(), connection.pending(), connection.phase()), (Fate::Broken, 0, Phase::Closed));
    assert!(connection.receive_eof(T0).is_ok());
    assert!(matches!(
        connection.submit(T0, Request::Simple { sql: "" }),
        Err(SubmitError::NotReady { phase: Phase::Closed, fault: Some(_) })
    ));
    let io = connection.receive_io_error(T0, &std::io::Error::from(std::io::ErrorKind::BrokenPipe));
    assert_eq!(io.sqlstate().unwrap().code(), "57P01");
}

#[test]
fn an_io_error_breaks_the_connection() {
    let mut connection = ready();
    let error = connection.receive_io_error(T0, &std::io::Error::from(std::io::ErrorKind::ConnectionReset));
    assert_eq!((connection.fate(), error.fault().class), (Fate::Broken, FaultClass::Transient));
    assert!(error.to_string().contains("in session"), "{error}");
}

#[test]
fn another_client_encoding_ends_the_session() {
    let mut connection = ready();
    let error = connection.receive(T0, &wire::parameter("client_encoding", "LATIN1")).unwrap_err();
    assert!(error.to_string().contains("client_encoding"), "{error}");
}

#[test]
fn copy_in_a_query_is_ended_and_reported() {
    let mut connection = ready();
    ask(&mut connection, Request::Simple { sql: "COPY t FROM STDIN" });
    connection.receive(T0, &wire::copy(b'G')).unwrap();
    assert_eq!(client_tags(&flush(&mut connection)), "f");
    connection.receive(T0, &[wire::error("ERROR", "57014", "COPY failed"), wire::ready(b'I')].concat()).unwrap();
    let got = words(&mut connection);
    assert!(got[0].contains("COPY ... FROM STDIN") && got[1..] == ["done Idle"], "{got:?}");

    // In an extended query the server has thrown the Sync away.
    let statement = prepare(&mut connection, "COPY t FROM STDIN");
    ask(&mut connection, Request::Query { statement: &statement, params: &[&1], fetch: Fetch::All });
    let next = connection.submit(T0, Request::Simple { sql: "" }).unwrap();
    connection.receive(T0, &[empty(b'2'), wire::copy(b'G')].concat()).unwrap();
    assert_eq!(client_tags(&flush(&mut connection)), "fSQ", "before the request that was not sent yet");
    let rest = [wire::error("ERROR", "57014", "COPY failed"), wire::ready(b'I'), empty(b'I'), wire::ready(b'I')];
    connection.receive(T0, &rest.concat()).unwrap();
    assert_eq!(events(&mut connection).iter().filter(|event| event.request() == Some(next)).count(), 2);
    assert_eq!(connection.fate(), Fate::Clean);
}

#[test]
fn copy_in_before_other_requests_ends_the_connection() {
    let mut connection = ready();
    ask(&mut connection, Request::Simple { sql: "COPY t FROM STDIN" });
    ask(&mut connection, Request::Simple { sql: "SELECT 1" });
    let error = connection.receive(T0, &wire::copy(b'G')).unwrap_err();
    assert!(error.to_string().contains("pipeline"), "{error}");
    assert_eq!(connection.fate(), Fate::Broken);
}

#[test]
fn copy_out_of_a_query_is_thrown_away_and_reported() {
    let mut connection = ready();
    ask(&mut connection, Request::Simple { sql: "COPY t TO STDOUT; SELECT 1" });
    let answer = [
        wire::copy(b'H'),
        wire::message(b'd', b"1\n"),
        wire::message(b'd', b"2\n"),
        empty(b'c'),
        complete("COPY 2"),
        wire::columns(&[("a", TEXT)]),
        wire::row(&["1"]),
        complete("SELECT 1"),
        wire::ready(b'I'),
    ];
    connection.receive(T0, &answer.concat()).unwrap();
    let got = words(&mut connection);
    assert!(got[0].contains("COPY ... TO STDOUT") && got[1..] == ["done Idle"], "{got:?}");
    assert!(connection.receive(T0, &wire::copy(b'W')).unwrap_err().to_string().contains("replication"));
}

#[test]
fn the_head_of_the_queue_has_a_deadline() {
    let mut connection = ready();
    assert_eq!(connection.deadline(), None);
    let at = Instant::from_secs;
    let first = connection.submit(at(10), Request::Simple { sql: "a" }).unwrap();
    let second = connection.submit(at(20), Request::Simple { sql: "b" }).unwrap();
    flush(&mut connection);
    assert_eq!(connection.deadline(), Some(at(70)));
    assert_eq!((connection.overdue(at(69)), connection.overdue(at(70))), (None, Some(first)));
    connection.receive(at(30), &[complete("A"), wire::ready(b'I')].concat()).unwrap();
    assert_eq!(connection.deadline(), Some(at(90)), "counted from when it is its turn");
    connection.abandon(second);
    assert_eq!(connection.deadline(), None);

    let connection_without = SessionConfig { command_timeout: Duration::ZERO, ..config() };
    let mut connection = ready_with(connection_without);
    ask(&mut connection, Request::Simple { sql: "a" });
    assert_eq!(connection.deadline(), None);
}

#[test]
fn the_queue_is_bounded() {
    let limits = Limits { pending: 2, unsent: 100, ..Limits::default() };
    let mut connection = ready_with(SessionConfig { limits, ..config() });
    let sql = "x".repeat(200);
    connection.submit(T0, Request::Simple { sql: &sql }).unwrap();
    assert!(matches!(connection.submit(T0, Request::Simple { sql: "" }), Err(SubmitError::QueueFull)));
    flush(&mut connection);
    connection.submit(T0, Request::Simple { sql: "" }).unwrap();
    assert!(matches!(connection.submit(T0, Request::Simple { sql: "" }), Err(SubmitError::QueueFull)));
}

#[test]
fn terminate_says_goodbye_and_expects_the_end() {
    let mut connection = ready();
    connection.submit(T0, Request::Simple { sql: "never sent" }).unwrap();
    connection.terminate();
    connection.terminate();
    assert_eq!(client_tags(&flush(&mut connection)), "X");
    connection.receive(T0, b"whatever").unwrap();
    connection.receive_eof(T0).unwrap();
    assert_eq!((connection.phase(), connection.fault(), connection.fate()), (Phase::Closed, None, Fate::Broken));
    connection.receive(T0, b"whatever").unwrap();
}
