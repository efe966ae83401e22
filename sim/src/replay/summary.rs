//! What a journal tells: who wrote it, what happened, and whether the machine does the same again.

use std::fmt;
use std::time::Duration;

use pgweir_core::journal::{Check, Journal, Replay, Step};
use pgweir_core::pool::{Action, Counts, Event, Notice, Reject, State};
use pgweir_core::time::Instant;

use super::moment::end;
use crate::report::COLUMNS;
use crate::report::sparkline;
use crate::scenario::show;

/// Lines of states and attempts, at most.
const MOST_LINES: usize = 20;

/// A journal, run through once; shown with `{}`.
#[derive(Clone, Debug)]
pub struct Summary<'a> {
    journal: &'a Journal,
    deviation: Option<Deviation>,
    acquires: u64,
    grants: u64,
    timeouts: u64,
    unavailable: u64,
    other_rejects: u64,
    opened: u64,
    connects: u64,
    failed: u64,
    leaks: u64,
    states: Vec<(Instant, State, String)>,
    columns: Vec<Column>,
    last: Counts,
}

/// Where the machine did something else than what was recorded.
#[derive(Clone, PartialEq, Debug)]
pub struct Deviation {
    number: usize,
    at: Instant,
    event: Event,
    expected: Check,
    seen: Check,
    actions: Vec<Action>,
    broken: Option<String>,
}

/// A part of the picture.
#[derive(Clone, Copy, Debug, Default)]
struct Column {
    open: u32,
    active: u32,
    waiting: u32,
}

impl<'a> Summary<'a> {
    /// Runs `journal`, to its end or to the first deviation.
    pub fn new(journal: &'a Journal) -> Self {
        let mut summary = Summary {
            journal,
            deviation: None,
            acquires: 0,
            grants: 0,
            timeouts: 0,
            unavailable: 0,
            other_rejects: 0,
            opened: 0,
            connects: 0,
            failed: 0,
            leaks: 0,
            states: vec![(journal.start().now(), journal.start().state(), "at the beginning".to_owned())],
            columns: vec![Column::default(); COLUMNS],
            last: journal.start().counts(),
        };
        let mut replay = Replay::new(journal);
        while let Some(step) = replay.step() {
            if !step.agrees() {
                summary.deviation = Some(Deviation::of(&step));
                break;
            }
            summary.count(&step);
        }
        summary
    }

    /// Where the machine did something else than what was recorded, if it did.
    pub fn deviation(&self) -> Option<&Deviation> {
        self.deviation.as_ref()
    }

    fn count(&mut self, step: &Step<'_>) {
        match step.entry.event {
            Event::Acquire { .. } => self.acquires += 1,
            Event::Connected { .. } => self.opened += 1,
            Event::ConnectFailed { .. } => self.failed += 1,
            _ => {}
        }
        for action in step.actions {
            match action {
                Action::Grant { .. } => self.grants += 1,
                Action::Connect { .. } => self.connects += 1,
                Action::Reject { reason: Reject::Timeout(_), .. } => self.timeouts += 1,
                Action::Reject { reason: Reject::Unavailable(_), .. } => self.unavailable += 1,
                Action::Reject { .. } => self.other_rejects += 1,
                Action::Notice(notice) => match &**notice {
                    Notice::StateChanged { to, reason, .. } => {
                        self.states.push((step.entry.at, *to, reason.clone()));
                    }
                    Notice::LeakSuspected { report: 1, .. } => self.leaks += 1,
                    _ => {}
                },
                _ => {}
            }
        }
        self.draw(step);
    }

    fn draw(&mut self, step: &Step<'_>) {
        let from = self.column(step.entry.at);
        let counts = step.machine.counts();
        self.last = counts;
        let open = counts.idle + counts.active + counts.validating + counts.resetting;
        // What was true stays true until something changes.
        for (index, column) in self.columns[from..].iter_mut().enumerate() {
            column.open = open;
            let most = |before: u32, now: u32| if index == 0 { before.max(now) } else { now };
            column.active = most(column.active, counts.active);
            column.waiting = most(column.waiting, counts.waiting);
        }
    }

