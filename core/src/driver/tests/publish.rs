//! The facade gets what a scrape gets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    with_local_recorder,
};

use super::World;
use crate::metrics::{Format, Kind, Publisher, TABLE, text};

/// A recorder that keeps everything: by series what it was set to, or each value.
#[derive(Clone, Default)]
struct Kept {
    series: Arc<Mutex<BTreeMap<String, Vec<f64>>>>,
    described: Arc<Mutex<BTreeMap<String, Description>>>,
}

type Description = (Option<Unit>, String);

struct Series {
    name: String,
    kept: Kept,
}

impl Kept {
    /// The series of a key, named as in the text.
    fn series(&self, key: &Key) -> Arc<Series> {
        let labels: Vec<String> = key.labels().map(|label| format!("{}=\"{}\"", label.key(), label.value())).collect();
        Arc::new(Series { name: format!("{}{{{}}}", key.name(), labels.join(",")), kept: self.clone() })
    }

    fn values(&self, series: &str) -> Vec<f64> {
        self.series.lock().unwrap().get(series).cloned().unwrap_or_default()
    }

    fn describe(&self, name: &KeyName, unit: Option<Unit>, help: &str) {
        self.described.lock().unwrap().insert(name.as_str().to_owned(), (unit, help.to_owned()));
    }
}

impl Series {
    fn set(&self, value: f64) {
        self.kept.series.lock().unwrap().insert(self.name.clone(), vec![value]);
    }
}

impl CounterFn for Series {
    fn increment(&self, _value: u64) {
        panic!("counters are set");
    }

    fn absolute(&self, value: u64) {
        self.set(value as f64);
    }
}

impl GaugeFn for Series {
    fn increment(&self, _value: f64) {
        panic!("gauges are set");
    }

    fn decrement(&self, _value: f64) {
        panic!("gauges are set");
    }

    fn set(&self, value: f64) {
        self.set(value);
    }
}

impl HistogramFn for Series {
    fn record(&self, value: f64) {
        self.kept.series.lock().unwrap().entry(self.name.clone()).or_default().push(value);
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(&key, unit, &help);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(&key, unit, &help);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(&key, unit, &help);
    }

    fn register_counter(&self, key: &Key, _metadata: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.series(key))
    }

    fn register_gauge(&self, key: &Key, _metadata: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.series(key))
    }

    fn register_histogram(&self, key: &Key, _metadata: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.series(key))
    }
}

#[test]
fn the_facade_gets_what_a_scrape_gets() {
    let mut world = World::default();
    let pool = world.pool(1, 2);
    let kept = Kept::default();
    let mut publisher = with_local_recorder(&kept, || Publisher::new("shop", &pool));
    for metric in TABLE {
        let (unit, help) = kept.described.lock().unwrap()[metric.name].clone();
        assert_eq!((unit == Some(Unit::Seconds), help.as_str()), (metric.unit().is_some(), metric.help));
    }
    for round in 0..3 {
        for held in [1, 7, 7, 40] {
            let lease = world.lease(&pool);
            world.advance(Duration::from_millis(held));
            drop(lease);
            world.run();
        }
        if round == 1 {
            world.toy.line().refuses.insert(0);
            world.toy.kill(1);
            world.run();
            world.advance(Duration::from_millis(300));
            world.toy.line().refuses.clear();
            (0..20).for_each(|_| world.advance(Duration::from_secs(1)));
        }
        with_local_recorder(&kept, || publisher.publish());
        let scrape = text(&[("shop", pool.metrics())], Format::OpenMetrics);
        let mut compared = 0;
        for line in scrape.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').expect("a sample");
            let name = series.split('{').next().expect("a name");
            if TABLE.iter().any(|metric| metric.name == name) {
                assert_eq!(kept.values(series), [value.parse::<f64>().expect("a number")], "{series}");
                compared += 1;
            }
        }
        assert!(compared > 40, "{compared}");
        // Every value once, none shorter than it was and none more than an eighth longer.
        let stats = pool.stats();
        for (name, summary) in [("wait", &stats.wait), ("use", &stats.usage), ("create", &stats.create)] {
            let series = format!("db_client_connection_{name}_time_seconds{{db_client_connection_pool_name=\"shop\"}}");
            let values = kept.values(&series);
            let (sum, exact) = (values.iter().sum::<f64>(), summary.sum_ms / 1e3);
            assert_eq!(values.len() as u64, summary.count, "{name}");
            assert!((exact..=exact * 1.125 + 1e-6 * values.len() as f64).contains(&sum), "{name}: {sum} for {exact}");
        }
    }
    assert_eq!(TABLE.iter().filter(|metric| metric.kind == Kind::Histogram).count(), 3);
}

#[test]
fn a_task_publishes_until_the_pool_has_ended() {
    let kept = Kept::default();
    with_local_recorder(&kept, || {
        let mut world = World::default();
        let pool = world.pool(1, 1);
        Publisher::new("shop", &pool).publish_every(Duration::ZERO);
        let granted = "pgweir_acquires_total{db_client_connection_pool_name=\"shop\",outcome=\"granted\"}";
        world.run();
        assert_eq!(kept.values(granted), [0.0]);
        drop(world.lease(&pool));
        world.advance(Duration::from_millis(99));
        assert_eq!(kept.values(granted), [0.0], "not yet");
        world.advance(Duration::from_millis(1));
        assert_eq!(kept.values(granted), [1.0]);
        assert_eq!(world.tasks.len(), 2);
        // It does not keep the pool open.
        drop(pool);
        world.advance(Duration::from_millis(100));
        world.advance(Duration::from_millis(100));
        assert!(world.tasks.is_empty());
        let terminated = "pgweir_state{db_client_connection_pool_name=\"shop\",state=\"terminated\"}";
        assert_eq!(kept.values(terminated), [1.0]);
    });
}
