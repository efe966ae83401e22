//! The log: one JSON object a line, in a file.
//!
//! `timestamp`, `level`, `target`, `name` (stable, such as `pgweir.connectivity.lost`), `message`, and `fields` with the
//! event's others.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// Logs to the file at `path` from now on; what is still on its way is written when the guard is dropped. Panics are
/// logged too, instead of printed.
pub(crate) fn start(path: &Path, levels: &Targets) -> io::Result<WorkerGuard> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    // A thread of its own writes, so that a slow disk does not hold up the runtime.
    let (writer, guard) = tracing_appender::non_blocking(file);
    let lines = tracing_subscriber::fmt::layer().event_format(JsonLines).with_writer(writer);
    tracing_subscriber::registry().with(levels.clone()).with(lines).init();
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(name: "code_search.panic", location = panic.location().map(tracing::field::display), "{panic}");
    }));
    Ok(guard)
}

struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let metadata = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = Line {
            timestamp: &timestamp,
            level: metadata.level().as_str(),
            target: metadata.target(),
            name: metadata.name(),
            message: &fields.message,
            fields: &fields.others,
        };
        writeln!(writer, "{}", serde_json::to_string(&line).map_err(|_| fmt::Error)?)
    }
}

#[derive(Serialize)]
struct Line<'a> {
    timestamp: &'a str,
    level: &'a str,
    target: &'a str,
    name: &'a str,
    message: &'a str,
    fields: &'a Map<String, Value>,
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: impl Into<Value>) {
        self.others.insert(field.name().to_owned(), value.into());
    }

    fn add_text(&mut self, field: &Field, text: String) {
        if field.name() == "message" {
            self.message = text;
        } else {
            self.add(field, text);
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add_text(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add_text(field, value.to_owned());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value);
    }
}
