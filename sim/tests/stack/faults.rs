//! What a test can do to the network, and what the kernels at both ends make of it.

use std::io::ErrorKind;
use std::time::Duration;

use pgweir_core::config::Config;
use pgweir_core::runtime::{Address, Runtime};
use pgweir_sim::SimRuntime;
use pgweir_sim::net::{Direction, Output};
use pgweir_sim::{Elapsed, Sim};

use crate::hosts::{Echo, at, connect, connect_with, exact, millis, read, read_exact, write};

const SECOND: Duration = Duration::from_secs(1);

/// What a connection string says about the sockets' timers.
fn options(query: &str) -> pgweir_core::config::TcpOptions {
    let config = Config::builder().database_url(format!("postgres://u@h?{query}")).build().expect("valid");
    config.connect().tcp()
}

#[test]
fn what_a_black_hole_swallowed_arrives_after_it_is_healed() {
    for direction in [Direction::ToHost, Direction::ToClient] {
        let sim = exact();
        let db = sim.host("db", 5432, Echo::default());
        sim.run(async |sim| {
            let mut stream = connect("db", 5432).await.expect("it listens");
            db.net().black_hole(direction);
            write(&mut stream, b"one").await.expect("there is room");
            sim.sleep(SECOND).await;
            write(&mut stream, b"two").await.expect("there is room");
            assert!(sim.timeout(60 * SECOND, read(&mut stream)).await.is_err());
            let heard = db.with(|echo, _| echo.received.len());
            assert_eq!(heard, if direction == Direction::ToHost { 0 } else { 6 });
            let healed = sim.now();
            db.net().heal();
            assert_eq!(read_exact(&mut stream, 6).await.expect("an echo"), b"onetwo");
            assert!(sim.now() - healed >= millis(101), "after the retransmission");
            assert!(sim.now() - healed <= millis(202), "{:?}", sim.now() - healed);
        });
    }
}

#[test]
fn a_connect_to_a_partitioned_host_hangs_and_can_be_dropped() {
    let sim = exact();
    let db = sim.host("db", 5432, Echo::default());
    sim.run(async |sim| {
        db.net().partition();
        assert!(matches!(sim.timeout(10 * SECOND, connect("db", 5432)).await, Err(Elapsed)));
        db.net().heal();
        sim.sleep(10 * SECOND).await;
        assert_eq!(db.with(|echo, _| echo.accepted), 0, "its kernel has stopped trying");

        db.net().partition();
        let connecting = sim.spawn(connect("db", 5432));
        sim.sleep(SECOND).await;
        db.net().heal();
        let mut stream = connecting.await.expect("tried again");
        write(&mut stream, b"hello").await.expect("there is room");
        assert_eq!(read_exact(&mut stream, 5).await.expect("an echo"), b"hello");

        db.net().partition();
        let before = sim.now();
        let error = connect("db", 5432).await.expect_err("given up");
        assert_eq!((error.kind(), (sim.now() - before).as_secs()), (ErrorKind::TimedOut, 127));
    });
}

#[test]
fn an_answer_to_a_connect_that_was_given_up_is_answered_by_a_reset() {
    let sim = exact();
    let db = sim.host("db", 5432, Echo::default());
    sim.run(async |sim| {
        db.net().black_hole(Direction::ToClient);
        assert_eq!(connect("db", 5432).await.expect_err("given up").kind(), ErrorKind::TimedOut);
        assert_eq!(db.with(|echo, _| echo.links.len()), 1, "the host believes in it");
        db.net().heal();
        sim.sleep(SECOND).await;
        assert_eq!(db.with(|echo, _| (echo.links.len(), echo.resets)), (0, 1));
    });
}

#[test]
fn a_connect_that_is_dropped_on_the_way_leaves_nothing_open() {
    for wait in [0, 500, 1500, 2500] {
        let sim = exact();
        let db = sim.host("10.1.2.3", 5432, Echo::default());
        sim.run(async |sim| {
            let connecting = sim.spawn(connect("10.1.2.3", 5432));
            sim.sleep(Duration::from_micros(wait)).await;
            connecting.abort();
            sim.sleep(SECOND).await;
            let (accepted, open) = db.with(|echo, _| (echo.accepted, echo.links.len()));
            assert_eq!((accepted, open), (usize::from(wait > 0), 0), "dropped after {wait} µs");
        });
    }
}

