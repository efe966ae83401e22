//! What a fleet is: how many pools, what they do, what their server can do, and the outage.

use std::time::Duration;

use pgweir_core::config::PoolConfig;

/// Many pools, one server, one outage. Start from [`FleetSpec::default`] and change what matters.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetSpec {
    /// Pools. Default: 2,000.
    pub instances: u32,
    /// Each pool's configuration.
    pub pool: PoolConfig,
    /// Which kind of pool it is. Default: pgweir's.
    pub member: MemberKind,
    /// Acquires a second and instance, an open loop with exponential gaps. Default: 10.
    pub rate: f64,
    /// How long a connection is held, exponentially distributed with this mean. Default: 10 ms.
    pub hold: Duration,
    /// The instances start one after the other over this time. Default: 10 s.
    pub ramp: Duration,
    /// From the last start to the outage. Default: 20 s.
    pub settle: Duration,
    /// How long the outage lasts. Default: 30 s.
    pub outage: Duration,
    /// What the outage looks like. Default: refused.
    pub kind: OutageKind,
    /// From the outage's end to the end of the run, at most. It ends earlier when every instance is back. Default:
    /// 5 minutes.
    pub patience: Duration,
    /// What the server can do.
    pub server: ServerLimits,
}

/// What a server can do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServerLimits {
    /// CPU time of one login. Default: 5 ms.
    pub login_cost: Duration,
    /// CPU time of telling a client "the database system is starting up": a process is forked for that too. Default:
    /// 1 ms.
    pub refusal_cost: Duration,
    /// Logins worked on at once: the CPUs that they can have. Default: 8, which with 5 ms each is 1,600 a second.
    pub logins_at_once: u32,
    /// Connections that may wait for that. Default: 4,096, as Linux allows a listener.
    pub backlog: u32,
    /// What happens to the others. Default: dropped.
    pub overflow: Overflow,
    /// How long a round trip takes, at least; it takes up to half as long again. Default: 300 µs.
    pub round_trip: Duration,
    /// Sessions it allows. `None`: enough for every pool at its max_size. Default: `None`.
    pub max_connections: Option<u32>,
}

/// Which kind of pool a fleet is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemberKind {
    /// pgweir's machine.
    #[default]
    Pgweir,
    /// A pool without backoff, for contrast: whoever finds nothing idle opens a connection at once, and what is
    /// missing to min_size is tried again every 100 ms.
    Naive,
}

/// What an outage looks like from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutageKind {
    /// A crash: sessions end, connects are refused by the operating system.
    #[default]
    Refused,
    /// A crash: sessions end, connects are answered with 57P03, "the database system is starting up".
    Starting,
    /// The network swallows everything; sessions survive at the server until it is back.
    BlackHole,
}

/// What a full accept backlog does with another connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// Its SYN is dropped, and sent again after 1, 3, 7, ... seconds.
    #[default]
    Drop,
    /// It is refused.
    Refuse,
}

impl Default for FleetSpec {
    fn default() -> Self {
        FleetSpec {
            instances: 2_000,
            pool: PoolConfig::default(),
            member: MemberKind::Pgweir,
            rate: 10.0,
            hold: Duration::from_millis(10),
            ramp: Duration::from_secs(10),
            settle: Duration::from_secs(20),
            outage: Duration::from_secs(30),
            kind: OutageKind::Refused,
            patience: Duration::from_secs(300),
            server: ServerLimits::default(),
        }
    }
}

impl Default for ServerLimits {
    fn default() -> Self {
        ServerLimits {
            login_cost: Duration::from_millis(5),
            refusal_cost: Duration::from_millis(1),
            logins_at_once: 8,
            backlog: 4_096,
            overflow: Overflow::Drop,
            round_trip: Duration::from_micros(300),
            max_connections: None,
        }
    }
}

/// Instances at most: their numbers share a word with a slot's.
pub(super) const MOST_INSTANCES: u32 = 1_000_000;

impl FleetSpec {
    /// What is impossible about it, for people; empty if nothing is.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        let most = MOST_INSTANCES;
        check((1..=most).contains(&self.instances), format!("instances ({}) must be 1 to {most}", self.instances));
        let rate = self.rate;
        check((0.0..=1e6).contains(&rate), format!("rate ({rate}) must be 0 to 1000000 acquires a second"));
        check(!self.outage.is_zero(), "outage must be more than 0s".to_owned());
        for (name, time) in [
            ("hold", self.hold),
            ("ramp", self.ramp),
            ("settle", self.settle),
            ("outage", self.outage),
            ("patience", self.patience),
            ("login-cost", self.server.login_cost),
            ("round-trip", self.server.round_trip),
        ] {
            check(time <= DAY, format!("{name} must be a day (24h) at most"));
        }
        check(!self.server.round_trip.is_zero(), "round-trip must be more than 0s".to_owned());
        check(self.server.logins_at_once > 0, "logins-at-once must be 1 or more".to_owned());
        check(self.server.max_connections != Some(0), "max-connections must be 1 or more".to_owned());
        let slots = u64::from(self.instances) * u64::from(self.pool.max_size());
        check(slots <= MOST_SLOTS, format!("{slots} connections are more than {MOST_SLOTS}"));
        problems
    }

    /// Sessions that the server allows.
    pub fn max_connections(&self) -> u32 {
        let all = u64::from(self.instances) * u64::from(self.pool.max_size());
        self.server.max_connections.unwrap_or(u32::try_from(all).unwrap_or(u32::MAX))
    }

    /// When the outage begins, from the start of the run.
    pub fn outage_at(&self) -> Duration {
        self.ramp + self.settle
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Connections of all instances together, at most.
const MOST_SLOTS: u64 = 20_000_000;
