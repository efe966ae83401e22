//! What was recorded: a pool's configuration, how it stood, and every event with the actions that followed.

use std::fmt;

use pgweir_core::config::PoolConfig;
use pgweir_core::journal::{Journal, Replay};
use pgweir_core::pool::{Action, Counts, Event, Fault, Machine, State};
use pgweir_core::time::Instant;

use crate::trace::Trace;

/// One event, and what the machine asked for then.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Step {
    /// When.
    pub at: Instant,
    /// What the machine was told.
    pub event: Event,
    /// What it asked for.
    pub actions: Vec<Action>,
}

/// A stretch of a pool's life. It may begin and end in the middle of it.
#[derive(Clone, Debug)]
pub struct History {
    pub(super) config: PoolConfig,
    /// The pool before the first step.
    pub(super) counts: Counts,
    pub(super) state: State,
    /// Why it was down then, if it was.
    pub(super) down: Option<Fault>,
    pub(super) steps: Vec<Step>,
}

impl History {
    /// The history of `before`, the machine as it was before the first of the steps.
    pub fn new(config: &PoolConfig, before: &Machine, steps: Vec<Step>) -> Self {
        let down = before.last_fault().filter(|_| before.state() == State::Unhealthy).map(|(fault, _)| fault.clone());
        History { config: config.clone(), counts: before.counts(), state: before.state(), down, steps }
    }

    /// What a journal holds, as far as it could be read. The actions are what the journal's machine asks for when it is
    /// told the same events again.
    ///
    /// # Errors
    /// The machine of this version answers otherwise than the one that was recorded.
    pub fn from_journal(journal: &Journal) -> Result<Self, Deviation> {
        let mut steps = Vec::new();
        let mut replay = Replay::new(journal);
        while let Some(step) = replay.step() {
            if !step.agrees() {
                return Err(Deviation { entry: step.number, version: journal.header().version.clone() });
            }
            let (at, event) = (step.entry.at, step.entry.event.clone());
            steps.push(Step { at, event, actions: step.actions.to_vec() });
        }
        Ok(History::new(&journal.header().config, journal.start(), steps))
    }

    /// The configuration in force at the beginning.
    pub fn config(&self) -> &PoolConfig {
        &self.config
    }

    /// The steps, in order of time.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// When the first step was; the epoch if there is none.
    pub fn begins(&self) -> Instant {
        self.steps.first().map_or(Instant::ZERO, |step| step.at)
    }

    /// When the last step was; the epoch if there is none.
    pub fn ends(&self) -> Instant {
        self.steps.last().map_or(Instant::ZERO, |step| step.at)
    }

    /// Whether it begins with a pool that has done nothing yet.
    pub fn is_whole(&self) -> bool {
        self.state == State::Initializing && self.counts.total == 0 && self.start().is_some()
    }

    /// How the pool was started, if that was recorded: `lazy`.
    pub(super) fn start(&self) -> Option<bool> {
        self.steps.iter().take(2).find_map(|step| match step.event {
            Event::Start { lazy } => Some(lazy),
            _ => None,
        })
    }
}

/// A journal whose machine answers otherwise when it is told the same.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deviation {
    /// At which entry, from 0.
    pub entry: usize,
    /// The version of pgweir that wrote the journal.
    pub version: String,
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "at entry {} the pool answers otherwise than the one that was recorded, of version {}: this version ({}) \
             cannot tell what was done then",
            self.entry,
            self.version,
            env!("CARGO_PKG_VERSION")
        )
    }
}

impl std::error::Error for Deviation {}

/// Records the steps of a simulated run, for a [`History`].
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    steps: Vec<Step>,
}

impl Recorder {
    /// The steps so far.
    pub fn into_steps(self) -> Vec<Step> {
        self.steps
    }
}

impl Trace for Recorder {
    fn event(&mut self, now: Instant, event: &Event) {
        self.steps.push(Step { at: now, event: event.clone(), actions: Vec::new() });
    }

    fn action(&mut self, _: Instant, action: &Action) {
        if let Some(step) = self.steps.last_mut() {
            step.actions.push(action.clone());
        }
    }

    fn remark(&mut self, _: Instant, _: std::fmt::Arguments<'_>) {}
}
