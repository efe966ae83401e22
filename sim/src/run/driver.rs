//! What a driver does for the machine: carries out its actions against the server, and brings the answers back.

use std::time::Duration;

use pgweir_core::pool::{Action, Check, CloseHow, CloseReason, ConnId, Event, Fault, FaultClass, Notice, ResetHow};
use pgweir_core::time::Instant;

use super::clients::Stage;
use super::{Answer, CallRef, Due, Run, Step, Subject};
use crate::model::Welcome;
use crate::record::LeakReport;
use crate::trace::Trace;

/// How long a woken task takes to run.
const WAKE: Duration = Duration::from_micros(20);
/// Round trips that draining an abandoned request takes: a cancel on a second socket, its end, a barrier.
const DRAIN_TRIPS: u32 = 3;

/// One slot's connection, from the client's side.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) conn: ConnId,
    pub(super) place: Place,
    /// Counts what was begun with it: the answer to something older is not waited for any more.
    job: u32,
    /// Why the server ended its session; the client sees it when it looks, unless the network is silent.
    pub(super) dead: Option<Fault>,
    /// The answer that is under way, if it is a refusal.
    refusal: Option<Fault>,
    /// Its place among the recorded attempts.
    attempt: usize,
}

/// Where a connection is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Place {
    Empty,
    Connecting,
    Idle,
    Checking(Check),
    Lent(CallRef),
    Resetting,
    Closing,
}