    fn column(&self, at: Instant) -> usize {
        let begin = self.journal.start().now();
        let length = (end(self.journal) - begin).as_nanos().max(1);
        (((at - begin).as_nanos() * COLUMNS as u128 / length) as usize).min(COLUMNS - 1)
    }
}

impl Deviation {
    fn of(step: &Step<'_>) -> Self {
        Deviation {
            number: step.number,
            at: step.entry.at,
            event: step.entry.event.clone(),
            expected: step.entry.check,
            seen: step.check,
            actions: step.actions.to_vec(),
            broken: step.broken.map(str::to_owned),
        }
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let journal = self.journal;
        let header = journal.header();
        let (begin, end) = (journal.start().now(), end(journal));
        writeln!(f, "recorded {} by pgweir {}", header.why, header.version)?;
        writeln!(f, "  from {} to {}, {}", header.wall.iso(begin), header.wall.iso(end), show(end - begin))?;
        let (config, entries) = (&header.config, journal.entries().len());
        writeln!(
            f,
            "  {entries} events, {} source lines; pool of {} to {}",
            journal.sites().len(),
            config.min_size(),
            config.max_size()
        )?;
        if let Some(loss) = journal.loss() {
            writeln!(f, "  incomplete: {loss}")?;
        }
        self.picture(f, end - begin)?;
        self.numbers(f)?;
        self.show_states(f)?;
        match &self.deviation {
            None => writeln!(f, "\n  replayed: all {entries} events gave the recorded actions"),
            Some(deviation) => deviation.show(f, journal),
        }
    }
}

impl Summary<'_> {
    fn picture(&self, f: &mut fmt::Formatter<'_>, length: Duration) -> fmt::Result {
        writeln!(f, "\n  each character {}", show(length / COLUMNS as u32))?;
        for (name, pick) in [
            ("open", (|column| column.open) as fn(&Column) -> u32),
            ("active", |column| column.active),
            ("waiting", |column| column.waiting),
        ] {
            let values: Vec<u32> = self.columns.iter().map(pick).collect();
            let most = values.iter().copied().max().unwrap_or(0);
            writeln!(f, "    {name:>7} {} {most} at most", sparkline(&values, most))?;
        }
        Ok(())
    }

    fn numbers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        for (name, count) in [
            ("acquires", self.acquires),
            ("granted", self.grants),
            ("timed out", self.timeouts),
            ("unavailable", self.unavailable),
            ("rejected otherwise", self.other_rejects),
            ("connects begun", self.connects),
            ("connected", self.opened),
            ("connects failed", self.failed),
            ("outages", self.outages()),
            ("leaks suspected", self.leaks),
        ] {
            writeln!(f, "    {name:<20}{count:>10}")?;
        }
        Ok(())
    }

    fn outages(&self) -> u64 {
        self.states.iter().filter(|(_, state, _)| *state == State::Unhealthy).count() as u64
    }

    fn show_states(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n  states")?;
        let begin = self.journal.start().now();
        for (at, state, reason) in self.states.iter().take(MOST_LINES) {
            writeln!(f, "    {:>12}  {state:?}: {reason}", show(*at - begin))?;
        }
        match self.states.len().saturating_sub(MOST_LINES) {
            0 => Ok(()),
            more => writeln!(f, "    and {more} more"),
        }
    }
}

impl Deviation {
    fn show(&self, f: &mut fmt::Formatter<'_>, journal: &Journal) -> fmt::Result {
        let (header, begin) = (journal.header(), journal.start().now());
        writeln!(
            f,
            "\n  DEVIATES at event {} of {}, {} after the beginning ({})",
            self.number + 1,
            journal.entries().len(),
            show(self.at - begin),
            header.wall.iso(self.at)
        )?;
        writeln!(f, "    event     {:?}", self.event)?;
        writeln!(f, "    expected  actions with check {}", self.expected)?;
        writeln!(f, "    seen      actions with check {}", self.seen)?;
        if let Some(broken) = &self.broken {
            writeln!(f, "    broken    {broken}: no pool has written this journal")?;
        }
        for action in &self.actions {
            writeln!(f, "              {action:?}")?;
        }
        let ours = env!("CARGO_PKG_VERSION");
        if header.version != ours {
            writeln!(f, "    (recorded by pgweir {}, replayed by {ours}: they may decide otherwise)", header.version)?;
        }
        Ok(())
    }
}
