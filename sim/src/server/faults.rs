//! What is done to the server: stops, crashes, restarts, and everything else that makes a pool's life hard.

use std::time::Duration;

use pgweir_core::time::Instant;

use super::error::{PgError, Severity, terminated};
use super::execute::cancelled;
use super::postgres::Postgres;
use super::session::Stage;
use super::view::Event;
use crate::net::{LinkId, Output};
use crate::scenario::{Crash, Dist, Restart, ServerState};

/// Something that the server will do by itself.
#[derive(Debug)]
pub(super) enum Due {
    /// The next phase of a plan, if that is still the plan.
    Phase {
        plan: u64,
    },
    /// Another crash of a loop.
    CrashAgain {
        plan: u64,
        crash: Crash,
        up: Duration,
        left: u32,
    },
    AllowLogins,
    /// A notice to a session at random.
    Notice {
        every: Dist,
        until: Instant,
    },
}

/// What goes wrong with every login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthFault {
    /// It is never answered.
    Hang,
    /// It ends with this.
    Fail(PgError),
}

/// How a server is stopped, as by `pg_ctl stop -m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// New connections are told "shutting down"; it stops when the last session has ended by itself.
    Smart,
    /// Sessions end with FATAL 57P01.
    Fast,
    /// Sessions end with a WARNING 57P01 and the connection's end; the next start recovers.
    Immediate,
}

/// Stops and starts.
impl Postgres {
    /// Stops, for good unless something starts it again. New connections are told "shutting down" for `stopping`, then
    /// nobody listens; a smart stop waits for its sessions instead.
    pub fn stop(&mut self, now: Instant, mode: StopMode, stopping: Duration) {
        self.control(now, format!("stop {mode:?}"));
        self.new_plan();
        self.recovering = mode == StopMode::Immediate;
        match mode {
            StopMode::Smart => {
                self.state = ServerState::Stopping;
                self.smart = true;
                if self.pids.is_empty() {
                    self.smart_stop_ends(now);
                }
            }
            StopMode::Fast | StopMode::Immediate => {
                self.end_all(now, mode);
                self.begin(now, &[(stopping, ServerState::Stopping), (Duration::MAX, ServerState::Down)]);
            }
        }
    }

    /// A fast restart. Every session ends with FATAL 57P01.
    pub fn restart(&mut self, now: Instant, restart: &Restart) {
        self.control(now, format!("{restart:?}"));
        self.new_plan();
        self.recovering = false;
        self.end_all(now, StopMode::Fast);
        self.begin(
            now,
            &[
                (restart.stopping, ServerState::Stopping),
                (restart.down, ServerState::Down),
                (restart.starting, ServerState::Starting),
            ],
        );
    }

    /// A crash: a backend died, or somebody pulled the plug. Every session is told 57P02 and ends.
    pub fn crash(&mut self, now: Instant, crash: &Crash) {
        self.control(now, format!("{crash:?}"));
        self.new_plan();
        self.crash_now(now, crash);
    }

    fn crash_now(&mut self, now: Instant, crash: &Crash) {
        self.recovering = true;
        let notice = PgError::new(
            Severity::Warning,
            "57P02",
            "terminating connection because of crash of another server process",
        )
        .detail(
            "The postmaster has commanded this server process to roll back the current transaction and exit, because \
             another server process exited abnormally and possibly corrupted shared memory.",
        )
        .hint("In a moment you should be able to reconnect to the database and repeat your command.");
        self.farewell(now, Some(&notice), Output::Close);
        self.begin(now, &[(crash.down, ServerState::Down), (crash.recovering, ServerState::Starting)]);
    }

    /// Crashes `times` times, each time after it was up for `up`; the first time now.
    pub fn crash_loop(&mut self, now: Instant, crash: &Crash, up: Duration, times: u32) {
        self.control(now, format!("{times} times {crash:?}"));
        self.new_plan();
        if times > 0 {
            self.crash_now(now, crash);
            self.crash_again(now, *crash, up, times - 1);
        }
    }

    fn crash_again(&mut self, now: Instant, crash: Crash, up: Duration, left: u32) {
        if left > 0 {
            let at = now + crash.down + crash.recovering + up;
            self.due.push(at, Due::CrashAgain { plan: self.plan_number, crash, up, left });
        }
    }

