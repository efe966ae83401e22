//! The simulated PostgreSQL in a simulation.

use std::time::Duration;

use pgweir_core::config::{Config, ConfigBuilder};

use super::Sim;
use crate::net::{HostHandle, HostNet};
use crate::scenario::{Crash, Restart};
use crate::server::{self, Answer, Call, Counts, Postgres, Script, SessionView, StopMode};
use pgweir_core::time::Instant;

/// The port of every server that is not given another.
const PORT: u16 = 5432;

/// A simulated PostgreSQL on the simulation's network. Cheap to clone; all clones are the same server.
///
/// What it does at any moment, [`Postgres`] has methods for: [`with`](Server::with) calls them. The most usual ones are
/// here.
#[derive(Clone, Debug)]
pub struct Server {
    handle: HostHandle<Postgres>,
    port: u16,
}

impl Sim {
    /// The database: a server called `db`, on port 5432, with every setting at its default. The first call starts it.
    pub fn server(&self) -> Server {
        let known = self.servers.lock().get("db").cloned();
        known.unwrap_or_else(|| self.server_as("db", server::Config::default()))
    }

    /// Starts another server, or `db` with settings of its own. Its randomness comes from the simulation's seed, its
    /// name and `config`'s seed.
    ///
    /// # Panics
    /// If something with this name listens on port 5432 already, or `config` has a setting that PostgreSQL has not.
    #[track_caller]
    pub fn server_as(&self, name: &str, mut config: server::Config) -> Server {
        let named = name.bytes().fold(config.seed, |seed, byte| seed.rotate_left(8) ^ u64::from(byte));
        config.seed = crate::rng::Rng::new(self.seed(), named).next();
        let postgres = Postgres::new(config).unwrap_or_else(|error| panic!("the server {name:?}: {error:?}"));
        let server = Server { handle: self.host(name, PORT, postgres), port: PORT };
        self.servers.lock().insert(name.to_owned(), server.clone());
        server
    }
}

/// How it is reached.
impl Server {
    /// A URL for a pool: user `app`, the default configuration's password, database `app`.
    pub fn url(&self) -> String {
        format!("postgres://app:secret@{}:{}/app", self.handle.net().name(), self.port)
    }

    /// A pool's configuration, so far as it is about the server.
    pub fn config(&self) -> ConfigBuilder {
        Config::builder().database_url(self.url())
    }

    /// The network's side of it: latency, partition, resets.
    pub fn net(&self) -> &HostNet {
        self.handle.net()
    }

    /// Anything else: calls the server, with the time.
    pub fn with<T>(&self, what: impl FnOnce(&mut Postgres, Instant) -> T) -> T {
        self.handle.with(what)
    }
}

/// What it answers.
impl Server {
    /// Answers this statement, whatever it is, from now on. [`Postgres::on`] has more to say.
    pub fn on(&self, sql: &str, answer: impl FnMut(&Call<'_>) -> Answer + Send + 'static) {
        self.with(|postgres, _| {
            postgres.on(sql, answer);
        });
    }

    /// As [`on`](Server::on), for prefixes, predicates, and statements with typed parameters and columns.
    pub fn script(&self, script: Script) {
        self.with(|postgres, _| {
            postgres.script(script);
        });
    }
}

/// What is done to it.
impl Server {
    /// A backend crashes and takes every session along (57P02). New connections are told "in recovery mode" (57P03) for
    /// so long; the postmaster lives.
    pub fn crash(&self, recovering: Duration) {
        self.with(|postgres, now| postgres.crash(now, &Crash { down: Duration::ZERO, recovering }));
    }

    /// A fast restart: every session ends with 57P01, nobody listens for `down`, and new connections are told "starting
    /// up" (57P03) for `starting`.
    pub fn restart(&self, down: Duration, starting: Duration) {
        self.with(|postgres, now| postgres.restart(now, &Restart { stopping: Duration::ZERO, down, starting }));
    }

    /// Stops, until [`start`](Server::start).
    pub fn stop(&self, mode: StopMode) {
        self.with(|postgres, now| postgres.stop(now, mode, Duration::ZERO));
    }

    /// The machine loses its power: what was open is gone without a word to anybody, and nobody is there to answer
    /// until [`start`](Server::start).
    pub fn power_off(&self) {
        self.net().vanish().partition();
        self.with(Postgres::power_off);
    }

    /// Starts again; new connections are told "starting up", or "in recovery mode" after a crash, for so long.
    pub fn start(&self, starting: Duration) {
        self.with(|postgres, now| postgres.start(now, starting));
        self.net().heal();
    }

    /// Ends one session: FATAL 57P01. False if there is none of this process.
    pub fn kill(&self, pid: i32) -> bool {
        self.with(|postgres, now| postgres.kill(now, pid))
    }

    /// Ends every session: FATAL 57P01. How many there were.
    pub fn kill_all(&self) -> usize {
        self.with(|postgres, now| postgres.kill_some(now, 1.0))
    }

    /// Refuses every login (28P01), for so long.
    pub fn refuse_logins(&self, lasts: Duration) {
        self.with(|postgres, now| postgres.refuse_logins(now, lasts));
    }

    /// SIGSTOP: the kernel accepts connections, and nobody answers on them or on the others.
    pub fn freeze(&self) {
        self.with(Postgres::freeze);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.with(Postgres::thaw);
    }

    /// A standby takes writes from now on.
    pub fn promote(&self) {
        self.with(Postgres::promote);
    }

    /// A primary takes no more writes (25006); its sessions stay.
    pub fn demote(&self) {
        self.with(Postgres::demote);
    }
}

/// What it has seen.
impl Server {
    /// Its sessions, the oldest first.
    pub fn sessions(&self) -> Vec<SessionView> {
        self.with(|postgres, _| postgres.sessions())
    }

    /// What is committed in a table.
    pub fn table(&self, table: &str) -> Vec<Vec<server::Value>> {
        self.with(|postgres, _| postgres.table(table))
    }

    /// What was counted.
    pub fn counts(&self) -> Counts {
        self.with(|postgres, _| postgres.counts().clone())
    }
}
