//! What goes on in sessions, and between them.

use std::time::Duration;

use super::client::{World, message, text, told};
use crate::server::{Answer, Config};

fn world() -> (World, crate::net::LinkId) {
    let mut world = World::new(Config::default());
    let link = world.log_in(&[("application_name", "app")]);
    (world, link)
}

#[test]
fn several_statements_are_one_transaction() {
    let (mut world, link) = world();
    world.query(link, "CREATE TABLE t (a int4 UNIQUE)");
    let answers = world.query(link, "INSERT INTO t VALUES (1); INSERT INTO t VALUES (2); SELECT 1/0; SELECT 3");
    assert_eq!(answers, ["C INSERT 0 1", "C INSERT 0 1", "E 22012 division by zero", "Z I"]);
    assert_eq!(world.query(link, "SELECT count(*) FROM t")[1], "D 0");
    assert_eq!(world.query(link, "INSERT INTO t VALUES (1); SELEC")[0], "E 42601 syntax error at or near \"SELEC\"");
    assert_eq!(world.query(link, "SELECT count(*) FROM t")[1], "D 0");
}

#[test]
fn transactions_are_isolated_and_rolled_back_with_their_session() {
    let (mut world, one) = world();
    let other = world.log_in(&[]);
    world.query(one, "CREATE TABLE t (id serial PRIMARY KEY, a text NOT NULL)");
    assert_eq!(world.query(one, "BEGIN; INSERT INTO t (a) VALUES ('x') RETURNING id")[2], "D 1");
    assert_eq!(world.query(other, "SELECT count(*) FROM t")[1], "D 0");
    world.query(one, "SAVEPOINT s; UPDATE t SET a = 'y' WHERE id = 1");
    assert_eq!(world.query(one, "SELECT a FROM t")[1], "D y");
    world.query(one, "ROLLBACK TO s");
    assert_eq!(world.query(one, "SELECT a FROM t")[1], "D x");
    assert_eq!(world.query(one, "COMMIT"), ["C COMMIT", "Z I"]);
    assert_eq!(world.query(other, "SELECT * FROM t WHERE a = 'x' AND id = '1'")[1], "D 1|x");
    world.query(one, "BEGIN; UPDATE t SET a = 'z'");
    assert!(world.query(other, "DELETE FROM t WHERE id = 1")[0].starts_with("E 40001"), "no update is lost");
    world.send(one, &message(b'X', b""));
    assert_eq!(world.query(other, "DELETE FROM t WHERE id = 1")[0], "C DELETE 1");
    assert_eq!(world.server.counts().left_open, 1);
    assert!(world.query(other, "INSERT INTO t (a) VALUES (NULL)")[0].starts_with("E 23502"));
    assert!(world.query(other, "INSERT INTO t (b) VALUES (1)")[0].starts_with("E 42703"));
    assert!(world.query(other, "SELECT * FROM nowhere")[0].starts_with("E 42P01"));
}

#[test]
fn settings_belong_to_their_transaction() {
    let (mut world, link) = world();
    world.query(link, "BEGIN; SET work_mem = '1MB'; ROLLBACK");
    assert_eq!(world.query(link, "SHOW work_mem")[1], "D 4MB");
    world.query(link, "BEGIN; SET LOCAL work_mem = '1MB'; SET TIME ZONE 'Europe/Berlin'");
    assert_eq!(world.query(link, "SELECT current_setting('work_mem')")[1], "D 1MB");
    world.query(link, "COMMIT");
    assert_eq!(world.query(link, "SHOW work_mem")[1], "D 4MB");
    let changed = &world.server.sessions()[0].changed;
    assert_eq!(changed.get("timezone").map(String::as_str), Some("Europe/Berlin"));
    assert_eq!(world.query(link, "DISCARD ALL"), ["C DISCARD ALL", "S TimeZone\0UTC", "Z I"]);
    assert!(world.server.sessions()[0].changed.is_empty());
    assert!(world.query(link, "SET nonsense = 1")[0].starts_with("E 42704"));
    assert!(world.query(link, "SET jit = maybe")[0].starts_with("E 22023"));
}

#[test]
fn notifications_reach_those_who_listen_when_they_are_idle() {
    let (mut world, one) = world();
    let other = world.log_in(&[]);
    world.query(one, "LISTEN ch");
    world.query(other, "LISTEN ch");
    world.query(other, "BEGIN");
    let own = world.query(one, "NOTIFY ch, 'hello'");
    assert_eq!(own, ["C NOTIFY", "A", "Z I"]);
    assert!(world.take(other).is_empty(), "not in a transaction");
    assert_eq!(world.query(other, "COMMIT"), ["C COMMIT", "A", "Z I"]);
    world.query(other, "UNLISTEN *");
    world.query(one, "BEGIN; NOTIFY ch; ROLLBACK");
    assert!(world.query(one, "SELECT pg_notify('ch', 'x')").contains(&"A".to_owned()));
    assert!(world.take(other).is_empty());
}

