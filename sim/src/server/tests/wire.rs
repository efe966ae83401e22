//! The protocol: golden bytes, splits, and bytes that are no protocol at all.

use std::time::Duration;

use super::client::{World, message, startup, text, told};
use crate::net::{LinkId, Output};
use crate::rng::Rng;
use crate::server::{Auth, Config};

/// Messages as the documentation lays them out (55.7, Message Formats).
#[test]
fn messages_are_laid_out_as_documented() {
    let mut world = World::new(Config::default());
    let link = world.connect().expect("it listens");
    world.send(link, b"\0\0\0\x08\x04\xd2\x16\x2f");
    assert_eq!(world.received.remove(&link).as_deref(), Some(&b"N"[..]), "SSLRequest");
    world.send(link, b"\0\0\0\x08\x04\xd2\x16\x30");
    assert_eq!(world.received.remove(&link).as_deref(), Some(&b"N"[..]), "GSSENCRequest");
    world.send(link, &startup(&[]));
    world.pass(Duration::from_millis(5));
    let bytes = world.received.remove(&link).expect("a welcome");
    assert!(bytes.starts_with(b"R\0\0\0\x08\0\0\0\0S\0\0\0\x16application_name\0\0"), "{bytes:?}");
    assert!(bytes.ends_with(b"Z\0\0\0\x05I"));
    world.send(link, b"Q\0\0\0\x0dSELECT 1\0");
    let expected = b"T\0\0\0\x21\0\x01?column?\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0\
        D\0\0\0\x0b\0\x01\0\0\0\x011C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I";
    assert_eq!(world.received.remove(&link).as_deref(), Some(&expected[..]));
    world.send(link, b"Q\0\0\0\x05\0");
    assert_eq!(world.received.remove(&link).as_deref(), Some(&b"I\0\0\0\x04Z\0\0\0\x05I"[..]), "an empty query");
    world.send(link, b"X\0\0\0\x04");
    assert_eq!(world.ended.get(&link), Some(&Output::Close));
    assert!(world.server.sessions().is_empty());
}

fn conversation() -> Vec<u8> {
    let bind = [&text("p")[..], &text("s"), b"\0\x01\0\x01\0\x01\0\0\0\x04\0\0\0\x05\0\x01\0\x01"].concat();
    [
        startup(&[("application_name", "x")]),
        message(b'Q', &text("CREATE TABLE t (a int4); INSERT INTO t VALUES (1), (2)")),
        message(b'P', &[&text("s")[..], &text("SELECT a + $1 FROM t ORDER BY a"), b"\0\x01\0\0\0\x17"].concat()),
        message(b'D', b"Ss\0"),
        message(b'B', &bind),
        message(b'D', b"Pp\0"),
        message(b'E', b"p\0\0\0\0\x01"),
        message(b'E', b"p\0\0\0\0\0"),
        message(b'C', b"Pp\0"),
        message(b'H', b""),
        message(b'E', b"p\0\0\0\0\0"),
        message(b'B', &bind),
        message(b'S', b""),
        message(b'Q', &text("SELECT pg_sleep(0.5); SELECT generate_series(1, 20000)")),
        message(b'Q', &text("BEGIN; SELEC")),
        message(b'X', b""),
    ]
    .concat()
}

#[test]
fn a_stream_may_be_split_anywhere() {
    let run = |pieces: &mut dyn FnMut() -> usize| {
        let mut world = World::new(Config::default());
        let link = world.connect().expect("it listens");
        let bytes = conversation();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(pieces().clamp(1, rest.len()));
            world.send(link, piece);
            rest = later;
        }
        world.pass(Duration::from_secs(5));
        assert_eq!(world.ended.get(&link), Some(&Output::Close));
        world.received.remove(&link).expect("answers")
    };
    let whole = run(&mut || usize::MAX);
    let short = told(&super::client::parse(&whole));
    let tags: String = short.iter().filter_map(|line| line.chars().next()).collect();
    let expected = "RSSSSSSSSSSSSSKZCCZ1tT2TDsDC3EZTDCT";
    assert!(tags.starts_with(expected), "{}", short[..40].join("\n"));
    assert!(
        short.iter().any(|line| line.starts_with("E 34000")) && short.iter().any(|line| line.starts_with("E 42601"))
    );
    assert!(run(&mut || 1) == whole, "byte by byte");
    for seed in 0..30 {
        let mut rng = Rng::new(seed, 1);
        assert!(run(&mut || 1 + (rng.next() % 50) as usize) == whole, "seed {seed}");
    }
}

