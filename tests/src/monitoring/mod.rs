//! What looks at a pool from outside: Prometheus, and the dashboard and alert rules that come with pgweir.

mod files;
mod prometheus;
mod promql;
mod scrape;

pub use files::{Alert, Query, alerts, alerts_file, dashboard};
pub use prometheus::{Prometheus, check_metrics, check_rules};
pub use promql::{Matcher, Selector, Uses, uses};
pub use scrape::{Sample, samples};
