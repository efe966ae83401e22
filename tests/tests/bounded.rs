//! How much memory hostile bytes can claim, measured by counting every allocation: a binary of its own, since the counter
//! is the allocator.

use std::sync::Arc;
use std::time::Duration;

use allocation_counter::measure;
use pgweir_core::config::{Config, Secret};
use pgweir_core::journal::Journal;
use pgweir_core::pg::{Connection, Fetch, Limits, Request, SessionConfig};
use pgweir_core::time::Instant;
use pgweir_sim::Scenario;
use pgweir_tests::wire;

fn config() -> SessionConfig {
    SessionConfig {
        user: "alice".into(),
        password: Some(Secret::new("wonderland")),
        database: "app".into(),
        parameters: Vec::new(),
        statement_cache_size: 4,
        command_timeout: Duration::from_secs(60),
        limits: Limits::default(),
    }
}

fn in_session() -> Connection {
    let mut connection = Connection::new(Arc::new(config()), Instant::ZERO).expect("a session");
    connection.sent(connection.outgoing().len());
    connection.receive(Instant::ZERO, &wire::welcome()).expect("a welcome");
    while connection.poll_event().is_some() {}
    for request in [
        Request::Simple { sql: "SELECT" },
        Request::QueryTyped { sql: "SELECT 1", params: &[], fetch: Fetch::All },
        Request::Prepare { sql: "SELECT $1", types: &[] },
    ] {
        connection.submit(Instant::ZERO, request).expect("it is ready");
    }
    connection.sent(connection.outgoing().len());
    connection
}

/// The most bytes that are held at once while `bytes` are received and nobody polls.
fn held(bytes: &[u8]) -> u64 {
    let mut connection = in_session();
    measure(|| {
        let _ = connection.receive(Instant::ZERO, bytes);
    })
    .bytes_max
}

#[test]
fn a_declared_length_or_count_reserves_nothing() {
    const TAGS: &[u8] = b"123ACDEGHIKNRSTWZcdnstv";
    for &tag in TAGS {
        for length in [0, 3, 4, 5, 1_000_000, 60 << 20, u32::MAX / 2, u32::MAX] {
            let most = held(&wire::declared_length(tag, length));
            assert!(most < 4_096, "{} of {length} bytes claims {most}", tag as char);
        }
        // Counts within a body: of columns, values, formats, parameters.
        for count in [[0xff, 0xff], [0x7f, 0xff], [0, 1]] {
            let most = held(&wire::message(tag, &[&count[..], &[0xff; 6]].concat()));
            assert!(most < 4_096, "{} with a count of {count:?} claims {most}", tag as char);
        }
    }
}

/// Whatever a server sends, what is held is in proportion to it.
#[test]
fn a_flood_claims_what_it_weighs_and_what_comes_unasked_not_even_that() {
    let row = wire::message(b'D', &[0, 1, 0, 0, 0, 1, b'x']);
    let columns = wire::message(b'T', &[&[0, 1, b'a', 0][..], &[0; 6], &[0, 0, 0, 25], &[0xff; 6], &[0, 0]].concat());
    let rows = [columns, row.repeat(100_000)].concat();
    let most = held(&rows);
    assert!(most < 25 * rows.len() as u64, "{most} for {} bytes of rows", rows.len());

    let notice = wire::message(b'N', b"SNOTICE\0VNOTICE\0C00000\0Mhello\0\0");
    let notices = notice.repeat(200_000);
    let most = held(&notices);
    assert!(most < notices.len() as u64 * 3 + (2 << 20), "{most} for {} bytes of notices", notices.len());

    // Read as they come, none of them stays.
    let mut connection = in_session();
    let most = measure(|| {
        for _ in 0..200_000 {
            connection.receive(Instant::ZERO, &notice).expect("a notice");
        }
    });
    assert!(most.bytes_max < 3 << 20, "{} are kept of notices that nobody polls", most.bytes_max);
    assert!(connection.dropped_events() > 190_000);
}

#[test]
fn half_a_message_that_never_ends_is_held_once() {
    let mut connection = in_session();
    let mut bytes = wire::declared_length(b'D', 32 << 20);
    bytes.extend(vec![0; 8 << 20]);
    let most = measure(|| {
        for piece in bytes.chunks(1_000) {
            connection.receive(Instant::ZERO, piece).expect("it is not complete");
        }
    });
    // The buffer doubles, and for a moment there are two.
    assert!(most.bytes_max <= 4 * bytes.len() as u64, "{} for {} bytes", most.bytes_max, bytes.len());
}

#[test]
fn texts_and_journals_claim_no_more_than_a_few_times_their_length() {
    let laughs = (1..60_u8).fold("a0: &a0 [x, x, x, x, x, x, x, x]\n".to_owned(), |text, level| {
        let (this, last) = (level, level - 1);
        text + &format!("a{this}: &a{this} [{}]\n", vec![format!("*a{last}"); 8].join(", "))
    });
    let texts = [laughs, "[".repeat(6_000), "{a: ".repeat(1_500), "a: &a [*a]\n".to_owned(), "- ".repeat(3_000)];
    for text in &texts {
        let most = measure(|| drop(Config::builder().yaml_str(text).build())).bytes_max;
        assert!(most < 32 << 20, "{most} for a YAML of {} bytes", text.len());
        let most = measure(|| drop(Scenario::from_yaml("hostile.yaml", text))).bytes_max;
        assert!(most < 64 << 20, "{most} for a scenario of {} bytes", text.len());
    }
    let journal = [&b"\xf0pgweir\n\x01\0H\xff\xff\xff\xff"[..], &[0xff; 10_000]].concat();
    let most = measure(|| drop(Journal::read(&journal))).bytes_max;
    assert!(most < 100_000, "{most} for a journal that declares 4 GiB");
}
