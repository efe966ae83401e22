//! How fast the machine is by itself: a recorded stream of events, replayed into a new machine, and nothing else.

use std::time::Duration;

use pgweir_core::config::PoolConfig;
use pgweir_core::pool::{Action, Event, Machine};
use pgweir_core::time::Instant;

use crate::fleet::{self, FleetSpec};
use crate::run::run_traced;
use crate::scenario::Scenario;
use crate::trace::Trace;
use pgweir_core::digest::Digest;

/// A pool of 10 with 48 callers, who wait for each other now and then. Some acquires are cancelled, some leases come back
/// dirty; connections are validated, killed, recycled, and once the server restarts.
const MIX: &str = "
name: a busy pool
duration: 1h
pool: {min_size: 10, max_size: 10, validation_interval: 2ms}
workload:
  - {clients: 40, think: {exponential: 4ms}, hold: {exponential: 1ms}}
  - {clients: 8, think: {exponential: 10ms}, hold: {uniform: [1ms, 9ms]}, abandon: 0.05, cancel: {share: 0.3, after: {uniform: [0ms, 3ms]}}}
timeline:
  - {at: 1s, kill: {share: 0.2}}
  - {at: 2s, restart: {down: 1s}}
  - {at: 4s, recycle: {}}
expect: {}
";

/// A recorded stream of events, to be replayed.
#[derive(Clone, Debug)]
pub struct Stream {
    config: PoolConfig,
    seed: u64,
    events: Vec<(Instant, Event)>,
    /// Over the actions that were asked for.
    digest: Digest,
}

/// What a replay came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Speed {
    /// Events that the machine was told.
    pub events: u64,
    /// Actions that it asked for.
    pub actions: u64,
}

/// Keeps the first events.
struct Keep {
    events: Vec<(Instant, Event)>,
    digest: Digest,
    most: usize,
    full: bool,
}

impl Trace for Keep {
    fn event(&mut self, now: Instant, event: &Event) {
        self.full |= self.events.len() == self.most;
        if !self.full {
            self.events.push((now, event.clone()));
        }
    }

    fn action(&mut self, _: Instant, action: &Action) {
        if !self.full {
            self.digest.add(action);
        }
    }

    fn remark(&mut self, _: Instant, _: std::fmt::Arguments<'_>) {}
}

impl Stream {
    /// About `events` events of a busy pool: acquires that queue, releases, cancels, validations, and an outage.
    ///
    /// # Errors
    /// A guarantee that did not hold while it was recorded.
    pub fn record(events: usize, seed: u64) -> Result<Stream, String> {
        let mut scenario = Scenario::from_yaml("a busy pool", MIX).map_err(|bad| bad.to_string())?;
        // The mix makes about 25,000 events a second.
        scenario.duration = Duration::from_millis(events as u64 / 25 + 1_000).max(Duration::from_secs(5));
        let mut keep =
            Keep { events: Vec::with_capacity(events), digest: Digest::default(), most: events, full: false };
        let mut machine_seed = 0;
        let make = |config: &PoolConfig, seed: u64| {
            machine_seed = seed;
            Machine::new(config, seed, Instant::ZERO)
        };
        run_traced(&scenario, seed, make, &mut keep).map_err(|failure| failure.to_string())?;
        Ok(Stream { config: scenario.pool, seed: machine_seed, events: keep.events, digest: keep.digest })
    }

    /// How many events it has.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Tells them all to a new machine, and looks at its deadline after each, as a driver does.
    pub fn replay(&self) -> Speed {
        let mut machine = Machine::new(&self.config, self.seed, Instant::ZERO);
        let mut actions = Vec::new();
        let mut asked = 0;
        let mut due = 0;
        for (now, event) in &self.events {
            machine.handle(*now, event.clone(), &mut actions);
            due += u64::from(machine.deadline().is_some());
            asked += actions.len() as u64;
            actions.clear();
        }
        std::hint::black_box(due);
        Speed { events: self.events.len() as u64, actions: asked }
    }

    /// Whether a replay asks for exactly the actions that were recorded.
    pub fn is_reproduced(&self) -> bool {
        let mut machine = Machine::new(&self.config, self.seed, Instant::ZERO);
        let mut digest = Digest::default();
        let mut actions = Vec::new();
        for (now, event) in &self.events {
            machine.handle(*now, event.clone(), &mut actions);
            actions.drain(..).for_each(|action| digest.add(&action));
        }
        digest == self.digest
    }
}

impl Speed {
    /// A pool under load in the simulator, without oracle and digest: about `events` events.
    ///
    /// # Errors
    /// A guarantee that did not hold.
    pub fn simulate(events: u64, seed: u64) -> Result<Speed, String> {
        // 3 events a cycle; 4,000 acquires a second of 2 ms each keep 8 of 10 connections busy.
        let spec = FleetSpec {
            instances: 1,
            rate: 4_000.0,
            hold: Duration::from_millis(2),
            ramp: Duration::ZERO,
            settle: Duration::from_secs(events / 8_000 + 1),
            outage: Duration::from_secs(1),
            patience: Duration::from_secs(1),
            ..FleetSpec::default()
        };
        let outcome = fleet::run(&spec, seed, false).map_err(|violation| violation.to_string())?;
        Ok(Speed { events: outcome.events(), actions: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_stream_is_a_realistic_mix_and_is_reproduced() {
        let stream = Stream::record(150_000, 1).expect("recorded");
        let count = |wanted: fn(&Event) -> bool| stream.events.iter().filter(|(_, event)| wanted(event)).count();
        assert!(count(|event| matches!(event, Event::Acquire { .. })) > 10_000);
        assert!(count(|event| matches!(event, Event::Cancel { .. })) > 10);
        assert!(count(|event| matches!(event, Event::Validated { .. })) > 10);
        assert!(count(|event| matches!(event, Event::ConnectFailed { .. })) > 0);
        assert!(stream.is_reproduced());
    }

    #[test]
    fn a_simulation_has_about_as_many_events_as_asked_for() {
        let speed = Speed::simulate(100_000, 1).expect("simulated");
        assert!((80_000..200_000).contains(&speed.events), "{speed:?}");
    }
}
