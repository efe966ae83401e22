//! An outage as the pool's own log tells it.

use std::time::{Duration, Instant};

use pgweir_core::runtime::Runtime;

use super::events::{Event, Events};
use super::rig::Rig;
use super::screen::span;

/// Reads the log on, and tells what matters of it.
pub(crate) struct Timeline {
    origin: Instant,
    mark: usize,
    lost: bool,
    connected: bool,
    recovered: bool,
    /// When each attempt to connect began and ended, from the loss to the first success.
    attempts: Vec<(Instant, Instant)>,
    replaced: u32,
}

impl Timeline {
    pub(crate) fn begin(events: &Events) -> Self {
        Timeline {
            origin: Instant::now(),
            mark: events.mark(),
            lost: false,
            connected: false,
            recovered: false,
            attempts: Vec::new(),
            replaced: 0,
        }
    }

    /// Starts again at `origin`.
    pub(crate) fn start(&mut self, origin: Instant, events: &Events) {
        *self = Timeline { origin, ..Timeline::begin(events) };
    }

    /// Tells what is new.
    pub(crate) fn advance<R: Runtime>(&mut self, rig: &Rig<R>) {
        let events = rig.events.since(self.mark);
        self.mark += events.len();
        for (n, event) in events.iter().enumerate() {
            if let Some(text) = self.read(event, events.get(n + 1)) {
                rig.say(&offset(event.at.saturating_duration_since(self.origin)), text);
            }
        }
    }

    pub(crate) fn recovered(&self) -> bool {
        self.recovered
    }

    /// How many attempts to connect there were until one succeeded.
    pub(crate) fn attempts(&self) -> usize {
        self.attempts.len()
    }

    /// The most that were under way at once.
    pub(crate) fn together(&self) -> usize {
        let overlaps = |(begin, _): &(Instant, Instant)| {
            self.attempts.iter().filter(|(from, to)| from <= begin && begin < to).count().max(1)
        };
        self.attempts.iter().map(overlaps).max().unwrap_or(0)
    }

    fn read(&mut self, event: &Event, next: Option<&Event>) -> Option<String> {
        match event.name {
            "pgweir.connectivity.lost" => {
                self.lost = true;
                Some(event.message.clone())
            }
            "pgweir.connection.failed" if !self.connected => {
                self.attempts.push((event.at - event.millis("duration_ms"), event.at));
                let then = next.filter(|next| next.name == "pgweir.reconnect.scheduled");
                let then = then.map_or_else(String::new, |next| {
                    format!("; the next within {}", span(next.millis("delay_ms")))
                });
                Some(format!("attempt {}: {}{then}", self.attempts.len(), event.field("cause")))
            }
            "pgweir.connection.opened" if self.lost && !self.connected => {
                self.connected = true;
                let took = event.millis("duration_ms");
                self.attempts.push((event.at - took, event.at));
                Some(format!("attempt {}: connected, after {}", self.attempts.len(), span(took)))
            }
            "pgweir.connection.invalid" => {
                self.replaced += 1;
                None
            }
            "pgweir.connectivity.recovered" => {
                self.recovered = true;
                Some(event.message.clone())
            }
            _ => None,
        }
    }
}

/// `+1.234 s`.
pub(crate) fn offset(time: Duration) -> String {
    format!("+{:.3} s", time.as_secs_f64())
}
