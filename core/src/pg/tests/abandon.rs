//! Pipelines in which anything may be abandoned at any point: each request gets its own answer or none.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use quickcheck::quickcheck;

use super::backend::Backend;
use super::{T0, config};
use crate::pg::{Connection, Event, Fetch, Request, RequestId, Settle, Statement, SubmitError};
use crate::pool::Fate;

/// What a request is to return.
struct Expected {
    sql: String,
    /// Rather than being prepared only.
    runs: bool,
    rows: usize,
    done: bool,
    failed: bool,
    abandoned: bool,
    /// What it asks for after a pause.
    fetch: Fetch,
}

struct World {
    connection: Connection,
    backend: Backend,
    requests: BTreeMap<RequestId, Expected>,
    statements: Vec<Arc<Statement>>,
    submitted: usize,
}

impl World {
    fn new() -> Self {
        let mut world = World {
            connection: Connection::new(Arc::new(config()), T0).unwrap(),
            backend: Backend::default(),
            requests: BTreeMap::new(),
            statements: Vec::new(),
            submitted: 0,
        };
        world.write(usize::MAX);
        world.read(usize::MAX);
        assert!(world.connection.is_ready());
        world
    }

    fn submit(&mut self, kind: u8, size: u8) {
        let tag = self.submitted;
        let mut sql = match size % 10 {
            8 => format!("fail t{tag}"),
            9 => format!("unparsable t{tag}"),
            rows => format!("rows {rows} t{tag}"),
        };
        let fetch = match size % 3 {
            0 => Fetch::All,
            step => Fetch::Rows(NonZeroU32::new(u32::from(step)).unwrap()),
        };
        let statement = self.statements.get(usize::from(size) % self.statements.len().max(1)).cloned();
        let request = match (kind % 6, &statement) {
            (0, _) => Request::Simple { sql: &sql },
            (1, _) => Request::Unprepared { sql: &sql, types: &[] },
            (2, _) => Request::QueryTyped { sql: &sql, params: &[], fetch },
            (3, Some(statement)) => {
                sql = statement.sql().to_owned();
                Request::Query { statement, params: &[], fetch }
            }
            (4, _) => {
                sql = "BEGIN".to_owned();
                Request::Simple { sql: "BEGIN" }
            }
            _ => Request::Prepare { sql: &sql, types: &[] },
        };
        let runs = !matches!(request, Request::Prepare { .. });
        match self.connection.submit(T0, request) {
            Ok(id) => {
                self.submitted += 1;
                let expected = Expected { sql, runs, rows: 0, done: false, failed: false, abandoned: false, fetch };
                self.requests.insert(id, expected);
            }
            Err(error) => assert!(matches!(error, SubmitError::RoundOpen), "{error}"),
        }
        if self.statements.len() > 3 {
            self.statements.remove(0);
        }
    }

    fn write(&mut self, n: usize) {
        let bytes = self.connection.outgoing();
        let n = n.min(bytes.len());
        self.backend.receive(&bytes[..n]);
        self.connection.sent(n);
    }

    fn read(&mut self, n: usize) {
        let n = n.min(self.backend.output.len());
        let bytes: Vec<u8> = self.backend.output.drain(..n).collect();
        self.connection.receive(T0, &bytes).unwrap();
        while let Some(event) = self.connection.poll_event() {
            self.happened(event);
        }
    }

    fn happened(&mut self, event: Event) {
        let Some(id) = event.request() else { return };
        let expected = self.requests.get_mut(&id).expect("one of ours");
        assert!(!expected.abandoned, "an event of an abandoned request: {event:?}");
        assert!(!expected.done, "an event after the last: {event:?}");
        match event {
            Event::Prepared { statement, .. } => {
                assert_eq!(statement.sql(), expected.sql);
                // Of a named one this does nothing: it is not to be bound here.
                match self.connection.bind(T0, id, &[], expected.fetch) {
                    Ok(()) => {}
                    Err(_) => self.statements.push(statement),
                }
            }
            Event::Row { row, .. } => {
                let tag = expected.sql.split(' ').nth(2).expect("a statement with rows");
                assert_eq!(super::wire::only_value(&row), format!("{tag}:{}", expected.rows));
                expected.rows += 1;
            }
            Event::Suspended { .. } => self.connection.fetch(T0, id, expected.fetch).unwrap(),
            Event::Failed { error, .. } => {
                assert_eq!(error.db_error().unwrap().message, expected.sql);
                expected.failed = true;
            }
            Event::Done { .. } => expected.done = true,
            _ => {}
        }
    }

    fn abandon(&mut self, which: u8) {
        let live: Vec<RequestId> = self
            .requests
            .iter()
            .filter(|(_, request)| !request.done && !request.abandoned)
            .map(|(&id, _)| id)
            .collect();
        if let Some(&id) = live.get(usize::from(which) % live.len().max(1)) {
            self.connection.abandon(id);
            self.requests.get_mut(&id).expect("it is live").abandoned = true;
        }
    }

    /// Everything that is still wanted comes.
    fn finish(&mut self) {
        while self.requests.values().any(|request| !request.done && !request.abandoned) {
            assert!(!self.connection.outgoing().is_empty() || !self.backend.output.is_empty(), "both sides wait");
            self.write(usize::MAX);
            self.read(usize::MAX);
        }
        for request in self.requests.values().filter(|request| !request.abandoned) {
            let words: Vec<&str> = request.sql.split(' ').collect();
            let fails = words[0] == "unparsable" || (words[0] == "fail" && request.runs);
            assert_eq!(request.failed, fails, "{}", request.sql);
            if words[0] == "rows" && request.runs {
                assert_eq!(request.rows.to_string(), words[1]);
            }
        }
    }

    fn settle(&mut self) {
        for _ in 0..100 {
            match self.connection.settle(T0) {
                Settle::Settled => return,
                Settle::Wait { .. } => {
                    self.write(7);
                    self.read(11);
                }
                Settle::Close(fault) => panic!("{fault}"),
            }
            self.write(usize::MAX);
        }
        panic!("never settled");
    }
}

quickcheck! {
    fn each_request_gets_its_own_answer_or_none(steps: Vec<(u8, u8, u8)>) -> bool {
        let mut world = World::new();
        for (what, a, b) in steps {
            match what % 8 {
                0..=2 => world.submit(a, b),
                3 | 4 => world.write(usize::from(a)),
                5 | 6 => world.read(usize::from(a)),
                _ => world.abandon(a),
            }
        }
        world.finish();
        world.settle();
        assert_eq!((world.connection.fate(), world.connection.pending()), (Fate::Clean, 0));
        assert!(world.backend.output.is_empty());
        let asked = world.requests.len() as u64;
        assert!(world.connection.take_queries() <= asked);

        // And the next one is served.
        world.submit(0, 5);
        world.finish();
        world.requests.values().last().unwrap().rows == 5
    }

    /// Settling at once, from any state.
    fn any_state_can_be_settled(steps: Vec<(u8, u8, u8)>) -> bool {
        let mut world = World::new();
        for (what, a, b) in steps {
            match what % 4 {
                0 | 1 => world.submit(a, b),
                2 => world.write(usize::from(a)),
                _ => world.read(usize::from(a)),
            }
        }
        world.requests.values_mut().for_each(|request| request.abandoned = true);
        world.settle();
        world.connection.fate() == Fate::Clean
    }
}
