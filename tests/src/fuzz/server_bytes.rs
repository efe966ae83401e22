//! Any bytes from a server, for the connection machine.
//!
//! The first byte says how: before the login, or in a session with requests of every kind under way. The second seeds
//! the pieces in which the rest arrives; the same bytes in one piece must give the same events, and the same end. Or the
//! bytes come between the calls of a client that submits, abandons, settles and sends in any order: then there is no
//! second run to compare with, but what the machine holds must stay in proportion to what it was given.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use pgweir_core::config::Secret;
use pgweir_core::pg::{
    Connection, Event, Fetch, Limits, Phase, Portal, Request, RequestId, SessionConfig, Settle, Statement,
};
use pgweir_core::pool::Fate;
use pgweir_core::time::Instant;

use crate::wire;

/// Requests that one run submits at most.
const MAX_REQUESTS: usize = 40;

/// Feeds a connection with what a server might send.
pub fn server_bytes(bytes: &[u8]) {
    let Some((&how, rest)) = bytes.split_first() else { return };
    match how % 4 {
        0 => in_any_pieces(rest, false),
        1 | 2 => in_any_pieces(rest, true),
        _ => among_calls(rest),
    }
}

fn config() -> SessionConfig {
    SessionConfig {
        user: "alice".into(),
        password: Some(Secret::new("wonderland")),
        database: "app".into(),
        parameters: Vec::new(),
        statement_cache_size: 2,
        command_timeout: Duration::from_secs(60),
        limits: Limits { unasked_events: 20, ..Limits::default() },
    }
}

fn begun() -> Connection {
    let mut connection = Connection::new(Arc::new(config()), Instant::ZERO).expect("a session");
    flush(&mut connection);
    connection
}

fn in_session() -> Connection {
    let mut connection = begun();
    connection.receive(Instant::ZERO, &wire::welcome()).expect("a welcome");
    while connection.poll_event().is_some() {}
    assert_eq!(connection.phase(), Phase::Ready);
    connection
}

fn flush(connection: &mut Connection) {
    let length = connection.outgoing().len();
    connection.sent(length);
}

/// The bytes in one piece and in many.
fn in_any_pieces(bytes: &[u8], in_a_session: bool) {
    let Some((&seed, bytes)) = bytes.split_first() else { return };
    let start = || {
        if !in_a_session {
            return begun();
        }
        let mut connection = in_session();
        let one = NonZeroU32::MIN;
        for request in [
            Request::Simple { sql: "SELECT" },
            Request::Prepare { sql: "SELECT $1", types: &[] },
            Request::QueryTyped { sql: "SELECT 1", params: &[], fetch: Fetch::All },
            Request::Simple { sql: "COPY t TO STDOUT; COPY t FROM STDIN" },
            Request::QueryTyped { sql: "SELECT 2", params: &[], fetch: Fetch::Rows(one) },
        ] {
            connection.submit(Instant::ZERO, request).expect("it is ready");
            flush(&mut connection);
        }
        connection
    };
    let (mut whole, mut pieces) = (start(), start());
    let told = feed(&mut whole, &[bytes]);
    let mut rest = bytes;
    let mut cut = Vec::new();
    let mut state = u32::from(seed);
    while !rest.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (piece, after) = rest.split_at((1 + (state >> 24) as usize % 40).min(rest.len()));
        cut.push(piece);
        rest = after;
    }
    let told_in_pieces = feed(&mut pieces, &cut);
    // Where the machine has to answer, it makes a difference whether it could before the next bytes came.
    if let (Some(whole_told), Some(told_in_pieces)) = (told, told_in_pieces) {
        assert_eq!(whole_told, told_in_pieces, "the pieces make a difference");
        assert_eq!((whole.phase(), whole.fate(), whole.pending()), (pieces.phase(), pieces.fate(), pieces.pending()));
    }
    if whole.phase() != Phase::Closed {
        assert!(whole.receive_eof(Instant::ZERO).is_err() && whole.fate() == Fate::Broken, "an end in the middle");
    }
}

