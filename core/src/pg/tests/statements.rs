//! The statement cache, as seen on the wire.

use postgres_types::{Kind, Type};

use super::requests::{prepare, prepared};
use super::wire::{self, client_tags, complete, empty};
use super::{T0, ask, config, flush, ready, ready_with, words};
use crate::pg::{CacheStats, Connection, Event, Fetch, Request, SessionConfig, SubmitError};

fn small() -> Connection {
    ready_with(SessionConfig { statement_cache_size: 2, ..config() })
}

fn simple_round(connection: &mut Connection, tag: &str) {
    ask(connection, Request::Simple { sql: tag });
    connection.receive(T0, &[complete(tag), wire::ready(b'I')].concat()).unwrap();
    words(connection);
}

#[test]
fn the_least_recently_used_goes_and_is_closed_with_a_later_request() {
    let mut connection = small();
    let first = prepare(&mut connection, "one");
    prepare(&mut connection, "two");
    assert!(connection.cached("one", &[]).is_some());
    prepare(&mut connection, "three");
    assert!(connection.cached("two", &[]).is_none(), "the oldest use");
    assert!(connection.cached("one", &[Type::INT4]).is_none(), "other types are another statement");
    assert_eq!(connection.cache_stats(), CacheStats { len: 2, hits: 1, misses: 2, evictions: 1 });

    let request = Request::Query { statement: &first, params: &[&1], fetch: Fetch::All };
    connection.submit(T0, request).unwrap();
    let sent = wire::client_messages(&flush(&mut connection));
    assert_eq!(sent[0], ('C', b"Spgweir_2\0".to_vec()));
    assert_eq!(sent[1].0, 'B');
    let answer = [empty(b'3'), empty(b'2'), complete("SELECT 0"), wire::ready(b'I')];
    connection.receive(T0, &answer.concat()).unwrap();
    assert_eq!(words(&mut connection), ["complete Some(0) SELECT 0", "done Idle"]);
    ask(&mut connection, Request::Query { statement: &first, params: &[&1], fetch: Fetch::All });
    connection.receive(T0, &answer[1..].concat()).unwrap();
}

#[test]
fn a_statement_that_somebody_holds_is_not_closed() {
    let mut connection = small();
    let held = prepare(&mut connection, "held");
    prepare(&mut connection, "two");
    prepare(&mut connection, "three");
    assert!(connection.cached("held", &[]).is_none());
    connection.submit(T0, Request::Query { statement: &held, params: &[&1], fetch: Fetch::All }).unwrap();
    assert_eq!(client_tags(&flush(&mut connection)), "BES");
    connection.receive(T0, &[empty(b'2'), complete("SELECT 0"), wire::ready(b'I')].concat()).unwrap();
    drop(held);
    connection.submit(T0, Request::Prepare { sql: "four", types: &[] }).unwrap();
    assert_eq!(client_tags(&flush(&mut connection)), "CPDS");
}

#[test]
fn a_taken_back_request_gives_back_its_closes() {
    let mut connection = small();
    for sql in ["one", "two", "three"] {
        prepare(&mut connection, sql);
    }
    let request = Request::Prepare { sql: "four", types: &[] };
    let id = connection.submit(T0, request).unwrap();
    connection.abandon(id);
    assert_eq!((connection.unsent(), connection.pending()), (0, 0));
    connection.submit(T0, request).unwrap();
    let sent = wire::client_messages(&flush(&mut connection));
    assert_eq!(sent[0], ('C', b"Spgweir_1\0".to_vec()));
    assert_eq!(sent[1].1, b"pgweir_5\0four\0\0\0", "a name is never used twice");
}

#[test]
fn an_abandoned_prepare_is_cached_all_the_same() {
    let mut connection = small();
    let id = ask(&mut connection, Request::Prepare { sql: "one", types: &[] });
    connection.abandon(id);
    connection.receive(T0, &prepared()).unwrap();
    assert!(words(&mut connection).is_empty());
    assert!(connection.cached("one", &[]).is_some());
}

#[test]
fn a_prepare_that_fails_half_way_is_closed() {
    let mut connection = small();
    ask(&mut connection, Request::Prepare { sql: "one", types: &[] });
    let answer = [empty(b'1'), wire::error("ERROR", "57014", "cancelled"), wire::ready(b'I')];
    connection.receive(T0, &answer.concat()).unwrap();
    connection.submit(T0, Request::Prepare { sql: "one", types: &[] }).unwrap();
    assert_eq!(client_tags(&flush(&mut connection)), "CPDS");
}

