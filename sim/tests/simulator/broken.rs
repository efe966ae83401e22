//! Every scenario that ships fails when the handling of its fault is broken on purpose, and passes otherwise.
//!
//! | scenario | what is broken | what fails |
//! |---|---|---|
//! | bursts | only two waiters are taken in | `answers.queue_full`, or Fast truth |
//! | crash | callers are told of an outage without a moment's patience | Fast truth |
//! | crash_loop | attempts follow each other every millisecond | Quiet outage |
//! | demoted | a session that turned read-only is taken for one that ended | Sound |
//! | failover | the second host is never tried | Min restored |
//! | half_open | a check that gets no answer is waited for for a minute | `noticed_within` |
//! | herd | sixteen connects at once | Prompt recovery |
//! | idle_outage | the schedule does not get slower | `attempts.gaps` |
//! | laptop | the pool's clock stands still while its process does | Bounded |
//! | latency_spike | what is slow counts as dead | `answers.unavailable` |
//! | leak | leases are not looked at | True numbers |
//! | lifetimes | connections live for ever | Fresh |
//! | max_connections | a full server is asked every second | `attempts.count` |
//! | partition | a connect that hangs is waited for for ten minutes | `attempts.count` |
//! | password_rotation | a wrong password counts as a passing fault | Fast truth |
//! | restart | callers are told of an outage after ten seconds | Fast truth |
//! | shutdown_under_load | the deadline is forgotten | Bounded end |
//! | silent_peer | a check that gets no answer is waited for for a minute | `noticed_within` |
//! | slow_start | "starting up" does not bring the attempts closer together | `recovered_within` |

use std::time::Duration;

use pgweir_core::config::{PoolConfig, PoolConfigBuilder};
use pgweir_core::pool::{Action, Counts, Event, Fault, FaultClass, Health, Machine, Stats};
use pgweir_core::time::Instant;
use pgweir_sim::{Subject, run, run_subject};

use crate::support::{scenario, shipped};

/// What is broken.
#[derive(Clone, Copy, Debug)]
enum Break {
    /// The machine has other settings than the oracle knows of.
    Settings(fn(PoolConfigBuilder) -> PoolConfigBuilder),
    /// A class of faults is taken for another.
    Class(FaultClass, FaultClass),
    /// The shutdown's deadline does not count.
    NoDeadline,
    /// Time stands still for the machine for as long as nothing happens for more than a minute.
    StoppedClock,
}

/// The break of each scenario, and how what fails begins: a guarantee, or the key of an expectation.
const BREAKS: [(&str, Break, &str); 19] = [
    ("bursts", Break::Settings(|pool| pool.max_waiting(2)), "Fast truth"),
    ("crash", Break::Settings(|pool| pool.outage_grace(Duration::ZERO)), "Fast truth"),
    ("crash_loop", Break::Settings(|pool| pool.backoff_initial(MILLI).demand_probe_interval(MILLI)), "Quiet outage"),
    ("demoted", Break::Class(FaultClass::WrongRole, FaultClass::Transient), "Sound"),
    ("failover", Break::Settings(|pool| pool.hosts(1)), "Min restored"),
    ("half_open", Break::Settings(|pool| pool.validation_timeout(MINUTE).connect_timeout(MINUTE)), "noticed_within"),
    ("herd", Break::Settings(|pool| pool.max_connecting(16)), "Quiet outage, prompt recovery"),
    ("idle_outage", Break::Settings(|pool| pool.backoff_multiplier(1.0)), "attempts[0].gaps"),
    ("laptop", Break::StoppedClock, "Bounded"),
    (
        "latency_spike",
        Break::Settings(|pool| pool.validation_timeout(MILLI * 100).connect_timeout(MILLI * 300)),
        "answers",
    ),
    ("leak", Break::Settings(|pool| pool.enable_leak_detection(false)), "True numbers"),
    ("lifetimes", Break::Settings(|pool| pool.max_connection_lifetime(Duration::ZERO)), "Fresh"),
    ("max_connections", Break::Settings(|pool| pool.backoff_max(MILLI * 1000)), "attempts[0].count"),
    ("partition", Break::Settings(|pool| pool.connect_timeout(MINUTE * 10)), "attempts[0].count"),
    ("password_rotation", Break::Class(FaultClass::Permanent, FaultClass::Transient), "Fast truth"),
    ("restart", Break::Settings(|pool| pool.outage_grace(MILLI * 10_000)), "Fast truth"),
    ("shutdown_under_load", Break::NoDeadline, "Bounded end"),
    ("silent_peer", Break::Settings(|pool| pool.validation_timeout(MINUTE).connect_timeout(MINUTE)), "noticed_within"),
    ("slow_start", Break::Settings(|pool| pool.backoff_initial(MILLI * 10_000)), "recovered_within"),
];

