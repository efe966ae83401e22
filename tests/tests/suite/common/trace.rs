//! The library's tracing events, kept for a test to look at.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use pgweir_tests::LIMIT;
use tracing::dispatcher::{self, DefaultGuard, Dispatch};
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Level, Metadata, Subscriber};

use crate::suite::rt;

/// Everything that was logged on the thread it is installed for, and by the tasks that were started from there.
#[derive(Clone, Default)]
pub struct Trace {
    events: Arc<Mutex<Vec<Event>>>,
    tasks: Arc<AtomicUsize>,
}

/// The count of tasks that belongs to this subscriber, if it is a trace.
pub fn tasks(dispatch: &Dispatch) -> Option<Arc<AtomicUsize>> {
    dispatch.downcast_ref::<Collector>().map(|collector| collector.trace.tasks.clone())
}

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    /// When it was logged.
    pub at: Instant,
    /// How loud.
    pub level: Level,
    /// By whom.
    pub target: String,
    /// Its stable name, such as `pgweir.reconnect.scheduled`.
    pub name: String,
    /// Its fields as text, `message` among them.
    pub fields: BTreeMap<String, String>,
}

impl Event {
    /// A field's text; empty if there is none.
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// A field's number.
    ///
    /// # Panics
    /// If it is none.
    #[track_caller]
    pub fn number(&self, name: &str) -> u64 {
        self.field(name).parse().unwrap_or_else(|_| panic!("field {name} of {self} is no number"))
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?}", self.level, self.name, self.fields)
    }
}

impl Trace {
    /// Nothing yet.
    pub fn new() -> Trace {
        Trace::default()
    }

    /// Collects what this thread logs until the guard is dropped.
    #[must_use]
    pub fn install(&self) -> DefaultGuard {
        dispatcher::set_default(&Dispatch::new(Collector { trace: self.clone(), spans: AtomicU64::new(0) }))
    }

    /// How many tasks that were started under this trace have not ended: the test's own and those of its pools.
    pub fn tasks(&self) -> usize {
        self.tasks.load(Ordering::SeqCst)
    }

    /// Everything so far.
    pub fn events(&self) -> Vec<Event> {
        self.lock().clone()
    }

    /// The events of this name, in order.
    pub fn named(&self, name: &str) -> Vec<Event> {
        self.lock().iter().filter(|event| event.name == name).cloned().collect()
    }

    /// How many events of this name there are.
    pub fn count(&self, name: &str) -> usize {
        self.lock().iter().filter(|event| event.name == name).count()
    }

    /// Forgets everything so far.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Waits until there are `count` events of this name and gives the last of them.
    ///
    /// # Panics
    /// If there are not within a minute, with the last events.
    #[track_caller]
    pub fn wait(&self, name: &str, count: usize) -> impl Future<Output = Event> {
        let caller = std::panic::Location::caller();
        let end = Instant::now() + LIMIT;
        async move {
            loop {
                if let Some(event) = self.named(name).into_iter().nth(count - 1) {
                    return event;
                }
                assert!(Instant::now() < end, "{caller}: no {count} events {name} in\n{}", self.tail(40));
                rt::sleep(std::time::Duration::from_millis(3)).await;
            }
        }
    }

    /// The last events as text, for the message of a failed test.
    pub fn tail(&self, count: usize) -> String {
        let events = self.lock();
        let Some(first) = events.first().map(|event| event.at) else { return "no events".to_owned() };
        let lines = events.iter().skip(events.len().saturating_sub(count));
        lines.map(|event| format!("{:9.3} {event}", (event.at - first).as_secs_f64())).collect::<Vec<_>>().join("\n")
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Collector {
    trace: Trace,
    spans: AtomicU64,
}

impl Subscriber for Collector {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        self.trace.lock().push(Event {
            at: Instant::now(),
            level: *metadata.level(),
            target: metadata.target().to_owned(),
            name: metadata.name().to_owned(),
            fields: fields.0,
        });
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}
