//! The server that a fleet shares, as far as connecting goes: so many logins at once, a queue for the others, and what
//! does not fit is refused or not heard.

use std::collections::VecDeque;
use std::time::Duration;

use pgweir_core::time::Instant;

use super::spec::{OutageKind, Overflow, ServerLimits};
use super::world::Ref;
use crate::record::Spread;

/// The server.
#[derive(Debug)]
pub(super) struct Server {
    limits: ServerLimits,
    max_connections: u32,
    /// What is wrong with it, if something is.
    outage: Option<OutageKind>,
    /// Counts the crashes: work from before one is nobody's any more.
    epoch: u32,
    busy: u32,
    /// Since when, and what.
    queue: VecDeque<(Instant, Job)>,
    pub(super) sessions: u32,
    /// Sessions whose client is gone without the server having heard of it.
    orphans: u32,
    pub(super) figures: Figures,
}

/// What it measured.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    /// Connections that it, or its machine, refused.
    pub(super) refused: u64,
    /// Connections that found the backlog full.
    pub(super) overflowed: u64,
    /// Logins that came to their end.
    pub(super) logins: u64,
    /// Logins whose client had gone before their end.
    pub(super) wasted: u64,
    pub(super) queue_peak: u32,
    pub(super) queue_waits: Spread,
    /// CPU time of logins and refusals.
    pub(super) work: Duration,
    /// The part of it that nobody had anything of.
    pub(super) wasted_work: Duration,
}

/// A connection that is worked on, or will be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub(super) who: Ref,
    /// It will only be told that the server is starting.
    pub(super) refuse: bool,
    epoch: u32,
}

/// What a connection request meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Welcome {
    /// It waits for its turn, or is worked on.
    Taken,
    /// Refused at once.
    Refused,
    /// Not heard.
    Dropped,
}

/// How a login ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Session,
    Starting,
    Full,
}

impl Server {
    pub(super) fn new(limits: ServerLimits, max_connections: u32) -> Self {
        Server {
            limits,
            max_connections,
            outage: None,
            epoch: 0,
            busy: 0,
            queue: VecDeque::new(),
            sessions: 0,
            orphans: 0,
            figures: Figures::default(),
        }
    }

    /// Whether the network swallows everything.
    pub(super) fn is_silent(&self) -> bool {
        self.outage == Some(OutageKind::BlackHole)
    }

    pub(super) fn queued(&self) -> u32 {
        self.queue.len() as u32
    }

    /// What was measured until now does not count.
    pub(super) fn measure_from_now(&mut self) {
        self.figures = Figures::default();
    }

    /// A connection request arrives.
    pub(super) fn knock(&mut self, now: Instant, who: Ref) -> Welcome {
        let refuse = match self.outage {
            Some(OutageKind::BlackHole) => return Welcome::Dropped,
            Some(OutageKind::Refused) => {
                self.figures.refused += 1;
                return Welcome::Refused;
            }
            Some(OutageKind::Starting) => true,
            None => false,
        };
        if self.queue.len() >= self.limits.backlog as usize && self.busy >= self.limits.logins_at_once {
            self.figures.overflowed += 1;
            return match self.limits.overflow {
                Overflow::Drop => Welcome::Dropped,
                Overflow::Refuse => {
                    self.figures.refused += 1;
                    Welcome::Refused
                }
            };
        }
        self.queue.push_back((now, Job { who, refuse, epoch: self.epoch }));
        Welcome::Taken
    }

    /// The next job to work on and how long it takes, if there is one and a place for it.
    pub(super) fn next(&mut self, now: Instant) -> Option<(Job, Duration)> {
        if self.busy >= self.limits.logins_at_once {
            return None;
        }
        let (since, job) = self.queue.pop_front()?;
        self.busy += 1;
        self.figures.queue_waits.add(now - since);
        // What is worked on at once did not queue.
        Some((job, if job.refuse { self.limits.refusal_cost } else { self.limits.login_cost }))
    }

    /// After all that can be worked on is: who is left waits.
    pub(super) fn note_queue(&mut self) {
        self.figures.queue_peak = self.figures.queue_peak.max(self.queue.len() as u32);
    }

