//! How things stand, every few seconds, and the table at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pgweir_core::runtime::Runtime;

use super::breaker::Deeds;
use super::field::{Field, Threads, lock};
use super::flat;
use super::watcher::Vitals;
use crate::demo::error::Error;
use crate::demo::screen::{Screen, Tone, count, span};

pub(super) struct Reporter<'a, R: Runtime> {
    pub(super) screen: &'a Screen,
    pub(super) field: &'a Arc<Field<R>>,
    pub(super) vitals: &'a Vitals,
    pub(super) deeds: &'a Deeds,
}

impl<R: Runtime> Reporter<'_, R> {
    /// Says how things stand, and what was violated; returns only when a thread has failed.
    pub(super) async fn every(&self, rhythm: Duration, threads: &mut Threads<R>) -> Result<(), Error> {
        let mut said = 0;
        loop {
            self.field.sleep(rhythm).await;
            threads.check()?;
            self.status();
            let (_, told) = self.field.books.violations();
            for what in &told[said..] {
                self.screen.say(Tone::Bad, "VIOLATED", what);
            }
            said = told.len();
        }
    }

    fn status(&self) {
        let read = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let counts = self.field.pool().map(|pool| pool.status()).unwrap_or_default();
        let (fine, failed) = self.field.books.sums();
        let memory = lock(&self.vitals.memory).last().copied().unwrap_or_default();
        self.screen.line(&format!(
            "{:>8} s  pool {:>2}/{:<2} lent {:>2} waiting {:>2}   server {:>2} held {:>2} given up   {} fine, {} failed, \
             {} violations   {:.1} MiB",
            self.field.begun.elapsed().as_secs(),
            counts.total,
            counts.max,
            counts.active,
            counts.waiting,
            read(&self.vitals.held),
            read(&self.vitals.given_up),
            count(fine),
            count(failed),
            self.violations(),
            mib(memory),
        ));
    }

    pub(super) fn violations(&self) -> u64 {
        self.field.books.violations().0
    }

    pub(super) fn table(&self, time: Duration, journal_entries: u64) {
        let screen = self.screen;
        let read = |value: &AtomicU64| count(value.load(Ordering::Relaxed));
        screen.title("What was done");
        for (deed, times) in lock(self.deeds).iter() {
            self.row(deed, count(*times));
        }
        screen.title("What became of the requests");
        for (what, times) in self.field.books.rows() {
            self.row(&what, count(times));
        }
        self.row("all", count(self.field.books.begun()));
        screen.title("What was seen");
        let vitals = self.vitals;
        self.row("looks at the server", read(&vitals.looks));
        self.row("of them with max_size as the bound", read(&vitals.exact));
        self.row("looks at a server that was down", read(&vitals.blind));
        self.row("most backends held", read(&vitals.held_peak));
        self.row("most backends given up, not yet gone", read(&vitals.given_up_peak));
        self.row("readings of the pool's numbers", read(&vitals.readings));
        self.row("journal entries run again", count(journal_entries));
        self.row("most open files", read(&vitals.files_peak));
        self.row("moments at which the machine stood still", read(&vitals.stalls));
        match flat::medians(&lock(&vitals.memory)) {
            Some((first, last)) => {
                self.row("memory after the warm-up", format!("{:.1} MiB", mib(first)));
                self.row("memory at the end", format!("{:.1} MiB", mib(last)));
            }
            None => self.row("memory", "too short a run to tell".to_owned()),
        }
        self.row("time", format!("{} of {}", span(self.field.begun.elapsed()), span(time)));
        let (violations, told) = self.field.books.violations();
        for what in &told {
            screen.say(Tone::Bad, "VIOLATED", what);
        }
        if violations > told.len() as u64 {
            screen.say(Tone::Bad, "VIOLATED", &format!("and {} more", violations - told.len() as u64));
        }
    }

    fn row(&self, what: &str, value: String) {
        self.screen.line(&format!("   {what:<48}{value:>14}"));
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
