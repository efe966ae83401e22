//! What a model's pool logs, in order. Whoever logs may be interrupted at each event.

use std::cell::Cell;
use std::sync::Once;

use loom::lazy_static;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::driver::sync::{Mutex, lock};

lazy_static! {
    /// Of one run of the model.
    static ref EVENTS: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
}

thread_local! {
    /// All threads of a model are one to the system.
    static IS_ON: Cell<bool> = const { Cell::new(false) };
}

/// Listens from now on. For the whole process, because a subscriber of one thread is not told of an event while
/// another is under way.
pub(super) fn start() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Log).expect("nobody else listens"));
    IS_ON.set(true);
}

/// The events whose names begin with this.
pub(super) fn take(prefix: &str) -> Vec<&'static str> {
    IS_ON.set(false);
    lock(&EVENTS).drain(..).filter(|name| name.starts_with(prefix)).collect()
}

struct Log;

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("pgweir")
    }

    fn event(&self, event: &Event<'_>) {
        if IS_ON.get() {
            lock(&EVENTS).push(event.metadata().name());
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}
