//! [`Postgres`]: the server as a host of the network, and when it has to do something.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pgweir_core::time::Instant;

use super::auth::Verifier;
use super::clock::UNIX_TO_2000;
use super::config::Config;
use super::error::PgError;
use super::faults::{AuthFault, Due};
use super::read::Input;
use super::script::{Answer, Call, Script, Scripts};
use super::session::{Link, Session, Stage, Wire};
use super::settings::Settings;
use super::table::{Changes, Store};
use super::value::Value;
use super::view::{Counts, Entry, Event, Seen, SessionView};
use super::write::Out;
use crate::Digest;
use crate::net::{Accept, Host, LinkId, Output};
use crate::queue::Queue;
use crate::rng::Rng;
use crate::scenario::ServerState;

/// Streams of the seed, so that one kind of draw does not shift the others.
const KEYS: u64 = 0x5e01;
const LOGINS: u64 = 0x5e02;
const AUTH: u64 = 0x5e03;
const QUERIES: u64 = 0x5e04;
const FAULTS: u64 = 0x5e05;

/// A simulated PostgreSQL server. It speaks the wire protocol to whatever connects, on a clock that is an argument.
///
/// Drive it through [`Host`]. What else is a method here scripts its answers, breaks it, or asks what it has seen.
#[derive(Debug)]
pub struct Postgres {
    pub(super) config: Config,
    pub(super) state: ServerState,
    /// Why "starting": a crash says "in recovery mode".
    pub(super) recovering: bool,
    pub(super) standby: bool,
    pub(super) frozen: bool,
    /// Stops when the last session ends.
    pub(super) smart: bool,
    pub(super) refuse_logins: bool,
    pub(super) auth_fault: Option<AuthFault>,
    /// What follows, the next last.
    pub(super) plan: Vec<(Duration, ServerState)>,
    /// Counts the plans: what an older one announced does not happen.
    pub(super) plan_number: u64,
    pub(super) due: Queue<Due>,
    pub(super) links: BTreeMap<LinkId, Link>,
    wakes: BTreeSet<(Instant, LinkId)>,
    out: Vec<(LinkId, Output)>,
    pub(super) lanes: Vec<Instant>,
    pub(super) pids: Arc<BTreeMap<i32, LinkId>>,
    pub(super) store: Store,
    pub(super) scripts: Scripts,
    pub(super) verifiers: BTreeMap<String, (String, Verifier)>,
    pub(super) seen: Seen,
    pub(super) base: Settings,
    pub(super) started: Instant,
    next_pid: i32,
    next_xid: i64,
    pub(super) keys: Rng,
    pub(super) login_times: Rng,
    pub(super) auth_times: Rng,
    pub(super) query_times: Rng,
    pub(super) faults: Rng,
}

/// Life.
impl Postgres {
    /// A server that is up.
    ///
    /// # Errors
    /// The setting of `config` that is not one, or has no such value.
    pub fn new(config: Config) -> Result<Self, PgError> {
        let mut base = Settings::default();
        base.put("server_version", &config.version);
        base.put("server_version_num", &version_number(&config.version));
        base.put("max_connections", &config.max_connections.to_string());
        base.put("in_hot_standby", if config.standby { "on" } else { "off" });
        for (name, value) in &config.settings {
            base.set(name, value)?;
        }
        base.begin();
        let stream = |number| Rng::new(config.seed, number);
        Ok(Postgres {
            state: ServerState::Up,
            recovering: false,
            standby: config.standby,
            frozen: false,
            smart: false,
            refuse_logins: false,
            auth_fault: None,
            plan: Vec::new(),
            plan_number: 0,
            due: Queue::new(),
            links: BTreeMap::new(),
            wakes: BTreeSet::new(),
            out: Vec::new(),
            lanes: vec![Instant::ZERO; config.logins_at_once.max(1) as usize],
            pids: Arc::default(),
            store: Store::default(),
            scripts: Scripts::default(),
            verifiers: BTreeMap::new(),
            seen: Seen::new(config.max_events),
            base,
            started: Instant::ZERO,
            next_pid: 1000,
            next_xid: 700,
            keys: stream(KEYS),
            login_times: stream(LOGINS),
            auth_times: stream(AUTH),
            query_times: stream(QUERIES),
            faults: stream(FAULTS),
            config,
        })
    }