const MILLI: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);

struct Broken {
    machine: Machine,
    how: Break,
    /// How much time the machine has missed.
    missed: Duration,
    last: Instant,
}

impl Broken {
    fn new(config: &PoolConfig, seed: u64, how: Break) -> Self {
        let config = match how {
            Break::Settings(change) => change(config.to_builder()).build().expect("a valid pool"),
            _ => config.clone(),
        };
        Broken { machine: Machine::new(&config, seed, Instant::ZERO), how, missed: Duration::ZERO, last: Instant::ZERO }
    }

    fn distort(&self, mut event: Event) -> Event {
        match (self.how, &mut event) {
            (
                Break::Class(from, to),
                Event::ConnectFailed { fault, .. }
                | Event::ValidationFailed { fault, .. }
                | Event::ResetFailed { fault, .. },
            ) if fault.class == from => **fault = Fault { class: to, ..(**fault).clone() },
            (Break::NoDeadline, Event::Shutdown { deadline }) => *deadline = Instant::MAX,
            _ => {}
        }
        event
    }
}

impl Subject for Broken {
    fn handle(&mut self, now: Instant, event: Event, actions: &mut Vec<Action>) {
        if let (Break::StoppedClock, true) = (self.how, now - self.last > MINUTE) {
            self.missed += now - self.last;
        }
        self.last = now;
        let event = self.distort(event);
        self.machine.handle(Instant::ZERO + (now - (Instant::ZERO + self.missed)), event, actions);
    }

    fn deadline(&self) -> Option<Instant> {
        self.machine.deadline().map(|(at, _)| at + self.missed)
    }

    fn counts(&self) -> Counts {
        self.machine.counts()
    }

    fn stats(&self, now: Instant) -> Stats {
        self.machine.stats(now)
    }

    fn health(&self, now: Instant) -> Health {
        self.machine.health(now)
    }
}

/// What fails when `how` is broken: the guarantee, or the expectations' keys.
fn fails(text: &str, how: Break) -> Vec<String> {
    let scenario = scenario(text);
    match run_subject(&scenario, scenario.seed, |config, seed| Broken::new(config, seed, how)) {
        Ok(outcome) => {
            let failed = outcome.findings.into_iter().filter(|finding| !finding.holds);
            failed.map(|finding| finding.key).collect()
        }
        Err(failure) => vec![failure.violation.guarantee.to_owned()],
    }
}

#[test]
fn every_scenario_that_ships_has_a_break_and_fails_with_it() {
    let shipped = shipped();
    let mut wrong = Vec::new();
    for (file, text) in &shipped {
        let name = file.trim_end_matches(".yaml");
        let Some((_, how, expected)) = BREAKS.iter().find(|(broken, ..)| *broken == name) else {
            panic!("{file} ships, and nobody has shown that it can fail: add a break to the table");
        };
        let failed = fails(text, *how);
        if !failed.iter().any(|key| key.starts_with(expected)) {
            wrong.push(format!("{file} with {how:?}: {expected} should fail, seen {failed:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let known = |name: &str| shipped.iter().any(|(file, _)| file.trim_end_matches(".yaml") == name);
    assert!(BREAKS.iter().all(|(name, ..)| known(name)), "a break for a scenario that does not ship");
}

/// The wrapper by itself changes nothing.
#[test]
fn what_is_not_broken_is_not_changed() {
    let (_, text) = shipped().into_iter().find(|(name, _)| name == "restart.yaml").expect("restart.yaml");
    let scenario = scenario(&text);
    let alone = run(&scenario, 1).unwrap_or_else(|failure| panic!("{failure}"));
    let make = |config: &_, seed| Broken::new(config, seed, Break::Settings(|pool| pool));
    let wrapped = run_subject(&scenario, 1, make).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(alone.digest, wrapped.digest);
}
