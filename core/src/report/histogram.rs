//! A histogram, in figures for people and in buckets for a monitoring system.

use std::time::Duration;

use serde::Serialize;

use super::ms;
use crate::pool::Histogram;

/// The bounds of the buckets in every [`Summary`]: the same for all histograms and all pools, for ever, since a
/// monitoring system adds buckets up over time and over instances. The boundaries that OpenTelemetry asks for (1, 5, 10,
/// 50, 100, 500 ms, 1, 5, 10 s) are among them.
pub const BOUNDS: [Duration; 21] = [
    Duration::from_micros(10),
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(300),
];

/// A histogram: how many, how long in all, percentiles and cumulative buckets.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// How many.
    pub count: u64,
    /// How long all of them took together.
    pub sum_ms: f64,
    /// Half took at most this.
    pub p50_ms: f64,
    /// 90 of 100 took at most this.
    pub p90_ms: f64,
    /// 95 of 100 took at most this.
    pub p95_ms: f64,
    /// 99 of 100 took at most this.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// How many took at most so long: one for each of [`BOUNDS`]. Those that took longer are in `count` only.
    pub buckets: Vec<Bucket>,
}

/// How many took at most so long.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Bucket {
    /// So long.
    pub le_ms: f64,
    /// How many, those of the buckets before included.
    pub count: u64,
}

impl Summary {
    pub(super) fn new(histogram: &Histogram) -> Self {
        let counts = histogram.cumulative(&BOUNDS);
        let bucket = |(bound, count): (&Duration, u64)| Bucket { le_ms: ms(*bound), count };
        Summary {
            count: histogram.count(),
            sum_ms: ms(histogram.sum()),
            p50_ms: ms(histogram.percentile(50.0)),
            p90_ms: ms(histogram.percentile(90.0)),
            p95_ms: ms(histogram.percentile(95.0)),
            p99_ms: ms(histogram.percentile(99.0)),
            max_ms: ms(histogram.max()),
            buckets: BOUNDS.iter().zip(counts).map(bucket).collect(),
        }
    }
}
