//! Connections: how long the server took for what, and what they saw of it.

use std::collections::BTreeMap;
use std::time::Duration;

use pgweir_core::pool::{Action, Check, CloseHow, CloseReason, ConnId, Event, Fate, Fault, FaultClass, HostId};
use pgweir_core::time::Instant;

use super::super::history::Step;
use super::super::recording::{Samples, Times};

/// What the connections saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// In order of their ends.
    pub(super) attempts: Vec<Attempt>,
    /// Questions other than connects, in order of their ends: when asked, when answered.
    pub(super) answers: Vec<(Instant, Instant)>,
    /// Questions that got no answer: when asked, when given up. The connects among them included.
    pub(super) unanswered: Vec<(Instant, Instant)>,
    /// Connections that were found dead, in order of the finding.
    pub(super) dead: Vec<Dead>,
    /// Every connection, by id.
    pub(super) lives: BTreeMap<ConnId, Life>,
    connect: Vec<Duration>,
    validate: Vec<Duration>,
    reset: Vec<Duration>,
    close: Vec<Duration>,
}

/// One connect attempt that came to an end.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) host: HostId,
    pub(super) began: Instant,
    pub(super) ended: Instant,
    /// Why it failed, if it did.
    pub(super) fault: Option<Fault>,
    /// Sessions of this pool when it ended, its own not included.
    pub(super) sessions: u32,
}

/// A connection that was found dead.
#[derive(Clone, Debug)]
pub(super) struct Dead {
    pub(super) conn: ConnId,
    pub(super) seen: Instant,
    pub(super) fault: Fault,
    /// Its user found it.
    pub(super) released: bool,
}

/// One connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    pub(super) opened: Instant,
    /// When the server last answered on it.
    pub(super) good: Instant,
    doing: Doing,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Doing {
    Nothing,
    Validating(Instant, Instant),
    Resetting(Instant),
    Closing(Instant),
    Gone,
}

impl Seen {
    pub(super) fn times(&self) -> Times {
        let samples = |seen: &[Duration]| Samples::new(seen.to_vec());
        Times {
            connect: samples(&self.connect),
            validate: samples(&self.validate),
            reset: samples(&self.reset),
            close: samples(&self.close),
        }
    }
}

/// Follows the connections.
#[derive(Debug)]
pub(super) struct Conns {
    seen: Seen,
    begins: Instant,
    connecting: BTreeMap<ConnId, (HostId, Instant)>,
    /// Open now.
    sessions: u32,
}

impl Conns {
    pub(super) fn new(begins: Instant, sessions: u32) -> Self {
        Conns { seen: Seen::default(), begins, connecting: BTreeMap::new(), sessions }
    }

    pub(super) fn finish(self) -> Seen {
        self.seen
    }

    pub(super) fn event(&mut self, step: &Step) {
        let at = step.at;
        match &step.event {
            Event::Connected { conn, .. } => self.connected(at, *conn),
            Event::ConnectFailed { conn, fault } => {
                if let Some((host, began)) = self.connect_ends(*conn) {
                    self.attempt(host, began.unwrap_or(self.begins), at, Some((**fault).clone()));
                    self.seen.lives.insert(*conn, Life { opened: at, good: at, doing: Doing::Gone });
                }
            }
            Event::Validated { conn } => {
                if let Doing::Validating(began, _) = self.life(*conn).doing {
                    self.seen.validate.push(at - began);
                    self.answered(*conn, began, at);
                }
            }
            Event::Reset { conn } => {
                if let Doing::Resetting(began) = self.life(*conn).doing {
                    self.seen.reset.push(at - began);
                    self.answered(*conn, began, at);
                }
            }
            Event::Closed { conn } => {
                if let Doing::Closing(began) = self.life(*conn).doing {
                    self.seen.close.push(at - began);
                    self.seen.answers.push((began, at));
                    self.gone(*conn);
                }
            }
            Event::Release { conn, fate, fault, .. } => self.released(at, *conn, *fate, fault.as_deref()),
            Event::CheckFailed { conn, fault } | Event::Lost { conn, fault } => self.died(at, *conn, fault, false),
            Event::ValidationFailed { conn, fault } => self.died(at, *conn, fault, false),
            // What a reset finds is its last user's affair, unless siblings died too.
            Event::ResetFailed { conn, fault } => self.died(at, *conn, fault, true),
            _ => {}
        }
    }

