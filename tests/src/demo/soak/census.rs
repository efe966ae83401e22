//! The server's own count of the pool's backends, and the rule that it is held against.
//!
//! `pg_stat_activity` also shows backends that the pool has given up: one whose client closed the socket in the middle
//! of a query runs until that query ends, and one that was sent Terminate takes a moment to go. How many there are at a
//! moment says nothing about the pool. So each backend is looked up by its client's port among this process's sockets,
//! *after* the server has answered: a socket that is still open then was open all the time in between, thus
//!
//! - **held**: backends whose client's end is open. They were all open at one moment, the server's look: so they are
//!   never more than the pool may have, without any slack. After a smaller max_size connections on loan may stay until
//!   they come back, so the bound is the largest max_size in force within [`MEMORY`], longer than any lease is kept here.
//! - **given up**: all others. There may be any number, but each is gone within [`PATIENCE`].
//!
//! Once the pool is closed, nothing is held, and what is given up is gone within the same time.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use super::process;
use crate::demo::error::Error;
use crate::{Client, Row};

/// No lease is kept for longer than this: a forgotten one for up to 3 s, then the pool may need a close_timeout.
pub(super) const MEMORY: Duration = Duration::from_secs(8);
/// A query of this load runs for 0.3 s at most, and a busy machine may take its time.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The rule, and what it has to remember.
pub(super) struct Census {
    application_name: String,
    server_port: u16,
    /// max_size, and until when it was in force; the last one still is.
    bounds: Vec<(u32, Option<Instant>)>,
    /// By process id and start, since when.
    given_up: BTreeMap<(u32, String), Instant>,
}

/// A backend: a process id alone comes again.
#[derive(Clone, Debug)]
pub(super) struct Backend {
    pub(super) pid: u32,
    started: String,
    port: u16,
    doing: String,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} since {} on port {} ({})", self.pid, self.started, self.port, self.doing)
    }
}

/// One look at the server.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) held: Vec<Backend>,
    pub(super) given_up: Vec<Backend>,
}

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (held, given_up) = (list(&self.held), list(&self.given_up));
        write!(f, "{} held: {held}; {} given up: {given_up}", self.held.len(), self.given_up.len())
    }
}

impl Census {
    pub(super) fn new(application_name: &str, server_port: u16) -> Self {
        let application_name = application_name.to_owned();
        Census { application_name, server_port, bounds: vec![(0, None)], given_up: BTreeMap::new() }
    }

    /// From now on so many are allowed.
    pub(super) fn allow(&mut self, max: u32) {
        let now = Instant::now();
        if let Some((_, until)) = self.bounds.last_mut() {
            *until = Some(now);
        }
        self.bounds.push((max, None));
        self.bounds.retain(|(_, until)| until.is_none_or(|until| now < until + MEMORY));
    }

    /// How many are allowed now, and whether that is the max_size in force, exactly.
    pub(super) fn bound(&self, now: Instant) -> (u32, bool) {
        let recent = self.bounds.iter().filter(|(_, until)| until.is_none_or(|until| now < until + MEMORY));
        let most = recent.map(|(max, _)| *max).max().unwrap_or_default();
        (most, self.bounds.last().is_some_and(|(max, _)| *max == most))
    }

    /// The question to the server.
    pub(super) fn question(&self) -> String {
        format!(
            "SELECT pid, backend_start, client_port, state || ': ' || left(query, 24) FROM pg_stat_activity \
             WHERE application_name = '{}' ORDER BY pid",
            self.application_name
        )
    }

    /// Which of the answer's backends are held, by the sockets of this moment.
    pub(super) fn sort(&self, answer: &[Row]) -> Result<Look, Error> {
        let open = process::open_ports(self.server_port)?;
        let mut look = Look { held: Vec::new(), given_up: Vec::new() };
        for row in answer {
            let number = |column: usize| row.text(column).parse::<u32>().ok();
            let (Some(pid), Some(port)) = (number(0), number(2).and_then(|port| u16::try_from(port).ok())) else {
                return Err(Error::Failed(format!("pg_stat_activity shows a backend without a port: {row:?}")));
            };
            let backend = Backend { pid, started: row.text(1).to_owned(), port, doing: row.text(3).to_owned() };
            let list = if open.contains(&port) { &mut look.held } else { &mut look.given_up };
            list.push(backend);
        }
        Ok(look)
    }

