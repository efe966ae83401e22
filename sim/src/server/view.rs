//! What the server has seen, for tests and oracles.

use std::collections::{BTreeMap, VecDeque};

use pgweir_core::time::Instant;
use serde::{Serialize, Serializer};

use crate::Digest;
use crate::net::LinkId;

/// A session at a moment.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SessionView {
    /// Its connection.
    pub link: LinkId,
    /// Its process id.
    pub pid: i32,
    /// Its role.
    pub user: String,
    /// Its database.
    pub database: String,
    /// What the client calls itself.
    pub application_name: String,
    /// When it began.
    pub since: Instant,
    /// As in pg_stat_activity: `idle`, `active`, `idle in transaction`, `idle in transaction (aborted)`.
    pub state: &'static str,
    /// Since when it is in that state.
    pub state_since: Instant,
    /// The query that runs, or the last one.
    pub query: String,
    /// Statements executed.
    pub queries: u64,
    /// Settings that were changed and not reset.
    pub changed: BTreeMap<String, String>,
    /// Channels that it listens to.
    pub listening: Vec<String>,
    /// Statements that are prepared in it.
    pub prepared: usize,
}

/// What was counted since the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Connections that were accepted.
    pub accepted: u64,
    /// Connections that nobody listened to.
    pub refused: u64,
    /// Logins that began: StartupMessages, whatever became of them.
    pub startups: u64,
    /// Logins that were told no, by SQLSTATE.
    pub turned_away: BTreeMap<String, u64>,
    /// Logins that went well.
    pub logins: u64,
    /// Most sessions at a time.
    pub peak_sessions: usize,
    /// Most logins under way at a time.
    pub peak_logins: usize,
    /// CancelRequests.
    pub cancels: u64,
    /// CancelRequests that stopped something.
    pub cancels_hit: u64,
    /// Statements executed.
    pub queries: u64,
    /// Errors of statements, by SQLSTATE.
    pub errors: BTreeMap<String, u64>,
    /// Transactions committed, those without a block included.
    pub commits: u64,
    /// Transactions rolled back, likewise.
    pub rollbacks: u64,
    /// Transactions that were open when their session ended.
    pub left_open: u64,
    /// Sessions that have ended.
    pub sessions_ended: u64,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A connection was accepted.
    Accepted,
    /// Nobody listened.
    Refused,
    /// A login was told no with this SQLSTATE.
    TurnedAway(String),
    /// A session began.
    LoggedIn {
        /// Its process id.
        pid: i32,
    },
    /// A statement began.
    Query {
        /// The session's process id.
        pid: i32,
        /// The statement.
        sql: String,
    },
    /// A statement failed.
    Failed {
        /// The session's process id.
        pid: i32,
        /// The SQLSTATE.
        code: String,
    },
    /// A CancelRequest.
    Cancel {
        /// For this process.
        pid: i32,
        /// Whether it stopped something.
        hit: bool,
    },
    /// A session ended.
    Ended {
        /// Its process id.
        pid: i32,
    },
    /// Something was done to the server.
    Control(String),
}

/// An event of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: Instant,
    /// On which connection, if on one.
    pub link: Option<LinkId>,
    /// What.
    pub event: Event,
}

/// All that is kept.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) counts: Counts,
    log: VecDeque<Entry>,
    max_events: usize,
    pub(super) digest: Digest,
}

/// Bytes that are hashed as such.
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl Seen {
    pub(super) fn new(max_events: usize) -> Self {
        Seen { max_events, ..Seen::default() }
    }

    pub(super) fn note(&mut self, at: Instant, link: Option<LinkId>, event: Event) {
        if self.max_events == 0 {
            return;
        }
        if self.log.len() >= self.max_events {
            self.log.pop_front();
        }
        self.log.push_back(Entry { at, link, event });
    }

    pub(super) fn log(&self) -> impl Iterator<Item = &Entry> {
        self.log.iter()
    }

    /// Chains a message. SASL messages have random contents: only their kind and length count.
    pub(super) fn message(&mut self, now: Instant, link: LinkId, tag: u8, body: &[u8], secret: bool) {
        self.digest.add(&(now, link.0, tag, body.len()));
        if !secret {
            self.digest.add(&Bytes(body));
        }
    }
}
