//! A model of one PostgreSQL host as a pool sees it: what it answers to a new connection and when, whose sessions it
//! ends, how many there are, and what of all that the network lets through.

use std::collections::BTreeMap;
use std::time::Duration;

use pgweir_core::pg::fault_class;
use pgweir_core::pool::{ConnId, Fault, FaultClass, ServerFacts, SqlState};
use pgweir_core::time::Instant;

use crate::rng::Rng;
use crate::scenario::{Crash, Cut, Dist, HostRole, HostSpec, Restart, ServerSpec, ServerState};
use crate::what_if::recording::{Refusal, Samples, Times};

/// The server, or one host of it.
#[derive(Debug)]
pub(crate) struct Server {
    name: String,
    pub(crate) role: HostRole,
    /// What the network swallows.
    pub(crate) cut: Option<Cut>,
    pub(crate) state: ServerState,
    /// Why "starting": a crash says "in recovery mode".
    recovering: bool,
    /// What follows, the next last.
    plan: Vec<(Duration, ServerState)>,
    /// Counts the plans: what an older one announced does not happen.
    pub(crate) plan_number: u32,
    /// Counts the crashes and restarts: a login that one interrupted fails.
    epoch: u32,
    pub(crate) refuse_logins: bool,
    pub(crate) max_connections: u32,
    pub(crate) other_sessions: u32,
    pub(crate) connect: Dist,
    pub(crate) round_trip: Dist,
    /// When each of the places where logins are worked on is free.
    lanes: Vec<Instant>,
    /// Logins under way, each with the epoch it began in.
    logins: BTreeMap<ConnId, u32>,
    sessions: BTreeMap<ConnId, Session>,
    next_pid: i32,
    rng: Rng,
    /// Instead of the distributions, if what was recorded is run again.
    recorded: Option<Recorded>,
    pub(crate) refused: u64,
    pub(crate) peak_logins: usize,
    pub(crate) peak_sessions: usize,
}

/// How a recorded server answers.
#[derive(Debug)]
struct Recorded {
    times: Times,
    refusal: Option<Refusal>,
    rng: Rng,
}

#[derive(Debug)]
struct Session {
    /// The client is gone, but the network has not told yet.
    orphan: bool,
}

/// What a new connection meets.
#[derive(Debug)]
pub(crate) enum Welcome {
    /// An answer at once, after a round trip.
    Refused(Fault),
    /// A login that ends then; ask [`Server::login_ends`].
    Login(Instant),
}

impl Server {
    pub(crate) fn new(spec: &ServerSpec, rng: Rng) -> Self {
        Server {
            name: "db".to_owned(),
            role: HostRole::Primary,
            cut: None,
            state: spec.state,
            recovering: false,
            plan: Vec::new(),
            plan_number: 0,
            epoch: 0,
            refuse_logins: false,
            max_connections: spec.max_connections,
            other_sessions: spec.other_sessions,
            connect: spec.connect.clone(),
            round_trip: spec.round_trip.clone(),
            lanes: vec![Instant::ZERO; spec.logins_at_once as usize],
            logins: BTreeMap::new(),
            sessions: BTreeMap::new(),
            next_pid: 1000,
            rng,
            recorded: None,
            refused: 0,
            peak_logins: 0,
            peak_sessions: 0,
        }
    }

    /// The same, as one host among several.
    pub(crate) fn named(self, host: HostSpec) -> Self {
        Server { name: host.name, role: host.role, ..self }
    }

    /// How long the next round trip takes.
    pub(crate) fn round_trip(&mut self) -> Duration {
        self.round_trip.draw(&mut self.rng)
    }

    /// How long the next check takes.
    pub(crate) fn validation(&mut self) -> Duration {
        self.takes(1, |recorded| &recorded.times.validate)
    }

    /// How long the next reset takes, if it needs so many round trips.
    pub(crate) fn reset(&mut self, trips: u32) -> Duration {
        self.takes(trips, |recorded| &recorded.times.reset)
    }

    /// How long the next orderly close takes.
    pub(crate) fn goodbye(&mut self) -> Duration {
        self.takes(1, |recorded| &recorded.times.close)
    }

    /// How long it takes to be refused.
    pub(crate) fn refusal(&mut self) -> Duration {
        self.takes(1, |recorded| match &recorded.refusal {
            Some(refusal) => &refusal.delays,
            None => &recorded.times.validate,
        })
    }

