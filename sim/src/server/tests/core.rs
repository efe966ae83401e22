//! Against pgweir's own connection machine: bytes pumped between the two, on a virtual clock.

use std::sync::Arc;
use std::time::Duration;

use pgweir_core::config::Secret;
use pgweir_core::pg::{
    Connection, Event, Fetch, Limits, Phase, Request, SessionConfig, Statement, TransactionStatus, cancel_request,
};
use pgweir_core::pool::Fate;
use pgweir_core::time::Instant;
use postgres_types::{ToSql, Type};

use super::T0;
use crate::net::{Accept, Host, LinkId, Output};
use crate::scenario::Crash;
use crate::server::{Answer, Auth, Config, Postgres, StopMode, Type as Ours};

fn session_config(password: &str) -> SessionConfig {
    SessionConfig {
        user: "alice".into(),
        password: Some(Secret::new(password)),
        database: "app".into(),
        parameters: vec![("application_name".into(), "tests".into())],
        statement_cache_size: 4,
        command_timeout: Duration::from_secs(60),
        limits: Limits::default(),
    }
}

/// A connection and the server at its other end.
struct Rig {
    now: Instant,
    server: Postgres,
    link: LinkId,
    connection: Connection,
}

impl Rig {
    fn new(config: Config, password: &str) -> Rig {
        let server = Postgres::new(config).expect("a configuration");
        let connection = Connection::new(Arc::new(session_config(password)), T0).expect("a session");
        let mut rig = Rig { now: T0, server, link: LinkId(1), connection };
        assert_eq!(rig.server.accept(T0, rig.link), Accept::Open);
        rig
    }

    fn ready() -> Rig {
        let mut rig = Rig::new(Config::default(), "secret");
        let events = rig.run();
        assert!(matches!(events[..], [Event::Ready]), "{events:?}");
        rig
    }

    /// Carries bytes in both directions and lets time pass until nothing happens any more.
    fn run(&mut self) -> Vec<Event> {
        self.run_until(Instant::MAX)
    }

    fn run_until(&mut self, end: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let bytes = self.connection.outgoing().to_vec();
            self.connection.sent(bytes.len());
            if !bytes.is_empty() {
                self.server.receive(self.now, self.link, &bytes);
            }
            let mut outputs = Vec::new();
            self.server.drain(&mut outputs);
            for (link, output) in outputs {
                if link != self.link {
                    continue;
                }
                match output {
                    Output::Bytes(bytes) => drop(self.connection.receive(self.now, &bytes)),
                    Output::Close => drop(self.connection.receive_eof(self.now)),
                    Output::Reset => {
                        let error = std::io::ErrorKind::ConnectionReset.into();
                        drop(self.connection.receive_io_error(self.now, &error));
                    }
                }
            }
            events.extend(std::iter::from_fn(|| self.connection.poll_event()));
            if !self.connection.outgoing().is_empty() {
                continue;
            }
            // Timeouts of an idle session are not waited for.
            match self.server.deadline().filter(|at| *at <= end && *at < self.now + Duration::from_secs(50)) {
                Some(at) => {
                    self.now = self.now.max(at);
                    self.server.tick(self.now);
                }
                None => return events,
            }
        }
    }

    fn simple(&mut self, sql: &str) -> Vec<Event> {
        self.connection.submit(self.now, Request::Simple { sql }).expect("ready");
        self.run()
    }

    fn typed(&mut self, sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Vec<Event> {
        self.connection.submit(self.now, Request::QueryTyped { sql, params, fetch: Fetch::All }).expect("ready");
        self.run()
    }
}

