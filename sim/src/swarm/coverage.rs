//! What the seeds met: a swarm that never reaches something proves nothing about it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use pgweir_core::pool::{
    Action, Check, CloseReason, Event, Fate, FaultClass, Notice, Reject, ResetHow, State, WaitPhase,
};
use pgweir_core::time::Instant;

use crate::oracle::is_legal;
use crate::run::Outcome;
use crate::scenario::{Scenario, What};
use crate::trace::Trace;

/// A thing that can be met: its kind, and which.
type Thing = (&'static str, String);

/// How many seeds met what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    seeds: u64,
    met: BTreeMap<Thing, u64>,
}

impl Default for Coverage {
    fn default() -> Self {
        Coverage { seeds: 0, met: things().into_iter().map(|thing| (thing, 0)).collect() }
    }
}

impl Coverage {
    /// Seeds that came to their end.
    pub fn seeds(&self) -> u64 {
        self.seeds
    }

    /// What no seed has met.
    pub fn never(&self) -> Vec<String> {
        let never = self.met.iter().filter(|(_, seeds)| **seeds == 0);
        never.map(|((kind, which), _)| format!("{kind} {which}")).collect()
    }

    /// How many seeds met one thing, such as `("reject", "queue full")`.
    pub fn met(&self, kind: &str, which: &str) -> u64 {
        let found = self.met.iter().find(|((other, name), _)| *other == kind && name == which);
        found.map_or(0, |(_, seeds)| *seeds)
    }

    pub(super) fn add(&mut self, met: &Met) {
        self.seeds += 1;
        for thing in &met.things {
            *self.met.entry(thing.clone()).or_default() += 1;
        }
    }

    /// Adds what other seeds met.
    pub fn merge(&mut self, other: &Coverage) {
        self.seeds += other.seeds;
        for (thing, seeds) in &other.met {
            *self.met.entry(thing.clone()).or_default() += seeds;
        }
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = "";
        for ((kind, which), seeds) in &self.met {
            if *kind != last {
                let gap = if last.is_empty() { "" } else { "\n" };
                write!(f, "{gap}{kind:<10} ")?;
                last = kind;
            } else {
                f.write_str(", ")?;
            }
            write!(f, "{which} {seeds}")?;
        }
        Ok(())
    }
}

/// Everything that there is to be met. `unwanted` closes nothing today: a late connect is always of use.
fn things() -> Vec<Thing> {
    let mut all = Vec::new();
    let mut of = |kind: &'static str, which: &[&str]| {
        all.extend(which.iter().map(|which| (kind, (*which).to_owned())));
    };
    of("fault", &What::KEYS);
    of("reject", &["timeout", "would block", "unavailable", "queue full", "closed"]);
    of("timeout", &["InQueue", "Connecting", "Validating", "Reconnecting", "Paused"]);
    of("fate", &["Unused", "Dirty", "Broken", "Discarded"]);
    of("driver", &["check failed", "touched", "validation failed", "reset failed", "too late"]);
    of("check", &["RoundTrip", "Socket"]);
    of("reset", &["Drain", "Policy"]);
    of("notice", &["leak", "leak resolved", "outage", "recovered", "slow", "shrunk", "forced close", "start failed"]);
    let states = [
        State::Initializing,
        State::Healthy,
        State::Degraded,
        State::Unhealthy,
        State::Recovering,
        State::ShuttingDown,
        State::Terminated,
    ];
    for from in states {
        for to in states.into_iter().filter(|to| is_legal(from, *to)) {
            all.push(("state", transition(from, to)));
        }
    }
    let reasons = CloseReason::ALL.iter().filter(|reason| **reason != CloseReason::Unwanted);
    all.extend(reasons.map(|reason| ("close", format!("{reason:?}"))));
    all.extend(FaultClass::ALL.iter().map(|class| ("refusal", format!("{class:?}"))));
    all
}

fn transition(from: State, to: State) -> String {
    format!("{from:?} to {to:?}")
}

/// What one run met.
#[derive(Debug, Default)]
pub(super) struct Met {
    things: BTreeSet<Thing>,
    /// Those of them that have a name in the program: most are met over and over again.
    named: Vec<(&'static str, &'static str)>,
    closed: [bool; CloseReason::ALL.len()],
}