#[test]
fn refused_hanging_and_unknown_are_three_things() {
    let sim = exact();
    let db = sim.host("db", 5432, Echo::default());
    sim.run(async |sim| {
        let mut open = connect("db", 5432).await.expect("it listens");
        db.net().refuse();
        let before = sim.now();
        assert_eq!(connect("db", 5432).await.expect_err("refused").kind(), ErrorKind::ConnectionRefused);
        assert_eq!(sim.now() - before, millis(3));
        assert_eq!(connect("db", 5433).await.expect_err("no such port").kind(), ErrorKind::ConnectionRefused);
        db.net().heal().hang();
        assert!(matches!(sim.timeout(SECOND, connect("db", 5432)).await, Err(Elapsed)));
        write(&mut open, b"still").await.expect("there is room");
        assert_eq!(read(&mut open).await.expect("an echo"), b"still");
        db.net().heal();
        connect("db", 5432).await.expect("it listens again");
        assert_eq!(connect("dbb", 5432).await.expect_err("no such name").kind(), ErrorKind::NotFound);
        let nowhere = Address::Tcp("192.0.2.1:5432".parse().expect("an address"), options(""));
        let error = SimRuntime::current().connect(&nowhere).await.expect_err("nobody is there");
        assert_eq!(error.kind(), ErrorKind::HostUnreachable);
    });
}

#[test]
fn a_reset_on_the_way_tells_both_ends() {
    let sim = exact();
    let db = sim.host("db", 5432, Echo::default());
    sim.run(async |_| {
        let mut streams = [connect("db", 5432).await.expect("open"), connect("db", 5432).await.expect("open")];
        db.net().reset_all();
        assert_eq!(db.with(|echo, _| (echo.resets, echo.links.len())), (2, 0));
        for stream in &mut streams {
            assert_eq!(read(stream).await.expect_err("reset").kind(), ErrorKind::ConnectionReset);
        }
        connect("db", 5432).await.expect("and goes on");
    });
}

#[test]
fn a_host_that_vanished_answers_the_next_write_with_a_reset() {
    let sim = exact();
    let db = sim.host("db", 5432, Echo::default());
    sim.run(async |sim| {
        let mut stream = connect("db", 5432).await.expect("it listens");
        db.net().vanish();
        assert_eq!(db.with(|echo, _| echo.links.len()), 0);
        assert!(sim.timeout(3600 * SECOND, read(&mut stream)).await.is_err(), "nobody says a word");
        write(&mut stream, b"hello?").await.expect("there is room");
        assert_eq!(read(&mut stream).await.expect_err("reset").kind(), ErrorKind::ConnectionReset);
        assert_eq!(db.with(|echo, _| echo.received.len()), 0);
    });
}

#[test]
fn keepalive_finds_a_host_that_vanished_or_cannot_be_reached() {
    let silent = |query: &'static str, vanish: bool| {
        let sim = exact();
        let db = sim.host("db", 5432, Echo::default());
        sim.run(async |sim| {
            let mut stream = connect_with("db", 5432, options(query)).await.expect("it listens");
            let net = db.net();
            if vanish {
                net.vanish()
            } else {
                net.partition()
            };
            let error = read(&mut stream).await.expect_err("its kernel finds out");
            (error.kind(), sim.now().as_nanos() / 1_000_000_000)
        })
    };
    let quick = "keepalives_idle=60&keepalives_interval=10&keepalives_count=3";
    assert_eq!(silent(quick, true), (ErrorKind::ConnectionReset, 60));
    assert_eq!(silent(quick, false), (ErrorKind::TimedOut, 90));
    assert_eq!(silent("", false), (ErrorKind::TimedOut, 7200 + 9 * 75), "Linux's defaults");
    let user = "keepalives_idle=60&keepalives_interval=10&tcp_user_timeout=85000";
    assert_eq!(silent(user, false), (ErrorKind::TimedOut, 90), "looked at with each probe");
}

#[test]
fn without_keepalive_a_silent_peer_stays_silent() {
    let sim = exact();
    let db = sim.host("db", 5432, Echo::default());
    sim.run(async |sim| {
        let mut stream = connect_with("db", 5432, options("keepalives=0")).await.expect("it listens");
        db.net().partition();
        assert!(sim.timeout(100_000 * SECOND, read(&mut stream)).await.is_err());
        assert_eq!(db.with(|echo, _| echo.resets), 1, "the host's own keepalive has found out");
    });
}

#[test]
fn a_keepalive_on_a_path_that_works_finds_nothing() {
    let sim = exact();
    let db = sim.host("db", 5432, Echo::default());
    sim.run(async |sim| {
        let quick = options("keepalives_idle=60&keepalives_interval=10&keepalives_count=3");
        let mut stream = connect_with("db", 5432, quick).await.expect("it listens");
        assert!(sim.timeout(1000 * SECOND, read(&mut stream)).await.is_err());
        // The last probe was answered at most a minute ago.
        db.net().partition();
        let before = sim.now();
        assert_eq!(read(&mut stream).await.expect_err("silence").kind(), ErrorKind::TimedOut);
        let after = sim.now() - before;
        assert!((30 * SECOND..=90 * SECOND).contains(&after), "{after:?}");
    });
}

