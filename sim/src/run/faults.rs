//! The timeline: what is done to the server, the network and the pool.

use pgweir_core::pool::Event;

use super::driver::Place;
use super::{Due, Run, Step, Subject};
use crate::model;
use crate::scenario::What;
use crate::trace::Trace;

impl<S: Subject, T: Trace> Run<'_, S, T> {
    pub(super) fn step(&mut self, index: usize) -> Step {
        let scenario = self.scenario;
        let what = &scenario.timeline[index].what;
        self.remark(format_args!("{what:?}"));
        match what {
            What::Restart(restart) => {
                let fault = self.server.restart(restart);
                self.goes_down(&fault);
            }
            What::Crash(crash) => {
                let fault = self.server.crash(crash);
                self.goes_down(&fault);
            }
            What::Silence(lasts) => {
                self.silent = true;
                self.record.outage_begins(self.now);
                self.queue.push(self.now + *lasts, Due::Heal);
            }
            What::Kill(kill) => {
                for slot in 0..self.peers.len() {
                    let open = !matches!(self.peers[slot].place, Place::Empty | Place::Connecting | Place::Closing);
                    if open && self.faults.chance(kill.share) {
                        self.session_ends(slot, &model::killed());
                    }
                }
            }
            What::RefuseLogins(lasts) => {
                self.server.refuse_logins = true;
                self.queue.push(self.now + *lasts, Due::AllowLogins);
            }
            What::MaxConnections(allowed) => self.server.max_connections = *allowed,
            What::OtherSessions(sessions) => self.server.other_sessions = *sessions,
            What::Connect(dist) => self.server.connect = *dist,
            What::RoundTrip(dist) => self.server.round_trip = *dist,
            What::Shutdown(within) => {
                self.shut_down = true;
                let deadline = self.now + *within;
                return self.post(Event::Shutdown { deadline });
            }
            What::Resize(size) => {
                self.min_size = size.min_size;
                return self.post(Event::Resize { min_size: size.min_size, max_size: size.max_size });
            }
            What::Pause(lasts) => {
                self.paused = true;
                self.queue.push(self.now + *lasts, Due::Resume);
                return self.post(Event::Pause);
            }
            What::Recycle => return self.post(Event::Recycle),
        }
        Ok(())
    }

    /// The server ends every session and goes through its phases.
    fn goes_down(&mut self, fault: &pgweir_core::pool::Fault) {
        self.record.outage_begins(self.now);
        for slot in 0..self.peers.len() {
            self.session_ends(slot, fault);
        }
        self.logins_end();
        self.next_phase();
    }

    pub(super) fn next_phase(&mut self) {
        match self.server.next_phase() {
            Some(lasts) => {
                let plan = self.server.plan_number;
                self.queue.push(self.now + lasts, Due::Phase { plan });
            }
            None => self.comes_back(),
        }
        let state = self.server.state;
        self.remark(format_args!("the server is {state:?}"));
    }

    pub(super) fn comes_back(&mut self) {
        if self.server.accepts() && !self.silent {
            self.record.outage_ends(self.now);
        }
    }

    /// What the network kept back arrives.
    pub(super) fn heal_network(&mut self) {
        self.remark(format_args!("the network is back"));
        self.silent = false;
        self.server.hear();
        self.soon.extend(self.held.drain(..));
        self.comes_back();
    }

    pub(super) fn allow_logins(&mut self) {
        self.remark(format_args!("passwords are accepted again"));
        self.server.refuse_logins = false;
        self.comes_back();
    }

    pub(super) fn resume(&mut self) -> Step {
        if !std::mem::take(&mut self.paused) || self.shut_down {
            return Ok(());
        }
        self.post(Event::Resume)
    }
}