    /// The machine is gone: every connection ends without a word, and nobody listens until [`Postgres::start`].
    pub fn power_off(&mut self, now: Instant) {
        self.control(now, "power off".to_owned());
        self.new_plan();
        self.recovering = true;
        self.farewell(now, None, Output::Close);
        self.state = ServerState::Down;
    }

    /// Starts a server that is down; new connections are told "starting up" for so long, or "in recovery mode" if it
    /// had not been stopped cleanly.
    pub fn start(&mut self, now: Instant, starting: Duration) {
        self.control(now, "start".to_owned());
        self.new_plan();
        self.begin(now, &[(starting, ServerState::Starting)]);
    }

    /// Whatever is wrong with it ends.
    pub fn heal(&mut self, now: Instant) {
        self.control(now, "heal".to_owned());
        self.new_plan();
        self.state = ServerState::Up;
        self.refuse_logins = false;
        self.auth_fault = None;
        // Those who have given up their login no longer keep others from theirs.
        self.lanes.fill(now);
        if self.frozen {
            self.thaw(now);
        }
    }

    fn new_plan(&mut self) {
        self.plan_number += 1;
        self.plan.clear();
        self.smart = false;
    }

    fn begin(&mut self, now: Instant, phases: &[(Duration, ServerState)]) {
        self.plan = phases.iter().copied().filter(|(lasts, _)| !lasts.is_zero()).rev().collect();
        self.next_phase(now);
    }

    fn next_phase(&mut self, now: Instant) {
        match self.plan.pop() {
            Some((lasts, state)) => {
                self.state = state;
                self.due.push(now.saturating_add(lasts), Due::Phase { plan: self.plan_number });
            }
            None => {
                self.state = ServerState::Up;
                self.recovering = false;
                self.started = now;
            }
        }
        let state = self.state;
        self.control(now, format!("{state:?}"));
    }

    pub(super) fn smart_stop_ends(&mut self, now: Instant) {
        self.smart = false;
        self.state = ServerState::Down;
        self.control(now, "Down".to_owned());
    }

    pub(super) fn happens(&mut self, now: Instant, due: Due) {
        match due {
            Due::Phase { plan } if plan == self.plan_number => self.next_phase(now),
            Due::CrashAgain { plan, crash, up, left } if plan == self.plan_number => {
                self.crash_now(now, &crash);
                self.crash_again(now, crash, up, left - 1);
            }
            Due::Phase { .. } | Due::CrashAgain { .. } => {}
            Due::AllowLogins => self.refuse_logins = false,
            Due::Notice { every, until } if now < until => {
                let sessions: Vec<LinkId> = self.pids.values().copied().collect();
                if !sessions.is_empty() {
                    let chosen = sessions[self.faults.next() as usize % sessions.len()];
                    self.notice(now, chosen, &PgError::new(Severity::Notice, "00000", "a notice at a random moment"));
                }
                self.notices(now, every, until);
            }
            Due::Notice { .. } => {}
        }
    }

    fn end_all(&mut self, now: Instant, mode: StopMode) {
        match mode {
            StopMode::Immediate => {
                let notice = PgError::new(
                    Severity::Warning,
                    "57P01",
                    "terminating connection because of immediate shutdown command",
                );
                self.farewell(now, Some(&notice), Output::Close);
            }
            _ => self.farewell(now, Some(&terminated()), Output::Close),
        }
    }

    /// Every connection ends; sessions are told why, logins under way are not.
    fn farewell(&mut self, now: Instant, words: Option<&PgError>, how: Output) {
        let ids: Vec<LinkId> = self.links.keys().copied().collect();
        for id in ids {
            self.dismiss(now, id, words, how.clone());
        }
        self.lanes.fill(Instant::ZERO);
    }

    fn dismiss(&mut self, now: Instant, id: LinkId, words: Option<&PgError>, how: Output) {
        let Some(mut link) = self.links.remove(&id) else { return };
        if let Some(words) = words.filter(|_| matches!(link.stage, Stage::Session(_))) {
            match words.severity {
                Severity::Fatal => link.wire.out.error(words),
                _ => link.wire.out.notice(words),
            }
        }
        link.wire.closing = Some(how);
        self.take_back(now, link);
    }
}

