//! From what caused a history to a run of it: times on the run's clock, and a draw for everything that is not known.

use std::collections::BTreeMap;
use std::time::Duration;

use pgweir_core::config::PoolConfig;
use pgweir_core::pool::{Counts, Fate, State};
use pgweir_core::time::Instant;

use super::extract::{Extract, Hold, Operation, Origin, Outage, Patience, Request, Trouble, middle};
use super::measure::Meter;
use super::recording::{Change, Planned, Recording, Samples, Times};
use super::{History, OutageEnd};
use crate::rng::Rng;
use crate::scenario::{Dist, Expect, Group, Resize, Scenario, ServerSpec, ServerState, Step, What};

/// Streams of randomness: what is not known of a request, and how many times it is made.
const HOLDS: u64 = 1 << 40;
const LOADS: u64 = 1 << 41;

/// More sessions than any pool has.
const NO_LIMIT: u32 = 1_000_000;
/// Assumed where a history has no round trip, and no connect.
const ROUND_TRIP: Duration = Duration::from_micros(350);
const CONNECT: Duration = Duration::from_millis(5);
/// The least that a pool is given to open what was open when a history began.
const WARM_UP: Duration = Duration::from_secs(2);

/// A history's causes, ready to be run under any configuration.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    history: &'a History,
    extract: &'a Extract,
    outage_end: OutageEnd,
    load: f64,
    /// Where the history begins on the run's clock.
    warm_up: Duration,
    sites: BTreeMap<u32, Samples>,
    all_sites: Samples,
    times: Times,
}

/// One run of it.
#[derive(Debug)]
pub(super) struct Rerun {
    pub(super) scenario: Scenario,
    pub(super) recording: Recording,
    /// The history's beginning and end on the run's clock.
    pub(super) from: Instant,
    pub(super) until: Instant,
    /// When the server could be used again.
    pub(super) backs: Vec<Instant>,
}

impl Rerun {
    /// Measures what was recorded of it, not what comes before and after.
    pub(super) fn meter(&self) -> Meter {
        Meter::new(self.from, self.until, &self.backs, &Counts::default(), State::Initializing)
    }
}

impl<'a> Plan<'a> {
    pub(super) fn new(history: &'a History, extract: &'a Extract, outage_end: OutageEnd, load: f64) -> Self {
        let mut holds: BTreeMap<u32, Vec<Duration>> = BTreeMap::new();
        for request in &extract.requests {
            let holds = holds.entry(request.site).or_default();
            if let (Hold::Seen(held), Origin::Made) = (request.hold, request.origin) {
                holds.push(held);
            }
        }
        if holds.is_empty() {
            holds.insert(0, Vec::new());
        }
        let all_sites = Samples::new(holds.values().flatten().copied().collect());
        let or = |samples: &Samples, assumed| {
            if samples.is_empty() { Samples::new(vec![assumed]) } else { samples.clone() }
        };
        let times = Times {
            connect: or(&extract.times.connect, CONNECT),
            validate: or(&extract.times.validate, ROUND_TRIP),
            reset: or(&extract.times.reset, ROUND_TRIP),
            close: or(&extract.times.close, ROUND_TRIP),
        };
        Plan {
            history,
            extract,
            outage_end,
            load,
            warm_up: if history.is_whole() { Duration::ZERO } else { warm_up(history, &times) },
            sites: holds.into_iter().map(|(site, holds)| (site, Samples::new(holds))).collect(),
            all_sites,
            times,
        }
    }

    /// A moment of the history on the run's clock.
    fn at(&self, at: Instant) -> Instant {
        Instant::ZERO + self.warm_up + (at - self.history.begins())
    }

    /// When an outage is taken to have ended, on the history's clock.
    pub(super) fn ended(&self, outage: &Outage) -> Instant {
        let (earliest, latest) = outage.until;
        match self.outage_end {
            // It was not over.
            _ if latest == Instant::MAX => Instant::MAX,
            OutageEnd::Earliest => earliest,
            OutageEnd::Middle => middle(earliest, latest),
            OutageEnd::Latest => latest,
        }
    }