#[test]
fn bytes_that_are_no_protocol_end_the_connection_with_an_error() {
    for (bytes, code) in [
        (&b"\0\0\0\x03"[..], "08P01"),
        (b"GET / HTTP/1.1\r\n\r\n", "08P01"),
        (b"\0\0\0\x08\0\x02\0\0", "0A000"),
        (b"\0\0\0\x09\0\x03\0\0\0", "28000"),
        (b"\0\0\0\x0c\0\x03\0\0user", "08P01"),
    ] {
        let mut world = World::new(Config::default());
        let link = world.connect().expect("it listens");
        world.send(link, bytes);
        let answers = told(&world.take(link));
        assert!(answers[0].starts_with(&format!("E {code}")), "{bytes:?}: {answers:?}");
        assert!(world.ended.contains_key(&link));
    }
    for bytes in
        [&b"z\0\0\0\x04"[..], b"Q\0\0\0\x03", b"Q\x7f\xff\xff\xff", b"Q\0\0\0\x05a", b"B\0\0\0\x05\0", b"p\0\0\0\x04"]
    {
        let mut world = World::new(Config::default());
        let link = world.log_in(&[]);
        world.send(link, bytes);
        let answers = told(&world.take(link));
        assert!(answers[0].starts_with("E 08P01"), "{bytes:?}: {answers:?}");
        assert!(world.ended.contains_key(&link) && world.server.sessions().is_empty());
    }
}

/// Whatever is sent, at whatever stage: no panic, and the server serves the next one.
#[test]
fn random_bytes_do_no_harm() {
    let auths = [Auth::Trust, Auth::Cleartext, Auth::Md5, Auth::Scram];
    for seed in 0..800u64 {
        let mut rng = Rng::new(seed, 2);
        let mut world = World::new(Config { auth: auths[seed as usize % 4], scram_iterations: 1, ..Config::default() });
        let link = world.connect().expect("it listens");
        let mut bytes = if seed % 3 == 0 { Vec::new() } else { conversation() };
        for _ in 0..1 + rng.next() % 20 {
            let noise = (0..rng.next() % 30).map(|_| (rng.next() >> 20) as u8).collect::<Vec<_>>();
            let at = (rng.next() % (bytes.len() as u64 + 1)) as usize;
            if rng.chance(0.5) {
                bytes.splice(at..at, noise);
            } else {
                let end = (at + noise.len()).min(bytes.len());
                bytes[at..end].copy_from_slice(&noise[..end - at]);
            }
        }
        world.send(link, &bytes);
        world.pass(Duration::from_secs(2));
        world.server.config().auth = Auth::Trust;
        let other = world.log_in(&[]);
        assert_eq!(world.query(other, "SELECT 1")[1], "D 1", "seed {seed}");
    }
}

/// The statements that a mutated grammar gives end, and the session lives on.
#[test]
fn random_statements_do_no_harm() {
    const WORDS: &[&str] = &[
        "SELECT",
        "FROM",
        "WHERE",
        "t",
        "a",
        "(",
        ")",
        ",",
        "*",
        "1",
        "'x'",
        "$1",
        "::",
        "int4",
        "=",
        "+",
        "-",
        "AND",
        "NOT",
        "NULL",
        "IN",
        "ANY",
        "ARRAY",
        "[",
        "]",
        "count",
        "generate_series",
        "INSERT",
        "INTO",
        "VALUES",
        "UPDATE",
        "SET",
        "DELETE",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "TO",
        "SAVEPOINT",
        ";",
        "LIMIT",
        "ORDER",
        "BY",
        "RETURNING",
        "9223372036854775807",
        "0",
        "/",
        "%",
        "||",
        "IS",
        "CREATE",
        "TABLE",
        "now",
        "pg_sleep",
        "SHOW",
        "RESET",
        "ALL",
        "\"",
        "'",
        "é",
        "--",
        "/*",
        "unnest",
        "repeat",
        "abs",
        "nullif",
        "coalesce",
        "LISTEN",
        "NOTIFY",
        "CAST",
        "AS",
    ];
    let mut world = World::new(Config::default());
    let link = world.log_in(&[]);
    for seed in 0..5_000u64 {
        let mut rng = Rng::new(seed, 3);
        let count = 1 + rng.next() % 12;
        let words: Vec<&str> = (0..count).map(|_| WORDS[rng.next() as usize % WORDS.len()]).collect();
        world.send(link, &message(b'Q', &text(&words.join(" "))));
        world.send(link, &message(b'P', &[&text("")[..], &text(&words.join(" ")), b"\0\0"].concat()));
        world.send(link, &message(b'S', b""));
        world.pass(Duration::from_millis(1));
        assert!(!world.ended.contains_key(&link), "{words:?}");
        world.received.clear();
    }
    let pid = world.server.sessions()[0].pid;
    world.server.cancel(world.now, pid);
    world.pass(Duration::from_secs(1));
    world.received.clear();
    world.query(link, "ROLLBACK");
    assert_eq!(world.query(link, "SELECT 1")[1], "D 1");
}

#[test]
fn links_that_are_not_known_are_ignored() {
    use crate::net::Host;
    let mut world = World::new(Config::default());
    let stranger = LinkId(99);
    world.send(stranger, b"Q\0\0\0\x05\0");
    world.server.end(world.now, stranger);
    world.server.reset(world.now, stranger);
    assert!(world.received.is_empty() && world.server.deadline().is_none());
}