    /// As often as it was recorded, whatever the number of round trips.
    fn takes(&mut self, trips: u32, samples: fn(&Recorded) -> &Samples) -> Duration {
        match &mut self.recorded {
            Some(recorded) => {
                let samples = samples(recorded).clone();
                samples.draw(&mut recorded.rng)
            }
            None => self.round_trip() * trips,
        }
    }

    /// From now on everything takes as long as it was recorded to take.
    pub(crate) fn play(&mut self, times: &Times, rng: Rng) {
        self.recorded = Some(Recorded { times: times.clone(), refusal: None, rng });
    }

    /// Refuses connections as recorded. Logins under way fail.
    pub(crate) fn refuse(&mut self, refusal: Refusal) {
        self.epoch += 1;
        if let Some(recorded) = &mut self.recorded {
            recorded.refusal = Some(refusal);
        }
    }

    /// Takes connections again.
    pub(crate) fn accept(&mut self) {
        if let Some(recorded) = &mut self.recorded {
            recorded.refusal = None;
        }
    }

    fn recorded_refusal(&self) -> Option<&Fault> {
        self.recorded.as_ref()?.refusal.as_ref().map(|refusal| &refusal.fault)
    }

    /// Whether a pool can be served by it.
    pub(crate) fn is_usable(&self) -> bool {
        self.state == ServerState::Up
            && !self.refuse_logins
            && self.role == HostRole::Primary
            && self.cut.is_none()
            && self.recorded_refusal().is_none()
    }

    /// Whether new connections reach it.
    pub(crate) fn is_reached(&self) -> bool {
        !self.cut.is_some_and(Cut::stops_connects)
    }

    /// Whether what a session's client says reaches it.
    pub(crate) fn hears(&self) -> bool {
        !self.cut.is_some_and(Cut::stops_requests)
    }

    /// Whether what it says reaches its clients.
    pub(crate) fn is_heard(&self) -> bool {
        !self.cut.is_some_and(Cut::stops_answers)
    }

    /// Why a session that wants to write fails here, if it does.
    pub(crate) fn turns_away(&self) -> Option<Fault> {
        let fault = || said("25006", "cannot execute in a read-only transaction: demoted?");
        (self.role == HostRole::Standby).then(fault)
    }

    /// The pool's sessions, those included whose client is gone.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is a session or a login of this connection.
    pub(crate) fn has(&self, conn: ConnId) -> bool {
        self.sessions.contains_key(&conn) || self.logins.contains_key(&conn)
    }

    /// A connection arrives.
    pub(crate) fn connect(&mut self, now: Instant, conn: ConnId) -> Welcome {
        let refusal = match self.state {
            ServerState::Up => None,
            ServerState::Down => {
                let message = format!("connecting to {}:5432: Connection refused", self.name);
                Some(Fault::plain(FaultClass::Transient, message))
            }
            ServerState::Starting if self.recovering => Some(said("57P03", "the database system is in recovery mode")),
            ServerState::Starting => Some(said("57P03", "the database system is starting up")),
            ServerState::Stopping => Some(said("57P03", "the database system is shutting down")),
        };
        let refusal = refusal.or_else(|| self.recorded_refusal().cloned());
        if let Some(fault) = refusal {
            self.refused += 1;
            return Welcome::Refused(fault);
        }
        self.logins.insert(conn, self.epoch);
        self.peak_logins = self.peak_logins.max(self.logins.len());
        if self.recorded.is_some() {
            // What was measured contains the wait for a turn.
            return Welcome::Login(now + self.takes(1, |recorded| &recorded.times.connect));
        }
        let lane = (0..self.lanes.len()).min_by_key(|lane| self.lanes[*lane]).unwrap_or_default();
        let ends = self.lanes[lane].max(now) + self.connect.draw(&mut self.rng);
        self.lanes[lane] = ends;
        Welcome::Login(ends)
    }