    /// Answers `sql` from now on, in simple and extended queries, text and binary. See [`Script`] for statements with
    /// parameters, prefixes and predicates.
    pub fn on(&mut self, sql: &str, answer: impl FnMut(&Call<'_>) -> Answer + Send + 'static) -> &mut Script {
        self.script(Script::exactly(sql, answer))
    }

    /// Answers what `script` is for. Of two that match the later counts.
    pub fn script(&mut self, script: Script) -> &mut Script {
        self.scripts.add(script)
    }

    /// How it is set up; changes here count for what happens from now on.
    pub fn config(&mut self) -> &mut Config {
        &mut self.config
    }
}

/// What it has seen.
impl Postgres {
    /// What it does with new connections.
    pub fn state(&self) -> ServerState {
        self.state
    }

    /// Whether it is a standby.
    pub fn is_standby(&self) -> bool {
        self.standby
    }

    /// Whether it is frozen.
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Its sessions, the oldest connection first.
    pub fn sessions(&self) -> Vec<SessionView> {
        self.links.iter().filter_map(|(id, link)| link.session().map(|session| view(*id, session))).collect()
    }

    /// The session of a process.
    pub fn session_of(&self, pid: i32) -> Option<SessionView> {
        let id = self.pids.get(&pid)?;
        self.links.get(id)?.session().map(|session| view(*id, session))
    }

    /// The process ids of its sessions, and their connections, the oldest connection first.
    pub(crate) fn session_links(&self) -> impl Iterator<Item = (i32, LinkId)> + '_ {
        self.links.iter().filter_map(|(id, link)| link.session().map(|session| (session.pid, *id)))
    }

    /// Logins under way.
    pub fn logins(&self) -> usize {
        self.links.values().filter(|link| link.is_login()).count()
    }

    /// What is committed in a table, in the order in which it was inserted; empty if there is no such table.
    pub fn table(&self, table: &str) -> Vec<Vec<Value>> {
        let rows = self.store.rows(&Changes::default(), table).unwrap_or_default();
        rows.into_iter().map(|(_, values)| values).collect()
    }

    /// What was counted.
    pub fn counts(&self) -> &Counts {
        &self.seen.counts
    }

    /// The latest events, [`Config::max_events`] at most, the oldest first.
    pub fn log(&self) -> impl Iterator<Item = &Entry> {
        self.seen.log()
    }

    /// Over every message in either direction, and when. Equal runs have equal digests.
    pub fn digest(&self) -> Digest {
        self.seen.digest
    }
}

pub(super) fn view(id: LinkId, session: &Session) -> SessionView {
    SessionView {
        link: id,
        pid: session.pid,
        user: session.user.to_string(),
        database: session.database.to_string(),
        application_name: session.settings.get("application_name").to_owned(),
        since: session.since,
        state: session.state(),
        state_since: session.state_since,
        query: session.last_query.clone(),
        queries: session.queries,
        changed: session.settings.changed().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        listening: session.listening.iter().cloned().collect(),
        prepared: session.statements.len(),
    }
}

impl Link {
    pub(super) fn session(&self) -> Option<&Session> {
        match &self.stage {
            Stage::Session(session) => Some(session),
            _ => None,
        }
    }

    pub(super) fn is_login(&self) -> bool {
        !matches!(self.stage, Stage::Session(_) | Stage::Opening)
    }
}

/// `16.4` is 160004.
fn version_number(version: &str) -> String {
    let mut parts = version.split('.').map(|part| {
        let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u32>().unwrap_or(0)
    });
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    format!("{major}{minor:04}")
}

impl Host for Postgres {
    fn accept(&mut self, now: Instant, link: LinkId) -> Accept {
        if self.state == ServerState::Down {
            self.seen.counts.refused += 1;
            self.seen.note(now, Some(link), Event::Refused);
            return Accept::Refused;
        }
        self.seen.counts.accepted += 1;
        self.seen.note(now, Some(link), Event::Accepted);
        let wire = Wire {
            id: link,
            opened: now,
            input: Input::default(),
            out: Out::default(),
            ended: false,
            congested: false,
            closing: None,
        };
        self.settle(now, Link { wire, stage: Stage::Opening, wake: None });
        Accept::Open
    }

    fn receive(&mut self, now: Instant, link: LinkId, bytes: &[u8]) {
        let Some(found) = self.links.get_mut(&link) else { return };
        found.wire.input.push(bytes);
        if found.wire.input.len() > self.config.max_message.saturating_add(1 << 20) {
            // Nobody keeps more than this of what is sent ahead; a real server would stop reading.
            found.wire.input.clear();
            found.wire.closing = Some(Output::Reset);
        }
        self.touch(now, link);
    }

    fn end(&mut self, now: Instant, link: LinkId) {
        let Some(found) = self.links.get_mut(&link) else { return };
        found.wire.ended = true;
        self.touch(now, link);
    }

    fn reset(&mut self, now: Instant, link: LinkId) {
        // As a real one, it notices when it next reads or writes; a write that waited for the client goes wrong at once.
        if let Some(found) = self.links.get_mut(&link) {
            found.wire.congested = false;
        }
        self.end(now, link);
    }

