//! Runs a journal again.

use super::check::Check;
use super::read::{Entry, Journal};
use crate::pool::{Action, Machine};

/// A journal that is run again, entry by entry, on a copy of its machine.
#[derive(Clone, Debug)]
pub struct Replay<'a> {
    entries: &'a [Entry],
    next: usize,
    machine: Machine,
    actions: Vec<Action>,
    /// The guarantee that the machine has broken.
    broken: Option<String>,
}

/// One entry, run again.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The entry's number, from 0.
    pub number: usize,
    /// The entry.
    pub entry: &'a Entry,
    /// What the machine answers.
    pub actions: &'a [Action],
    /// The machine after it.
    pub machine: &'a Machine,
    /// The check over the actions.
    pub check: Check,
    /// The guarantee that the machine has broken here, if it has: it is looked for in debug builds. Only a machine that
    /// somebody made up does. It is not run further.
    pub broken: Option<&'a str>,
}

impl Step<'_> {
    /// Whether the machine answers what it answered when the entry was recorded, and keeps its guarantees.
    pub fn agrees(&self) -> bool {
        self.check == self.entry.check && self.broken.is_none()
    }
}

impl<'a> Replay<'a> {
    /// From the journal's beginning.
    pub fn new(journal: &'a Journal) -> Self {
        Replay {
            entries: journal.entries(),
            next: 0,
            machine: journal.start().clone(),
            actions: Vec::new(),
            broken: None,
        }
    }

    /// Runs the next entry; `None` when there is none.
    pub fn step(&mut self) -> Option<Step<'_>> {
        if self.broken.is_some() {
            return None;
        }
        let entry = self.entries.get(self.next)?;
        let number = self.next;
        self.next += 1;
        self.actions.clear();
        self.machine.apply(entry.at, entry.event.clone(), &mut self.actions);
        if cfg!(debug_assertions) {
            self.broken = self.machine.invariants().err();
        }
        let check = Check::of(&self.actions);
        let broken = self.broken.as_deref();
        Some(Step { number, entry, actions: &self.actions, machine: &self.machine, check, broken })
    }

    /// The entry that is run next.
    pub fn peek(&self) -> Option<&'a Entry> {
        self.entries.get(self.next)
    }

    /// The machine after the last step.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Runs what is left and says at which entry the machine first answered otherwise.
    pub fn verify(&mut self) -> Option<usize> {
        while let Some(step) = self.step() {
            if !step.agrees() {
                return Some(step.number);
            }
        }
        None
    }
}