    /// When the server could be used again, on the history's clock.
    pub(super) fn backs(&self) -> Vec<Instant> {
        self.extract.outages.iter().map(|outage| self.ended(outage)).filter(|at| *at < Instant::MAX).collect()
    }

    /// A run under `config`; what is not known is drawn from `seed`.
    pub(super) fn rerun(&self, config: &PoolConfig, seed: u64) -> Rerun {
        let (from, until) = (self.at(self.history.begins()), self.at(self.history.ends()));
        Rerun {
            scenario: self.scenario(config, until - Instant::ZERO),
            recording: Recording {
                requests: self.requests(config, seed),
                changes: self.changes(),
                times: self.times.clone(),
            },
            from,
            until,
            backs: self.backs().into_iter().map(|at| self.at(at)).collect(),
        }
    }

    fn requests(&self, config: &PoolConfig, seed: u64) -> Vec<Planned> {
        let sites: BTreeMap<u32, u32> = self.sites.keys().copied().zip(0..).collect();
        let mut planned = Vec::new();
        let mut lent = 0;
        for (index, request) in self.extract.requests.iter().enumerate() {
            let site = sites[&request.site];
            let hold = self.hold(request, Rng::new(seed, HOLDS + index as u64));
            let mut again = Planned {
                at: self.at(request.at),
                patience: match request.patience {
                    Patience::Pool => None,
                    Patience::Own(patience) => Some(patience),
                },
                leak_after: request.leak_after,
                site,
                hold,
                fate: request.fate,
                queries: request.queries,
                cancel: request.cancel,
            };
            match request.origin {
                Origin::Lent => {
                    lent += 1;
                    (again.at, again.patience) = (Instant::ZERO, Some(Duration::MAX));
                    again.hold = again.hold.saturating_add(self.warm_up);
                    planned.push(again);
                }
                Origin::Waiting => {
                    // Before what is measured, as it was.
                    again.at = Instant::from_nanos(again.at.as_nanos().saturating_sub(1));
                    planned.push(again);
                }
                Origin::Made => self.make(again, index, seed, &mut planned),
            }
        }
        // What was open and idle when the history began is opened and idle again when it does.
        let idle = self.extract.idle_at_start.min(config.max_size().saturating_sub(lent));
        if self.warm_up > Duration::ZERO {
            planned.extend((0..idle).map(|_| Planned {
                at: Instant::ZERO,
                patience: Some(self.warm_up / 2),
                leak_after: None,
                site: 0,
                hold: self.warm_up / 20 * 9,
                fate: Fate::Clean,
                queries: 0,
                cancel: None,
            }));
        }
        planned.sort_by_key(|request| request.at);
        planned
    }

    /// Makes a request as often as the load says, the repetitions before the next one that was recorded.
    fn make(&self, request: Planned, index: usize, seed: u64, planned: &mut Vec<Planned>) {
        let mut rng = Rng::new(seed, LOADS + index as u64);
        let times = self.load as u64 + u64::from(rng.chance(self.load - self.load as u64 as f64));
        let next = self.extract.requests.get(index + 1).map_or(request.at, |next| self.at(next.at));
        for number in 0..times {
            let later = if number == 0 { 0.0 } else { rng.fraction() };
            let at = request.at + crate::scenario::scale(next - request.at, later);
            planned.push(Planned { at, ..request.clone() });
        }
    }

    /// How long a request holds its connection this time.
    fn hold(&self, request: &Request, mut rng: Rng) -> Duration {
        let site = self.sites.get(&request.site).filter(|site| !site.is_empty()).unwrap_or(&self.all_sites);
        match request.hold {
            Hold::Seen(held) => held,
            Hold::Cut(held) => site.draw_longer(held, &mut rng).unwrap_or(held),
            Hold::Unfinished(held) => site.draw_longer(held, &mut rng).unwrap_or(Duration::MAX),
            Hold::Unknown => site.draw(&mut rng),
        }
    }

