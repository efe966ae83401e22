//! From the first byte to the first ReadyForQuery.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pgweir_core::time::Instant;

use super::auth::{Scram, Verifier, md5_answer};
use super::config::Auth;
use super::error::PgError;
use super::faults::AuthFault;
use super::postgres::{Postgres, Step};
use super::read::{self, Frontend, Opening};
use super::session::{Exchange, Login, Session, Stage, Wire};
use super::settings::{REPORTED, Settings};
use super::view::Event;
use super::write::Status;
use crate::net::Output;
use crate::scenario::ServerState;

/// Names that clients make up are not kept for ever.
const MAX_VERIFIERS: usize = 1000;

impl Postgres {
    pub(super) fn log_in(&mut self, now: Instant, wire: &mut Wire, stage: &mut Stage) -> Step {
        match std::mem::replace(stage, Stage::Opening) {
            Stage::Opening => match read::opening(&mut wire.input) {
                Ok(None) => return Step::Waits,
                Ok(Some(opening)) => self.open(now, wire, stage, opening),
                Err(error) => self.turn_away(now, wire, error),
            },
            Stage::Forking { login, until } if now >= until => match self.forked(now, wire, login) {
                Ok(next) => *stage = next,
                Err(error) => self.turn_away(now, wire, error),
            },
            Stage::Proof { login, exchange } => {
                let frame = match read::frame(&mut wire.input, 10_000) {
                    Ok(Some(frame)) => frame,
                    Ok(None) => {
                        *stage = Stage::Proof { login, exchange };
                        return Step::Waits;
                    }
                    Err(error) => {
                        self.turn_away(now, wire, error);
                        return Step::Done;
                    }
                };
                let secret = !matches!(exchange, Exchange::Cleartext | Exchange::Md5 { .. });
                self.seen.message(now, wire.id, frame.tag, &frame.body, secret);
                match self.proof(now, wire, login, exchange, frame.parse()) {
                    Ok(next) => *stage = next,
                    Err(error) => self.turn_away(now, wire, error),
                }
            }
            Stage::Checking { login, until, verdict } if now >= until => match verdict {
                Err(error) => self.turn_away(now, wire, error),
                Ok(proof) => {
                    if let Some(proof) = proof {
                        wire.out.authentication(12, proof.as_bytes());
                        wire.out.mark_secret();
                        self.flush(now, wire);
                    }
                    match self.admit(now, wire, &login) {
                        Ok(session) => *stage = Stage::Session(Box::new(session)),
                        Err(error) => self.turn_away(now, wire, error),
                    }
                }
            },
            other => {
                *stage = other;
                return Step::Waits;
            }
        }
        Step::Done
    }

    /// A login that is told no.
    fn turn_away(&mut self, now: Instant, wire: &mut Wire, error: PgError) {
        *self.seen.counts.turned_away.entry(error.code.to_string()).or_default() += 1;
        self.seen.note(now, Some(wire.id), Event::TurnedAway(error.code.to_string()));
        self.end_session(wire, &PgError { severity: super::error::Severity::Fatal, ..error });
    }

    fn open(&mut self, now: Instant, wire: &mut Wire, stage: &mut Stage, opening: Opening) {
        self.seen.digest.add(&(now, wire.id.0, format!("{opening:?}")));
        match opening {
            Opening::Encryption => {
                wire.out.raw(b"N");
                self.flush(now, wire);
            }
            Opening::Cancel { pid, key } => {
                self.cancel_request(now, pid, key);
                wire.closing = Some(Output::Close);
            }
            Opening::Startup { minor, parameters } => match self.begin_login(now, wire, minor, parameters) {
                Ok(next) => *stage = next,
                Err(error) => self.turn_away(now, wire, error),
            },
        }
    }