/// Events in short: rows as text, `|` between their columns.
fn told(events: &[Event]) -> Vec<String> {
    let short = |event: &Event| match event {
        Event::Row { row, .. } => {
            let body = row.buffer();
            let mut ranges = row.ranges();
            let mut values = Vec::new();
            while let Ok(Some(range)) = fallible_iterator::FallibleIterator::next(&mut ranges) {
                values.push(range.map_or("NULL".into(), |range| String::from_utf8_lossy(&body[range]).into_owned()));
            }
            format!("Row {}", values.join("|"))
        }
        Event::Columns { columns, .. } => {
            format!("Columns {:?}", columns.iter().map(|column| column.name.to_string()).collect::<Vec<_>>())
        }
        Event::Complete { tag, .. } => String::from_utf8_lossy(tag).into_owned(),
        Event::Failed { error, .. } => error.to_string(),
        Event::Parameter { name, value } => format!("Parameter {name}={value}"),
        Event::Done { .. } => "Done".to_owned(),
        other => format!("{other:?}"),
    };
    events.iter().map(short).collect()
}

#[test]
fn every_authentication_method_lets_the_right_password_in_and_no_other() {
    for auth in [Auth::Trust, Auth::Cleartext, Auth::Md5, Auth::Scram] {
        let config = || Config { auth, ..Config::default() };
        let mut rig = Rig::new(config(), "secret");
        let events = rig.run();
        assert!(matches!(events[..], [Event::Ready]), "{auth:?}: {:?}", rig.connection);
        assert_eq!(rig.connection.parameter("application_name"), Some("tests"));
        let took = rig.now - T0;
        assert_eq!(took, Duration::from_millis(if auth == Auth::Scram { 15 } else { 5 }), "{auth:?}");

        let mut rig = Rig::new(config(), "wrong");
        rig.run();
        if auth != Auth::Trust {
            let fault = rig.connection.fault().expect("a fault");
            assert!(fault.to_string().contains("28P01"), "{auth:?}: {fault}");
            assert_eq!(rig.server.counts().turned_away["28P01"], 1);
        }
    }
}

#[test]
fn simple_queries_are_answered() {
    let mut rig = Rig::ready();
    assert_eq!(
        told(&rig.simple("SELECT 1, 'x' AS y; SET application_name = 'z'; SHOW application_name")),
        [
            "Columns [\"?column?\", \"y\"]",
            "Row 1|x",
            "SELECT 1",
            "SET",
            "Columns [\"application_name\"]",
            "Row z",
            "SHOW",
            "Parameter application_name=z",
            "Done",
        ]
    );
    assert_eq!(rig.connection.fate(), Fate::Clean);
}

#[test]
fn the_pools_own_statements_work() {
    let mut rig = Rig::ready();
    for (sql, last) in [
        ("SHOW transaction_read_only", "Row off"),
        ("SELECT pg_catalog.pg_is_in_recovery()", "Row f"),
        ("SELECT source = 'session' FROM pg_catalog.pg_settings WHERE name = 'default_transaction_read_only'", "Row f"),
    ] {
        assert_eq!(told(&rig.simple(sql))[1], last, "{sql}");
    }
    let reset = "CLOSE ALL;SET SESSION AUTHORIZATION DEFAULT;RESET ALL;UNLISTEN *;\
                 SELECT pg_catalog.pg_advisory_unlock_all();DISCARD TEMP;DISCARD SEQUENCES";
    let events = told(&rig.simple(reset));
    assert_eq!(events.last().map(String::as_str), Some("Done"));
    assert!(!events.iter().any(|event| event.starts_with("ERROR")), "{events:?}");
}

#[test]
fn statements_with_parameters_answer_in_binary() {
    let mut rig = Rig::ready();
    let params: [(&(dyn ToSql + Sync), Type); 2] = [(&41i32, Type::INT4), (&"x", Type::TEXT)];
    let events = rig.typed("SELECT $1::int4 + 1, $2", &params);
    let row = events.iter().find_map(|event| match event {
        Event::Row { row, .. } => Some(row.buffer().to_vec()),
        _ => None,
    });
    assert_eq!(row.expect("a row"), b"\0\0\0\x04\0\0\0\x2a\0\0\0\x01x");
    // As the demo has it: the sleep is on the virtual clock.
    let before = rig.now;
    let params: [(&(dyn ToSql + Sync), Type); 2] = [(&1i32, Type::INT4), (&0.25f64, Type::FLOAT8)];
    assert_eq!(told(&rig.typed("SELECT $1::int4 + 1 FROM pg_sleep($2)", &params)).last().unwrap(), "Done");
    assert_eq!(rig.now - before, Duration::from_millis(250));
}

