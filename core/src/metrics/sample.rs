//! What a metric is, and how its samples are handed on.

use super::Snapshot;
use crate::pool::Histogram;

/// One metric: the same in the [text](super::text), through the facade and on the page.
#[derive(Debug)]
pub struct Metric {
    /// Its name in Prometheus, with its unit and, for a counter, with `_total`.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// The labels beside the pool's name.
    pub labels: &'static [Label],
    /// What it says.
    pub help: &'static str,
    /// Hands its samples on.
    pub(crate) read: fn(&Snapshot, &mut dyn Sink),
}

/// What kind of number a metric is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Never goes down while the process lives.
    Counter,
    /// How many took how long.
    Histogram,
}

/// A label of a metric.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// Every value that it can have; empty if the configuration says.
    pub values: &'static [&'static str],
}

/// Where samples go. The values of the labels come in the order of [`Metric::labels`].
pub(crate) trait Sink {
    /// A gauge's or a counter's value.
    fn number(&mut self, labels: &[&str], value: u64);
    /// A gauge's value, in seconds.
    fn seconds(&mut self, value: f64);
    /// A histogram.
    fn histogram(&mut self, histogram: &Histogram);
}

impl Kind {
    /// Its name in OpenMetrics.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
        }
    }
}

impl Metric {
    /// The unit that its name says, if any.
    pub fn unit(&self) -> Option<&'static str> {
        self.family().ends_with("_seconds").then_some("seconds")
    }

    /// Its name as a family of OpenMetrics: without a counter's `_total`.
    pub fn family(&self) -> &'static str {
        match self.kind {
            Kind::Counter => self.name.strip_suffix("_total").unwrap_or(self.name),
            _ => self.name,
        }
    }
}