impl<S: Subject, T: Trace> Run<'_, S, T> {
    pub(super) fn apply(&mut self, action: Action) {
        match action {
            Action::Grant { waiter, conn } => {
                let at_once = self.asking.is_some_and(|(asking, _)| asking == waiter);
                if let Some(call) = self.answered(waiter, Stage::Granted(conn)) {
                    self.put(conn, Place::Lent(call));
                    // A recorded hold begins with the grant.
                    if at_once || self.recording.is_some() {
                        self.soon.push_back(Due::Seen(call));
                    } else {
                        self.queue.push(self.now + WAKE, Due::Seen(call));
                    }
                }
            }
            Action::Reject { waiter, reason } => self.refused(waiter, &reason),
            Action::Connect { conn, .. } => self.connect(conn),
            Action::Validate { conn, how: Check::Socket, .. } => {
                let job = self.begin(conn, Place::Checking(Check::Socket));
                self.soon.push_back(Due::Answer { conn, job, answer: Answer::Looked });
            }
            Action::Validate { conn, how: Check::RoundTrip, .. } => {
                let takes = self.server.validation();
                self.ask_server(conn, Place::Checking(Check::RoundTrip), takes, Answer::Validated);
            }
            Action::Reset { conn, how, .. } => {
                let trips = if how == ResetHow::Drain { DRAIN_TRIPS } else { 1 };
                let takes = self.server.reset(trips);
                self.ask_server(conn, Place::Resetting, takes, Answer::Reset);
            }
            Action::Close { conn, how, reason, .. } => self.close(conn, how, reason),
            Action::Notice(notice) => self.notice(*notice),
        }
    }

    fn put(&mut self, conn: ConnId, place: Place) {
        if let Some(peer) = self.peer(conn) {
            peer.place = place;
        }
    }

    /// The slot's connection, if it still is this one.
    pub(super) fn peer(&mut self, conn: ConnId) -> Option<&mut Peer> {
        self.peers.get_mut(conn.slot as usize).filter(|peer| peer.conn == conn)
    }

    /// Something new begins with a connection; whatever was under way is given up.
    fn begin(&mut self, conn: ConnId, place: Place) -> u32 {
        match self.peer(conn) {
            Some(peer) => {
                peer.place = place;
                peer.job += 1;
                peer.job
            }
            None => 0,
        }
    }

    fn ask_server(&mut self, conn: ConnId, place: Place, takes: Duration, answer: Answer) {
        let job = self.begin(conn, place);
        self.queue.push(self.now + takes, Due::Answer { conn, job, answer });
    }

    fn connect(&mut self, conn: ConnId) {
        let slot = conn.slot as usize;
        while self.peers.len() <= slot {
            let conn = ConnId { slot: self.peers.len() as u32, generation: 0 };
            self.peers.push(Peer { conn, place: Place::Empty, job: 0, dead: None, refusal: None, attempt: 0 });
        }
        let attempt = self.record.attempt_starts(self.now);
        let peer = &mut self.peers[slot];
        (peer.conn, peer.dead, peer.refusal, peer.attempt) = (conn, None, None, attempt);
        let job = self.begin(conn, Place::Connecting);
        self.knock(conn, job);
    }

    /// A connection request goes out. The network may swallow it; then it is sent again when that is over.
    fn knock(&mut self, conn: ConnId, job: u32) {
        if self.silent {
            self.held.push(Due::Answer { conn, job, answer: Answer::Refused });
            return;
        }
        match self.server.connect(self.now, conn) {
            Welcome::Refused(fault) => {
                let takes = self.server.refusal();
                if let Some(peer) = self.peer(conn) {
                    peer.refusal = Some(fault);
                }
                self.queue.push(self.now + takes, Due::Answer { conn, job, answer: Answer::Refused });
            }
            Welcome::Login(at) => self.queue.push(at, Due::Answer { conn, job, answer: Answer::Login }),
        }
    }

    pub(super) fn answer(&mut self, conn: ConnId, job: u32, answer: Answer) -> Step {
        let local = matches!(answer, Answer::Looked);
        if self.silent && !local {
            self.held.push(Due::Answer { conn, job, answer });
            return Ok(());
        }
        if let Answer::Closed = answer {
            self.server.leave(conn, true);
        }
        let now = self.now;
        let Some(peer) = self.peer(conn).filter(|peer| peer.job == job) else {
            // A close that was waited for too long: the driver says so all the same.
            return if let Answer::Closed = answer { self.post(Event::Closed { conn }) } else { Ok(()) };
        };
        let dead = peer.dead.clone().map(Box::new);
        let attempt = peer.attempt;
        let event = match (answer, dead) {
            (Answer::Refused, _) => match peer.refusal.take() {
                Some(fault) => return self.connect_failed(conn, attempt, fault),
                // It never got through.
                None => {
                    self.knock(conn, job);
                    return Ok(());
                }
            },
            (Answer::Login, _) => match self.server.login_ends(conn) {
                Ok(facts) => {
                    self.record.attempt_ends(attempt, now, None);
                    self.record.opened += u64::from(self.open);
                    Event::Connected { conn, facts }
                }
                Err(fault) => return self.connect_failed(conn, attempt, fault),
            },
            (Answer::Validated, Some(fault)) => Event::ValidationFailed { conn, fault },
            (Answer::Looked, Some(fault)) if !self.silent => Event::ValidationFailed { conn, fault },
            (Answer::Validated | Answer::Looked, _) => Event::Validated { conn },
            (Answer::Reset, Some(fault)) => Event::ResetFailed { conn, fault },
            (Answer::Reset, None) => Event::Reset { conn },
            (Answer::Closed, _) => Event::Closed { conn },
        };
        let place = if let Event::Closed { .. } = event { Place::Empty } else { Place::Idle };
        self.begin(conn, place);
        self.post(event)
    }

    fn connect_failed(&mut self, conn: ConnId, attempt: usize, fault: Fault) -> Step {
        self.record.attempt_ends(attempt, self.now, Some(fault.clone()));
        self.begin(conn, Place::Empty);
        self.post(Event::ConnectFailed { conn, fault: Box::new(fault) })
    }

    fn close(&mut self, conn: ConnId, how: CloseHow, reason: CloseReason) {
        let (now, silent) = (self.now, self.silent);
        let Some(peer) = self.peer(conn) else { return };
        let (was, dead, attempt) = (peer.place, peer.dead.is_some(), peer.attempt);
        match was {
            // Its caller has the object; the socket is cut from here.
            Place::Lent(call) => self.cut(call),
            Place::Connecting => {
                let given_up = Fault::plain(FaultClass::Transient, format!("given up: {reason:?}"));
                self.record.attempt_ends(attempt, now, Some(given_up));
            }
            _ => {}
        }
        let job = self.begin(conn, Place::Closing);
        if how == CloseHow::Graceful && !dead {
            let takes = self.server.goodbye();
            self.queue.push(now + takes, Due::Answer { conn, job, answer: Answer::Closed });
        } else {
            self.server.leave(conn, !silent);
            self.soon.push_back(Due::Answer { conn, job, answer: Answer::Closed });
        }
    }

    /// The socket of an idle connection has something to say.
    pub(super) fn touch(&mut self, conn: ConnId) -> Step {
        if self.silent {
            self.held.push(Due::Touch(conn));
            return Ok(());
        }
        let dead_and_idle = |peer: &Peer| peer.place == Place::Idle && peer.dead.is_some();
        if self.peer(conn).is_some_and(|peer| dead_and_idle(peer)) {
            self.post(Event::Touched { conn })
        } else {
            Ok(())
        }
    }

    /// The server ends a session: whoever uses the connection hears of it a little later.
    pub(super) fn session_ends(&mut self, slot: usize, fault: &Fault) {
        let peer = &self.peers[slot];
        let (conn, job, place) = (peer.conn, peer.job, peer.place);
        let alive = peer.dead.is_none() && !matches!(place, Place::Empty | Place::Connecting);
        if !alive || !self.server.end(conn) {
            return;
        }
        self.peers[slot].dead = Some(fault.clone());
        let heard = self.now + self.server.round_trip() / 2;
        let due = match place {
            Place::Idle => Due::Touch(conn),
            Place::Checking(_) => Due::Answer { conn, job, answer: Answer::Validated },
            Place::Resetting => Due::Answer { conn, job, answer: Answer::Reset },
            Place::Lent(call) => Due::Broken(call),
            Place::Closing | Place::Empty | Place::Connecting => return,
        };
        self.queue.push(heard, due);
    }

    /// Logins under way fail.
    pub(super) fn logins_end(&mut self) {
        for slot in 0..self.peers.len() {
            let peer = &self.peers[slot];
            if peer.place == Place::Connecting && peer.refusal.is_none() {
                let (conn, job) = (peer.conn, peer.job);
                let heard = self.now + self.server.round_trip() / 2;
                self.queue.push(heard, Due::Answer { conn, job, answer: Answer::Login });
            }
        }
    }

    fn notice(&mut self, notice: Notice) {
        let now = self.now;
        match notice {
            Notice::StateChanged { to, reason, .. } => self.record.states.push((now, to, reason)),
            Notice::LeakSuspected { holder, report } => {
                self.record.leaks.push(LeakReport { at: now, held: holder.held, report });
            }
            Notice::LeakResolved { .. } => self.record.leaks_resolved += 1,
            Notice::ConnectivityLost { .. } => self.record.outage_sees(|outage| {
                outage.noticed.get_or_insert(now);
            }),
            Notice::Terminated { report } => self.record.shutdown = Some((report, self.shut_down)),
            _ => {}
        }
    }

    /// Whether enough connections are open again after an outage.
    pub(super) fn note_recovery(&mut self, usable: u32) {
        let now = self.now;
        if usable >= self.min_size {
            self.record.outage_sees(|outage| {
                if outage.back.is_some() {
                    outage.recovered.get_or_insert(now);
                }
            });
        }
    }

    /// The moment, for remarks.
    pub(super) fn remark(&mut self, remark: std::fmt::Arguments<'_>) {
        let now: Instant = self.now;
        self.trace.remark(now, remark);
    }
}