    /// What of the look breaks the rule.
    pub(super) fn judge(&mut self, look: &Look, asked: Instant) -> Vec<String> {
        let mut broken = Vec::new();
        let (most, _) = self.bound(asked);
        if look.held.len() > most as usize {
            broken.push(format!(
                "{} backends are held where {most} are allowed: {}",
                look.held.len(),
                list(&look.held)
            ));
        }
        let key = |backend: &Backend| (backend.pid, backend.started.clone());
        self.given_up.retain(|known, _| look.given_up.iter().any(|backend| key(backend) == *known));
        for backend in &look.given_up {
            let since = self.given_up.entry(key(backend)).or_insert(asked);
            let age = asked.saturating_duration_since(*since);
            if age > PATIENCE {
                broken.push(format!("a backend that the pool gave up is there after {age:.1?}: {backend}"));
                // Told once.
                *since = asked + Duration::from_secs(3600);
            }
        }
        broken
    }

    /// Asks and sorts.
    pub(super) fn look(&self, client: &mut Client) -> Result<Look, Error> {
        let answer = client.query(&self.question())?;
        self.sort(&answer)
    }
}

/// For people.
pub(super) fn list(backends: &[Backend]) -> String {
    backends.iter().map(Backend::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClientConfig, LocalPostgres};

    const NAME: &str = "census";

    fn session(server: &LocalPostgres) -> Client {
        let config = ClientConfig { application_name: NAME.to_owned(), ..server.client_config() };
        Client::connect(&config).expect("a session")
    }

    #[test]
    fn one_backend_more_than_allowed_is_reported() {
        let server = LocalPostgres::start().expect("a server");
        let mut observer = server.client().expect("a session");
        let mut census = Census::new(NAME, server.port());
        census.allow(2);
        census.bounds.remove(0);
        let kept = [session(&server), session(&server)];
        let look = census.look(&mut observer).expect("a look");
        assert_eq!((look.held.len(), look.given_up.len()), (2, 0));
        assert!(census.judge(&look, Instant::now()).is_empty());

        let leaked = session(&server);
        let look = census.look(&mut observer).expect("a look");
        let broken = census.judge(&look, Instant::now());
        assert_eq!(broken.len(), 1, "{broken:?}");
        assert!(broken[0].contains("3 backends are held where 2 are allowed"), "{broken:?}");
        assert!(broken[0].contains(&leaked.process_id().to_string()), "{broken:?}");
        drop(kept);
    }

    #[test]
    fn a_backend_that_outlives_its_client_is_given_up_and_reported_once_it_stays() {
        let server = LocalPostgres::start().expect("a server");
        let mut observer = server.client().expect("a session");
        let mut census = Census::new(NAME, server.port());
        let mut busy = session(&server);
        let pid = busy.process_id();
        busy.send("SELECT pg_sleep(60)").expect("sent");
        server.wait_until("it sleeps", || {
            server.backends(NAME).is_ok_and(|backends| backends.iter().any(|backend| backend.state == "active"))
        });
        drop(busy);
        let look = census.look(&mut observer).expect("a look");
        assert_eq!((look.held.len(), look.given_up.len()), (0, 1), "{look:?}");
        assert_eq!(look.given_up[0].pid, pid);
        let now = Instant::now();
        assert!(census.judge(&look, now).is_empty());
        assert!(census.judge(&look, now + PATIENCE).is_empty());
        let broken = census.judge(&look, now + PATIENCE + Duration::from_secs(1));
        assert!(broken.len() == 1 && broken[0].contains("gave up"), "{broken:?}");
        assert!(census.judge(&look, now + PATIENCE + Duration::from_secs(2)).is_empty(), "told once");
    }

    #[test]
    fn a_smaller_bound_counts_once_the_larger_one_is_forgotten() {
        let mut census = Census::new(NAME, 1);
        census.allow(7);
        census.allow(3);
        let now = Instant::now();
        assert_eq!(census.bound(now), (7, false));
        assert_eq!(census.bound(now + MEMORY), (3, true));
    }
}
