//! A client's connection and its session, as the server keeps them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use pgweir_core::time::Instant;

use super::auth::{Scram, Verifier};
use super::error::PgError;
use super::plan::Prepared;
use super::read::Input;
use super::run::Source;
use super::settings::Settings;
use super::table::Changes;
use super::value::{Column, Value};
use super::write::{Out, Status};
use crate::net::{LinkId, Output};

/// A connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) wire: Wire,
    pub(super) stage: Stage,
    /// When it must be looked at, as it stands in the server's list.
    pub(super) wake: Option<Instant>,
}

/// The bytes of a connection.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) id: LinkId,
    pub(super) opened: Instant,
    pub(super) input: Input,
    pub(super) out: Out,
    /// The client sends no more.
    pub(super) ended: bool,
    /// The client does not read fast enough: rows wait.
    pub(super) congested: bool,
    /// How the connection ends, after what is in `out`.
    pub(super) closing: Option<Output>,
}

/// How far it has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// The startup message is to come.
    Opening,
    /// The server makes a process for it.
    Forking {
        login: Login,
        until: Instant,
    },
    /// The client's proof is to come.
    Proof {
        login: Login,
        exchange: Exchange,
    },
    /// The server checks the proof.
    Checking {
        login: Login,
        until: Instant,
        verdict: Result<Option<String>, PgError>,
    },
    /// The login hangs.
    Hanging,
    Session(Box<Session>),
}

/// Who logs in.
#[derive(Clone, Debug)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) database: String,
    pub(super) parameters: Vec<(String, String)>,
}

#[derive(Debug)]
pub(super) enum Exchange {
    Cleartext,
    Md5 { salt: [u8; 4] },
    ScramFirst { verifier: Verifier, known: bool },
    ScramLast { scram: Scram, known: bool },
}

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) pid: i32,
    pub(super) key: i32,
    pub(super) user: Arc<str>,
    pub(super) database: Arc<str>,
    pub(super) since: Instant,
    pub(super) settings: Settings,
    /// What was last reported of them.
    pub(super) reported: BTreeMap<&'static str, String>,
    pub(super) transaction: Option<Transaction>,
    pub(super) statements: BTreeMap<String, Arc<Prepared>>,
    pub(super) portals: BTreeMap<String, Portal>,
    /// After an error of an extended query: everything up to Sync is ignored.
    pub(super) skip: bool,
    /// A simple query is being answered; these statements of it are still to come, each with its place.
    pub(super) simple: Option<VecDeque<(usize, Arc<Prepared>)>>,
    pub(super) simple_text: String,
    pub(super) active: Option<Active>,
    pub(super) listening: BTreeSet<String>,
    pub(super) notifications: VecDeque<(i32, String, String)>,
    pub(super) last_query: String,
    pub(super) query_start: Instant,
    pub(super) state_since: Instant,
    pub(super) queries: u64,
}

impl Session {
    pub(super) fn status(&self) -> Status {
        match &self.transaction {
            Some(Transaction { block: true, failed: true, .. }) => Status::Failed,
            Some(Transaction { block: true, .. }) => Status::InTransaction,
            _ => Status::Idle,
        }
    }

    /// Whether it waits for its client.
    pub(super) fn is_waiting(&self) -> bool {
        self.active.is_none() && self.simple.is_none()
    }

    pub(super) fn state(&self) -> &'static str {
        match self.status() {
            _ if !self.is_waiting() => "active",
            Status::Idle => "idle",
            Status::InTransaction => "idle in transaction",
            Status::Failed => "idle in transaction (aborted)",
        }
    }
}

/// A transaction; without a block it ends with the simple query or at Sync.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) block: bool,
    pub(super) failed: bool,
    pub(super) read_only: bool,
    pub(super) began: Instant,
    pub(super) xid: i64,
    pub(super) changes: Changes,
    /// The settings when it began.
    pub(super) settings: Settings,
    pub(super) local: BTreeSet<String>,
    pub(super) notifies: Vec<(String, String)>,
    pub(super) listens: Vec<(Option<String>, bool)>,
    pub(super) savepoints: Vec<Savepoint>,
}

#[derive(Debug)]
pub(super) struct Savepoint {
    pub(super) name: String,
    pub(super) changes: Changes,
    pub(super) settings: Settings,
    pub(super) notifies: usize,
}

/// A bound statement.
#[derive(Debug)]
pub(super) struct Portal {
    pub(super) plan: Arc<Prepared>,
    pub(super) params: Arc<[Value]>,
    pub(super) formats: Vec<i16>,
    pub(super) progress: Progress,
}

#[derive(Debug)]
pub(super) enum Progress {
    New,
    Suspended(Cursor),
    Done,
}

/// Rows on their way, and what comes after them.
#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) columns: Option<Vec<Column>>,
    pub(super) rows: Source,
    pub(super) tag: Option<String>,
    pub(super) sent: u64,
    pub(super) end: End,
}

/// What comes after the rows.
#[derive(Clone, Debug)]
pub(super) enum End {
    Complete,
    Empty,
    Error(PgError),
    Close,
    Never,
}

/// The statement that runs.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) cursor: Cursor,
    pub(super) until: Instant,
    /// statement_timeout.
    pub(super) timeout: Instant,
    pub(super) notices: Vec<PgError>,
    /// A portal and the rows that were asked for; `None`: part of a simple query.
    pub(super) portal: Option<(String, u64)>,
    pub(super) formats: Vec<i16>,
    /// Rows sent since Execute.
    pub(super) rows: u64,
    pub(super) described: bool,
}