    /// A login is through.
    pub(crate) fn login_ends(&mut self, conn: ConnId) -> Result<ServerFacts, Fault> {
        let epoch = self.logins.remove(&conn);
        let fault = if epoch != Some(self.epoch) || self.state != ServerState::Up {
            Fault::plain(FaultClass::Transient, "the server closed the connection while logging in")
        } else if let Some(fault) = self.recorded_refusal() {
            fault.clone()
        } else if self.refuse_logins {
            said("28P01", "password authentication failed for user \"app\"")
        } else if self.sessions.len() as u64 + u64::from(self.other_sessions) >= u64::from(self.max_connections) {
            said("53300", "sorry, too many clients already")
        } else if self.role == HostRole::Standby {
            let message = format!("target_session_attrs is not met: {} is a standby", self.name);
            Fault::plain(FaultClass::WrongRole, message)
        } else {
            self.sessions.insert(conn, Session { orphan: false });
            self.peak_sessions = self.peak_sessions.max(self.sessions.len());
            self.next_pid += 1;
            return Ok(ServerFacts { backend_pid: self.next_pid, ..ServerFacts::default() });
        };
        self.refused += 1;
        Err(fault)
    }

    /// The client gives a login up, or closes its session. While the network swallows everything, the server does not
    /// hear of it.
    pub(crate) fn leave(&mut self, conn: ConnId, heard: bool) {
        self.logins.remove(&conn);
        if heard {
            self.sessions.remove(&conn);
        } else if let Some(session) = self.sessions.get_mut(&conn) {
            session.orphan = true;
        }
    }

    /// The network is back: the server hears of those who left.
    pub(crate) fn hear(&mut self) {
        self.sessions.retain(|_, session| !session.orphan);
    }

    /// Ends one session from the server's side.
    pub(crate) fn end(&mut self, conn: ConnId) -> bool {
        self.sessions.remove(&conn).is_some()
    }

    /// Begins a restart; every session ends with the fault that is returned.
    pub(crate) fn restart(&mut self, restart: &Restart) -> Fault {
        self.recovering = false;
        self.begin([
            (restart.stopping, ServerState::Stopping),
            (restart.down, ServerState::Down),
            (restart.starting, ServerState::Starting),
        ]);
        said("57P01", "terminating connection due to administrator command")
    }

    /// Crashes; every session ends with the fault that is returned.
    pub(crate) fn crash(&mut self, crash: &Crash) -> Fault {
        self.recovering = true;
        self.begin([
            (crash.down, ServerState::Down),
            (crash.recovering, ServerState::Starting),
            (Duration::ZERO, ServerState::Up),
        ]);
        said("57P02", "terminating connection because of crash of another server process")
    }

    fn begin(&mut self, phases: [(Duration, ServerState); 3]) {
        self.epoch += 1;
        self.plan_number += 1;
        self.plan = phases.into_iter().filter(|(lasts, _)| !lasts.is_zero()).rev().collect();
    }

    /// Enters the next phase of the plan and says how long it lasts; `None` when the server is up for good.
    pub(crate) fn next_phase(&mut self) -> Option<Duration> {
        let (lasts, state) = self.plan.pop().map_or((None, ServerState::Up), |(lasts, state)| (Some(lasts), state));
        self.state = state;
        lasts
    }

    /// Whatever is wrong with it ends: it is up and fast, and has room for `wanted` sessions.
    pub(crate) fn heal(&mut self, wanted: u32) {
        let well = ServerSpec::default();
        (self.connect, self.round_trip) = (well.connect, well.round_trip);
        // Logins that nobody waits for any more keep nobody waiting.
        self.lanes = vec![Instant::ZERO; self.lanes.len().max(wanted as usize)];
        self.max_connections = self.max_connections.max(wanted);
        self.other_sessions = 0;
        self.plan_number += 1;
        self.plan.clear();
        self.state = ServerState::Up;
        self.refuse_logins = false;
        if let Some(recorded) = &mut self.recorded {
            // Another configuration may have no patience for what was recorded: at the end all is immediate.
            (recorded.times, recorded.refusal) = (Times::default(), None);
        }
    }

    /// Logins under way come to nothing.
    pub(crate) fn end_logins(&mut self) {
        self.epoch += 1;
    }
}

/// What the server says with a SQLSTATE.
pub(crate) fn said(code: &str, message: &str) -> Fault {
    let sqlstate = SqlState::parse(code);
    let class = sqlstate.map_or(FaultClass::Transient, fault_class);
    Fault { sqlstate, ..Fault::plain(class, message) }
}

/// What a client sees of a session that the server gave up while nobody looked.
pub(crate) fn forgotten() -> Fault {
    Fault::plain(FaultClass::Transient, "Connection reset by peer")
}

