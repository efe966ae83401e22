//! A connection that came back dirty.

use super::requests::prepare;
use super::wire::{self, client_messages, client_tags, complete, empty};
use super::{T0, ask, config, flush, ready, ready_with, words};
use crate::pg::{Connection, Fetch, Request, SessionConfig, Settle, TransactionStatus};
use crate::pool::Fate;

const WAIT: Settle = Settle::Wait { cancel: false };
const CANCEL: Settle = Settle::Wait { cancel: true };

fn in_transaction() -> Connection {
    let mut connection = ready();
    ask(&mut connection, Request::Simple { sql: "BEGIN" });
    connection.receive(T0, &[complete("BEGIN"), wire::ready(b'T')].concat()).unwrap();
    words(&mut connection);
    connection
}

#[test]
fn a_clean_connection_is_settled() {
    assert_eq!(ready().settle(T0), Settle::Settled);
}

#[test]
fn an_open_transaction_is_rolled_back() {
    let mut connection = in_transaction();
    assert_eq!(connection.fate(), Fate::Dirty);
    assert_eq!(connection.settle(T0), WAIT);
    assert_eq!(client_messages(&flush(&mut connection)), [('Q', b"ROLLBACK\0".to_vec())]);
    assert_eq!(connection.settle(T0), WAIT);
    assert_eq!(connection.unsent(), 0, "asked once");
    connection.receive(T0, &[complete("ROLLBACK"), wire::ready(b'I')].concat()).unwrap();
    assert!(words(&mut connection).is_empty());
    assert_eq!(connection.settle(T0), Settle::Settled);
    assert_eq!((connection.fate(), connection.take_queries()), (Fate::Clean, 1));
}

#[test]
fn a_rollback_that_never_works_means_close() {
    let mut connection = in_transaction();
    for _ in 0..3 {
        assert_eq!(connection.settle(T0), WAIT);
        flush(&mut connection);
        let cancelled = [wire::error("ERROR", "57014", "cancelled"), wire::ready(b'E')];
        connection.receive(T0, &cancelled.concat()).unwrap();
    }
    assert!(matches!(connection.settle(T0), Settle::Close(_)));
}

#[test]
fn what_was_not_begun_is_taken_back_and_the_rest_awaited() {
    let mut connection = ready();
    connection.submit(T0, Request::Simple { sql: "half" }).unwrap();
    connection.submit(T0, Request::Simple { sql: "not at all" }).unwrap();
    connection.sent(3);
    assert_eq!(connection.settle(T0), CANCEL);
    assert_eq!((connection.pending(), connection.unsent()), (1, 7));
    flush(&mut connection);
    connection.receive(T0, &[complete("X"), wire::ready(b'I')].concat()).unwrap();
    assert_eq!(connection.settle(T0), Settle::Settled);
    assert_eq!(connection.take_queries(), 1);
}

#[test]
fn an_open_round_is_ended() {
    let mut connection = ready();
    ask(&mut connection, Request::Unprepared { sql: "SELECT", types: &[] });
    assert_eq!(connection.settle(T0), CANCEL);
    assert_eq!(client_tags(&flush(&mut connection)), "S");
    let answer = [empty(b'1'), wire::parameters(&[]), empty(b'n'), wire::ready(b'I')];
    connection.receive(T0, &answer.concat()).unwrap();
    assert!(words(&mut connection).is_empty());
    assert_eq!(connection.settle(T0), Settle::Settled);
}

#[test]
fn a_cancel_must_be_over_before_the_next_user() {
    let mut connection = ready();
    ask(&mut connection, Request::Simple { sql: "SELECT pg_sleep(9)" });
    assert_eq!(connection.settle(T0), CANCEL);
    connection.cancel_started();
    let cancelled = [wire::error("ERROR", "57014", "cancelled"), wire::ready(b'I')];
    connection.receive(T0, &cancelled.concat()).unwrap();
    assert_eq!((connection.settle(T0), connection.unsent()), (WAIT, 0), "its stream is still open");
    assert_eq!(connection.fate(), Fate::Dirty);
    connection.cancel_ended();
    assert_eq!(connection.fate(), Fate::Dirty);
    assert_eq!(connection.settle(T0), WAIT);
    assert_eq!(client_messages(&flush(&mut connection)), [('Q', b"\0".to_vec())]);
    connection.receive(T0, &[empty(b'I'), wire::ready(b'I')].concat()).unwrap();
    assert_eq!((connection.settle(T0), connection.fate()), (Settle::Settled, Fate::Clean));
}

#[test]
fn too_much_unsent_means_close() {
    let mut connection = ready_with(SessionConfig { ..config() });
    let sql = "x".repeat(2 << 20);
    connection.submit(T0, Request::Simple { sql: &sql }).unwrap();
    connection.sent(1000);
    assert!(matches!(connection.settle(T0), Settle::Close(_)));
}

#[test]
fn a_broken_connection_is_to_be_closed_with_its_fault() {
    let mut connection = ready();
    connection.receive_eof(T0).unwrap_err();
    let fault = connection.fault().unwrap().clone();
    assert_eq!(connection.settle(T0), Settle::Close(fault));
}

#[test]
fn rows_already_queued_are_dropped_with_their_request() {
    let mut connection = ready();
    let statement = prepare(&mut connection, "SELECT $1");
    let id = ask(&mut connection, Request::Query { statement: &statement, params: &[&1], fetch: Fetch::All });
    connection.receive(T0, &[empty(b'2'), wire::row(&["a"]), wire::notification(1, "c", "p")].concat()).unwrap();
    connection.abandon(id);
    connection.receive(T0, &[wire::row(&["b"]), complete("SELECT 2"), wire::ready(b'I')].concat()).unwrap();
    assert_eq!(words(&mut connection), ["notification 1 c p"]);
    assert_eq!((connection.transaction_status(), connection.fate()), (TransactionStatus::Idle, Fate::Clean));
}