/// Sessions.
impl Postgres {
    /// Terminates the session of a process: FATAL 57P01. False if there is none.
    pub fn kill(&mut self, now: Instant, pid: i32) -> bool {
        let Some(id) = self.pids.get(&pid).copied().filter(|id| self.links.contains_key(id)) else { return false };
        self.dismiss(now, id, Some(&terminated()), Output::Close);
        true
    }

    /// Terminates each session with this probability, from 0 to 1; returns how many.
    pub fn kill_some(&mut self, now: Instant, share: f64) -> usize {
        let pids: Vec<i32> = self.pids.keys().copied().collect();
        let mut chosen = Vec::new();
        for pid in pids {
            if self.faults.chance(share) {
                chosen.push(pid);
            }
        }
        chosen.into_iter().filter(|pid| self.kill(now, *pid)).count()
    }

    /// Cancels what the process runs: 57014. False if it runs nothing.
    pub fn cancel(&mut self, now: Instant, pid: i32) -> bool {
        let Some(id) = self.pids.get(&pid).copied() else { return false };
        let Some(mut link) = self.links.remove(&id) else { return false };
        let Stage::Session(session) = &mut link.stage else {
            self.links.insert(id, link);
            return false;
        };
        let hit = session.active.is_some();
        if hit {
            self.fail(now, &mut link.wire, session, cancelled());
        }
        self.links.insert(id, link);
        self.touch(now, id);
        hit
    }

    pub(super) fn cancel_request(&mut self, now: Instant, pid: i32, key: i32) {
        let id = self.pids.get(&pid).copied();
        let right = id.and_then(|id| self.links.get(&id)?.session()).is_some_and(|session| session.key == key);
        let hit = right && self.cancel(now, pid);
        self.seen.counts.cancels += 1;
        self.seen.counts.cancels_hit += u64::from(hit);
        self.seen.note(now, id, Event::Cancel { pid, hit });
    }

    /// The server's side of a session is gone, and the client does not hear of it: half open. False if there is no such
    /// process.
    pub fn vanish(&mut self, now: Instant, pid: i32) -> bool {
        let Some(id) = self.pids.get(&pid).copied() else { return false };
        self.drop_link(now, id);
        true
    }

    /// Resets the connection of a process. False if there is none.
    pub fn reset_session(&mut self, now: Instant, pid: i32) -> bool {
        let Some(id) = self.pids.get(&pid).copied().filter(|id| self.links.contains_key(id)) else { return false };
        self.dismiss(now, id, None, Output::Reset);
        true
    }

    /// Sends bytes that may be no message to the client of a process, for hostile tests. False if there is none.
    pub fn inject(&mut self, now: Instant, pid: i32, bytes: &[u8]) -> bool {
        let Some(id) = self.pids.get(&pid).copied() else { return false };
        let Some(mut link) = self.links.remove(&id) else { return false };
        link.wire.out.raw(bytes);
        self.flush(now, &mut link.wire);
        self.links.insert(id, link);
        true
    }

    /// Sends half of a message to the client of a process, and then the end.
    pub fn truncate(&mut self, now: Instant, pid: i32) -> bool {
        let injected = self.inject(now, pid, b"D\0\0\0\x40\0\x01\0\0");
        if let Some(id) = self.pids.get(&pid).copied().filter(|_| injected) {
            self.dismiss(now, id, None, Output::Close);
        }
        injected
    }

    fn notice(&mut self, now: Instant, id: LinkId, notice: &PgError) {
        let Some(mut link) = self.links.remove(&id) else { return };
        link.wire.out.notice(notice);
        self.flush(now, &mut link.wire);
        self.links.insert(id, link);
    }

    /// Sends a notice to one of the sessions every so often, for `lasts`.
    pub fn send_notices(&mut self, now: Instant, every: Dist, lasts: Duration) {
        self.notices(now, every, now + lasts);
    }

    fn notices(&mut self, now: Instant, every: Dist, until: Instant) {
        // Never twice at a moment, or time would stand still.
        let next = now + every.draw(&mut self.faults).max(Duration::from_micros(1));
        if next < until {
            self.due.push(next, Due::Notice { every, until });
        }
    }
}