impl Met {
    fn note(&mut self, kind: &'static str, which: impl Into<String>) {
        self.things.insert((kind, which.into()));
    }

    fn note_named(&mut self, kind: &'static str, which: &'static str) {
        let same = |met: &(&'static str, &'static str)| std::ptr::eq(met.1, which) && std::ptr::eq(met.0, kind);
        if !self.named.iter().any(same) {
            self.named.push((kind, which));
            self.note(kind, which);
        }
    }

    pub(super) fn scenario(&mut self, scenario: &Scenario, outcome: &Outcome) {
        for step in &scenario.timeline {
            self.note("fault", step.what.key());
        }
        for attempt in &outcome.record.attempts {
            if let Some(fault) = &attempt.fault {
                self.note("refusal", format!("{:?}", fault.class));
            }
        }
    }

    fn notice(&mut self, notice: &Notice) {
        let which = match notice {
            Notice::StateChanged { from, to, .. } => return self.note("state", transition(*from, *to)),
            Notice::LeakSuspected { .. } => "leak",
            Notice::LeakResolved { .. } => "leak resolved",
            Notice::ConnectivityLost { .. } => "outage",
            Notice::Recovered { .. } => "recovered",
            Notice::AcquireSlow { .. } => "slow",
            Notice::Shrunk { .. } => "shrunk",
            Notice::ForcedClose { .. } => "forced close",
            Notice::InitFailed { .. } => "start failed",
            _ => return,
        };
        self.note_named("notice", which);
    }
}

impl Trace for Met {
    fn event(&mut self, _: Instant, event: &Event) {
        match event {
            Event::Release { fate: Fate::Clean, .. } => {}
            Event::Release { fate, .. } => self.note_named("fate", name_of(*fate)),
            Event::CheckFailed { .. } => self.note_named("driver", "check failed"),
            Event::Touched { .. } => self.note_named("driver", "touched"),
            Event::ValidationFailed { .. } => self.note_named("driver", "validation failed"),
            Event::ResetFailed { .. } => self.note_named("driver", "reset failed"),
            Event::ConnectFailed { fault, .. } if &*fault.message == "too late" => {
                self.note_named("driver", "too late")
            }
            _ => {}
        }
    }

    fn action(&mut self, _: Instant, action: &Action) {
        match action {
            Action::Grant { .. } | Action::Connect { .. } => {}
            Action::Reject { reason, .. } => {
                if let Reject::Timeout(report) = reason {
                    self.note_named("timeout", phase(report.phase));
                }
                self.note_named("reject", reject(reason));
            }
            Action::Close { reason, .. } => {
                if !std::mem::replace(&mut self.closed[*reason as usize], true) {
                    self.note("close", format!("{reason:?}"));
                }
            }
            Action::Validate { how: Check::RoundTrip, .. } => self.note_named("check", "RoundTrip"),
            Action::Validate { how: Check::Socket, .. } => self.note_named("check", "Socket"),
            Action::Reset { how: ResetHow::Drain, .. } => self.note_named("reset", "Drain"),
            Action::Reset { how: ResetHow::Policy, .. } => self.note_named("reset", "Policy"),
            Action::Notice(notice) => self.notice(notice),
        }
    }

    fn remark(&mut self, _: Instant, _: fmt::Arguments<'_>) {}
}

fn reject(reason: &Reject) -> &'static str {
    match reason {
        Reject::Timeout(_) => "timeout",
        Reject::WouldBlock => "would block",
        Reject::Unavailable(_) => "unavailable",
        Reject::QueueFull { .. } => "queue full",
        Reject::Closed => "closed",
    }
}

fn name_of(fate: Fate) -> &'static str {
    match fate {
        Fate::Unused => "Unused",
        Fate::Clean => "Clean",
        Fate::Dirty => "Dirty",
        Fate::Broken => "Broken",
        Fate::Discarded => "Discarded",
    }
}

fn phase(phase: WaitPhase) -> &'static str {
    match phase {
        WaitPhase::InQueue => "InQueue",
        WaitPhase::Connecting => "Connecting",
        WaitPhase::Validating => "Validating",
        WaitPhase::Reconnecting => "Reconnecting",
        WaitPhase::Paused => "Paused",
    }
}