#[test]
fn activity_shows_who_does_what() {
    let (mut world, link) = world();
    let other = world.log_in(&[("application_name", "other")]);
    world.send(other, &message(b'Q', &text("SELECT pg_sleep(100)")));
    let sql = "SELECT state, query FROM pg_stat_activity WHERE application_name = 'other' ORDER BY pid";
    assert_eq!(world.query(link, sql)[1], "D active|SELECT pg_sleep(100)");
    assert_eq!(
        world.query(link, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")[1],
        "D 2"
    );
    let pid = world.query(link, "SELECT pid FROM pg_stat_activity WHERE application_name = 'other'")[1][2..].to_owned();
    assert_eq!(world.query(link, &format!("SELECT pg_cancel_backend({pid})"))[1], "D t");
    assert_eq!(told(&world.take(other)), ["E 57014 canceling statement due to user request", "Z I"]);
    assert_eq!(world.server.sessions()[1].state, "idle");
}

#[test]
fn a_large_result_is_made_bit_by_bit_and_waits_for_its_reader() {
    use crate::net::Host;
    let (mut world, link) = world();
    world.send(link, &message(b'Q', &text("SELECT repeat('x', 1000) FROM generate_series(1, 1000000000000)")));
    world.pass(Duration::from_millis(10));
    let made = world.received.remove(&link).expect("rows").len();
    assert!((1 << 20..64 << 20).contains(&made), "{made} bytes");
    world.server.congested(world.now, link, true);
    world.pass(Duration::from_secs(5));
    assert!(!world.received.contains_key(&link));
    world.server.congested(world.now, link, false);
    world.pass(Duration::from_millis(1));
    assert!(world.received.remove(&link).is_some());
    let pid = world.server.sessions()[0].pid;
    assert!(world.server.cancel(world.now, pid));
    world.pass(Duration::ZERO);
    assert!(world.query(link, "SELECT 1").contains(&"D 1".to_owned()));
}

#[test]
fn rows_that_are_looked_for_in_vain_do_not_stop_the_clock() {
    let (mut world, link) = world();
    let long = "generate_series(1, 1000000000000)";
    world.send(link, &message(b'Q', &text(&format!("SELECT 1 FROM {long} WHERE false"))));
    world.pass(Duration::from_millis(100));
    let pid = world.server.sessions()[0].pid;
    assert!(world.take(link).is_empty() && world.server.cancel(world.now, pid));
    world.pass(Duration::ZERO);
    assert_eq!(told(&world.take(link)), ["T", "E 57014 canceling statement due to user request", "Z I"]);
    world.query(link, "CREATE TABLE t (a int8 UNIQUE, b int8)");
    assert!(world.query(link, &format!("INSERT INTO t SELECT 1, 1 FROM {long}"))[0].starts_with("E 53100"));
    assert_eq!(world.query(link, "INSERT INTO t SELECT a, a FROM generate_series(1, 500) a")[0], "C INSERT 0 500");
    assert_eq!(world.query(link, "UPDATE t SET b = 0 - b WHERE a > 250")[0], "C UPDATE 250");
    assert_eq!(world.query(link, "SELECT sum(b), min(b), count(*) FROM t")[1], "D -62500|-500|500");
}

#[test]
fn what_it_does_not_know_it_says_and_how_to_script_it() {
    let (mut world, link) = world();
    let sql = "WITH x AS (SELECT 1) SELECT * FROM x";
    assert_eq!(world.query(link, sql)[0], format!("E 0A000 the simulated server does not know: {sql}"));
    world.server.on(sql, |_| Answer::value("a", crate::server::Type::Int4, 5).notice("careful"));
    assert_eq!(
        world.query(link, "with x as (select 1) select * from x;"),
        ["N 00000 careful", "T", "D 5", "C SELECT 1", "Z I"]
    );
    world.server.on("SELECT gone", |_| Answer::close());
    assert!(world.query(link, "SELECT gone").is_empty() && world.ended.contains_key(&link));
}

/// Every function, with too few arguments, too many, and those of the wrong type.
#[test]
fn functions_that_are_called_wrongly_are_errors() {
    let (mut world, link) = world();
    for name in "now version current_setting set_config pg_backend_pid pg_is_in_recovery txid_current pg_sleep count sum min \
                 max pg_terminate_backend pg_cancel_backend pg_notify current_database length octet_length upper repeat \
                 concat coalesce nullif abs greatest least generate_series unnest nonsense"
        .split_whitespace()
    {
        for args in ["", "1", "'x'", "NULL", "1, 2", "'x', 'y', true", "ARRAY[1]", "-1.5, '{a}', now(), 4, 5"] {
            let answers = world.query(link, &format!("SELECT {name}({args})"));
            assert_eq!(answers.last().map(String::as_str), Some("Z I"), "{name}({args}): {answers:?}");
        }
    }
    assert!(world.query(link, "SELECT nullif()")[0].starts_with("E 42883"));
}