/// A termination by an administrator.
pub(crate) fn killed() -> Fault {
    said("57P01", "terminating connection due to administrator command")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(slot: u32) -> ConnId {
        ConnId { slot, generation: 1 }
    }

    fn server(spec: &ServerSpec) -> Server {
        Server::new(spec, Rng::new(1, 1))
    }

    fn login(server: &mut Server, slot: u32) -> Result<ServerFacts, Fault> {
        match server.connect(Instant::ZERO, conn(slot)) {
            Welcome::Refused(fault) => Err(fault),
            Welcome::Login(_) => server.login_ends(conn(slot)),
        }
    }

    #[test]
    fn logins_wait_for_their_turn() {
        let mut server = server(&ServerSpec::default());
        let ends = (0..5).map(|slot| match server.connect(Instant::ZERO, conn(slot)) {
            Welcome::Login(at) => at.as_nanos() / 1_000_000,
            Welcome::Refused(fault) => panic!("{fault}"),
        });
        assert_eq!(ends.collect::<Vec<_>>(), [5, 5, 10, 10, 15]);
        assert_eq!(server.peak_logins, 5);
    }

    #[test]
    fn a_full_server_says_so() {
        let mut server = server(&ServerSpec { max_connections: 3, other_sessions: 1, ..ServerSpec::default() });
        assert!(login(&mut server, 1).is_ok() && login(&mut server, 2).is_ok());
        let fault = login(&mut server, 3).expect_err("full");
        assert_eq!((fault.class, fault.to_string().contains("53300")), (FaultClass::Capacity, true));
        server.leave(conn(1), true);
        assert!(login(&mut server, 3).is_ok());
    }

    #[test]
    fn a_restart_goes_through_its_phases() {
        let mut server = server(&ServerSpec::default());
        let second = Duration::from_secs(1);
        server.restart(&Restart { stopping: second, down: second, starting: second });
        for expected in ["shutting down", "refused", "starting up"] {
            assert_eq!(server.next_phase(), Some(second));
            let fault = login(&mut server, 1).expect_err(expected);
            assert!(fault.message.contains(expected), "{fault}");
        }
        assert_eq!(server.next_phase(), None);
        assert!(login(&mut server, 1).is_ok());
    }

    #[test]
    fn a_login_under_way_does_not_survive_a_crash() {
        let mut server = server(&ServerSpec::default());
        assert!(matches!(server.connect(Instant::ZERO, conn(1)), Welcome::Login(_)));
        server.crash(&Crash { down: Duration::ZERO, recovering: Duration::ZERO });
        assert_eq!(server.next_phase(), None);
        assert!(server.login_ends(conn(1)).is_err());
        assert!(login(&mut server, 2).is_ok());
    }

    #[test]
    fn a_standby_turns_writers_away_until_it_is_promoted() {
        let host = HostSpec { name: "b".to_owned(), role: HostRole::Standby };
        let mut server = server(&ServerSpec::default()).named(host);
        let fault = login(&mut server, 1).expect_err("a standby");
        assert_eq!(
            (fault.class, &*fault.message),
            (FaultClass::WrongRole, "target_session_attrs is not met: b is a standby")
        );
        assert!(!server.is_usable() && server.sessions() == 0);
        server.role = HostRole::Primary;
        assert!(login(&mut server, 2).is_ok() && server.is_usable());
    }

    #[test]
    fn a_network_swallows_what_it_is_told_to() {
        let mut server = server(&ServerSpec::default());
        let seen = |server: &Server| (server.is_reached(), server.hears(), server.is_heard(), server.is_usable());
        assert_eq!(seen(&server), (true, true, true, true));
        for (cut, expected) in [
            (Cut::Connects, (false, true, true, false)),
            (Cut::Answers, (true, true, false, false)),
            (Cut::Everything, (false, false, false, false)),
        ] {
            server.cut = Some(cut);
            assert_eq!(seen(&server), expected, "{cut:?}");
        }
    }

    #[test]
    fn who_left_in_silence_is_heard_of_later() {
        let mut server = server(&ServerSpec::default());
        assert!(login(&mut server, 1).is_ok());
        server.leave(conn(1), false);
        assert_eq!(server.sessions(), 1);
        server.hear();
        assert_eq!(server.sessions(), 0);
    }
}
