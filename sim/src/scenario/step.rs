//! The timeline: what happens to the server, the network and the pool.

use std::time::Duration;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde::{Deserialize, Serialize as Write};

use super::dist::Dist;
use super::values;

/// Something that happens.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// When.
    pub at: Duration,
    /// To which of the server's hosts; `None` is all of them, or the pool.
    pub host: Option<String>,
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
    /// A standby takes writes from now on.
    Promote,
    /// A primary takes no more writes.
    Demote(Demote),
    /// The network swallows everything, for so long; what was sent arrives afterwards.
    Silence(Duration),
    /// The network swallows a part.
    Partition(Partition),
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
    /// The pool's process does not run: the laptop sleeps, the container is frozen.
    Suspend(Suspend),
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
    /// Every key of a timeline.
    pub const KEYS: [&'static str; 17] = [
        "restart",
        "crash",
        "promote",
        "demote",
        "silence",
        "partition",
        "kill",
        "refuse_logins",
        "max_connections",
        "other_sessions",
        "connect",
        "round_trip",
        "suspend",
        "shutdown",
        "resize",
        "pause",
        "recycle",
    ];

    /// The key in the file.
    pub fn key(&self) -> &'static str {
        match self {
            What::Restart(_) => "restart",
            What::Crash(_) => "crash",
            What::Promote => "promote",
            What::Demote(_) => "demote",
            What::Silence(_) => "silence",
            What::Partition(_) => "partition",
            What::Kill(_) => "kill",
            What::RefuseLogins(_) => "refuse_logins",
            What::MaxConnections(_) => "max_connections",
            What::OtherSessions(_) => "other_sessions",
            What::Connect(_) => "connect",
            What::RoundTrip(_) => "round_trip",
            What::Suspend(_) => "suspend",
            What::Shutdown(_) => "shutdown",
            What::Resize(_) => "resize",
            What::Pause(_) => "pause",
            What::Recycle => "recycle",
        }
    }

    /// Whether it keeps the server from being used for a while.
    pub(super) fn is_outage(&self) -> bool {
        matches!(
            self,
            What::Restart(_)
                | What::Crash(_)
                | What::Silence(_)
                | What::Partition(_)
                | What::RefuseLogins(_)
                | What::Demote(_)
                | What::Suspend(_)
        )
    }

    /// Whether it happens to the pool's side, and not to a host.
    pub(crate) fn is_of_pool(&self) -> bool {
        matches!(self, What::Suspend(_) | What::Shutdown(_) | What::Resize(_) | What::Pause(_) | What::Recycle)
    }

    /// How long it lasts.
    pub(crate) fn lasts(&self) -> Duration {
        match self {
            What::Restart(Restart { stopping, down, starting }) => {
                stopping.saturating_add(*down).saturating_add(*starting)
            }
            What::Crash(Crash { down, recovering }) => down.saturating_add(*recovering),
            What::Silence(lasts) | What::RefuseLogins(lasts) | What::Pause(lasts) => *lasts,
            What::Partition(Partition { lasts, .. }) | What::Suspend(Suspend { lasts, .. }) => *lasts,
            _ => Duration::ZERO,
        }
    }
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("at", &values::exact(self.at))?;
        if let Some(host) = &self.host {
            map.serialize_entry("host", host)?;
        }
        let key = self.what.key();
        match &self.what {
            What::Restart(restart) => map.serialize_entry(key, restart)?,
            What::Crash(crash) => map.serialize_entry(key, crash)?,
            What::Demote(demote) => map.serialize_entry(key, demote)?,
            What::Partition(partition) => map.serialize_entry(key, partition)?,
            What::Kill(kill) => map.serialize_entry(key, kill)?,
            What::Suspend(suspend) => map.serialize_entry(key, suspend)?,
            What::Resize(size) => map.serialize_entry(key, size)?,
            What::Silence(time) | What::RefuseLogins(time) | What::Pause(time) => {
                map.serialize_entry(key, &For { time: *time })?;
            }
            What::Shutdown(within) => map.serialize_entry(key, &Within { within: *within })?,
            What::MaxConnections(number) | What::OtherSessions(number) => map.serialize_entry(key, number)?,
            What::Connect(dist) | What::RoundTrip(dist) => map.serialize_entry(key, dist)?,
            What::Promote | What::Recycle => map.serialize_entry(key, &Nothing {})?,
        }
        map.end()
    }
}

/// A fast restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Write)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// How long new connections are told "shutting down" (57P03). Default: 0.
    #[serde(default, deserialize_with = "values::duration", serialize_with = "values::write_duration")]
    pub stopping: Duration,
    /// How long nobody listens after that. Default: 0.
    #[serde(default, deserialize_with = "values::duration", serialize_with = "values::write_duration")]
    pub down: Duration,
    /// How long new connections are told "starting up" (57P03) after that. Default: 0.
    #[serde(default, deserialize_with = "values::duration", serialize_with = "values::write_duration")]
    pub starting: Duration,
}

