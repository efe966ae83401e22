//! The way out through the `metrics` facade, to whichever exporter the program has installed.

use std::fmt;
use std::time::Duration;

use ::metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use super::sample::{Kind, Metric, Sink};
use super::{POOL_NAME, Snapshot, TABLE};
use crate::driver::{Observe, Observer, Pool};
use crate::manager::Manager;
use crate::pool::{Histogram, State};
use crate::runtime::Runtime;

/// Publishes a pool's metrics through the facade crate `metrics`; see the [module](super).
pub struct Publisher<R: Runtime, M: Manager> {
    pool: Observer<R, M>,
    runtime: R,
    name: String,
    last: Option<Snapshot>,
}

/// Nobody scrapes more often than this, and an interval of nothing would keep a thread busy.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

impl<R: Runtime, M: Manager> Publisher<R, M> {
    /// Publishes the metrics of `pool` under this name. Describes every metric to the recorder that is installed now: make
    /// it after the exporter.
    pub fn new(name: impl Into<String>, pool: &Pool<R, M>) -> Self {
        TABLE.iter().for_each(describe);
        Publisher { pool: pool.observer(), runtime: pool.shared().runtime.clone(), name: name.into(), last: None }
    }

    /// Publishes what the pool's numbers are now.
    pub fn publish(&mut self) {
        let now = self.pool.metrics();
        for metric in TABLE {
            (metric.read)(&now, &mut Out { metric, pool: &self.name, last: self.last.as_ref() });
        }
        self.last = Some(now);
    }

    /// Publishes every `interval`, at most ten times a second, in a task of the pool's runtime: until the pool has
    /// terminated, and a last time then.
    pub fn publish_every(mut self, interval: Duration) {
        let interval = interval.max(SHORTEST_INTERVAL);
        self.runtime.clone().spawn("pgweir-metrics", async move {
            loop {
                self.publish();
                if self.last.as_ref().is_some_and(|last| last.health.state == State::Terminated) {
                    return;
                }
                let next = self.runtime.now() + interval;
                self.runtime.timer(next).await;
            }
        });
    }
}

impl<R: Runtime, M: Manager> fmt::Debug for Publisher<R, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("name", &self.name).field("pool", &self.pool).finish_non_exhaustive()
    }
}

fn describe(metric: &Metric) {
    let unit = if metric.unit().is_some() { Unit::Seconds } else { Unit::Count };
    match metric.kind {
        Kind::Gauge => describe_gauge!(metric.name, unit, metric.help),
        Kind::Counter => describe_counter!(metric.name, unit, metric.help),
        Kind::Histogram => describe_histogram!(metric.name, unit, metric.help),
    }
}

/// Hands one metric to the recorder.
struct Out<'a> {
    metric: &'a Metric,
    pool: &'a str,
    last: Option<&'a Snapshot>,
}

impl Out<'_> {
    fn labels(&self, values: &[&str]) -> Vec<::metrics::Label> {
        let own = self.metric.labels.iter().zip(values).map(|(label, value)| (label.name, *value));
        let all = [(POOL_NAME, self.pool)].into_iter().chain(own);
        all.map(|(name, value)| ::metrics::Label::new(name, value.to_owned())).collect()
    }
}

impl Sink for Out<'_> {
    fn number(&mut self, labels: &[&str], value: u64) {
        let labels = self.labels(labels);
        match self.metric.kind {
            Kind::Counter => counter!(self.metric.name, labels).absolute(value),
            _ => gauge!(self.metric.name, labels).set(value as f64),
        }
    }

    fn seconds(&mut self, value: f64) {
        gauge!(self.metric.name, self.labels(&[])).set(value);
    }

    /// The facade wants values. The machine has them in narrow buckets: each that is new is recorded as its bucket's
    /// longest, so that the pool's hot path pays nothing.
    fn histogram(&mut self, histogram: &Histogram) {
        let recorder = histogram!(self.metric.name, self.labels(&[]));
        let record = |news: &Histogram| {
            news.buckets().for_each(|(value, count)| recorder.record_many(value, usize::try_from(count).unwrap_or(0)));
        };
        match self.last.and_then(|last| Earlier::of(self.metric, last)) {
            Some(earlier) => record(&histogram.since(&earlier)),
            None => record(histogram),
        }
    }
}

/// Takes a histogram out of an older snapshot.
struct Earlier(Option<Histogram>);

impl Earlier {
    fn of(metric: &Metric, last: &Snapshot) -> Option<Histogram> {
        let mut earlier = Earlier(None);
        (metric.read)(last, &mut earlier);
        earlier.0
    }
}

impl Sink for Earlier {
    fn number(&mut self, _labels: &[&str], _value: u64) {}

    fn seconds(&mut self, _value: f64) {}

    fn histogram(&mut self, histogram: &Histogram) {
        self.0 = Some(histogram.clone());
    }
}
