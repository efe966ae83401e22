//! Bytes that no server sends, and the right bytes in the wrong pieces.

use std::sync::Arc;

use quickcheck::{TestResult, quickcheck};

use super::requests::prepared;
use super::wire::{self, complete, empty, message};
use super::{T0, ask, config, events, flush, ready, ready_with};
use crate::pg::{Connection, Event, Fetch, Limits, Phase, Request, SessionConfig};
use crate::pool::Fate;

/// All that the server says in the session that [`play`] has with it.
fn transcript() -> Vec<u8> {
    [
        wire::auth_ok(),
        wire::parameter("server_version", "15.4"),
        wire::notice("01000", "hello"),
        wire::key(99, 4711),
        wire::ready(b'I'),
        // The simple query.
        wire::columns(&[("a", 25)]),
        wire::row(&["one"]),
        wire::notification(1, "channel", "payload"),
        wire::row(&["two"]),
        complete("SELECT 2"),
        wire::ready(b'I'),
        // Prepare.
        prepared(),
        // The typed query.
        empty(b'1'),
        empty(b'2'),
        wire::columns(&[("a", 25), ("b", 23)]),
        wire::row(&["x", "1234"]),
        wire::parameter("TimeZone", "UTC"),
        complete("SELECT 1"),
        wire::ready(b'T'),
        // The one that fails, the COPY.
        wire::error("ERROR", "22012", "division by zero"),
        wire::ready(b'E'),
        wire::copy(b'H'),
        message(b'd', b"data"),
        empty(b'c'),
        complete("COPY 1"),
        wire::ready(b'I'),
    ]
    .concat()
}

/// Runs the session over pieces of these lengths (taken in turn), answers at once, and notes what happens.
fn play(bytes: &[u8], pieces: &[u8]) -> (Connection, Vec<String>) {
    let mut connection = Connection::new(Arc::new(config()), T0).unwrap();
    flush(&mut connection);
    let mut log = Vec::new();
    let mut rest = bytes;
    let mut lengths = pieces.iter().cycle();
    while !rest.is_empty() {
        let length = lengths.next().map_or(rest.len(), |&length| usize::from(length).max(1)).min(rest.len());
        let (piece, after) = rest.split_at(length);
        rest = after;
        let received = connection.receive(T0, piece);
        for event in events(&mut connection) {
            if matches!(event, Event::Ready) {
                submit_all(&mut connection);
            }
            log.push(format!("{event:?}"));
        }
        if let Err(error) = received {
            assert_eq!((connection.fate(), connection.phase()), (Fate::Broken, Phase::Closed));
            assert_eq!(connection.receive(T0, rest), Err(error.clone()));
            assert!(connection.outgoing().is_empty() && !error.to_string().is_empty());
            log.push(error.to_string());
            break;
        }
        assert!(connection.outgoing().len() < 10_000);
        flush(&mut connection);
    }
    (connection, log)
}

fn submit_all(connection: &mut Connection) {
    ask(connection, Request::Simple { sql: "SELECT" });
    ask(connection, Request::Prepare { sql: "SELECT $1", types: &[] });
    ask(connection, Request::QueryTyped { sql: "SELECT 1", params: &[], fetch: Fetch::All });
    ask(connection, Request::Simple { sql: "SELECT 1/0" });
    ask(connection, Request::Simple { sql: "COPY t TO STDOUT" });
}

/// The session's start goes in one piece, since requests are only submitted after it.
fn split(bytes: &[u8], pieces: &[u8]) -> (Connection, Vec<String>) {
    let start = transcript().iter().position(|&byte| byte == b'Z').unwrap() + 6;
    let mut lengths = vec![u8::try_from(start).unwrap()];
    lengths.extend_from_slice(pieces);
    play(bytes, &lengths)
}

#[test]
fn the_whole_session_is_understood() {
    let (connection, log) = split(&transcript(), &[255]);
    assert_eq!((connection.fate(), connection.pending()), (Fate::Clean, 0), "{log:#?}");
    assert_eq!(log.iter().filter(|line| line.starts_with("Done")).count(), 5);
}