/// What comes of these pieces; `None` if the machine answered something.
fn feed(connection: &mut Connection, pieces: &[&[u8]]) -> Option<Vec<String>> {
    let mut told = Vec::new();
    let mut answered = false;
    for piece in pieces {
        let received = connection.receive(Instant::ZERO, piece);
        while let Some(event) = connection.poll_event() {
            look_into(&event);
            // Which of them are dropped when they are too many depends on when they are polled.
            if event.request().is_some() || matches!(event, Event::Ready) {
                told.push(in_words(&event));
            }
        }
        answered |= !connection.outgoing().is_empty();
        flush(connection);
        if let Err(error) = received {
            assert_eq!((connection.fate(), connection.phase()), (Fate::Broken, Phase::Closed), "{error}");
            assert!(!error.to_string().is_empty() && connection.unsent() == 0 && connection.pending() == 0);
            told.push(error.to_string());
            break;
        }
    }
    (!answered).then_some(told)
}

/// What an event says. A statement's own form also shows that its connection has ended meanwhile.
fn in_words(event: &Event) -> String {
    match event {
        Event::Prepared { id, statement } => {
            format!("Prepared {id:?} {:?} {:?} {:?}", statement.sql(), statement.params(), statement.columns())
        }
        event => format!("{event:?}"),
    }
}

/// A row's lengths were checked: to read it cannot go wrong.
fn look_into(event: &Event) {
    if let Event::Row { row, .. } = event {
        use fallible_iterator::FallibleIterator;
        let mut ranges = row.ranges();
        while let Some(range) = ranges.next().expect("its lengths were checked") {
            let _ = range.map(|range| row.buffer()[range].len());
        }
    }
}

