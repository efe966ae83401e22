//! An outage as the pool's own log tells it.

use std::time::Instant;

use pgweir_core::runtime::Runtime;

use super::events::{Event, Events};
use super::rig::Rig;
use super::screen::span;

/// Reads the log on, and tells what matters of it.
pub(crate) struct Timeline {
    origin: Instant,
    mark: usize,
    lost: Option<Instant>,
    connected: bool,
    recovered: bool,
    /// When each attempt to connect began and ended, from the loss to the first success.
    attempts: Vec<(Instant, Instant)>,
    /// What others have to tell, not told yet.
    notes: Vec<(Instant, String)>,
}

impl Timeline {
    pub(crate) fn begin(events: &Events) -> Self {
        Timeline {
            origin: Instant::now(),
            mark: events.mark(),
            lost: None,
            connected: false,
            recovered: false,
            attempts: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Starts again at `origin`.
    pub(crate) fn start(&mut self, origin: Instant, events: &Events) {
        *self = Timeline { origin, ..Timeline::begin(events) };
    }

    /// Something to tell in its place.
    pub(crate) fn note(&mut self, at: Instant, text: impl Into<String>) {
        self.notes.push((at, text.into()));
    }

    /// Tells what is new, in order.
    pub(crate) fn advance<R: Runtime>(&mut self, rig: &Rig<R>) {
        let events = rig.events.since(self.mark);
        self.mark += events.len();
        for (n, event) in events.iter().enumerate() {
            if let Some(text) = self.read(event, events.get(n + 1)) {
                self.notes.push((event.at, text));
            }
        }
        self.notes.sort_by_key(|(at, _)| *at);
        for (at, text) in self.notes.drain(..) {
            rig.say(&format!("+{:.3} s", at.saturating_duration_since(self.origin).as_secs_f64()), text);
        }
    }

    pub(crate) fn recovered(&self) -> bool {
        self.recovered
    }

    /// How many attempts to connect there were until one succeeded.
    pub(crate) fn attempts(&self) -> usize {
        self.attempts.len()
    }

    /// The most that were under way at once: of all, and of those that were begun when the loss was known. (Until then
    /// the pool replaces what it has lost, several at a time.)
    pub(crate) fn together(&self) -> (usize, usize) {
        let known: Vec<_> = self.attempts.iter().copied().filter(|(from, _)| Some(*from) >= self.lost).collect();
        (overlap(&self.attempts), overlap(&known))
    }

    fn read(&mut self, event: &Event, next: Option<&Event>) -> Option<String> {
        match event.name {
            "pgweir.connectivity.lost" => {
                self.lost.get_or_insert(event.at);
                Some(event.message.clone())
            }
            "pgweir.connection.failed" if !self.connected => {
                self.attempts.push((event.at - event.millis("duration_ms"), event.at));
                let then = next.filter(|next| next.name == "pgweir.reconnect.scheduled");
                let then = then.map_or_else(String::new, |next| {
                    format!("; next in {} at the latest", span(next.millis("delay_ms")))
                });
                // Where it connects to is the same every time.
                let cause = event.field("cause").rsplit(": ").next().unwrap_or_default();
                Some(format!("attempt {}: {cause}{then}", self.attempts.len()))
            }
            "pgweir.connection.opened" if self.lost.is_some() && !self.connected => {
                self.connected = true;
                let took = event.millis("duration_ms");
                self.attempts.push((event.at - took, event.at));
                Some(format!("attempt {}: connected within {}", self.attempts.len(), span(took)))
            }
            "pgweir.connectivity.recovered" => {
                self.recovered = true;
                Some(event.message.clone())
            }
            _ => None,
        }
    }
}

/// The most intervals that contain the begin of one of them.
fn overlap(intervals: &[(Instant, Instant)]) -> usize {
    let at = |begin: Instant| intervals.iter().filter(|(from, to)| *from <= begin && begin < *to).count().max(1);
    intervals.iter().map(|(from, _)| at(*from)).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn attempts_overlap_where_one_begins_during_another() {
        let zero = Instant::now();
        let span = |from, to| (zero + Duration::from_millis(from), zero + Duration::from_millis(to));
        assert_eq!(overlap(&[]), 0);
        assert_eq!(overlap(&[span(0, 10), span(10, 20), span(30, 30)]), 1);
        assert_eq!(overlap(&[span(0, 10), span(5, 20), span(9, 12), span(15, 16)]), 3);
    }
}
