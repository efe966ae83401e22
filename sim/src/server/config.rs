//! What the server is like.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::scenario::Dist;

/// How clients prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Auth {
    /// Not at all.
    #[default]
    Trust,
    /// With the password in clear text.
    Cleartext,
    /// With the password's MD5.
    Md5,
    /// With SCRAM-SHA-256. A login costs three times as much as by trust.
    Scram,
}

/// A role that may log in.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Role {
    /// Its password; an empty one fits nothing.
    pub password: String,
    /// Sessions that it may have at a time.
    pub connection_limit: Option<u32>,
}

/// A server. Change what is not to be as in the default.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Where all its randomness comes from: salts, keys, distributions. Default: 1.
    pub seed: u64,
    /// How everybody logs in. Default: trust.
    pub auth: Auth,
    /// The roles that exist. Default: none, which means that any name is a role, with [`Config::password`].
    pub roles: BTreeMap<String, Role>,
    /// The password of every role, if `roles` is empty. Default: `secret`.
    pub password: String,
    /// The databases that exist. Default: none, which means any.
    pub databases: Vec<String>,
    /// Rounds of SHA-256 in SCRAM. PostgreSQL's 4,096 cost a client a millisecond. Default: 64.
    pub scram_iterations: u32,
    /// Sessions it allows, the others' included. Default: 100.
    pub max_connections: u32,
    /// Sessions that others hold. Default: 0.
    pub other_sessions: u32,
    /// How long one login takes by trust: a distribution. Default: 5 ms.
    pub connect: Dist,
    /// How many logins it works on at once; others wait for their turn. Default: 2, which with 5 ms each is 400 a
    /// second.
    pub logins_at_once: u32,
    /// How long a login waits in addition, without keeping others from theirs: a slow LDAP server, say. Default: 0.
    pub auth_delay: Dist,
    /// How long a login may take. Default: 60 s.
    pub authentication_timeout: Duration,
    /// How long a statement takes, in addition to what it sleeps: a distribution. Default: 0.
    pub query_time: Dist,
    /// What `server_version` says. Default: 16.4.
    pub version: String,
    /// Whether it is a standby at the start. Default: false.
    pub standby: bool,
    /// Settings of every session, as in postgresql.conf: `idle_session_timeout`, `statement_timeout`, ...
    pub settings: BTreeMap<String, String>,
    /// The wall clock at [`Instant::ZERO`](pgweir_core::time::Instant::ZERO), in seconds since 1970. Default:
    /// 2026-01-01.
    pub epoch: u64,
    /// The longest message it takes, and the most that it keeps of what a client sends ahead, in bytes. Default: 64 MiB.
    pub max_message: usize,
    /// Events kept in the log. Default: 10,000.
    pub max_events: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            seed: 1,
            auth: Auth::Trust,
            roles: BTreeMap::new(),
            password: "secret".to_owned(),
            databases: Vec::new(),
            scram_iterations: 64,
            max_connections: 100,
            other_sessions: 0,
            connect: Dist::Fixed(Duration::from_millis(5)),
            logins_at_once: 2,
            auth_delay: Dist::Fixed(Duration::ZERO),
            authentication_timeout: Duration::from_secs(60),
            query_time: Dist::Fixed(Duration::ZERO),
            version: "16.4".to_owned(),
            standby: false,
            settings: BTreeMap::new(),
            epoch: 1_767_225_600,
            max_message: 64 << 20,
            max_events: 10_000,
        }
    }
}

impl Config {
    pub(super) fn password_of(&self, role: &str) -> Option<&str> {
        match self.roles.is_empty() {
            true => Some(&*self.password),
            false => self.roles.get(role).map(|role| &*role.password),
        }
        .filter(|password| !password.is_empty())
    }
}
