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
}

impl Step<'_> {
    /// Whether the machine answers what it answered when the entry was recorded.
    pub fn agrees(&self) -> bool {
        self.check == self.entry.check
    }
}

impl<'a> Replay<'a> {
    /// From the journal's beginning.
    pub fn new(journal: &'a Journal) -> Self {
        Replay { entries: journal.entries(), next: 0, machine: journal.start().clone(), actions: Vec::new() }
    }

    /// Runs the next entry; `None` when there is none.
    pub fn step(&mut self) -> Option<Step<'_>> {
        let entry = self.entries.get(self.next)?;
        let number = self.next;
        self.next += 1;
        self.actions.clear();
        self.machine.handle(entry.at, entry.event.clone(), &mut self.actions);
        let check = Check::of(&self.actions);
        Some(Step { number, entry, actions: &self.actions, machine: &self.machine, check })
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