    fn begin_login(
        &mut self,
        now: Instant,
        wire: &mut Wire,
        minor: u16,
        parameters: Vec<(String, String)>,
    ) -> Result<Stage, PgError> {
        self.seen.counts.startups += 1;
        let of = |name: &str| parameters.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.clone());
        let unknown: Vec<&str> =
            parameters.iter().map(|(name, _)| &**name).filter(|name| name.starts_with("_pq_.")).collect();
        if minor > 0 || !unknown.is_empty() {
            wire.out.negotiate(&unknown);
        }
        if of("replication").is_some_and(|value| value != "false" && value != "off" && value != "0") {
            return Err(PgError::fatal("0A000", "the simulated server does not replicate"));
        }
        let user = of("user").filter(|user| !user.is_empty());
        let user =
            user.ok_or_else(|| PgError::fatal("28000", "no PostgreSQL user name specified in startup packet"))?;
        let database = of("database").filter(|name| !name.is_empty()).unwrap_or_else(|| user.clone());
        self.check_state()?;
        let login = Login { user, database, parameters };
        let logins = self.logins() + 1;
        self.seen.counts.peak_logins = self.seen.counts.peak_logins.max(logins);
        let until = self.work(now, 1) + self.config.auth_delay.draw(&mut self.auth_times);
        Ok(Stage::Forking { login, until })
    }

    fn check_state(&self) -> Result<(), PgError> {
        let message = match self.state {
            ServerState::Up => return Ok(()),
            ServerState::Starting if self.recovering => "the database system is in recovery mode",
            ServerState::Starting => "the database system is starting up",
            ServerState::Stopping | ServerState::Down => "the database system is shutting down",
        };
        Err(PgError::fatal("57P03", message))
    }

    /// When work on a login is done that begins as soon as there is a place for it.
    fn work(&mut self, now: Instant, shares: u32) -> Instant {
        let lane = (0..self.lanes.len()).min_by_key(|lane| self.lanes[*lane]).unwrap_or_default();
        let mut ends = self.lanes[lane].max(now);
        for _ in 0..shares {
            ends = ends + self.config.connect.draw(&mut self.login_times);
        }
        self.lanes[lane] = ends;
        ends
    }

    /// There is a process for the login.
    fn forked(&mut self, now: Instant, wire: &mut Wire, login: Login) -> Result<Stage, PgError> {
        self.check_state()?;
        let past_check =
            |stage: &Stage| matches!(stage, Stage::Proof { .. } | Stage::Checking { .. } | Stage::Session(_));
        let slots = self.links.values().filter(|link| past_check(&link.stage)).count();
        if slots as u64 + u64::from(self.config.other_sessions) >= u64::from(self.config.max_connections) {
            return Err(PgError::fatal("53300", "sorry, too many clients already"));
        }
        match &self.auth_fault {
            Some(AuthFault::Hang) => return Ok(Stage::Hanging),
            Some(AuthFault::Fail(error)) => return Err(error.clone()),
            None => {}
        }
        let exchange = match self.config.auth {
            Auth::Trust => {
                let verdict = if self.refuse_logins { Err(wrong_password(&login.user)) } else { Ok(None) };
                return Ok(Stage::Checking { login, until: now, verdict });
            }
            Auth::Cleartext => {
                wire.out.authentication(3, &[]);
                Exchange::Cleartext
            }
            Auth::Md5 => {
                let salt = (self.keys.next() as u32).to_be_bytes();
                wire.out.authentication(5, &salt);
                Exchange::Md5 { salt }
            }
            Auth::Scram => {
                wire.out.authentication(10, b"SCRAM-SHA-256\0\0");
                let (verifier, known) = self.verifier(&login.user);
                Exchange::ScramFirst { verifier, known }
            }
        };
        self.flush(now, wire);
        Ok(Stage::Proof { login, exchange })
    }

    /// What is kept of a role's password. For one without a password a made-up one, as PostgreSQL does, so that nobody
    /// learns which roles there are.
    fn verifier(&mut self, user: &str) -> (Verifier, bool) {
        let password = self.config.password_of(user).map(str::to_owned);
        let (password, known) = (password.clone().unwrap_or_default(), password.is_some());
        let salt = self.nonce::<16>();
        match self.verifiers.get(user) {
            Some((of, verifier)) if *of == password => (verifier.clone(), known),
            _ => {
                if self.verifiers.len() >= MAX_VERIFIERS {
                    self.verifiers.clear();
                }
                let verifier = Verifier::new(&password, salt, self.config.scram_iterations.max(1));
                self.verifiers.insert(user.to_owned(), (password, verifier.clone()));
                (verifier, known)
            }
        }
    }

    fn nonce<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| (self.keys.next() >> 32) as u8)
    }

    fn proof(
        &mut self,
        now: Instant,
        wire: &mut Wire,
        login: Login,
        exchange: Exchange,
        message: Result<Frontend, PgError>,
    ) -> Result<Stage, PgError> {
        let Frontend::Password(body) = message? else {
            return Err(PgError::violation("expected password response"));
        };
        let expected = self.config.password_of(&login.user).map(str::to_owned);
        let checked = |right: bool| if right { Ok(None) } else { Err(wrong_password(&login.user)) };
        let (verdict, shares) = match exchange {
            Exchange::Cleartext => (checked(Some(read::password(&body)?) == expected), 0),
            Exchange::Md5 { salt } => {
                let answer = expected.map(|password| md5_answer(&login.user, &password, salt));
                (checked(Some(read::password(&body)?) == answer), 0)
            }
            Exchange::ScramFirst { verifier, known } => {
                let (mechanism, data) = read::sasl_initial(&body)?;
                if mechanism != "SCRAM-SHA-256" {
                    return Err(PgError::violation("client selected an invalid SASL authentication mechanism"));
                }
                let scram = Scram::begin(&data, verifier, &self.nonce())?;
                wire.out.authentication(11, scram.challenge());
                wire.out.mark_secret();
                self.flush(now, wire);
                return Ok(Stage::Proof { login, exchange: Exchange::ScramLast { scram, known } });
            }
            Exchange::ScramLast { scram, known } => {
                let proof = scram.finish(&body)?.filter(|_| known);
                (proof.map(Some).ok_or_else(|| wrong_password(&login.user)), 2)
            }
        };
        let verdict = if self.refuse_logins { Err(wrong_password(&login.user)) } else { verdict };
        let until = if shares > 0 { self.work(now, shares) } else { now };
        Ok(Stage::Checking { login, until, verdict })
    }

    /// The login is right: the session begins, if there is room for it.
    fn admit(&mut self, now: Instant, wire: &mut Wire, login: &Login) -> Result<Session, PgError> {
        self.check_state()?;
        let role = self.config.roles.get(&login.user);
        if role.is_none() && !self.config.roles.is_empty() {
            return Err(PgError::fatal("28000", format!("role \"{}\" does not exist", login.user)));
        }
        let databases = &self.config.databases;
        if !databases.is_empty() && !databases.contains(&login.database) {
            return Err(PgError::fatal("3D000", format!("database \"{}\" does not exist", login.database)));
        }
        if let Some(limit) = role.and_then(|role| role.connection_limit) {
            let others = self.links.values().filter_map(|link| link.session());
            if others.filter(|session| *session.user == *login.user).count() >= limit as usize {
                return Err(PgError::fatal("53300", format!("too many connections for role \"{}\"", login.user)));
            }
        }
        let settings = self.startup_settings(login)?;
        let pid = self.new_pid(wire.id);
        let key = (self.keys.next() >> 33) as i32;
        wire.out.authentication(0, &[]);
        let mut session = Session {
            pid,
            key,
            user: login.user.as_str().into(),
            database: login.database.as_str().into(),
            since: now,
            settings,
            reported: BTreeMap::new(),
            transaction: None,
            statements: BTreeMap::new(),
            portals: BTreeMap::new(),
            skip: false,
            simple: None,
            simple_text: String::new(),
            active: None,
            listening: BTreeSet::new(),
            notifications: VecDeque::new(),
            last_query: String::new(),
            query_start: now,
            state_since: now,
            queries: 0,
        };
        self.report(wire, &mut session);
        wire.out.key(pid, key);
        wire.out.ready(Status::Idle);
        self.flush(now, wire);
        self.seen.counts.logins += 1;
        self.seen.note(now, Some(wire.id), Event::LoggedIn { pid });
        Ok(session)
    }

    fn startup_settings(&self, login: &Login) -> Result<Settings, PgError> {
        let mut settings = self.base.clone();
        settings.put("session_authorization", &login.user);
        for (name, value) in &login.parameters {
            match &**name {
                "user" | "database" | "replication" => {}
                "options" => {
                    for (name, value) in options(value)? {
                        settings.set(&name, &value)?;
                    }
                }
                name if name.starts_with("_pq_.") => {}
                name => drop(settings.set(name, value)?),
            }
        }
        settings.begin();
        Ok(settings)
    }

    /// Tells the client of the settings that have changed.
    pub(super) fn report(&mut self, wire: &mut Wire, session: &mut Session) {
        for name in REPORTED {
            let value = session.settings.get(&name.to_lowercase());
            if session.reported.get(name).map(String::as_str) != Some(value) {
                wire.out.parameter(name, value);
                session.reported.insert(name, value.to_owned());
            }
        }
    }
}

fn wrong_password(user: &str) -> PgError {
    PgError::fatal("28P01", format!("password authentication failed for user \"{user}\""))
}

/// `-c name=value --name=value`, a backslash before a space that is meant.
fn options(text: &str) -> Result<Vec<(String, String)>, PgError> {
    let mut words = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let last = words.len() - 1;
        match c {
            '\\' => words[last].extend(chars.next()),
            c if c.is_whitespace() => words.push(String::new()),
            c => words[last].push(c),
        }
    }
    let mut found = Vec::new();
    let mut words = words.into_iter().filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        let setting = match (word.strip_prefix("--"), word.strip_prefix("-c")) {
            (Some(setting), _) => setting.replace('-', "_"),
            (_, Some("")) => words.next().unwrap_or_default(),
            (_, Some(setting)) => setting.to_owned(),
            _ => word.clone(),
        };
        let bad = || PgError::fatal("42601", format!("invalid command-line argument for server process: {word}"));
        let (name, value) = setting.split_once('=').ok_or_else(bad)?;
        found.push((name.to_owned(), value.to_owned()));
    }
    Ok(found)
}
