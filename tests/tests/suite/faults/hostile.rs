//! Servers that lie, babble, or fall silent (DESIGN section 5, "Hostile input"): an error or another attempt, in
//! bounded memory, and never a hang.

use std::num::NonZeroU32;
use std::thread;
use std::time::{Duration, Instant};

use pgweir_core::client::Error;
use pgweir_core::pool::FaultClass;
use pgweir_tests::{Script, ScriptedServer, Step, wire};

use super::outage::{hurried, ms, unavailable};
use crate::suite::common::{config, open, open_lazy, run, until};
use crate::suite::rt::{self, OpenError};

/// What this process has in memory, in MB; the tests beside this one come on top.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn lets_in() -> Script {
    Script::answer_every_message(wire::one_row("off"))
}

/// Lets everybody in, answers the pool's own question, and then does `steps`.
fn lets_in_then(steps: impl IntoIterator<Item = Step>) -> Script {
    let mut script =
        vec![Step::ReadStartup, Step::Send(wire::welcome()), Step::ReadMessage, Step::Send(wire::one_row("off"))];
    script.extend(steps);
    Script(script)
}

/// Everything that a login can meet instead of a PostgreSQL: opening fails with what was wrong, a lazy pool tells its
/// callers within outage_grace, and when a server turns up behind the address the pool finds it.
#[test]
fn a_hostile_login_is_an_error_and_nothing_worse() {
    run(async |_trace| {
        let flood = |bytes| Script(vec![Step::ReadStartup, Step::SendForever(bytes)]);
        // What it does; what is said of it; whether trying again soon makes sense.
        let (port, silence) = ("is this a PostgreSQL server's port?", "no answer within");
        let cases = [
            ("garbage", Script::garbage(), port, FaultClass::Permanent),
            ("a message of 2 GB", Script::huge_length(), "2147483647 bytes", FaultClass::Permanent),
            ("no answer", Script::never_answer(), silence, FaultClass::Transient),
            ("an end", Script::close(), "the server closed the connection", FaultClass::Transient),
            ("a reset", Script::reset(), "reset by peer", FaultClass::Transient),
            ("half a message", Script::answer(wire::declared_length(b'R', 8)), silence, FaultClass::Transient),
            ("zeros without end", flood(vec![0; 4096]), port, FaultClass::Permanent),
            ("a query's answer", Script::answer(wire::one_row("1")), "RowDescription", FaultClass::Permanent),
            ("another protocol's greeting", Script::answer(&b"\x0a8.0.33\0"[..]), port, FaultClass::Permanent),
            ("silence after the welcome", Script::welcome_then_silence(), "the login went well", FaultClass::Transient),
            ("an unknown SASL", Script::answer(wire::authentication_sasl(&["PLAIN"])), "PLAIN", FaultClass::Permanent),
        ];
        let mut tasks = Vec::new();
        for (what, script, words, class) in cases {
            tasks.push(rt::spawn(hostile_login(what, script, words, class)));
        }
        rt::join_all(tasks).await;
    });
}

async fn hostile_login(what: &'static str, script: Script, words: &'static str, class: FaultClass) {
    let server = ScriptedServer::start(script).expect("a server");
    let quick = || hurried(config(&server.url(), "hostile")).connect_timeout(ms(400)).backoff_max(ms(900));
    let built = quick().init_attempts(2).build().expect("valid");
    let began = Instant::now();
    let error = crate::suite::rt::Pool::builder(built).open().await.expect_err(what);
    assert!(began.elapsed() < ms(2_500), "{what}: {:?}", began.elapsed());
    let OpenError::Init { attempts } = &error else { panic!("{what}: {error}") };
    let place = format!("connecting to {}", server.address());
    let explains = |said: &str| said.starts_with(&place) && said.contains(words);
    assert!(attempts.iter().any(|fault| explains(&fault.message)), "{what}: {error}");
    assert_eq!(attempts[0].class, class, "{what}: {error}");
    until("nothing stays open", || server.open() == 0).await;

    let lazy = open_lazy(quick());
    let began = Instant::now();
    let report = unavailable(lazy.get().await);
    assert!(began.elapsed() < ms(2_000), "{what}: {:?}", began.elapsed());
    assert_eq!(report.cause.class, class, "{what}: {report}");
    server.set_script(lets_in());
    until("the pool finds the server", || lazy.try_get().is_ok()).await;
}

