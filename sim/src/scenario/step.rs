//! The timeline: what happens to the server, the network and the pool.

use std::time::Duration;

use serde::Deserialize;

use super::values::{self, Dist};

/// Something that happens.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// When.
    pub at: Duration,
    /// What.
    pub what: What,
}

/// What happens; the key in the file is the same in small letters.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum What {
    /// A fast restart: sessions end with 57P01.
    Restart(Restart),
    /// A crash: sessions end with 57P02.
    Crash(Crash),
    /// The network swallows everything, for so long; what was sent arrives afterwards.
    Silence(Duration),
    /// Sessions are terminated one by one (57P01); the server stays up.
    Kill(Kill),
    /// The server refuses the password (28P01), for so long.
    RefuseLogins(Duration),
    /// The server allows another number of sessions from now on.
    MaxConnections(u32),
    /// Others hold so many sessions from now on.
    OtherSessions(u32),
    /// Logins take so long from now on.
    Connect(Dist),
    /// Round trips take so long from now on.
    RoundTrip(Dist),
    /// The pool is shut down with this much time for its leases.
    Shutdown(Duration),
    /// The pool gets new bounds.
    Resize(Resize),
    /// The pool pauses, for so long.
    Pause(Duration),
    /// The pool replaces its connections.
    Recycle,
}

impl What {
    /// The key in the file.
    pub fn key(&self) -> &'static str {
        match self {
            What::Restart(_) => "restart",
            What::Crash(_) => "crash",
            What::Silence(_) => "silence",
            What::Kill(_) => "kill",
            What::RefuseLogins(_) => "refuse_logins",
            What::MaxConnections(_) => "max_connections",
            What::OtherSessions(_) => "other_sessions",
            What::Connect(_) => "connect",
            What::RoundTrip(_) => "round_trip",
            What::Shutdown(_) => "shutdown",
            What::Resize(_) => "resize",
            What::Pause(_) => "pause",
            What::Recycle => "recycle",
        }
    }

    /// Whether it keeps the server from being used for a while.
    pub(super) fn is_outage(&self) -> bool {
        matches!(self, What::Restart(_) | What::Crash(_) | What::Silence(_) | What::RefuseLogins(_))
    }

    /// How long it lasts.
    pub(super) fn lasts(&self) -> Duration {
        match self {
            What::Restart(Restart { stopping, down, starting }) => {
                stopping.saturating_add(*down).saturating_add(*starting)
            }
            What::Crash(Crash { down, recovering }) => down.saturating_add(*recovering),
            What::Silence(lasts) | What::RefuseLogins(lasts) | What::Pause(lasts) => *lasts,
            _ => Duration::ZERO,
        }
    }
}

/// A fast restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// How long new connections are told "shutting down" (57P03). Default: 0.
    #[serde(default, deserialize_with = "values::duration")]
    pub stopping: Duration,
    /// How long nobody listens after that. Default: 0.
    #[serde(default, deserialize_with = "values::duration")]
    pub down: Duration,
    /// How long new connections are told "starting up" (57P03) after that. Default: 0.
    #[serde(default, deserialize_with = "values::duration")]
    pub starting: Duration,
}

/// A crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crash {
    /// How long nobody listens: the whole machine is gone. Default: 0, the postmaster lives.
    #[serde(default, deserialize_with = "values::duration")]
    pub down: Duration,
    /// How long new connections are told "in recovery mode" (57P03) after that. Default: 0.
    #[serde(default, deserialize_with = "values::duration")]
    pub recovering: Duration,
}

/// Sessions are terminated.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kill {
    /// Which share of the pool's. Default: all.
    #[serde(default = "all")]
    pub share: f64,
}

fn all() -> f64 {
    1.0
}

/// New bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resize {
    /// Connections kept open.
    pub min_size: u32,
    /// Connections at most.
    pub max_size: u32,
}

/// A step as written: `at` and one thing.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StepText {
    #[serde(deserialize_with = "values::duration")]
    pub(super) at: Duration,
    restart: Option<Restart>,
    crash: Option<Crash>,
    silence: Option<For>,
    kill: Option<Kill>,
    refuse_logins: Option<For>,
    max_connections: Option<u32>,
    other_sessions: Option<u32>,
    connect: Option<Dist>,
    round_trip: Option<Dist>,
    shutdown: Option<Within>,
    resize: Option<Resize>,
    pause: Option<For>,
    recycle: Option<Nothing>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct For {
    #[serde(rename = "for", deserialize_with = "values::duration")]
    time: Duration,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Within {
    #[serde(deserialize_with = "values::duration")]
    within: Duration,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl StepText {
    /// Everything that was written to happen at this step: it should be one thing.
    pub(super) fn all(self) -> Vec<What> {
        [
            self.restart.map(What::Restart),
            self.crash.map(What::Crash),
            self.silence.map(|lasts| What::Silence(lasts.time)),
            self.kill.map(What::Kill),
            self.refuse_logins.map(|lasts| What::RefuseLogins(lasts.time)),
            self.max_connections.map(What::MaxConnections),
            self.other_sessions.map(What::OtherSessions),
            self.connect.map(What::Connect),
            self.round_trip.map(What::RoundTrip),
            self.shutdown.map(|end| What::Shutdown(end.within)),
            self.resize.map(What::Resize),
            self.pause.map(|lasts| What::Pause(lasts.time)),
            self.recycle.map(|_| What::Recycle),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