    /// The connection, which was open at the beginning if nothing is known of it.
    fn life(&mut self, conn: ConnId) -> &mut Life {
        let begins = self.begins;
        let unknown = Life { opened: begins, good: begins, doing: Doing::Nothing };
        self.seen.lives.entry(conn).or_insert(unknown)
    }

    fn connected(&mut self, at: Instant, conn: ConnId) {
        let Some((host, began)) = self.connect_ends(conn) else { return };
        self.seen.connect.extend(began.map(|began| at - began));
        self.attempt(host, began.unwrap_or(self.begins), at, None);
        self.seen.lives.insert(conn, Life { opened: at, good: at, doing: Doing::Nothing });
        self.sessions += 1;
    }

    /// To which host and since when this connection was being opened; since when is not known if that was before the
    /// history began. Nothing if it had been given up before.
    fn connect_ends(&mut self, conn: ConnId) -> Option<(HostId, Option<Instant>)> {
        match self.connecting.remove(&conn) {
            Some((host, began)) => Some((host, Some(began))),
            None if self.seen.lives.contains_key(&conn) => None,
            None => Some((HostId::default(), None)),
        }
    }

    fn attempt(&mut self, host: HostId, began: Instant, ended: Instant, fault: Option<Fault>) {
        self.seen.attempts.push(Attempt { host, began, ended, fault, sessions: self.sessions });
    }

    fn answered(&mut self, conn: ConnId, began: Instant, at: Instant) {
        let life = self.life(conn);
        (life.good, life.doing) = (at, Doing::Nothing);
        self.seen.answers.push((began, at));
    }

    fn gone(&mut self, conn: ConnId) {
        let life = self.life(conn);
        if life.doing != Doing::Gone {
            life.doing = Doing::Gone;
            self.sessions = self.sessions.saturating_sub(1);
        }
    }

    fn released(&mut self, at: Instant, conn: ConnId, fate: Fate, fault: Option<&Fault>) {
        match fate {
            Fate::Clean | Fate::Dirty | Fate::Discarded => self.life(conn).good = at,
            Fate::Unused => {}
            Fate::Broken => {
                let unsaid = || Fault::plain(FaultClass::Transient, "the connection was lost while it was used");
                let fault = fault.cloned().unwrap_or_else(unsaid);
                self.died(at, conn, &fault, true);
            }
        }
    }

    fn died(&mut self, at: Instant, conn: ConnId, fault: &Fault, released: bool) {
        if !matches!(self.life(conn).doing, Doing::Gone | Doing::Closing(_)) {
            self.seen.dead.push(Dead { conn, seen: at, fault: fault.clone(), released });
            self.gone(conn);
        }
    }

    pub(super) fn action(&mut self, step: &Step, action: &Action) {
        let at = step.at;
        match *action {
            Action::Connect { conn, host, .. } => {
                self.connecting.insert(conn, (host, at));
            }
            Action::Validate { conn, how: Check::RoundTrip, deadline } => {
                self.life(conn).doing = Doing::Validating(at, deadline);
            }
            Action::Reset { conn, .. } => self.life(conn).doing = Doing::Resetting(at),
            Action::Close { conn, how, reason, .. } => self.closes(at, conn, how, reason),
            _ => {}
        }
    }

    fn closes(&mut self, at: Instant, conn: ConnId, how: CloseHow, reason: CloseReason) {
        if let Some((_, began)) = self.connecting.remove(&conn) {
            if reason == CloseReason::ConnectTimeout {
                self.seen.unanswered.push((began, at));
            }
            // So that a late answer is known to be late.
            self.seen.lives.insert(conn, Life { opened: at, good: at, doing: Doing::Gone });
            return;
        }
        match self.life(conn).doing {
            Doing::Gone => {}
            Doing::Validating(began, deadline) if at >= deadline => {
                self.seen.unanswered.push((began, at));
                self.gone(conn);
            }
            _ if how == CloseHow::Graceful => self.life(conn).doing = Doing::Closing(at),
            _ => self.gone(conn),
        }
    }
}