quickcheck! {
    fn any_pieces_give_the_same_events(pieces: Vec<u8>) -> bool {
        split(&transcript(), &pieces).1 == split(&transcript(), &[255]).1
    }

    /// Login included: its pieces may not matter either.
    fn any_pieces_of_the_login_lead_to_ready(pieces: Vec<u8>) -> bool {
        let (mut connection, mut log) = (Connection::new(Arc::new(config()), T0).unwrap(), Vec::new());
        flush(&mut connection);
        let bytes = wire::welcome();
        let mut rest = &bytes[..];
        for piece in pieces.iter().map(|&piece| usize::from(piece % 16) + 1).chain([bytes.len()]) {
            let (now, after) = rest.split_at(piece.min(rest.len()));
            rest = after;
            connection.receive(T0, now).unwrap();
            log.extend(events(&mut connection));
        }
        matches!(log[..], [Event::Ready])
    }

    fn a_truncated_session_ends_in_an_error_of_its_end(cut: usize, pieces: Vec<u8>) -> TestResult {
        let bytes = transcript();
        let cut = cut % bytes.len();
        let (mut connection, _) = split(&bytes[..cut], &pieces);
        if connection.phase() == Phase::Closed {
            return TestResult::error("what is right so far is no error");
        }
        TestResult::from_bool(connection.receive_eof(T0).is_err() && connection.fate() == Fate::Broken)
    }

    fn flipped_bits_never_panic(flips: Vec<(usize, u8)>, pieces: Vec<u8>) -> bool {
        let mut bytes = transcript();
        for (at, bit) in flips.into_iter().take(8) {
            let at = at % bytes.len();
            bytes[at] ^= 1 << (bit % 8);
        }
        let (mut connection, _) = split(&bytes, &pieces);
        // Whatever came of it, it can be closed.
        connection.terminate();
        connection.phase() != Phase::Ready
    }

    /// What came whole before the damage is understood as if there were none. (Byte by byte: when the connection ends, it
    /// is seen in the statements of events that nobody has taken yet.)
    fn a_flipped_bit_changes_nothing_before_its_message(at: usize, bit: u8) -> bool {
        let mut bytes = transcript();
        let at = at % bytes.len();
        let mut start = 0;
        loop {
            let length = u32::from_be_bytes(*bytes[start + 1..].first_chunk().unwrap()) as usize;
            if at <= start + length {
                break;
            }
            start += length + 1;
        }
        let singly = vec![1; bytes.len()];
        let (_, before) = split(&bytes[..start], &singly);
        bytes[at] ^= 1 << (bit % 8);
        split(&bytes, &singly).1.starts_with(&before)
    }

    fn noise_never_panics(noise: Vec<u8>, ready_first: bool, typed: Vec<(u8, Vec<u8>)>) -> bool {
        let mut connection = if ready_first { ready() } else { Connection::new(Arc::new(config()), T0).unwrap() };
        if ready_first {
            submit_all(&mut connection);
        }
        flush(&mut connection);
        const TAGS: &[u8] = b"123ACDEGHIKNRSTWZcdnstv";
        for (tag, body) in typed {
            let _ = connection.receive(T0, &message(TAGS[usize::from(tag) % TAGS.len()], &body));
            flush(&mut connection);
        }
        let _ = connection.receive(T0, &noise);
        events(&mut connection).len() <= noise.len() + 100
    }
}

fn header(tag: u8, length: u32) -> Vec<u8> {
    [&[tag][..], &length.to_be_bytes()].concat()
}

#[test]
fn declared_lengths_are_capped_before_anything_is_reserved() {
    for length in [0, 3, (64 << 20) + 1, i32::MAX as u32, u32::MAX] {
        let mut connection = ready();
        ask(&mut connection, Request::Simple { sql: "x" });
        let error = connection.receive(T0, &header(b'D', length)).unwrap_err();
        assert!(error.to_string().contains("DataRow"), "{error}");
    }
    // Within the limit nothing is reserved for what has not come.
    let mut connection = ready();
    ask(&mut connection, Request::Simple { sql: "x" });
    connection.receive(T0, &header(b'D', 60 << 20)).unwrap();
    assert!(!connection.framer.has_room(10_000));

    let mut connection = ready();
    assert!(connection.receive(T0, &header(b'A', 1 << 20)).is_err(), "what comes unasked is small");
    let mut connection = Connection::new(Arc::new(config()), T0).unwrap();
    flush(&mut connection);
    let error = connection.receive(T0, &header(b'R', 1 << 20)).unwrap_err();
    assert!(error.to_string().contains("Authentication"), "{error}");

    let limits = Limits { message: 200 << 20, ..Limits::default() };
    let mut connection = ready_with(SessionConfig { limits, ..config() });
    connection.receive(T0, &header(b'E', 150 << 20)).unwrap();
}

