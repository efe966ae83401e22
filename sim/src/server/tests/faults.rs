//! What is done to the server, and what its clients see of it.

use std::time::Duration;

use super::client::{World, message, startup, text, told};
use crate::net::Output;
use crate::scenario::{Crash, Dist, Restart, ServerState};
use crate::server::{Config, Role, StopMode};

const SECOND: Duration = Duration::from_secs(1);

/// What a new connection meets.
fn meets(world: &mut World) -> String {
    let Some(link) = world.connect() else { return "refused".to_owned() };
    world.send(link, &startup(&[]));
    world.pass(Duration::from_millis(5));
    let messages = told(&world.take(link));
    let last = messages.last().cloned().unwrap_or_default();
    if last == "Z I" {
        world.send(link, &message(b'X', b""));
    }
    last
}

#[test]
fn a_restart_goes_through_its_phases() {
    let mut world = World::new(Config::default());
    let (idle, busy) = (world.log_in(&[]), world.log_in(&[]));
    world.send(busy, &message(b'Q', &text("SELECT pg_sleep(60)")));
    world.server.restart(world.now, &Restart { stopping: SECOND, down: SECOND, starting: SECOND });
    world.pass(Duration::ZERO);
    let mut seen = vec![meets(&mut world)];
    for link in [idle, busy] {
        assert_eq!(told(&world.take(link)), ["E 57P01 terminating connection due to administrator command"]);
        assert_eq!(world.ended.get(&link), Some(&Output::Close));
    }
    for _ in 0..3 {
        world.pass(SECOND);
        seen.push(meets(&mut world));
    }
    assert_eq!(
        seen,
        [
            "E 57P03 the database system is shutting down",
            "refused",
            "E 57P03 the database system is starting up",
            "Z I"
        ]
    );
    assert_eq!(world.server.counts().turned_away["57P03"], 2);
}

#[test]
fn an_immediate_stop_and_a_crash_are_notices_and_the_end() {
    let mut world = World::new(Config::default());
    let link = world.log_in(&[]);
    world.server.stop(world.now, StopMode::Immediate, Duration::ZERO);
    world.pass(Duration::ZERO);
    assert_eq!(told(&world.take(link)), ["N 57P01 terminating connection because of immediate shutdown command"]);
    assert_eq!(meets(&mut world), "refused");
    world.server.start(world.now, SECOND);
    assert_eq!(meets(&mut world), "E 57P03 the database system is in recovery mode");
    world.pass(SECOND);
    let link = world.log_in(&[]);
    world.server.crash_loop(world.now, &Crash { down: SECOND, recovering: SECOND }, SECOND * 10, 2);
    world.pass(Duration::ZERO);
    assert!(told(&world.take(link))[0].starts_with("N 57P02"));
    assert_eq!(meets(&mut world), "refused");
    world.pass(SECOND * 3);
    let link = world.log_in(&[]);
    world.pass(SECOND * 9);
    assert!(told(&world.take(link))[0].starts_with("N 57P02"), "the second crash");
    world.pass(SECOND * 60);
    assert_eq!(meets(&mut world), "Z I");
}

#[test]
fn a_smart_stop_waits_for_its_sessions() {
    let mut world = World::new(Config::default());
    let link = world.log_in(&[]);
    world.server.stop(world.now, StopMode::Smart, Duration::ZERO);
    assert_eq!(meets(&mut world), "E 57P03 the database system is shutting down");
    assert_eq!(world.query(link, "SELECT 1")[1], "D 1");
    world.send(link, &message(b'X', b""));
    assert_eq!((world.server.state(), meets(&mut world)), (ServerState::Down, "refused".to_owned()));
}

#[test]
fn limits_are_kept_and_given_back() {
    let mut config = Config { max_connections: 3, other_sessions: 1, ..Config::default() };
    config.roles.insert("alice".into(), Role { password: "x".into(), connection_limit: Some(1) });
    let mut world = World::new(config);
    let link = world.log_in(&[]);
    assert_eq!(meets(&mut world), "E 53300 too many connections for role \"alice\"");
    world.server.set_max_connections(world.now, 2);
    assert_eq!(meets(&mut world), "E 53300 sorry, too many clients already");
    world.send(link, &message(b'X', b""));
    assert_eq!(meets(&mut world), "Z I");
    assert_eq!(world.server.counts().peak_sessions, 1);
}