/// A crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Write)]
#[serde(deny_unknown_fields)]
pub struct Crash {
    /// How long nobody listens: the whole machine is gone. Default: 0, the postmaster lives.
    #[serde(default, deserialize_with = "values::duration", serialize_with = "values::write_duration")]
    pub down: Duration,
    /// How long new connections are told "in recovery mode" (57P03) after that. Default: 0.
    #[serde(default, deserialize_with = "values::duration", serialize_with = "values::write_duration")]
    pub recovering: Duration,
}

/// A primary becomes a standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Write)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Demote {
    /// What becomes of its sessions. Default: ended, as PostgreSQL restarts for it. Kept ones are read-only from now on
    /// (25006), as a managed database behind one name may leave them.
    #[serde(default = "ended")]
    pub sessions: Sessions,
}

/// What becomes of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Write)]
#[serde(rename_all = "snake_case")]
pub enum Sessions {
    /// The server ends them.
    Ended,
    /// They go on.
    Kept,
}

fn ended() -> Sessions {
    Sessions::Ended
}

/// The network swallows a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Write)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Partition {
    /// For how long; what was sent arrives afterwards.
    #[serde(rename = "for", deserialize_with = "values::duration", serialize_with = "values::write_duration")]
    pub lasts: Duration,
    /// What it swallows. Default: connects.
    #[serde(default)]
    pub cuts: Cut,
}

/// What a network swallows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Write)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// New connections hang; sessions live on.
    #[default]
    Connects,
    /// The server hears, but nothing comes back from it.
    Answers,
    /// Both directions, as `silence` does.
    Everything,
}

impl Cut {
    /// Whether a new connection reaches the server.
    pub(crate) fn stops_connects(self) -> bool {
        matches!(self, Cut::Connects | Cut::Everything)
    }

    /// Whether what the server says comes back.
    pub(crate) fn stops_answers(self) -> bool {
        matches!(self, Cut::Answers | Cut::Everything)
    }

    /// Whether what a session's client says reaches the server.
    pub(crate) fn stops_requests(self) -> bool {
        matches!(self, Cut::Everything)
    }
}

/// The pool's process does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Write)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Suspend {
    /// For how long; then all that is due is due at once.
    #[serde(rename = "for", deserialize_with = "values::duration", serialize_with = "values::write_duration")]
    pub lasts: Duration,
    /// What the server made of the sessions meanwhile. Default: ended.
    #[serde(default = "ended")]
    pub sessions: Sessions,
}

/// Sessions are terminated.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Write)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Write)]
#[serde(deny_unknown_fields)]
pub struct Resize {
    /// Connections kept open.
    pub min_size: u32,
    /// Connections at most.
    pub max_size: u32,
}

/// A step as written: `at` and one thing, perhaps again and again.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StepText {
    #[serde(deserialize_with = "values::duration")]
    pub(super) at: Duration,
    pub(super) host: Option<String>,
    /// Again so long after it began.
    #[serde(default, deserialize_with = "values::some_duration")]
    pub(super) every: Option<Duration>,
    /// How often altogether.
    pub(super) times: Option<u32>,
    restart: Option<Restart>,
    crash: Option<Crash>,
    promote: Option<Nothing>,
    demote: Option<Demote>,
    silence: Option<For>,
    partition: Option<Partition>,
    kill: Option<Kill>,
    refuse_logins: Option<For>,
    max_connections: Option<u32>,
    other_sessions: Option<u32>,
    connect: Option<Dist>,
    round_trip: Option<Dist>,
    suspend: Option<Suspend>,
    shutdown: Option<Within>,
    resize: Option<Resize>,
    pause: Option<For>,
    recycle: Option<Nothing>,
}

#[derive(Clone, Copy, Debug, Deserialize, Write)]
#[serde(deny_unknown_fields)]
struct For {
    #[serde(rename = "for", deserialize_with = "values::duration", serialize_with = "values::write_duration")]
    time: Duration,
}

#[derive(Clone, Copy, Debug, Deserialize, Write)]
#[serde(deny_unknown_fields)]
struct Within {
    #[serde(deserialize_with = "values::duration", serialize_with = "values::write_duration")]
    within: Duration,
}

#[derive(Clone, Copy, Debug, Deserialize, Write)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl StepText {
    /// Everything that was written to happen at this step: it should be one thing.
    pub(super) fn all(self) -> Vec<What> {
        [
            self.restart.map(What::Restart),
            self.crash.map(What::Crash),
            self.promote.map(|_| What::Promote),
            self.demote.map(What::Demote),
            self.silence.map(|lasts| What::Silence(lasts.time)),
            self.partition.map(What::Partition),
            self.kill.map(What::Kill),
            self.refuse_logins.map(|lasts| What::RefuseLogins(lasts.time)),
            self.max_connections.map(What::MaxConnections),
            self.other_sessions.map(What::OtherSessions),
            self.connect.map(What::Connect),
            self.round_trip.map(What::RoundTrip),
            self.suspend.map(What::Suspend),
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