/// Messages that make no sense, or none at all, in answer to a query: the query fails, the connection goes, the next
/// caller gets a new one.
#[test]
fn a_hostile_answer_fails_its_query_only() {
    run(async |_trace| {
        let declares = |tag, length| Step::Send(wire::declared_length(tag, length));
        let cases = [
            ("an unknown message", vec![Step::Send(wire::message(b'!', b"?"))]),
            ("a length under its own size", vec![declares(b'T', 3)]),
            ("a row of 2 GB", vec![declares(b'D', 0x7fff_ffff)]),
            ("a row of no columns' description", vec![Step::Send(wire::message(b'T', &[0xff; 7]))]),
            ("a row that lies about its length", vec![Step::Send(wire::message(b'D', &[0, 9, 0xff, 0xff]))]),
            ("an error without end", vec![Step::Send(wire::message(b'E', b"SERROR"))]),
            ("half an answer and an end", vec![declares(b'T', 50)]),
            ("half an answer and a reset", vec![declares(b'T', 50), Step::Reset]),
            ("a login in the middle", vec![Step::Send(wire::authentication_cleartext())]),
        ];
        for (what, answer) in cases {
            let steps = std::iter::once(Step::ReadMessage).chain(answer);
            let server = ScriptedServer::start(lets_in_then(steps)).expect("a server");
            let pool =
                open(hurried(config(&server.url(), "answer")).min_size(1).max_size(1).command_timeout(ms(800))).await;
            let mut lease = pool.get().await.expect("a connection");
            server.set_script(lets_in());
            let began = Instant::now();
            let error = lease.simple_query("SELECT 1").await.expect_err(what);
            assert!(error.is_closed(), "{what}: {error}");
            assert!(began.elapsed() < ms(600), "{what}: {:?}", began.elapsed());
            drop(lease);
            let mut next = pool.get().await.expect("a new connection");
            next.simple_query("SELECT 1").await.expect("it works");
            let sent = server.received();
            assert!(!sent.windows(6).any(|bytes| bytes == b"secret"), "{what}: the password was sent unasked or late");
        }
    });
}

/// A server that never stops talking to an idle connection, and one that never stops talking to a query: memory stays
/// bounded, other connections and the pool's own task go on, and everything ends when it is told to.
#[test]
fn floods_are_bounded_and_block_nobody() {
    run(async |_trace| {
        let notice = wire::notice("WARNING", "01000", &"x".repeat(2_000));
        let setting = wire::parameter_status("application_name", &"y".repeat(2_000));
        let before = resident();
        for flood in [notice.clone(), setting] {
            let server = ScriptedServer::start(lets_in_then([Step::SendForever(flood)])).expect("a server");
            let pool = open(hurried(config(&server.url(), "flood")).min_size(1).max_size(2)).await;
            server.set_script(lets_in());
            let began = Instant::now();
            // Lent, used and given back while it roars, on a runtime's thread and on a bare one.
            for _ in 0..10 {
                let lease = pool.get_timeout(ms(900)).await.expect("a connection");
                let drop_here = move || {
                    let began = Instant::now();
                    drop(lease);
                    began.elapsed()
                };
                let took = thread::spawn(drop_here).join().expect("no panic");
                assert!(took < ms(250), "a drop posts an event and returns, it took {took:?}");
            }
            assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
            let began = Instant::now();
            pool.close_timeout(ms(300)).await;
            assert!(began.elapsed() < ms(1_500), "{:?}", began.elapsed());
        }

        // A query whose answer never ends, taken as a stream and given up.
        let row = wire::message(b'D', &[&[0, 1, 0, 0, 7, 208][..], &[b'z'; 2_000]].concat());
        let mut description = wire::one_row("");
        let length = description[1..5].iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        description.truncate(1 + length);
        let steps = [Step::ReadMessage, Step::Send(description), Step::SendForever(row)];
        let server = ScriptedServer::start(lets_in_then(steps)).expect("a server");
        let quick = hurried(config(&server.url(), "endless")).min_size(1).max_size(1).reset_timeout(ms(300));
        let pool = open(quick).await;
        let mut lease = pool.get().await.expect("a connection");
        server.set_script(lets_in());
        let endless = rt::timeout(ms(300), lease.batch_execute("SELECT everything"));
        assert!(endless.await.is_err(), "it never ends");
        drop(lease);
        let mut next = pool.get_timeout(Duration::from_secs(5)).await.expect("a new connection after reset_timeout");
        next.simple_query("SELECT 1").await.expect("it works");
        let grown = resident().saturating_sub(before);
        assert!(grown < 100, "{grown} MB more");
    });
}

/// A server that answers the question and then says nothing more: each query costs its caller command_timeout, the
/// clean-up reset_timeout, and a caller with less time is answered in his.
#[test]
fn silence_after_a_good_start_is_bounded() {
    run(async |_trace| {
        let server = ScriptedServer::start(lets_in_then([Step::Swallow])).expect("a server");
        let quick = hurried(config(&server.url(), "silence")).min_size(1).max_size(1).command_timeout(ms(300));
        let pool = open(quick.reset_timeout(ms(300)).validation_timeout(ms(300)).validation_interval(ms(10))).await;
        let mut lease = pool.get().await.expect("a connection");
        let error = lease.query("SELECT 1", &[]).await.expect_err("silence");
        assert!(matches!(error, Error::Timeout { .. }), "{error}");
        let fetch = NonZeroU32::new(10).expect("not zero");
        lease.query_stream("SELECT 1", &[], fetch).await.map(drop).expect_err("silence");
        drop(lease);
        for _ in 0..3 {
            let began = Instant::now();
            if let Ok(mut lease) = pool.get_timeout(ms(500)).await {
                lease.query("SELECT 1", &[]).await.expect_err("silence");
            }
            assert!(began.elapsed() < ms(1_000), "{:?}", began.elapsed());
        }
        let began = Instant::now();
        pool.close_timeout(ms(200)).await;
        assert!(began.elapsed() < ms(1_400), "{:?}", began.elapsed());
    });
}
