//! What a driver does for the machine: carries out its actions against the server, and brings the answers back.

use std::time::Duration;

use pgweir_core::pool::{
    Action, Check, CloseHow, CloseReason, ConnId, Event, Fault, FaultClass, Notice, ResetHow, ServerFacts,
};
use pgweir_core::time::Instant;

use super::clients::Stage;
use super::{Answer, CallRef, Due, Run, Step, Subject};
use crate::model::{self, Server, Welcome};
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
    /// Where it leads.
    pub(super) host: usize,
    pub(super) place: Place,
    /// Counts what was begun with it: the answer to something older is not waited for any more.
    job: u32,
    /// Why the server ended its session; the client sees it when it looks, unless the network is silent.
    pub(super) dead: Option<Fault>,
    /// The answer that is under way, if it is a refusal.
    refusal: Option<Fault>,
    /// What came of the login, while the network keeps the answer back.
    login: Option<Result<ServerFacts, Fault>>,
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
            Action::Connect { conn, host, .. } => self.connect(conn, usize::from(host.0)),
            Action::Validate { conn, how: Check::Socket, .. } => {
                let job = self.begin(conn, Place::Checking(Check::Socket));
                self.soon.push_back(Due::Answer { conn, job, answer: Answer::Looked });
            }
            Action::Validate { conn, how: Check::RoundTrip, .. } => {
                let takes = self.host_of(conn).validation();
                self.ask_server(conn, Place::Checking(Check::RoundTrip), takes, Answer::Validated);
            }
            Action::Reset { conn, how, .. } => {
                let trips = if how == ResetHow::Drain { DRAIN_TRIPS } else { 1 };
                let takes = self.host_of(conn).reset(trips);
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

    /// Where the slot's connection leads.
    pub(super) fn host_of(&mut self, conn: ConnId) -> &mut Server {
        let host = self.host_number(conn);
        &mut self.hosts[host]
    }

    /// Where the connection leads; one that the slot no longer holds may have a session left.
    fn host_number(&self, conn: ConnId) -> usize {
        match self.peers.get(conn.slot as usize) {
            Some(peer) if peer.conn == conn => peer.host,
            _ => self.hosts.iter().position(|host| host.has(conn)).unwrap_or(0),
        }
    }

    /// Whether the network keeps back what the server says on this connection.
    pub(super) fn is_mute(&mut self, conn: ConnId) -> bool {
        !self.host_of(conn).is_heard()
    }

    /// Keeps something back until the network is there again.
    pub(super) fn hold_back(&mut self, conn: ConnId, due: Due) {
        let host = self.host_number(conn);
        self.held.push((host, due));
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

    fn connect(&mut self, conn: ConnId, host: usize) {
        let slot = conn.slot as usize;
        while self.peers.len() <= slot {
            let conn = ConnId { slot: self.peers.len() as u32, generation: 0 };
            let (dead, refusal, login) = (None, None, None);
            self.peers.push(Peer { conn, host, place: Place::Empty, job: 0, dead, refusal, login, attempt: 0 });
        }
        let attempt = self.record.attempt_starts(self.now);
        let peer = &mut self.peers[slot];
        (peer.conn, peer.host, peer.dead, peer.refusal, peer.login) = (conn, host, None, None, None);
        peer.attempt = attempt;
        let job = self.begin(conn, Place::Connecting);
        self.knock(conn, job);
    }

    /// A connection request goes out. The network may swallow it; then it is sent again when that is over.
    fn knock(&mut self, conn: ConnId, job: u32) {
        if !self.host_of(conn).is_reached() {
            self.hold_back(conn, Due::Answer { conn, job, answer: Answer::Refused });
            return;
        }
        let now = self.now;
        match self.host_of(conn).connect(now, conn) {
            Welcome::Refused(fault) => {
                let takes = self.host_of(conn).refusal();
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
        if self.is_mute(conn) && !local {
            self.log_in(conn, job, answer);
            self.hold_back(conn, Due::Answer { conn, job, answer });
            return Ok(());
        }
        if let Answer::Closed = answer {
            self.host_of(conn).leave(conn, true);
        }
        let (now, mute, turned_away) = (self.now, self.is_mute(conn), self.host_of(conn).turns_away().map(Box::new));
        self.log_in(conn, job, answer);
        let Some(peer) = self.peer(conn).filter(|peer| peer.job == job) else { return self.too_late(conn, answer) };
        let dead = peer.dead.clone().map(Box::new);
        let attempt = peer.attempt;
        let event = match (answer, dead.or(turned_away)) {
            (Answer::Refused, _) => match peer.refusal.take() {
                Some(fault) => return self.connect_failed(conn, attempt, fault),
                // It never got through.
                None => {
                    self.knock(conn, job);
                    return Ok(());
                }
            },
            (Answer::Login, _) => match peer.login.take() {
                Some(Ok(facts)) => {
                    self.record.attempt_ends(attempt, now, None);
                    self.record.opened += u64::from(self.open);
                    Event::Connected { conn, facts }
                }
                Some(Err(fault)) => return self.connect_failed(conn, attempt, fault),
                None => return Ok(()),
            },
            (Answer::Validated, Some(fault)) => Event::ValidationFailed { conn, fault },
            (Answer::Looked, _) if !mute && peer.dead.is_some() => {
                let fault = Box::new(peer.dead.clone().unwrap_or_else(model::killed));
                Event::ValidationFailed { conn, fault }
            }
            (Answer::Validated | Answer::Looked, _) => Event::Validated { conn },
            (Answer::Reset, Some(fault)) => Event::ResetFailed { conn, fault },
            (Answer::Reset, None) => Event::Reset { conn },
            (Answer::Closed, _) => Event::Closed { conn },
        };
        let place = if let Event::Closed { .. } = event { Place::Empty } else { Place::Idle };
        self.begin(conn, place);
        self.post(event)
    }

    /// A login is through on the server's side, whether or not its answer arrives.
    fn log_in(&mut self, conn: ConnId, job: u32, answer: Answer) {
        let asks = matches!(answer, Answer::Login)
            && self.peer(conn).is_some_and(|peer| peer.job == job && peer.login.is_none());
        if asks {
            let login = self.host_of(conn).login_ends(conn);
            if let Some(peer) = self.peer(conn) {
                peer.login = Some(login);
            }
        }
    }

    /// An answer that crossed the machine's giving up. The driver passes it on all the same, and the connection's place
    /// may have been taken by then: the id says that it is not meant.
    fn too_late(&mut self, conn: ConnId, answer: Answer) -> Step {
        let fault = || Box::new(Fault::new(FaultClass::Transient, "too late"));
        self.post(match answer {
            Answer::Closed => Event::Closed { conn },
            Answer::Login => Event::Connected { conn, facts: ServerFacts::default() },
            Answer::Refused => Event::ConnectFailed { conn, fault: fault() },
            Answer::Validated | Answer::Looked => Event::Validated { conn },
            Answer::Reset => Event::Reset { conn },
        })
    }

    fn connect_failed(&mut self, conn: ConnId, attempt: usize, fault: Fault) -> Step {
        self.record.attempt_ends(attempt, self.now, Some(fault.clone()));
        self.begin(conn, Place::Empty);
        self.post(Event::ConnectFailed { conn, fault: Box::new(fault) })
    }

    fn close(&mut self, conn: ConnId, how: CloseHow, reason: CloseReason) {
        let (now, heard) = (self.now, self.host_of(conn).hears());
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
            let takes = self.host_of(conn).goodbye();
            self.queue.push(now + takes, Due::Answer { conn, job, answer: Answer::Closed });
        } else {
            self.host_of(conn).leave(conn, heard);
            self.soon.push_back(Due::Answer { conn, job, answer: Answer::Closed });
        }
    }

    /// The socket of an idle connection has something to say.
    pub(super) fn touch(&mut self, conn: ConnId) -> Step {
        if self.is_mute(conn) {
            self.hold_back(conn, Due::Touch(conn));
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
        let peer = &mut self.peers[slot];
        let (conn, job, place, host) = (peer.conn, peer.job, peer.place, peer.host);
        if place == Place::Connecting && matches!(peer.login, Some(Ok(_))) {
            // Its client has not even heard that it began.
            peer.login = Some(Err(fault.clone()));
            self.hosts[host].end(conn);
            return;
        }
        let alive = peer.dead.is_none() && !matches!(place, Place::Empty | Place::Connecting);
        if !alive || !self.hosts[host].end(conn) {
            return;
        }
        self.peers[slot].dead = Some(fault.clone());
        let heard = self.now + self.hosts[host].round_trip() / 2;
        let due = match place {
            Place::Idle => Due::Touch(conn),
            Place::Checking(_) => Due::Answer { conn, job, answer: Answer::Validated },
            Place::Resetting => Due::Answer { conn, job, answer: Answer::Reset },
            Place::Lent(call) => Due::Broken(call),
            Place::Closing | Place::Empty | Place::Connecting => return,
        };
        self.queue.push(heard, due);
    }

    /// Logins under way at a host fail.
    pub(super) fn logins_end(&mut self, host: usize) {
        for slot in 0..self.peers.len() {
            let peer = &self.peers[slot];
            if peer.place == Place::Connecting && peer.host == host && peer.refusal.is_none() && peer.login.is_none() {
                let (conn, job) = (peer.conn, peer.job);
                let heard = self.now + self.hosts[host].round_trip() / 2;
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
        if usable < self.min_size || !self.record.is_recovering() {
            return;
        }
        // What has died without the pool's knowing is not usable.
        let dead = |peer: &&Peer| peer.dead.is_some() && matches!(peer.place, Place::Idle | Place::Lent(_));
        let dead = self.peers.iter().filter(dead).count() as u32;
        if usable >= self.min_size + dead {
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
