//! The answer, for people.

use std::fmt;

use pgweir_core::time::Instant;

use super::compare::Row;
use super::extract::{Extract, Hold, Origin, Outage};
use super::plan::Plan;
use super::{History, Measures};
use crate::scenario::show;

/// What was recorded beside what is simulated; shown with `{}`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answer {
    /// The fields that differ: name, and the value before and after.
    pub changes: Vec<(String, String, String)>,
    /// What was recorded.
    pub recorded: Measures,
    /// What its simulation under the recorded configuration came to, one for each seed.
    pub simulated: Vec<Measures>,
    /// And under the other configuration; empty if there is none.
    pub changed: Vec<Measures>,
    /// The table.
    pub rows: Vec<Row>,
    /// What was read out of the history, what was assumed and what was left out, one sentence each.
    pub notes: Vec<String>,
}

impl Answer {
    /// The rows in which the simulation of the recorded configuration is far from what was recorded.
    pub fn off(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.is_off)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, from, to) in &self.changes {
            writeln!(f, "  {name}: {from} -> {to}")?;
        }
        let heads = ["", "recorded", "simulated", if self.changed.is_empty() { "" } else { "changed" }];
        let cells = |row: &Row| [row.name.to_owned(), row.recorded.clone(), row.simulated.clone(), row.changed.clone()];
        let table: Vec<[String; 4]> =
            std::iter::once(heads.map(str::to_owned)).chain(self.rows.iter().map(cells)).collect();
        let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths = [0, 1, 2, 3].map(width);
        for (index, row) in table.iter().enumerate() {
            let [name, recorded, simulated, changed] = row;
            let mark = if index > 0 && self.rows[index - 1].is_off { "  (off)" } else { "" };
            let line = format!(
                "  {name:<0$}  {recorded:>1$}  {simulated:>2$}  {changed:>3$}{mark}",
                widths[0], widths[1], widths[2], widths[3]
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        writeln!(f)?;
        let off: Vec<&str> = self.off().map(|row| row.name).collect();
        if off.is_empty() {
            writeln!(f, "  calibration: simulated as recorded, within the rule")?;
        } else {
            writeln!(f, "  WARNING: the simulation of the recorded configuration is off in: {}", off.join(", "))?;
            writeln!(f, "  What it says of another configuration is no better than that.")?;
        }
        for note in &self.notes {
            writeln!(f, "  - {note}")?;
        }
        Ok(())
    }
}

/// What was read out of the history, what was assumed and what was left out.
pub(super) fn notes(history: &History, extract: &Extract, plan: &Plan<'_>, resized: bool) -> Vec<String> {
    let mut notes = Vec::new();
    let since = |at: Instant| show(at - history.begins());
    for outage in &extract.outages {
        notes.push(outage_note(outage, plan.ended(outage), &since));
    }
    for deaths in &extract.deaths {
        let of = deaths.died + deaths.survived;
        notes.push(format!("{} of {of} sessions ended at {}: {}", deaths.died, since(deaths.at), deaths.fault));
    }
    for limit in &extract.limits {
        notes.push(match limit.sessions {
            Some(sessions) => format!("the server allowed {sessions} sessions from {} on", since(limit.at)),
            None => format!("the server allowed more sessions again from {} on", since(limit.at)),
        });
    }
    holds(extract, &mut notes);
    if !history.is_whole() {
        notes.push(format!(
            "the history begins in the middle: what was open, lent ({}) and waited for ({}) then is set up before it",
            history.counts.active, history.counts.waiting
        ));
    }
    assumed(extract, &mut notes);
    if extract.odd > 0 {
        notes.push(format!("{} checks or connects had no answer while others did: left out", extract.odd));
    }
    if resized && extract.operations.iter().any(|(_, operation)| operation.is_resize()) {
        notes.push("the pool was resized: from then on those sizes hold, not the ones that were set".to_owned());
    }
    if history.config.hosts() > 1 {
        notes.push(format!("the pool had {} hosts: they are simulated as one", history.config.hosts()));
    }
    notes
}

fn outage_note(outage: &Outage, ended: Instant, since: &dyn Fn(Instant) -> String) -> String {
    let (from, text) = (since(outage.from), outage.text());
    if ended == Instant::MAX {
        return format!("trouble from {from} to the end: {text}");
    }
    let (earliest, latest) = outage.until;
    let (until, earliest, latest) = (since(ended), since(earliest), since(latest));
    format!("trouble from {from} to {until} (its end is known to be from {earliest} to {latest}): {text}")
}

fn holds(extract: &Extract, notes: &mut Vec<String>) {
    let made = extract.requests.iter().filter(|request| request.origin == Origin::Made);
    let (mut unknown, mut cut, mut unfinished, mut seen) = (0, 0, 0, 0);
    for request in made {
        *match request.hold {
            Hold::Seen(_) => &mut seen,
            Hold::Unknown => &mut unknown,
            Hold::Cut(_) => &mut cut,
            Hold::Unfinished(_) => &mut unfinished,
        } += 1;
    }
    let all: u32 = unknown + cut + unfinished + seen;
    let share = |count: u32| f64::from(count) * 100.0 / f64::from(all.max(1));
    if unknown > 0 {
        let from = if seen == 0 { ": no hold was seen at all, and they hold for no time" } else { "" };
        notes.push(format!(
            "{unknown} requests ({:.1} %) got no connection: if they get one, they hold it as long as one drawn from \
             their site's others{from}",
            share(unknown)
        ));
    }
    if cut > 0 {
        notes.push(format!(
            "{cut} leases ended with their connections: they last as long as a longer one of their site"
        ));
    }
    if unfinished > 0 {
        notes.push(format!(
            "{unfinished} leases were not over at the end: they last as long as a longer one of their site, or for ever"
        ));
    }
}

fn assumed(extract: &Extract, notes: &mut Vec<String>) {
    let times = &extract.times;
    let missing: Vec<&str> = [
        ("a connect takes 5ms", times.connect.is_empty()),
        ("a check takes 350µs", times.validate.is_empty()),
        ("an orderly close takes 350µs", times.close.is_empty()),
    ]
    .iter()
    .filter_map(|(name, missing)| missing.then_some(*name))
    .collect();
    if !missing.is_empty() {
        notes.push(format!("assumed, as none was seen: {}", missing.join(", ")));
    }
}
