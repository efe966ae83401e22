//! The text that Prometheus and its relatives scrape.

use std::fmt::{Display, Write};

use super::sample::{Kind, Metric, Sink};
use super::{POOL_NAME, Snapshot, TABLE};
use crate::pool::Histogram;
use crate::report::BOUNDS;

/// Which of the two texts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus's own, 0.0.4, for those that do not know the other.
    Prometheus,
}

impl Format {
    /// What an HTTP response calls it.
    pub const fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// What to answer to a request with this `Accept` header: OpenMetrics, unless only the other text is asked for.
    pub fn accepted(accept: &str) -> Self {
        let names = |media: &str| accept.to_ascii_lowercase().contains(media);
        if names("text/plain") && !names("application/openmetrics-text") && !names("*/*") {
            Format::Prometheus
        } else {
            Format::OpenMetrics
        }
    }
}

/// Every metric of these pools, each under its name. No two pools may have the same.
pub fn text(pools: &[(&str, Snapshot)], format: Format) -> String {
    let mut text = String::with_capacity(2_000 + 20_000 * pools.len());
    for metric in TABLE {
        head(&mut text, metric, format);
        for (name, snapshot) in pools {
            (metric.read)(snapshot, &mut Lines { text: &mut text, metric, pool: name });
        }
    }
    if format == Format::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

/// What a family is.
fn head(text: &mut String, metric: &Metric, format: Format) {
    let (name, unit) = match format {
        Format::OpenMetrics => (metric.family(), metric.unit()),
        Format::Prometheus => (metric.name, None),
    };
    line(text, format_args!("# HELP {name} {}", metric.help));
    line(text, format_args!("# TYPE {name} {}", metric.kind.name()));
    if let Some(unit) = unit {
        line(text, format_args!("# UNIT {name} {unit}"));
    }
}

/// Writes one metric's samples of one pool.
struct Lines<'a> {
    text: &'a mut String,
    metric: &'a Metric,
    pool: &'a str,
}

impl Lines<'_> {
    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(self.metric.name);
        self.text.push_str(suffix);
        for (index, (name, value)) in [(POOL_NAME, self.pool)].iter().chain(labels).enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            self.text.push_str(name);
            self.text.push_str("=\"");
            escape(self.text, value);
            self.text.push('"');
        }
        line(self.text, format_args!("}} {value}"));
    }
}

impl Sink for Lines<'_> {
    fn number(&mut self, labels: &[&str], value: u64) {
        let mut pairs = [("", ""); 2];
        let named = self.metric.labels.iter().zip(labels).zip(&mut pairs);
        let count = named.map(|((label, value), pair)| *pair = (label.name, *value)).count();
        self.sample("", &pairs[..count], value);
    }

    fn seconds(&mut self, value: f64) {
        debug_assert_eq!(self.metric.kind, Kind::Gauge);
        self.sample("", &[], value);
    }

    fn histogram(&mut self, histogram: &Histogram) {
        for (bound, count) in BOUNDS.iter().zip(histogram.cumulative(&BOUNDS)) {
            self.sample("_bucket", &[("le", &bound_name(bound.as_secs_f64()))], count);
        }
        self.sample("_bucket", &[("le", "+Inf")], histogram.count());
        self.sample("_count", &[], histogram.count());
        self.sample("_sum", &[], histogram.sum().as_secs_f64());
    }
}

/// A bound as OpenMetrics writes it: always with a fraction.
fn bound_name(seconds: f64) -> String {
    if seconds.fract() == 0.0 { format!("{seconds:.1}") } else { seconds.to_string() }
}

/// A label's value, between quotes.
fn escape(text: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    // A String takes everything.
    let _ = writeln!(text, "{what}");
}
