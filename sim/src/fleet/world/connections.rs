//! The connections of a fleet: what a driver does for each pool.

use std::time::Duration;

use pgweir_core::pool::{CloseHow, ConnId, Event, Fault, ServerFacts};

use super::{Answer, Due, Peer, Place, Ref, SYN_AGAIN, World};
use crate::fleet::member::Member;
use crate::fleet::server::{End, Job, Welcome};

impl<M: Member> World<'_, M> {
    pub(super) fn at(&mut self, index: u32, conn: ConnId) -> &mut Peer {
        &mut self.peers[index as usize * self.width + conn.slot as usize]
    }

    /// The connection, if it still is at that stage.
    pub(super) fn peer(&mut self, at: Ref) -> Option<&mut Peer> {
        let peer = &mut self.peers[at.instance as usize * self.width + at.slot as usize];
        (peer.job == at.job).then_some(peer)
    }

    pub(super) fn begin(&mut self, index: u32, conn: ConnId, place: Place) -> Ref {
        let peer = self.at(index, conn);
        peer.place = place;
        peer.job += 1;
        Ref { instance: index, slot: conn.slot as u16, job: peer.job }
    }

    pub(super) fn round_trip(&mut self) -> Duration {
        Duration::from_nanos((self.means.half_trip * (2.0 + self.rng.fraction())) as u64)
    }

    pub(super) fn ask(&mut self, index: u32, conn: ConnId, place: Place, trips: u32, answer: Answer) {
        let at = self.begin(index, conn, place);
        let takes = self.round_trip() * trips;
        self.queue.push(self.now + takes, Due::Answer(at, answer));
    }

    pub(super) fn connect(&mut self, index: u32, conn: ConnId) {
        if self.at(index, conn).place != Place::Empty {
            self.violated("One holder", format!("instance {index} opens {conn} where another one is"));
        }
        *self.at(index, conn) = Peer { generation: conn.generation, job: self.at(index, conn).job, ..Peer::default() };
        let at = self.begin(index, conn, Place::Connecting);
        self.sample.connects += 1;
        let arrives = self.round_trip() / 2;
        self.queue.push(self.now + arrives, Due::Knock(at, 0));
    }

    pub(super) fn knock(&mut self, at: Ref, times: u8) {
        if self.peer(at).is_none() {
            return;
        }
        match self.server.knock(self.now, at) {
            Welcome::Taken => self.work(),
            Welcome::Refused => {
                self.sample.refused += 1;
                self.answer_later(at, Answer::Refused);
            }
            Welcome::Dropped => {
                let again = SYN_AGAIN * (1 << times.min(16));
                self.queue.push(self.now + again, Due::Knock(at, times.saturating_add(1)));
            }
        }
    }

    pub(super) fn answer_later(&mut self, at: Ref, answer: Answer) {
        let takes = self.round_trip() / 2;
        self.queue.push(self.now + takes, Due::Answer(at, answer));
    }

    pub(super) fn work(&mut self) {
        while let Some((job, takes)) = self.server.next(self.now) {
            self.queue.push(self.now + takes, Due::Worked(job));
        }
        self.server.note_queue();
    }

    pub(super) fn worked(&mut self, job: Job) {
        let present = self.peer(job.who).is_some();
        let Some(end) = self.server.done(job, present) else { return };
        self.work();
        let answer = match end {
            End::Session => Answer::Connected,
            End::Starting => Answer::Starting,
            End::Full => Answer::Full,
        };
        if let Some(peer) = self.peer(job.who) {
            peer.session = end == End::Session;
            match end {
                End::Session => self.sample.logins += 1,
                End::Starting | End::Full => self.sample.refused += 1,
            }
            self.answer_later(job.who, answer);
        }
    }

    pub(super) fn answer(&mut self, at: Ref, answer: Answer) {
        let silent = self.server.is_silent();
        let Some(peer) = self.peer(at) else { return };
        if silent {
            return self.held.push(Due::Answer(at, answer));
        }
        let conn = ConnId { slot: at.slot.into(), generation: peer.generation };
        let dead = peer.dead;
        peer.job += 1;
        peer.place = match answer {
            Answer::Closed | Answer::Refused | Answer::Starting | Answer::Full => Place::Empty,
            _ => Place::Idle,
        };
        let failed = |fault: &Fault| Event::ConnectFailed { conn, fault: Box::new(fault.clone()) };
        let ended = || Box::new(self.faults.ended.clone());
        let event = match answer {
            Answer::Connected => Event::Connected { conn, facts: ServerFacts::default() },
            Answer::Refused => failed(&self.faults.refused),
            Answer::Starting => failed(&self.faults.starting),
            Answer::Full => failed(&self.faults.full),
            Answer::Validated if dead => Event::ValidationFailed { conn, fault: ended() },
            Answer::Validated => Event::Validated { conn },
            Answer::Reset if dead => Event::ResetFailed { conn, fault: ended() },
            Answer::Reset => Event::Reset { conn },
            Answer::Closed => Event::Closed { conn },
        };
        self.post(at.instance, event);
    }

    pub(super) fn close(&mut self, index: u32, conn: ConnId, how: CloseHow) {
        let was = *self.at(index, conn);
        let at = self.begin(index, conn, Place::Closing);
        self.at(index, conn).session = false;
        if was.session {
            self.server.leave();
        }
        if was.place == Place::Lent {
            self.tally.broken += 1;
        }
        if how == CloseHow::Graceful && !was.dead {
            let takes = self.round_trip();
            self.queue.push(self.now + takes, Due::Answer(at, Answer::Closed));
        } else {
            self.at(index, conn).place = Place::Empty;
            self.soon.push_back((index, Event::Closed { conn }));
        }
    }
}