/// What it is like from now on.
impl Postgres {
    /// Refuses every login (28P01), for so long.
    pub fn refuse_logins(&mut self, now: Instant, lasts: Duration) {
        self.control(now, format!("refuse logins for {lasts:?}"));
        self.refuse_logins = true;
        self.due.push(now.saturating_add(lasts), Due::AllowLogins);
    }

    /// Something goes wrong with every login from now on; `None`: no more.
    pub fn set_auth_fault(&mut self, now: Instant, fault: Option<AuthFault>) {
        self.control(now, format!("auth fault {fault:?}"));
        self.auth_fault = fault;
    }

    /// The password of every role is another one from now on; sessions stay.
    pub fn set_password(&mut self, now: Instant, password: &str) {
        self.control(now, "another password".to_owned());
        self.config.password = password.to_owned();
        for role in self.config.roles.values_mut() {
            role.password = password.to_owned();
        }
    }

    /// Allows this many sessions from now on; those that are too many stay.
    pub fn set_max_connections(&mut self, now: Instant, allowed: u32) {
        self.control(now, format!("max_connections {allowed}"));
        self.config.max_connections = allowed;
        self.rebase("max_connections", &allowed.to_string(), now);
    }

    /// Others hold this many sessions from now on.
    pub fn set_other_sessions(&mut self, now: Instant, sessions: u32) {
        self.control(now, format!("other sessions {sessions}"));
        self.config.other_sessions = sessions;
    }

    /// A login costs so much from now on.
    pub fn set_login_cost(&mut self, now: Instant, cost: Dist) {
        self.control(now, format!("login cost {cost:?}"));
        self.config.connect = cost;
    }

    /// A statement takes so long from now on.
    pub fn set_query_time(&mut self, now: Instant, time: Dist) {
        self.control(now, format!("query time {time:?}"));
        self.config.query_time = time;
    }

    /// Changes a setting as a reload of the configuration does: sessions that have not set it themselves get it too.
    ///
    /// # Errors
    /// If there is no such setting, or no such value.
    pub fn set_setting(&mut self, now: Instant, name: &str, value: &str) -> Result<(), PgError> {
        let value = self.base.clone().set(name, value)?;
        self.control(now, format!("{name} = {value}"));
        self.rebase(name, &value, now);
        Ok(())
    }

    fn rebase(&mut self, name: &str, value: &str, now: Instant) {
        self.base.rebase(name, value);
        let ids: Vec<LinkId> = self.links.keys().copied().collect();
        for id in ids {
            if let Some(Stage::Session(session)) = self.links.get_mut(&id).map(|link| &mut link.stage) {
                session.settings.rebase(name, value);
                if let Some(transaction) = &mut session.transaction {
                    transaction.settings.rebase(name, value);
                }
                self.touch(now, id);
            }
        }
    }

    /// SIGSTOP: it answers nothing any more, and the kernel still accepts connections.
    pub fn freeze(&mut self, now: Instant) {
        self.control(now, "freeze".to_owned());
        self.frozen = true;
    }

    /// SIGCONT: it goes on, and does first what came meanwhile.
    pub fn thaw(&mut self, now: Instant) {
        self.control(now, "thaw".to_owned());
        self.frozen = false;
        let ids: Vec<LinkId> = self.links.keys().copied().collect();
        for id in ids {
            self.touch(now, id);
        }
    }

    /// A standby becomes the primary; sessions stay and may write.
    pub fn promote(&mut self, now: Instant) {
        self.control(now, "promote".to_owned());
        self.standby = false;
        self.rebase("in_hot_standby", "off", now);
    }

    /// The primary is read-only from now on and its sessions stay, as with a failover tool that only flips a switch. A
    /// demotion that restarts is this and [`Postgres::restart`].
    pub fn demote(&mut self, now: Instant) {
        self.control(now, "demote".to_owned());
        self.standby = true;
        self.rebase("in_hot_standby", "on", now);
    }

    fn control(&mut self, now: Instant, what: String) {
        self.seen.note(now, None, Event::Control(what));
    }

    fn take_back(&mut self, now: Instant, mut link: super::session::Link) {
        if let Some(at) = link.wake.take() {
            self.unwake(at, link.wire.id);
        }
        self.settle(now, link);
    }
}
