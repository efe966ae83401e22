//! What came of a fleet. What is counted is counted from the outage's beginning: how a fleet starts is another matter.

use std::time::Duration;

use pgweir_core::time::Instant;

use super::server::Figures;
use crate::record::Spread;
use pgweir_core::digest::Digest;

/// What came of a fleet.
#[derive(Clone, Debug)]
pub struct FleetOutcome {
    pub(super) seed: u64,
    pub(super) digest: Digest,
    pub(super) events: u64,
    pub(super) lasted: Duration,
    pub(super) instances: u32,
    pub(super) tally: FleetTally,
    pub(super) served: Vec<Duration>,
    pub(super) back: Vec<Duration>,
    pub(super) outage: (Instant, Instant),
    pub(super) waits: Spread,
    pub(super) figures: Figures,
    pub(super) samples: Vec<Sample>,
}

/// Acquires by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FleetTally {
    /// All of them.
    pub requests: u64,
    /// Granted, used, given back.
    pub succeeded: u64,
    /// The connection ended under its caller.
    pub broken: u64,
    /// No connection within acquire_timeout.
    pub timed_out: u64,
    /// Told that the database is down.
    pub unavailable: u64,
    /// Refused because too many others waited.
    pub queue_full: u64,
}

impl FleetTally {
    /// Callers who got an error.
    pub fn errors(&self) -> u64 {
        self.broken + self.timed_out + self.unavailable + self.queue_full
    }
}

/// A tenth of a second.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Sample {
    /// Its end.
    pub at: Instant,
    /// Connects begun in it, by all instances.
    pub connects: u32,
    /// Connects refused in it.
    pub refused: u32,
    /// Logins that succeeded in it.
    pub logins: u32,
    /// Callers who got an error in it.
    pub errors: u32,
    /// Connections waiting for their login at its end.
    pub queued: u32,
    /// Sessions at its end.
    pub sessions: u32,
    /// Instances back at its end.
    pub back: u32,
    /// Instances that call themselves unhealthy at its end.
    pub unhealthy: u32,
}

impl FleetOutcome {
    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Over all events and actions of all pools.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Events that the pools were told.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Virtual time.
    pub fn lasted(&self) -> Duration {
        self.lasted
    }

    /// How many instances there are.
    pub fn instances(&self) -> u32 {
        self.instances
    }

    /// Acquires by outcome.
    pub fn tally(&self) -> FleetTally {
        self.tally
    }

    /// When the outage began and when it ended.
    pub fn outage(&self) -> (Instant, Instant) {
        self.outage
    }

    /// How long granted acquires waited.
    pub fn waits(&self) -> &Spread {
        &self.waits
    }

    /// From the outage's end until this share (in percent) of the instances had served a caller again; `None` if that
    /// did not come to pass. 0 is the first.
    pub fn served_within(&self, percent: f64) -> Option<Duration> {
        self.share(&self.served, percent)
    }

    /// From the outage's end until this share (in percent) of the instances had min_size connections again and had
    /// served a caller; `None` if that did not come to pass.
    pub fn back_within(&self, percent: f64) -> Option<Duration> {
        self.share(&self.back, percent)
    }

    fn share(&self, times: &[Duration], percent: f64) -> Option<Duration> {
        let rank = (percent / 100.0 * f64::from(self.instances)).ceil() as usize;
        times.get(rank.max(1) - 1).copied()
    }

    /// Connects, by all instances.
    pub fn connects(&self) -> u64 {
        self.counted().map(|sample| u64::from(sample.connects)).sum()
    }

    /// Connects that began while the server was away.
    pub fn connects_in_vain(&self) -> u64 {
        let ended = self.outage.1;
        self.counted().filter(|sample| sample.at <= ended).map(|sample| u64::from(sample.connects)).sum()
    }

    /// Most connects that began in a tenth of a second.
    pub fn peak_connects(&self) -> u32 {
        self.counted().map(|sample| sample.connects).max().unwrap_or(0)
    }

    /// Connects that were refused, by the operating system or by the server.
    pub fn refused(&self) -> u64 {
        self.figures.refused
    }

    /// Connects that found the accept backlog full.
    pub fn overflowed(&self) -> u64 {
        self.figures.overflowed
    }

    /// Logins that succeeded.
    pub fn logins(&self) -> u64 {
        self.figures.logins
    }

    /// Logins that were worked on for a client that had given up.
    pub fn wasted_logins(&self) -> u64 {
        self.figures.wasted
    }

    /// Most connections waiting for their login at once.
    pub fn queue_peak(&self) -> u32 {
        self.figures.queue_peak
    }

    /// How long connections waited for their login.
    pub fn queue_waits(&self) -> &Spread {
        &self.figures.queue_waits
    }

    /// CPU time that the server spent on logins and refusals.
    pub fn login_work(&self) -> Duration {
        self.figures.work
    }

    /// The part of it that nobody had anything of.
    pub fn wasted_work(&self) -> Duration {
        self.figures.wasted_work
    }

    /// The run in tenths of a second.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    fn counted(&self) -> impl Iterator<Item = &Sample> {
        let from = self.outage.0;
        self.samples.iter().filter(move |sample| sample.at > from)
    }
}