    fn congested(&mut self, now: Instant, link: LinkId, congested: bool) {
        let Some(found) = self.links.get_mut(&link) else { return };
        if found.wire.congested != congested {
            found.wire.congested = congested;
            self.touch(now, link);
        }
    }

    fn tick(&mut self, now: Instant) {
        if self.frozen {
            return;
        }
        while self.due.next_at() <= now {
            match self.due.pop() {
                Some(due) => self.happens(now, due),
                None => break,
            }
        }
        while let Some((at, link)) = self.wakes.first().copied().filter(|(at, _)| *at <= now) {
            self.wakes.remove(&(at, link));
            if let Some(found) = self.links.get_mut(&link) {
                found.wake = None;
            }
            self.touch(now, link);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        if self.frozen {
            return None;
        }
        let wake = self.wakes.first().map_or(Instant::MAX, |(at, _)| *at);
        Some(wake.min(self.due.next_at())).filter(|at| *at < Instant::MAX)
    }

    fn drain(&mut self, out: &mut Vec<(LinkId, Output)>) {
        out.append(&mut self.out);
    }
}

/// How far a connection came when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There may be more to do.
    Done,
    /// It waits, for its client or for time.
    Waits,
}

/// Connections.
impl Postgres {
    /// Does what there is to do for a connection.
    pub(super) fn touch(&mut self, now: Instant, id: LinkId) {
        if self.frozen {
            return;
        }
        let Some(mut link) = self.links.remove(&id) else { return };
        if let Some(at) = link.wake.take() {
            self.wakes.remove(&(at, id));
        }
        self.expire(now, &mut link);
        while link.wire.closing.is_none() {
            let Link { wire, stage, .. } = &mut link;
            let step = match stage {
                Stage::Session(session) => self.talk(now, wire, session),
                _ => self.log_in(now, wire, stage),
            };
            if step == Step::Waits {
                break;
            }
        }
        let waits = match &link.stage {
            // What would never be answered is not waited for.
            Stage::Session(session) => {
                session.is_waiting() || session.active.as_ref().is_some_and(|active| active.until == Instant::MAX)
            }
            Stage::Forking { .. } | Stage::Checking { .. } => false,
            _ => true,
        };
        if link.wire.ended && waits && link.wire.closing.is_none() {
            link.wire.closing = Some(Output::Close);
        }
        self.settle(now, link);
    }

    /// Takes a connection back after it was worked on: what it sends, when it is to be looked at, whether it ends.
    pub(super) fn settle(&mut self, now: Instant, mut link: Link) {
        let id = link.wire.id;
        if let Some(how) = link.wire.closing.take() {
            self.flush(now, &mut link.wire);
            self.out.push((id, how));
            self.forget(now, link);
            return;
        }
        if let Some(at) = self.wake_of(&link).filter(|at| *at < Instant::MAX) {
            self.wakes.insert((at, id));
            link.wake = Some(at);
        }
        self.links.insert(id, link);
        let (sessions, logins) = (self.pids.len(), &mut self.seen.counts);
        logins.peak_sessions = logins.peak_sessions.max(sessions);
    }

    /// Sends what is ready.
    pub(super) fn flush(&mut self, now: Instant, wire: &mut Wire) {
        if wire.out.len() == 0 {
            return;
        }
        let bytes = wire.out.take();
        let secret = wire.out.take_secret();
        self.seen.message(now, wire.id, 0, &bytes, secret);
        match self.out.last_mut() {
            Some((last, Output::Bytes(more))) if *last == wire.id => more.extend(bytes),
            _ => self.out.push((wire.id, Output::Bytes(bytes))),
        }
    }

    pub(super) fn unwake(&mut self, at: Instant, id: LinkId) {
        self.wakes.remove(&(at, id));
    }

    fn forget(&mut self, now: Instant, link: Link) {
        let id = link.wire.id;
        if let Some(at) = link.wake {
            self.wakes.remove(&(at, id));
        }
        if let Stage::Session(session) = link.stage {
            Arc::make_mut(&mut self.pids).remove(&session.pid);
            self.seen.counts.sessions_ended += 1;
            if let Some(transaction) = &session.transaction {
                self.seen.counts.left_open += u64::from(transaction.block);
                self.seen.counts.rollbacks += 1;
                self.store.release(id);
            }
            self.seen.note(now, Some(id), Event::Ended { pid: session.pid });
        }
        if self.smart && self.pids.is_empty() {
            self.smart_stop_ends(now);
        }
    }

    /// A connection is gone, and nobody was told.
    pub(super) fn drop_link(&mut self, now: Instant, id: LinkId) {
        if let Some(link) = self.links.remove(&id) {
            self.forget(now, link);
        }
    }