    /// A job is done; `None` if a crash ended it before. `present` says whether its client still waits for it.
    pub(super) fn done(&mut self, job: Job, present: bool) -> Option<End> {
        if job.epoch != self.epoch {
            return None;
        }
        self.busy -= 1;
        let cost = if job.refuse { self.limits.refusal_cost } else { self.limits.login_cost };
        self.figures.work += cost;
        let end = match job.refuse {
            true => End::Starting,
            false if self.sessions + self.orphans >= self.max_connections => End::Full,
            false => End::Session,
        };
        if end != End::Session {
            self.figures.refused += 1;
        }
        if !present {
            self.figures.wasted += 1;
        }
        if !present || end != End::Session {
            self.figures.wasted_work += cost;
        } else {
            self.figures.logins += 1;
            self.sessions += 1;
        }
        Some(end)
    }

    /// A client closes its session.
    pub(super) fn leave(&mut self) {
        self.sessions -= 1;
        if self.is_silent() {
            self.orphans += 1;
        }
    }

    /// The outage begins. Says whether sessions and logins end with it.
    pub(super) fn fail(&mut self, kind: OutageKind) -> bool {
        self.outage = Some(kind);
        let crash = kind != OutageKind::BlackHole;
        if crash {
            self.epoch += 1;
            self.busy = 0;
            self.queue.clear();
            self.sessions = 0;
        }
        crash
    }

    /// The outage ends.
    pub(super) fn heal(&mut self) {
        self.outage = None;
        self.orphans = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(slot: u16) -> Ref {
        Ref { instance: 0, slot, job: 1 }
    }

    fn server(limits: ServerLimits) -> Server {
        Server::new(limits, 2)
    }

    #[test]
    fn what_does_not_fit_the_backlog_is_not_heard_or_refused() {
        for (overflow, expected) in [(Overflow::Drop, Welcome::Dropped), (Overflow::Refuse, Welcome::Refused)] {
            let limits = ServerLimits { logins_at_once: 1, backlog: 2, overflow, ..ServerLimits::default() };
            let mut server = server(limits);
            assert_eq!(server.knock(Instant::ZERO, who(0)), Welcome::Taken);
            assert!(server.next(Instant::ZERO).is_some() && server.next(Instant::ZERO).is_none());
            assert_eq!(
                [1, 2, 3].map(|slot| server.knock(Instant::ZERO, who(slot))),
                [Welcome::Taken, Welcome::Taken, expected]
            );
            assert_eq!(server.figures.overflowed, 1);
        }
    }

    #[test]
    fn logins_end_in_sessions_until_the_server_is_full() {
        let mut server = server(ServerLimits::default());
        let mut login = |slot| {
            server.knock(Instant::ZERO, who(slot));
            let (job, _) = server.next(Instant::ZERO).expect("a place");
            server.done(job, true)
        };
        assert_eq!([0, 1, 2].map(&mut login), [Some(End::Session), Some(End::Session), Some(End::Full)]);
        server.leave();
        assert_eq!((server.sessions, server.figures.logins, server.figures.refused), (1, 2, 1));
        assert_eq!(server.figures.work, Duration::from_millis(15));
        assert_eq!(server.figures.wasted_work, Duration::from_millis(5));
    }

    #[test]
    fn a_crash_ends_what_was_under_way() {
        let mut server = server(ServerLimits::default());
        server.knock(Instant::ZERO, who(0));
        let (job, _) = server.next(Instant::ZERO).expect("a place");
        assert!(server.fail(OutageKind::Starting));
        assert_eq!(server.done(job, true), None);
        server.knock(Instant::ZERO, who(1));
        let (job, takes) = server.next(Instant::ZERO).expect("a place");
        assert_eq!((server.done(job, true), takes), (Some(End::Starting), ServerLimits::default().refusal_cost));
        server.heal();
        assert_eq!(server.outage, None);
    }

    #[test]
    fn who_left_in_silence_takes_a_place_until_it_ends() {
        let mut server = server(ServerLimits::default());
        server.knock(Instant::ZERO, who(0));
        let (job, _) = server.next(Instant::ZERO).expect("a place");
        server.done(job, true);
        assert!(!server.fail(OutageKind::BlackHole) && server.is_silent());
        assert_eq!(server.knock(Instant::ZERO, who(1)), Welcome::Dropped);
        server.leave();
        assert_eq!((server.sessions, server.orphans), (0, 1));
        server.heal();
        assert_eq!(server.orphans, 0);
    }
}
