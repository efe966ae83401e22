//! From a history to what caused it: who asked for connections and held them, and what the server did.
//!
//! One pass over the steps follows the requests (`requests`) and the connections (`conns`); what the connections saw is
//! evidence, and `outages` makes the server's times of trouble of it.

mod conns;
mod deaths;
mod outages;
mod requests;

use std::time::Duration;

use pgweir_core::pool::{ConnId, Event, Fate};
use pgweir_core::time::Instant;

use super::History;
use super::recording::Times;

pub(super) use deaths::Deaths;
pub(super) use outages::{Outage, Trouble, middle};

/// What caused a history. Times are the history's own.
#[derive(Clone, Debug, Default)]
pub(super) struct Extract {
    /// In order of arrival.
    pub(super) requests: Vec<Request>,
    /// Connections that were open and not lent at the beginning.
    pub(super) idle_at_start: u32,
    pub(super) times: Times,
    pub(super) outages: Vec<Outage>,
    /// Questions that got no answer though others did: they are not simulated.
    pub(super) odd: u32,
    pub(super) deaths: Vec<Deaths>,
    pub(super) limits: Vec<Limit>,
    pub(super) operations: Vec<(Instant, Operation)>,
}

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Request {
    /// When it was made; if that was before the history began, its beginning.
    pub(super) at: Instant,
    pub(super) origin: Origin,
    pub(super) patience: Patience,
    pub(super) leak_after: Option<Duration>,
    pub(super) site: u32,
    pub(super) hold: Hold,
    pub(super) fate: Fate,
    pub(super) queries: u64,
    /// When its caller gave it up while it waited.
    pub(super) cancel: Option<Duration>,
    /// The connection that came back broken from it.
    pub(super) broke: Option<ConnId>,
}

/// Where a request comes from. In the order in which those of one moment are made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// It held a connection when the history began.
    Lent,
    /// It waited when the history began.
    Waiting,
    /// It was made within the history.
    Made,
}

/// How long a request was ready to wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Patience {
    /// The pool's acquire_timeout: another one would have applied to it.
    Pool,
    /// Its own; zero is `try_get`.
    Own(Duration),
}

/// How long a connection was held.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Hold {
    /// From its grant to its release.
    Seen(Duration),
    /// It ended with its connection, or with a shutdown: its caller wanted it for longer.
    Cut(Duration),
    /// It was not over when the history ended.
    Unfinished(Duration),
    /// No connection was had.
    Unknown,
}

/// The server allowed so many sessions of this pool from then on; `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Limit {
    pub(super) at: Instant,
    pub(super) sessions: Option<u32>,
}

/// What was done to the pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Operation {
    Resize {
        min_size: u32,
        max_size: u32,
    },
    /// Until it was resumed.
    Pause(Duration),
    Recycle,
    /// With so much time for the leases.
    Shutdown(Duration),
}

impl Operation {
    pub(super) fn is_resize(self) -> bool {
        matches!(self, Operation::Resize { .. })
    }
}

/// Finds out what caused `history`.
pub(super) fn extract(history: &History) -> Extract {
    let counts = &history.counts;
    let open = counts.idle + counts.validating + counts.resetting + counts.active;
    let mut requests = requests::Requests::new(history);
    let mut conns = conns::Conns::new(history.begins(), open);
    for step in &history.steps {
        conns.event(step);
        requests.event(step);
        for action in &step.actions {
            conns.action(step, action);
            requests.action(step.at, action);
        }
    }
    let mut requests = requests.finish(history.ends());
    let seen = conns.finish();
    let (deaths, ended) = deaths::deaths(&seen);
    for request in &mut requests {
        if let (Some(conn), Hold::Seen(held)) = (request.broke, request.hold)
            && ended.contains(&conn)
        {
            (request.hold, request.fate) = (Hold::Cut(held), Fate::Clean);
        }
    }
    let (outages, odd) = outages::outages(&seen, &deaths, history);
    Extract {
        outages,
        odd,
        limits: outages::limits(&seen),
        times: seen.times(),
        operations: operations(history),
        idle_at_start: open - counts.active,
        requests,
        deaths,
    }
}

fn operations(history: &History) -> Vec<(Instant, Operation)> {
    let mut operations = Vec::new();
    let mut paused = None;
    for step in &history.steps {
        let operation = match step.event {
            Event::Resize { min_size, max_size } => Operation::Resize { min_size, max_size },
            Event::Recycle => Operation::Recycle,
            Event::Shutdown { deadline } => Operation::Shutdown(deadline - step.at),
            Event::Pause => {
                paused.get_or_insert(step.at);
                continue;
            }
            Event::Resume => {
                if let Some(since) = paused.take() {
                    operations.push((since, Operation::Pause(step.at - since)));
                }
                continue;
            }
            _ => continue,
        };
        operations.push((step.at, operation));
    }
    if let Some(since) = paused {
        operations.push((since, Operation::Pause(Duration::MAX)));
    }
    operations.sort_by_key(|(at, _)| *at);
    operations
}