    fn wake_of(&self, link: &Link) -> Option<Instant> {
        match &link.stage {
            Stage::Opening | Stage::Proof { .. } | Stage::Hanging => {
                Some(link.wire.opened + self.config.authentication_timeout)
            }
            Stage::Forking { until, .. } | Stage::Checking { until, .. } => Some(*until),
            Stage::Session(session) => match &session.active {
                Some(active) if link.wire.congested => Some(active.timeout),
                Some(active) => Some(active.until.min(active.timeout)),
                None => {
                    let timeout = session.settings.duration(session.idle_timeout());
                    timeout.map(|timeout| session.state_since + timeout)
                }
            },
        }
    }

    /// What took too long ends.
    fn expire(&mut self, now: Instant, link: &mut Link) {
        match &mut link.stage {
            Stage::Opening | Stage::Proof { .. } | Stage::Hanging
                if now >= link.wire.opened + self.config.authentication_timeout =>
            {
                link.wire.closing = Some(Output::Close);
            }
            Stage::Session(session) if session.is_waiting() => {
                let name = session.idle_timeout();
                let timeout = session.settings.duration(name);
                if timeout.is_some_and(|timeout| now >= session.state_since + timeout) && link.wire.input.len() == 0 {
                    let error = match name {
                        "idle_session_timeout" => {
                            PgError::fatal("57P05", "terminating connection due to idle-session timeout")
                        }
                        _ => PgError::fatal("25P03", "terminating connection due to idle-in-transaction timeout"),
                    };
                    self.end_session(&mut link.wire, &error);
                }
            }
            _ => {}
        }
    }

    /// The last words to a client.
    pub(super) fn end_session(&mut self, wire: &mut Wire, error: &PgError) {
        wire.out.error(error);
        wire.closing = Some(Output::Close);
    }

    pub(super) fn new_pid(&mut self, link: LinkId) -> i32 {
        self.next_pid += 1;
        Arc::make_mut(&mut self.pids).insert(self.next_pid, link);
        self.next_pid
    }

    pub(super) fn new_xid(&mut self) -> i64 {
        self.next_xid += 1;
        self.next_xid
    }

    /// A moment as microseconds since 2000.
    pub(super) fn wall(&self, at: Instant) -> i64 {
        let seconds = self.config.epoch as i64 - UNIX_TO_2000;
        seconds.saturating_mul(1_000_000).saturating_add((at.as_nanos() / 1000) as i64)
    }
}

impl Session {
    fn idle_timeout(&self) -> &'static str {
        match self.transaction.as_ref().is_some_and(|transaction| transaction.block) {
            true => "idle_in_transaction_session_timeout",
            false => "idle_session_timeout",
        }
    }
}

/// The rows of the views.
impl Postgres {
    pub(super) fn view_rows(&self, name: &str, own: &Session) -> Vec<Vec<Value>> {
        match name {
            "pg_stat_activity" => {
                let others = self.links.values().filter_map(Link::session);
                let mut all: Vec<&Session> = others.chain([own]).collect();
                all.sort_by_key(|session| session.pid);
                all.into_iter().map(|session| self.activity(session, session.pid == own.pid)).collect()
            }
            "pg_stat_database" => {
                let here = self.links.values().filter_map(Link::session).filter(|s| s.database == own.database).count();
                let counts = &self.seen.counts;
                vec![vec![
                    Value::from(&*own.database),
                    Value::from(here as i64 + 1),
                    Value::from(counts.commits as i64),
                    Value::from(counts.rollbacks as i64),
                    Value::from(counts.logins as i64),
                ]]
            }
            "pg_settings" => own
                .settings
                .all()
                .map(|(name, value, own)| {
                    let source = if own { "session" } else { "default" };
                    vec![Value::from(name), Value::from(value), Value::from(source)]
                })
                .collect(),
            "pg_prepared_statements" => own
                .statements
                .iter()
                .filter(|(name, _)| !name.is_empty())
                .map(|(name, plan)| vec![Value::from(&**name), Value::from(&*plan.sql)])
                .collect(),
            _ => Vec::new(),
        }
    }

    fn activity(&self, session: &Session, own: bool) -> Vec<Value> {
        vec![
            Value::from(&*session.database),
            Value::from(session.pid),
            Value::from(&*session.user),
            Value::from(session.settings.get("application_name")),
            Value::Time(self.wall(session.since)),
            Value::Time(self.wall(session.query_start)),
            Value::Time(self.wall(session.state_since)),
            Value::from(if own { "active" } else { session.state() }),
            Value::from(&*session.last_query),
            Value::from("client backend"),
        ]
    }
}
