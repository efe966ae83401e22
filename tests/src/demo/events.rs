//! The pool's own log: its tracing events, kept in memory so that the stages can read them.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// More are not kept: nothing here makes as many.
const MAX_EVENTS: usize = 200_000;

/// A layer that collects what pgweir says, from level INFO up, and every opened connection.
#[derive(Clone, Default)]
pub(crate) struct Events(Arc<Mutex<Vec<Event>>>);

/// One tracing event of the pool.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// When it was emitted.
    pub(crate) at: Instant,
    /// Its stable name, such as `pgweir.connectivity.lost`.
    pub(crate) name: &'static str,
    /// Its text.
    pub(crate) message: String,
    fields: Vec<(&'static str, String)>,
}

impl Events {
    /// Starts to collect what the whole process emits. Another subscriber that is there already stays, and nothing is
    /// collected then.
    pub(crate) fn install() -> Self {
        let events = Events::default();
        let _ = tracing_subscriber::registry().with(events.clone()).try_init();
        events
    }

    /// How many there are: where to go on from.
    pub(crate) fn mark(&self) -> usize {
        self.lock().len()
    }

    /// All from `mark` on.
    pub(crate) fn since(&self, mark: usize) -> Vec<Event> {
        self.lock().get(mark..).unwrap_or_default().to_vec()
    }

    /// The first of this name from `mark` on.
    pub(crate) fn find(&self, mark: usize, name: &str) -> Option<Event> {
        self.lock().get(mark..).unwrap_or_default().iter().find(|event| event.name == name).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Event {
    /// A field's value as text; empty if there is none.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(field, _)| *field == name).map_or("", |(_, value)| value)
    }

    /// A field in milliseconds.
    pub(crate) fn millis(&self, name: &str) -> Duration {
        Duration::from_millis(self.field(name).parse().unwrap_or_default())
    }
}

impl<S: Subscriber> Layer<S> for Events {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.target().starts_with("pgweir")
            && (*metadata.level() <= Level::INFO || metadata.name() == "pgweir.connection.opened")
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut seen =
            Event { at: Instant::now(), name: event.metadata().name(), message: String::new(), fields: Vec::new() };
        event.record(&mut seen);
        let mut events = self.lock();
        if events.len() < MAX_EVENTS {
            events.push(seen);
        }
    }
}

impl Visit for Event {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => self.fields.push((name, format!("{value:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_the_pool_are_kept_with_their_fields_and_others_are_not() {
        let events = Events::default();
        let subscriber = tracing_subscriber::registry().with(events.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(name: "pgweir.x", target: "pgweir_core::driver", cause = "no", delay_ms = 1500, "said {}", 7);
            tracing::debug!(name: "pgweir.quiet", target: "pgweir_core::driver", "not kept");
            tracing::error!(target: "somebody", "not kept");
        });
        assert_eq!(events.mark(), 1);
        let event = events.find(0, "pgweir.x").expect("kept");
        assert_eq!((event.message.as_str(), event.field("cause"), event.field("none")), ("said 7", "no", ""));
        assert_eq!(event.millis("delay_ms"), Duration::from_millis(1500));
        assert!(events.since(1).is_empty() && events.since(9).is_empty());
    }
}
