//! A journal of a simulated run.

use std::cell::OnceCell;
use std::time::Duration;

use pgweir_core::config::PoolConfig;
use pgweir_core::journal::{Check, Header, Site, Why, Writer};
use pgweir_core::pool::{Action, Event, Machine};
use pgweir_core::time::{Instant, Wall};

use crate::run::{Failure, Outcome, run_traced};
use crate::scenario::Scenario;
use crate::trace::Trace;

/// Runs a scenario as [`run_traced`] does, and writes its journal as a real pool would have written it: also when a
/// guarantee is broken, up to there. The run begins at the Unix epoch.
///
/// # Errors
/// Beside the journal: as [`run_traced`].
pub fn run_recorded<T: Trace>(
    scenario: &Scenario,
    seed: u64,
    trace: &mut T,
) -> (Result<Outcome, Box<Failure>>, Vec<u8>) {
    let start = OnceCell::new();
    let make = |config: &PoolConfig, seed| start.get_or_init(|| Machine::new(config, seed, Instant::ZERO)).clone();
    let mut both = (Recorder::new(scenario, seed, &start), trace);
    let result = run_traced(scenario, seed, make, &mut both);
    (result, both.0.finish())
}

/// Writes what it sees.
struct Recorder<'a> {
    header: Header,
    sites: Vec<Site>,
    /// Known when the run begins.
    start: &'a OnceCell<Machine>,
    writer: Option<Writer>,
    told: Option<(Instant, Event)>,
    actions: Vec<Action>,
}

impl<'a> Recorder<'a> {
    fn new(scenario: &Scenario, seed: u64, start: &'a OnceCell<Machine>) -> Self {
        let header = Header {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config: scenario.pool.clone(),
            wall: Wall { at: Instant::ZERO, unix: Duration::ZERO },
            why: Why::Simulated { scenario: scenario.name.clone(), seed },
            written: Instant::ZERO,
        };
        // A group of clients acquires from one line.
        let lines = 1..=u32::try_from(scenario.workload.len()).unwrap_or(u32::MAX);
        let sites = lines.map(|line| Site { file: "workload".to_owned(), line, column: 1 }).collect();
        Recorder { header, sites, start, writer: None, told: None, actions: Vec::new() }
    }

    fn finish(mut self) -> Vec<u8> {
        self.write_told();
        self.writer.map(Writer::finish).unwrap_or_default()
    }

    fn write_told(&mut self) {
        if let (Some((at, event)), Some(start)) = (self.told.take(), self.start.get()) {
            let writer = self.writer.get_or_insert_with(|| {
                let mut writer = Writer::new(&self.header, start);
                writer.sites(&self.sites);
                writer
            });
            writer.entry(at, &event, Check::of(&self.actions));
        }
        self.actions.clear();
    }
}

impl Trace for Recorder<'_> {
    fn event(&mut self, now: Instant, event: &Event) {
        self.write_told();
        self.told = Some((now, event.clone()));
    }

    fn action(&mut self, _: Instant, action: &Action) {
        self.actions.push(action.clone());
    }

    fn remark(&mut self, _: Instant, _: std::fmt::Arguments<'_>) {}
}