#[test]
fn statements_are_prepared_with_the_types_that_they_need() {
    let mut rig = Rig::ready();
    rig.simple("CREATE TABLE orders (id int8 PRIMARY KEY, item text)");
    let statement = prepare(&mut rig, "INSERT INTO orders (id, item) VALUES ($1, $2)");
    assert_eq!(statement.params(), [Type::INT8, Type::TEXT]);
    let params: [&(dyn ToSql + Sync); 2] = [&7i64, &"tea"];
    let request = Request::Query { statement: &statement, params: &params, fetch: Fetch::All };
    rig.connection.submit(rig.now, request).expect("ready");
    assert_eq!(told(&rig.run()), ["INSERT 0 1", "Done"]);
    rig.connection.submit(rig.now, request).expect("ready");
    let events = told(&rig.run());
    assert!(events[0].contains("23505"), "{events:?}");
    let statement = prepare(&mut rig, "SELECT item FROM orders WHERE id = $1");
    assert_eq!((statement.params(), statement.columns().len()), (&[Type::INT8][..], 1));
    let request = Request::Query { statement: &statement, params: &params[..1], fetch: Fetch::All };
    rig.connection.submit(rig.now, request).expect("ready");
    assert_eq!(told(&rig.run()), ["Row tea", "SELECT 1", "Done"]);
}

fn prepare(rig: &mut Rig, sql: &str) -> Arc<Statement> {
    rig.connection.submit(rig.now, Request::Prepare { sql, types: &[] }).expect("ready");
    let events = rig.run();
    let prepared = events.iter().find_map(|event| match event {
        Event::Prepared { statement, .. } => Some(statement.clone()),
        _ => None,
    });
    prepared.unwrap_or_else(|| panic!("{sql}: {:?}", told(&events)))
}

#[test]
fn an_error_fails_its_transaction_and_a_pipeline_goes_on_behind_it() {
    let mut rig = Rig::ready();
    rig.simple("BEGIN");
    let events = told(&rig.simple("SELECT 1/0"));
    assert!(events[0].contains("22012"), "{events:?}");
    assert_eq!(rig.connection.transaction_status(), TransactionStatus::Failed);
    assert!(told(&rig.simple("SELECT 1"))[0].contains("25P02"));
    assert_eq!(told(&rig.simple("COMMIT")), ["ROLLBACK", "Done"]);

    for sql in ["SELECT 1", "SELECT nonsense", "SELECT 3"] {
        let request = Request::QueryTyped { sql, params: &[], fetch: Fetch::All };
        rig.connection.submit(rig.now, request).expect("ready");
    }
    let events = told(&rig.run());
    assert_eq!(events.iter().filter(|event| *event == "Done").count(), 3);
    assert!(events.iter().any(|event| event.contains("42703")), "{events:?}");
    assert_eq!(events[events.len() - 2], "SELECT 1", "{events:?}");
}

#[test]
fn a_cancel_stops_the_statement_that_runs() {
    let mut rig = Rig::ready();
    let key = rig.connection.backend_key().expect("a key");
    rig.connection.submit(rig.now, Request::Simple { sql: "SELECT pg_sleep(3600)" }).expect("ready");
    let soon = rig.now + Duration::from_secs(1);
    assert!(rig.run_until(soon).is_empty());
    rig.now = soon;
    let other = LinkId(2);
    assert_eq!(rig.server.accept(soon, other), Accept::Open);
    rig.server.receive(soon, other, &cancel_request(&key));
    let events = told(&rig.run());
    assert!(events[0].contains("57014"), "{events:?}");
    assert_eq!((rig.server.counts().cancels, rig.server.counts().cancels_hit), (1, 1));
    assert_eq!(rig.connection.fate(), Fate::Clean);
}