/// What a client does.
#[derive(Arbitrary, Debug)]
enum Call<'a> {
    Receive(&'a [u8]),
    /// A whole message, of a type and with a body.
    Message(u8, &'a [u8]),
    Simple(&'a str),
    Prepare(&'a str),
    Typed(&'a str, u8),
    Unprepared(&'a str),
    Query(u8, u8),
    OpenPortal(u8),
    FetchPortal(u8, u8),
    ClosePortal(u8),
    CloseStatement(u8),
    Bind(u8),
    Fetch(u8, u8),
    Send(u16),
    SendAll,
    Poll(u8),
    Abandon(u8),
    AbandonAll,
    Settle,
    CancelStarted,
    CancelEnded,
    Terminate,
    End,
}

/// What a client has in hand.
#[derive(Default)]
struct Hand {
    requests: Vec<RequestId>,
    statements: Vec<Arc<Statement>>,
    portals: Vec<Portal>,
}

fn among_calls(bytes: &[u8]) {
    let mut u = Unstructured::new(bytes);
    let mut connection = if u.arbitrary().unwrap_or(true) { in_session() } else { begun() };
    let mut hand = Hand::default();
    let mut received = 0;
    while !u.is_empty() {
        let Ok(call) = u.arbitrary::<Call<'_>>() else { break };
        let result = match call {
            Call::Receive(bytes) => {
                received += bytes.len();
                connection.receive(Instant::ZERO, bytes)
            }
            Call::Message(tag, body) => {
                const TAGS: &[u8] = b"123ACDEGHIKNRSTWZcdnstv";
                let message = wire::message(TAGS[usize::from(tag) % TAGS.len()], body);
                received += message.len();
                connection.receive(Instant::ZERO, &message)
            }
            call => {
                do_call(&mut connection, &mut hand, &call);
                Ok(())
            }
        };
        if result.is_err() {
            assert_eq!((connection.fate(), connection.phase()), (Fate::Broken, Phase::Closed));
        }
        assert!(connection.unsent() < 200 * MAX_REQUESTS + 2 * bytes.len(), "{} bytes unsent", connection.unsent());
        // Rollbacks and barriers of its own are few.
        assert!(connection.pending() <= MAX_REQUESTS + 8, "{} pending", connection.pending());
    }
    let mut left = 0;
    while let Some(event) = connection.poll_event() {
        look_into(&event);
        left += 1;
    }
    assert!(left <= received + 4 * MAX_REQUESTS, "{left} events of {received} bytes");
    connection.terminate();
    assert!(matches!(connection.phase(), Phase::Closed | Phase::Terminating));
}

fn do_call(connection: &mut Connection, hand: &mut Hand, call: &Call<'_>) {
    let now = Instant::ZERO;
    let fetch = |rows: u8| NonZeroU32::new(rows.into()).map_or(Fetch::All, Fetch::Rows);
    match *call {
        Call::Receive(_) | Call::Message(..) => {}
        Call::Simple(sql) => submit(connection, hand, Request::Simple { sql }),
        Call::Prepare(sql) => submit(connection, hand, Request::Prepare { sql, types: &[] }),
        Call::Typed(sql, rows) => {
            submit(connection, hand, Request::QueryTyped { sql, params: &[], fetch: fetch(rows) })
        }
        Call::Unprepared(sql) => submit(connection, hand, Request::Unprepared { sql, types: &[] }),
        Call::Query(pick, rows) => {
            if let Some(statement) = choose(&hand.statements, pick) {
                submit(connection, hand, Request::Query { statement: &statement, params: &[], fetch: fetch(rows) });
            }
        }
        Call::OpenPortal(pick) => {
            if let Some(statement) = choose(&hand.statements, pick) {
                submit(connection, hand, Request::OpenPortal { statement: &statement, params: &[] });
            }
        }
        Call::FetchPortal(pick, rows) => {
            if let Some(portal) = choose(&hand.portals, pick) {
                submit(connection, hand, Request::FetchPortal { portal: &portal, fetch: fetch(rows) });
            }
        }
        Call::ClosePortal(pick) => {
            if let Some(portal) = choose(&hand.portals, pick) {
                submit(connection, hand, Request::ClosePortal { portal: &portal });
            }
        }
        Call::CloseStatement(pick) => {
            if let Some(statement) = choose(&hand.statements, pick) {
                submit(connection, hand, Request::CloseStatement { statement: &statement });
            }
        }
        Call::Bind(pick) => {
            if let Some(id) = choose(&hand.requests, pick) {
                let _ = connection.bind(now, id, &[], Fetch::All);
            }
        }
        Call::Fetch(pick, rows) => {
            if let Some(id) = choose(&hand.requests, pick) {
                let _ = connection.fetch(now, id, fetch(rows));
            }
        }
        Call::Send(n) => connection.sent(usize::from(n).min(connection.outgoing().len())),
        Call::SendAll => flush(connection),
        Call::Poll(count) => (0..count).for_each(|_| poll(connection, hand)),
        Call::Abandon(pick) => {
            if let Some(id) = choose(&hand.requests, pick) {
                connection.abandon(id);
            }
        }
        Call::AbandonAll => connection.abandon_all(),
        Call::Settle => {
            if connection.settle(now) == Settle::Settled {
                assert_eq!(connection.fate(), Fate::Clean, "Sound: settled, and not clean");
            }
        }
        Call::CancelStarted => connection.cancel_started(),
        Call::CancelEnded => connection.cancel_ended(),
        Call::Terminate => connection.terminate(),
        Call::End => {
            let _ = connection.receive_eof(now);
        }
    }
}

fn submit(connection: &mut Connection, hand: &mut Hand, request: Request<'_>) {
    if hand.requests.len() < MAX_REQUESTS
        && let Ok(id) = connection.submit(Instant::ZERO, request)
    {
        hand.requests.push(id);
    }
}

fn poll(connection: &mut Connection, hand: &mut Hand) {
    let Some(event) = connection.poll_event() else { return };
    look_into(&event);
    match event {
        Event::Prepared { statement, .. } => hand.statements.push(statement),
        Event::PortalOpened { portal, .. } => hand.portals.push(portal),
        _ => {}
    }
}

fn choose<T: Clone>(from: &[T], pick: u8) -> Option<T> {
    from.get(usize::from(pick).checked_rem(from.len())?).cloned()
}