#[test]
fn a_stale_statement_leaves_the_cache() {
    let stale =
        wire::fields(b'E', &[(b'S', "ERROR"), (b'C', "0A000"), (b'M', "nein"), (b'R', "RevalidateCachedQuery")]);
    for error in [stale, wire::error("ERROR", "26000", "no such statement")] {
        let mut connection = small();
        let statement = prepare(&mut connection, "one");
        ask(&mut connection, Request::Query { statement: &statement, params: &[&1], fetch: Fetch::All });
        connection.receive(T0, &[error, wire::ready(b'I')].concat()).unwrap();
        assert!(connection.cached("one", &[]).is_none());
        let Some(Event::Failed { error, .. }) = connection.poll_event() else { panic!() };
        assert!(error.db_error().unwrap().is_stale_statement());
        // Whoever still holds it need not find that out by an error of their own, which would end their transaction.
        let request = Request::Query { statement: &statement, params: &[&1], fetch: Fetch::All };
        assert!(matches!(connection.submit(T0, request), Err(SubmitError::Foreign)));
        assert!(!connection.owns(&statement));
        connection.submit(T0, Request::Prepare { sql: "one", types: &[] }).unwrap();
        assert_eq!(client_tags(&flush(&mut connection)), "CPDS");
    }
    let unsupported = wire::error("ERROR", "0A000", "no such feature");
    let mut connection = small();
    let statement = prepare(&mut connection, "one");
    ask(&mut connection, Request::Query { statement: &statement, params: &[&1], fetch: Fetch::All });
    connection.receive(T0, &[empty(b'2'), unsupported, wire::ready(b'I')].concat()).unwrap();
    assert!(connection.cached("one", &[]).is_some(), "it was not the statement's fault");
}

#[test]
fn discard_all_empties_the_cache() {
    for tag in ["DISCARD ALL", "DEALLOCATE ALL"] {
        let mut connection = small();
        let held = ["one", "two", "three"].map(|sql| prepare(&mut connection, sql));
        assert!(held.iter().all(|statement| connection.owns(statement)), "the evicted one too");
        simple_round(&mut connection, tag);
        assert_eq!(connection.cache_stats().len, 0);
        for statement in &held {
            let request = Request::Query { statement, params: &[&1], fetch: Fetch::All };
            assert!(matches!(connection.submit(T0, request), Err(SubmitError::Foreign)));
        }
        connection.submit(T0, Request::Prepare { sql: "one", types: &[] }).unwrap();
        assert_eq!(client_tags(&flush(&mut connection)), "PDS", "nothing is left to be closed");
    }
}

#[test]
fn closing_a_statement_forgets_it() {
    let mut connection = small();
    let statement = prepare(&mut connection, "one");
    let request = Request::CloseStatement { statement: &statement };
    connection.submit(T0, request).unwrap();
    assert!(connection.cached("one", &[]).is_none());
    assert_eq!(client_tags(&flush(&mut connection)), "CS");
    connection.receive(T0, &[empty(b'3'), wire::ready(b'I')].concat()).unwrap();
    assert_eq!(words(&mut connection), ["done Idle"]);
}

#[test]
fn two_of_the_same_in_flight_end_as_one() {
    let mut connection = small();
    let request = Request::Prepare { sql: "one", types: &[] };
    ask(&mut connection, request);
    ask(&mut connection, request);
    connection.receive(T0, &[prepared(), prepared()].concat()).unwrap();
    assert_eq!(words(&mut connection).len(), 4);
    assert_eq!(connection.cache_stats().len, 1);
    connection.submit(T0, Request::Prepare { sql: "two", types: &[] }).unwrap();
    let sent = wire::client_messages(&flush(&mut connection));
    assert_eq!(sent[0], ('C', b"Spgweir_2\0".to_vec()));
}

#[test]
fn types_that_are_not_built_in_can_be_learned() {
    let mut connection = ready();
    ask(&mut connection, Request::Prepare { sql: "one", types: &[] });
    let answer = [
        empty(b'1'),
        wire::parameters(&[70_001]),
        wire::columns(&[("a", 70_002), ("b", 70_001), ("c", 23)]),
        wire::ready(b'I'),
    ];
    connection.receive(T0, &answer.concat()).unwrap();
    words(&mut connection);
    let unknown = connection.cached("one", &[]).unwrap();
    assert_eq!(unknown.unknown_types(), [70_001, 70_002]);
    for oid in [70_001, 70_002] {
        let kind = Kind::Enum(vec!["sad".into(), "happy".into()]);
        connection.learn_type(Type::new("mood".into(), oid, kind, "public".into()));
    }
    let known = connection.resolve(&unknown);
    assert!(known.unknown_types().is_empty());
    assert_eq!(connection.cached("one", &[]).unwrap().params()[0].name(), "mood");

    // Both versions are one statement: it is closed when the last of them is gone.
    drop(known);
    for sql in ["two", "three", "four", "five"] {
        prepare(&mut connection, sql);
    }
    assert!(connection.cached("one", &[]).is_none());
    connection.submit(T0, Request::Prepare { sql: "six", types: &[] }).unwrap();
    assert_eq!(client_tags(&flush(&mut connection)), "PDS");
    connection.receive(T0, &prepared()).unwrap();
    drop(unknown);
    connection.submit(T0, Request::Prepare { sql: "seven", types: &[] }).unwrap();
    let closed = wire::client_messages(&flush(&mut connection))[..2].to_vec();
    assert!(closed.contains(&('C', b"Spgweir_1\0".to_vec())), "{closed:?}");
}