#[test]
fn rows_come_in_portions() {
    let mut rig = Rig::ready();
    let fetch = Fetch::Rows(2.try_into().expect("not zero"));
    let request = Request::QueryTyped { sql: "SELECT generate_series(1, 5)", params: &[], fetch };
    let id = rig.connection.submit(rig.now, request).expect("ready");
    let mut rows = 0;
    loop {
        let events = rig.run();
        rows += events.iter().filter(|event| matches!(event, Event::Row { .. })).count();
        if !matches!(events.last(), Some(Event::Suspended { .. })) {
            assert!(matches!(events.last(), Some(Event::Done { .. })), "{events:?}");
            break;
        }
        rig.connection.fetch(rig.now, id, fetch).expect("suspended");
    }
    assert_eq!(rows, 5);
}

#[test]
fn scripted_answers_are_typed() {
    let mut rig = Rig::ready();
    rig.server
        .on("SELECT price FROM items WHERE id = $1", |call| match call.params[0].as_int() {
            Some(7) => Answer::value("price", Ours::Int8, 250).after(Duration::from_secs(2)),
            _ => Answer::error("P0002", "no such item"),
        })
        .params([Ours::Int8])
        .columns([("price", Ours::Int8)]);
    let statement = prepare(&mut rig, "SELECT price FROM items WHERE id = $1");
    assert_eq!((statement.params(), statement.columns()[0].type_()), (&[Type::INT8][..], &Type::INT8));
    let before = rig.now;
    let mut ask = |id: i64| {
        let params: [&(dyn ToSql + Sync); 1] = [&id];
        let request = Request::Query { statement: &statement, params: &params, fetch: Fetch::All };
        rig.connection.submit(rig.now, request).expect("ready");
        (told(&rig.run()), rig.now)
    };
    let (events, now) = ask(7);
    assert_eq!(events, ["Row \0\0\0\0\0\0\0\u{fffd}", "SELECT 1", "Done"]);
    assert_eq!(now - before, Duration::from_secs(2));
    assert!(ask(8).0[0].contains("P0002"));
}

#[test]
fn a_crash_and_a_stop_are_told_as_postgresql_tells_them() {
    let crash = Crash { down: Duration::ZERO, recovering: Duration::from_secs(3) };
    let mut rig = Rig::ready();
    rig.server.crash(rig.now, &crash);
    rig.run_until(rig.now);
    assert_eq!(rig.connection.phase(), Phase::Closed);
    let fault = rig.connection.fault().expect("a fault").to_string();
    assert!(fault.contains("57P02"), "{fault}");

    let mut rig = Rig::ready();
    rig.server.stop(rig.now, StopMode::Fast, Duration::from_secs(1));
    rig.run_until(rig.now);
    let fault = rig.connection.fault().expect("a fault").to_string();
    assert!(fault.contains("57P01"), "{fault}");
    let told_now = |rig: &mut Rig, at: Instant| {
        let mut other = Connection::new(Arc::new(session_config("secret")), at).expect("a session");
        rig.now = at;
        rig.server.tick(at);
        rig.link = LinkId(9);
        if rig.server.accept(at, rig.link) == Accept::Refused {
            return "refused".to_owned();
        }
        std::mem::swap(&mut rig.connection, &mut other);
        rig.run_until(at + Duration::from_millis(500));
        rig.connection.fault().map_or("in".to_owned(), ToString::to_string)
    };
    let now = rig.now;
    assert!(told_now(&mut rig, now).contains("shutting down"));
    assert_eq!(told_now(&mut rig, now + Duration::from_secs(2)), "refused");
    rig.server.start(now + Duration::from_secs(3), Duration::from_secs(1));
    assert!(told_now(&mut rig, now + Duration::from_secs(3)).contains("starting up"));
    assert_eq!(told_now(&mut rig, now + Duration::from_secs(4)), "in");
}

#[test]
fn two_runs_have_one_digest() {
    let run = |seed| {
        let config = Config { seed, auth: Auth::Scram, ..Config::default() };
        let mut rig = Rig::new(config, "secret");
        rig.run();
        rig.simple("SELECT now(), pg_backend_pid(), generate_series(1, 10000)");
        rig.server.digest()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
