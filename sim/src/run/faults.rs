//! The timeline: what is done to the server, the network and the pool.

use pgweir_core::pool::{Event, Fault};

use super::driver::Place;
use super::{Due, Run, Step, Subject};
use crate::model;
use crate::scenario::{Cut, HostRole, Sessions, Suspend, What};
use crate::trace::Trace;

impl<S: Subject, T: Trace> Run<'_, S, T> {
    pub(super) fn step(&mut self, index: usize) -> Step {
        let scenario = self.scenario;
        let step = &scenario.timeline[index];
        match &step.host {
            Some(name) => self.remark(format_args!("{name}: {:?}", step.what)),
            None => self.remark(format_args!("{:?}", step.what)),
        }
        if step.what.is_of_pool() {
            return self.befalls_pool(&step.what);
        }
        for (number, host) in scenario.hosts().into_iter().enumerate() {
            if step.host.as_ref().is_none_or(|name| *name == host.name) {
                self.befalls_host(number, &step.what);
            }
        }
        self.note_outage();
        Ok(())
    }

    fn befalls_pool(&mut self, what: &What) -> Step {
        match what {
            What::Suspend(suspend) => self.suspend(*suspend),
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
            _ => {}
        }
        Ok(())
    }

    fn befalls_host(&mut self, host: usize, what: &What) {
        match what {
            What::Restart(restart) => {
                let fault = self.hosts[host].restart(restart);
                self.goes_down(host, &fault);
            }
            What::Crash(crash) => {
                let fault = self.hosts[host].crash(crash);
                self.goes_down(host, &fault);
            }
            What::Promote => self.hosts[host].role = HostRole::Primary,
            What::Demote(demote) => {
                self.hosts[host].role = HostRole::Standby;
                if demote.sessions == Sessions::Ended {
                    self.hosts[host].end_logins();
                    self.sessions_end(host, &model::killed());
                }
            }
            What::Silence(lasts) => self.cut_network(host, Cut::Everything, *lasts),
            What::Partition(partition) => self.cut_network(host, partition.cuts, partition.lasts),
            What::Kill(kill) => {
                for slot in 0..self.peers.len() {
                    let peer = &self.peers[slot];
                    let open = !matches!(peer.place, Place::Empty | Place::Connecting | Place::Closing);
                    if open && peer.host == host && self.faults.chance(kill.share) {
                        self.session_ends(slot, &model::killed());
                    }
                }
            }
            What::RefuseLogins(lasts) => {
                self.hosts[host].refuse_logins = true;
                self.queue.push(self.now + *lasts, Due::AllowLogins(host));
            }
            What::MaxConnections(allowed) => self.hosts[host].max_connections = *allowed,
            What::OtherSessions(sessions) => self.hosts[host].other_sessions = *sessions,
            What::Connect(dist) => self.hosts[host].connect = dist.clone(),
            What::RoundTrip(dist) => self.hosts[host].round_trip = dist.clone(),
            What::Suspend(_) | What::Shutdown(_) | What::Resize(_) | What::Pause(_) | What::Recycle => {}
        }
    }

    fn cut_network(&mut self, host: usize, cut: Cut, lasts: std::time::Duration) {
        self.hosts[host].cut = Some(cut);
        self.queue.push(self.now + lasts, Due::Heal(host));
    }

    /// A host ends every session and goes through its phases.
    fn goes_down(&mut self, host: usize, fault: &Fault) {
        let others = self.hosts.iter().enumerate().any(|(other, server)| other != host && server.is_usable());
        if !others && self.hosts[host].role == HostRole::Primary {
            self.record.outage_begins(self.now);
        }
        self.sessions_end(host, fault);
        self.next_phase(host);
    }

    fn sessions_end(&mut self, host: usize, fault: &Fault) {
        for slot in 0..self.peers.len() {
            if self.peers[slot].host == host {
                self.session_ends(slot, fault);
            }
        }
        self.logins_end(host);
    }

    pub(super) fn next_phase(&mut self, host: usize) {
        match self.hosts[host].next_phase() {
            Some(lasts) => {
                let plan = self.hosts[host].plan_number;
                self.queue.push(self.now + lasts, Due::Phase { host, plan });
            }
            None => self.note_outage(),
        }
        let state = self.hosts[host].state;
        self.remark(format_args!("host {host} of the server is {state:?}"));
    }

    /// The pool's process stops here, and goes on later.
    fn suspend(&mut self, suspend: Suspend) {
        self.asleep_until = self.now + suspend.lasts;
        self.oracle.sleeps();
        if suspend.sessions == Sessions::Ended {
            for host in 0..self.hosts.len() {
                self.hosts[host].end_logins();
                self.sessions_end(host, &model::forgotten());
            }
        }
        self.record.outage_begins(self.now);
        self.queue.push(self.asleep_until, Due::WakeUp);
    }

    /// Notes whether the server can be used.
    pub(super) fn note_outage(&mut self) {
        let awake = self.now >= self.asleep_until;
        if awake && self.hosts.iter().any(model::Server::is_usable) {
            self.record.outage_ends(self.now);
        } else {
            self.record.outage_begins(self.now);
        }
    }

    /// What the network kept back arrives.
    pub(super) fn heal_network(&mut self, host: usize) {
        self.remark(format_args!("the network to host {host} of the server is back"));
        self.hosts[host].cut = None;
        self.hosts[host].hear();
        let (arrives, held) = std::mem::take(&mut self.held).into_iter().partition(|(to, _)| *to == host);
        self.held = held;
        let arrives: Vec<(usize, Due)> = arrives;
        self.soon.extend(arrives.into_iter().map(|(_, due)| due));
        self.note_outage();
    }

    pub(super) fn allow_logins(&mut self, host: usize) {
        self.remark(format_args!("host {host} of the server accepts passwords again"));
        self.hosts[host].refuse_logins = false;
        self.note_outage();
    }

    pub(super) fn resume(&mut self) -> Step {
        if !std::mem::take(&mut self.paused) || self.shut_down {
            return Ok(());
        }
        self.post(Event::Resume)
    }
}