#[test]
#[cfg_attr(miri, ignore = "megabytes take minutes")]
fn room_for_a_large_message_is_not_kept_when_it_has_come_and_gone() {
    let mut connection = ready();
    ask(&mut connection, Request::Simple { sql: "x" });
    connection.receive(T0, &header(b'D', 60 << 20)).unwrap();
    connection.receive(T0, &vec![0; (60 << 20) - 4]).unwrap_err();
    let mut connection = ready();
    ask(&mut connection, Request::Simple { sql: "x" });
    let wide = "x".repeat(5 << 20);
    connection.receive(T0, &[wire::columns(&[("a", 25)]), wire::row(&[&wide])].concat()).unwrap();
    assert_eq!(events(&mut connection).len(), 2);
    assert!(!connection.framer.has_room(1 << 20));
}

#[test]
fn messages_that_nothing_called_for_end_the_connection() {
    let cases = [
        wire::row(&["a"]),
        complete("SELECT 1"),
        wire::ready(b'I'),
        empty(b'1'),
        empty(b'I'),
        wire::copy(b'G'),
        wire::copy(b'W'),
        wire::auth_ok(),
        wire::key(1, 2),
        message(b'v', &[0; 8]),
        message(b'V', &[0; 4]),
        wire::error("ERROR", "22012", "out of the blue"),
    ];
    for bytes in cases {
        let mut connection = ready();
        let error = connection.receive(T0, &bytes).unwrap_err();
        assert_eq!(connection.fate(), Fate::Broken, "{error}");
    }
}

#[test]
fn answers_to_what_was_not_sent_are_refused() {
    let mut connection = ready();
    connection.submit(T0, Request::Simple { sql: "SELECT" }).unwrap();
    let error = connection.receive(T0, &complete("SELECT 0")).unwrap_err();
    assert!(error.to_string().contains("before the request was sent"), "{error}");

    let mut connection = ready();
    connection.submit(T0, Request::Simple { sql: "SELECT" }).unwrap();
    connection.sent(2);
    assert!(connection.receive(T0, &wire::ready(b'I')).is_err(), "it cannot be over before it is sent");
}

#[test]
fn bodies_that_do_not_add_up_are_refused_and_named() {
    let cases: [(Vec<u8>, &str); 9] = [
        (wire::row(&["a", "b"]), "DataRow"),
        (message(b'D', &[0, 1, 0, 0, 0, 9, b'x']), "DataRow"),
        (message(b'D', &[0, 0, 1]), "DataRow"),
        (message(b'T', &[255, 255, b'a', 0]), "RowDescription"),
        (message(b'C', b"SELECT 1"), "CommandComplete"),
        (message(b'C', b"SEL\0ECT 1\0"), "CommandComplete"),
        (message(b'Z', b"X"), "ReadyForQuery"),
        (message(b'E', b"Mno end"), "ErrorResponse"),
        (message(b'N', b"M"), "NoticeResponse"),
    ];
    for (bytes, name) in cases {
        let mut connection = ready();
        ask(&mut connection, Request::Simple { sql: "SELECT" });
        if !name.starts_with("Row") {
            connection.receive(T0, &wire::columns(&[("a", 25)])).unwrap();
        }
        let error = connection.receive(T0, &bytes).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert!(error.to_string().contains("in session"), "{error}");
    }
}

#[test]
fn steps_out_of_order_are_refused() {
    let mut connection = ready();
    ask(&mut connection, Request::Prepare { sql: "SELECT", types: &[] });
    let error = connection.receive(T0, &[empty(b'1'), empty(b'2')].concat()).unwrap_err();
    assert!(error.to_string().contains("BindComplete"), "{error}");

    let mut connection = ready();
    ask(&mut connection, Request::Prepare { sql: "SELECT", types: &[] });
    assert!(connection.receive(T0, &[empty(b'1'), wire::ready(b'I')].concat()).is_err(), "ReadyForQuery came early");
}