    fn changes(&self) -> Vec<(Instant, Change)> {
        let mut changes = Vec::new();
        for outage in &self.extract.outages {
            let Trouble::Refusing(phases) = &outage.trouble else { continue };
            for (index, (at, refusal)) in phases.iter().enumerate() {
                // One that was there when the history began was there before.
                let before = index == 0 && *at <= self.history.begins();
                let at = if before { Instant::ZERO } else { self.at(*at) };
                changes.push((at, Change::Refuse(refusal.clone())));
            }
            let ended = self.ended(outage);
            if ended < Instant::MAX {
                changes.push((self.at(ended), Change::Accept));
            }
        }
        for deaths in &self.extract.deaths {
            let change = Change::Deaths { share: deaths.share(), fault: deaths.fault.clone() };
            changes.push((self.at(deaths.at), change));
        }
        // Refusals before deaths of the same moment.
        changes.sort_by_key(|(at, _)| *at);
        changes
    }

    fn timeline(&self) -> Vec<Step> {
        let mut timeline = Vec::new();
        let mut add = |at: Instant, what| timeline.push(Step { at: self.at(at) - Instant::ZERO, what, host: None });
        for (at, operation) in &self.extract.operations {
            let what = match *operation {
                Operation::Resize { min_size, max_size } => What::Resize(Resize { min_size, max_size }),
                Operation::Pause(lasts) => What::Pause(lasts),
                Operation::Recycle => What::Recycle,
                Operation::Shutdown(within) => What::Shutdown(within),
            };
            add(*at, what);
        }
        for limit in &self.extract.limits {
            add(limit.at, What::MaxConnections(limit.sessions.unwrap_or(NO_LIMIT)));
        }
        for outage in self.extract.outages.iter().filter(|outage| matches!(outage.trouble, Trouble::Silent)) {
            add(outage.from, What::Silence(self.ended(outage) - outage.from));
        }
        timeline.sort_by_key(|step| step.at);
        timeline
    }

    fn scenario(&self, config: &PoolConfig, duration: Duration) -> Scenario {
        let round_trip = Dist::Fixed(self.times.validate.median());
        Scenario {
            name: "what if".to_owned(),
            about: String::new(),
            seed: 1,
            duration,
            lazy: self.history.start().unwrap_or(true),
            timers_late_by: Duration::from_micros(50),
            pool: config.clone(),
            server: ServerSpec {
                state: ServerState::Up,
                connect: Dist::Fixed(self.times.connect.median()),
                round_trip,
                max_connections: NO_LIMIT,
                ..ServerSpec::default()
            },
            workload: self.sites.keys().map(|site| silent_group(*site)).collect(),
            timeline: self.timeline(),
            expect: Expect::default(),
        }
    }
}

/// A site whose requests come from the recording: it makes none of its own.
fn silent_group(site: u32) -> Group {
    Group {
        name: format!("site {site}"),
        clients: None,
        every: None,
        burst: 1,
        ramp: Duration::ZERO,
        think: Dist::Fixed(Duration::ZERO),
        hold: Dist::Fixed(Duration::ZERO),
        timeout: None,
        queries: 0,
        from: Duration::MAX,
        until: None,
        abandon: 0.0,
        broken: 0.0,
        discard: 0.0,
        cancel: None,
        leaks: None,
        leak_after: None,
        command_timeout: Duration::from_secs(60),
    }
}

/// Long enough to open twice what was open, `max_connecting` at a time.
fn warm_up(history: &History, times: &Times) -> Duration {
    let rounds = history.counts.total.div_ceil(history.config.max_connecting());
    let slowest = times.connect.longest().min(history.config.connect_timeout());
    WARM_UP.max(slowest * rounds * 4)
}