#[test]
fn unknown_roles_and_databases_are_told_so() {
    let mut config = Config { databases: vec!["app".into()], ..Config::default() };
    let mut world = World::new(config.clone());
    assert_eq!(meets(&mut world), "E 3D000 database \"alice\" does not exist");
    config.databases.clear();
    config.roles.insert("bob".into(), Role::default());
    let mut world = World::new(config);
    assert_eq!(meets(&mut world), "E 28000 role \"alice\" does not exist");
    let mut world = World::new(Config::default());
    world.server.refuse_logins(world.now, SECOND);
    assert_eq!(meets(&mut world), "E 28P01 password authentication failed for user \"alice\"");
    world.pass(SECOND);
    assert_eq!(meets(&mut world), "Z I");
}

#[test]
fn logins_wait_for_their_turn() {
    let mut world = World::new(Config::default());
    let links: Vec<_> = (0..5).map(|_| world.connect().expect("it listens")).collect();
    links.iter().for_each(|link| world.send(*link, &startup(&[])));
    let mut ready = Vec::new();
    for _ in 0..3 {
        world.pass(Duration::from_millis(5));
        ready.push(world.server.sessions().len());
    }
    assert_eq!((ready, world.server.counts().peak_logins), (vec![2, 4, 5], 5));
}

#[test]
fn a_frozen_server_answers_nothing_until_it_thaws() {
    let mut world = World::new(Config::default());
    let link = world.log_in(&[]);
    world.server.freeze(world.now);
    let late = world.connect().expect("the kernel accepts");
    world.send(late, &startup(&[]));
    assert!(world.query(link, "SELECT 1").is_empty());
    world.server.thaw(world.now);
    world.pass(Duration::from_millis(5));
    assert_eq!(told(&world.take(link))[1], "D 1");
    assert_eq!(told(&world.take(late)).last().map(String::as_str), Some("Z I"));
}

#[test]
fn a_standby_takes_no_writes_until_it_is_promoted() {
    let mut world = World::new(Config { standby: true, ..Config::default() });
    let link = world.log_in(&[]);
    let write = "CREATE TABLE t (a int4)";
    assert_eq!(world.query(link, write)[0], "E 25006 cannot execute CREATE TABLE in a read-only transaction");
    assert_eq!(world.query(link, "SELECT pg_is_in_recovery()")[1], "D t");
    world.server.promote(world.now);
    let told = world.query(link, write);
    assert_eq!(told, ["C CREATE TABLE", "S in_hot_standby\0off", "Z I"]);
    world.server.demote(world.now);
    assert_eq!(world.query(link, "SHOW transaction_read_only")[1], "D on");
    assert_eq!(
        world.query(link, "BEGIN READ WRITE")[0],
        "E 0A000 cannot set transaction read-write mode during recovery"
    );
}

#[test]
fn sessions_that_idle_too_long_end() {
    let mut world = World::new(Config::default());
    let link = world.log_in(&[("options", "-c idle_session_timeout=5s")]);
    world.pass(SECOND * 4);
    assert!(world.ended.is_empty());
    world.pass(SECOND);
    assert!(told(&world.take(link))[0].starts_with("E 57P05"));
    let link = world.log_in(&[]);
    world.query(link, "SET idle_in_transaction_session_timeout = '15s'; BEGIN");
    world.pass(SECOND * 5);
    assert!(told(&world.take(link))[0].starts_with("E 25P03"));
    assert_eq!(world.server.counts().left_open, 1);
    let link = world.log_in(&[]);
    world.query(link, "SET statement_timeout = '1s'");
    assert_eq!(world.query(link, "SELECT pg_sleep(5)")[0], "E 57014 canceling statement due to statement timeout");
}

#[test]
fn sessions_are_killed_and_vanish_one_by_one() {
    let mut world = World::new(Config::default());
    let (one, other, third) = (world.log_in(&[]), world.log_in(&[]), world.log_in(&[]));
    let pids: Vec<i32> = world.server.sessions().iter().map(|session| session.pid).collect();
    let told_of_it = world.query(one, &format!("SELECT pg_terminate_backend({}), pg_terminate_backend(1)", pids[1]));
    assert_eq!(told_of_it[1], "D t|f");
    assert_eq!(told(&world.take(other)), ["E 57P01 terminating connection due to administrator command"]);
    assert!(world.server.vanish(world.now, pids[2]) && !world.server.vanish(world.now, pids[2]));
    world.send(third, &message(b'Q', &text("SELECT 1")));
    assert!(world.take(third).is_empty() && !world.ended.contains_key(&third));
    assert_eq!(world.server.kill_some(world.now, 1.0), 1);
    assert!(world.server.sessions().is_empty());
}

#[test]
fn notices_come_at_random_moments() {
    let mut world = World::new(Config::default());
    let link = world.log_in(&[]);
    world.server.send_notices(world.now, Dist::Fixed(SECOND), SECOND * 5);
    world.pass(SECOND * 10);
    assert_eq!(world.take(link).len(), 4);
}