#[test]
fn what_is_not_acknowledged_ends_a_connection_after_the_user_timeout() {
    for direction in [Direction::ToHost, Direction::ToClient] {
        let sim = exact();
        let db = sim.host("db", 5432, Echo::default());
        sim.run(async |sim| {
            let mut stream = connect_with("db", 5432, options("tcp_user_timeout=5000")).await.expect("it listens");
            db.net().black_hole(direction);
            sim.sleep(SECOND).await;
            write(&mut stream, b"hello?").await.expect("there is room");
            let before = sim.now();
            assert_eq!(read(&mut stream).await.expect_err("silence").kind(), ErrorKind::TimedOut);
            assert_eq!(sim.now() - before, 5 * SECOND);
            assert_eq!(write(&mut stream, b"x").await.expect_err("over").kind(), ErrorKind::TimedOut);
            db.net().heal();
            sim.sleep(SECOND).await;
            // Whatever the host still says is answered by a reset.
            db.with(|echo, _| echo.all(&Output::Bytes(b"anybody there?".to_vec())));
            sim.sleep(SECOND).await;
            assert_eq!(db.with(|echo, _| (echo.resets, echo.links.len())), (1, 0));
        });
    }
}

#[test]
fn a_goodbye_that_was_swallowed_is_heard_later() {
    let sim = exact();
    let db = sim.host("db", 5432, Echo::default());
    sim.run(async |sim| {
        let stream = connect("db", 5432).await.expect("it listens");
        db.net().partition();
        drop(stream);
        sim.sleep(60 * SECOND).await;
        assert_eq!(db.with(|echo, _| echo.links.len()), 1);
        db.net().heal();
        sim.sleep(SECOND).await;
        assert_eq!(db.with(|echo, _| (echo.links.len(), echo.ended)), (0, 1));
    });
}

#[test]
fn one_host_can_be_cut_off_while_another_works() {
    let sim = exact();
    let (one, _two) = (sim.host("one", 1, Echo::default()), sim.host("two", 1, Echo::default()));
    sim.run(async |sim| {
        sim.net("one").partition();
        assert!(matches!(sim.timeout(SECOND, connect("one", 1)).await, Err(Elapsed)));
        connect("two", 1).await.expect("is not concerned");
        assert_eq!((one.net().name(), sim.net("two").name()), ("one".to_owned(), "two".to_owned()));
    });
}

#[test]
fn names_can_be_moved_fail_and_be_silent() {
    let sim = exact();
    let (one, two) = (sim.host("one", 1, Echo::default()), sim.host("two", 1, Echo::default()));
    sim.run(async |sim| {
        sim.dns("primary").points_to(&["one"]);
        connect("primary", 1).await.expect("one");
        sim.dns("primary").points_to(&["two", "one"]);
        connect("primary", 1).await.expect("two");
        let accepted = (one.with(|echo, _| echo.accepted), two.with(|echo, _| echo.accepted));
        assert_eq!(accepted, (1, 1));
        assert_eq!(SimRuntime::current().resolve("primary", 1).await.expect("both").len(), 2);

        sim.dns("primary").fails(ErrorKind::Other);
        assert_eq!(connect("primary", 1).await.expect_err("fails").kind(), ErrorKind::Other);
        sim.dns("primary").heal().silent();
        let before = sim.now();
        assert_eq!(connect("primary", 1).await.expect_err("silence").kind(), ErrorKind::TimedOut);
        assert_eq!(sim.now() - before, 20 * SECOND);
        sim.dns("primary").heal();
        connect("primary", 1).await.expect("healed");
    });
}

#[test]
fn a_host_that_panics_ends_the_run_with_the_seed() {
    let said = crate::executor::failure(|| {
        let sim = Sim::builder().exact_seed(23).path(|path| path.partial = 0.0).build();
        sim.host("db", 5432, Echo::default());
        sim.run(async |_| {
            let mut stream = connect("db", 5432).await.expect("it listens");
            write(&mut stream, b"panic").await.expect("there is room");
            read(&mut stream).await
        })
        .expect("not reached");
    });
    assert!(said.contains("a host panicked: the host was told to") && said.contains("seed 23"), "{said}");
}

#[test]
fn impossible_settings_are_refused_where_they_are_made() {
    use crate::executor::failure;
    use pgweir_sim::scenario::Dist;

    let upside_down = Dist::Uniform(millis(9), millis(1));
    let said = failure(|| drop(Sim::builder().timer_slack(upside_down.clone())));
    assert!(said.contains("timer_slack: uniform between 9ms and 1ms is empty"), "{said}");
    let said = failure(|| drop(Sim::builder().path(|path| path.partial = 1.5)));
    assert!(said.contains("partial: a share between 0 and 1, not 1.5"), "{said}");
    let sim = exact();
    let db = sim.host("db", 5432, Echo::default());
    let said = failure(|| drop(sim.host("db", 5432, Echo::default())));
    assert!(said.contains("db:5432 is taken"), "{said}");
    let said = failure(|| drop(db.net().latency(upside_down).clone()));
    assert!(said.contains("to_host: uniform between 9ms and 1ms is empty"), "{said}");
    sim.run(async |_| drop(connect("db", 5432).await.expect("nothing has changed")));
    assert_eq!(sim.now(), at(3));
}
