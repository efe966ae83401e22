//! The dashboard and the alert rules name nothing that a scrape does not have.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pgweir_core::config::Config;
use pgweir_core::metrics::{Kind, TABLE};
use pgweir_tests::monitoring::{Sample, alerts, dashboard, samples, uses};
use pgweir_tests::{LocalPostgres, http};
use pgweir_tokio::{Endpoint, Pool};

/// What a scrape adds by itself.
const OF_THE_SCRAPE: [&str; 2] = ["job", "instance"];

/// A scrape of a real pool with every outcome of an acquire behind it, a leak, an outage and two hosts.
fn a_scrape() -> Vec<Sample> {
    super::on_tokio(async {
        let server = LocalPostgres::start().expect("a server");
        let port = server.address().port();
        let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
        let config = Config::builder()
            .database_url(format!("postgres://postgres@127.0.0.1:{closed},127.0.0.1:{port}/postgres"))
            .min_size(1)
            .max_size(1)
            .leak_detection_timeout(Duration::from_millis(50))
            .outage_grace(Duration::from_millis(50))
            .build()
            .expect("valid");
        let pool = Pool::builder(config).open().await.expect("the pool opens");
        let endpoint = Endpoint::bind("127.0.0.1:0").pool("shop", &pool).serve().await.expect("it listens");
        let mut lease = pool.get().await.expect("a connection");
        lease.query_one("SELECT 1", &[]).await.expect("an answer");
        pool.try_get().expect_err("it is lent");
        pool.get_timeout(Duration::from_millis(10)).await.expect_err("it is lent");
        tokio::time::timeout(Duration::from_millis(10), pool.get()).await.map(drop).expect_err("it is lent");
        while pool.health().leak_count == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.crash().expect("it crashes");
        drop(lease);
        while pool.health().outage.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let address = endpoint.local_addr();
        let scrape = tokio::task::spawn_blocking(move || http::get(address, "/metrics").expect("an answer"));
        samples(&scrape.await.expect("no panic").body)
    })
}

#[test]
fn every_metric_and_label_that_they_name_is_scraped() {
    let mut scraped: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for sample in a_scrape() {
        let labels = scraped.entry(sample.name).or_default();
        for (label, value) in sample.labels {
            labels.entry(label).or_default().insert(value);
        }
    }
    let all_labels: BTreeSet<&str> = scraped.values().flat_map(BTreeMap::keys).map(String::as_str).collect();
    let dashboard = dashboard("1m").into_iter().map(|query| (format!("panel {}", query.panel), query.expression));
    let alerts = alerts().into_iter().map(|alert| (format!("alert {}", alert.name), alert.expression));
    let mut used = BTreeSet::new();
    for (place, expression) in dashboard.chain(alerts) {
        let uses = uses(&expression);
        assert!(!uses.selectors.is_empty(), "{place}: no metric in {expression}");
        for selector in uses.selectors {
            let labels = scraped.get(&selector.metric);
            let labels = labels.unwrap_or_else(|| panic!("{place}: {} is not scraped", selector.metric));
            for matcher in &selector.matchers {
                if OF_THE_SCRAPE.contains(&matcher.label.as_str()) {
                    continue;
                }
                let values = labels.get(&matcher.label);
                let values = values.unwrap_or_else(|| panic!("{place}: {} has no {}", selector.metric, matcher.label));
                for value in matcher.value.split('|').filter(|value| *value != ".*") {
                    assert!(values.contains(value), "{place}: {} has no {}={value}", selector.metric, matcher.label);
                }
            }
            used.insert(selector.metric);
        }
        for label in uses.labels {
            let known = all_labels.contains(label.as_str()) || OF_THE_SCRAPE.contains(&label.as_str());
            assert!(known, "{place}: nothing has a label {label}");
        }
    }
    // And the dashboard or a rule looks at every metric that there is.
    for metric in TABLE {
        let name = match metric.kind {
            Kind::Histogram => format!("{}_bucket", metric.name),
            _ => metric.name.to_owned(),
        };
        assert!(used.contains(&name), "{name} is looked at nowhere");
    }
}

#[test]
fn the_rules_have_the_names_of_the_guide() {
    let names: Vec<String> = alerts().into_iter().map(|alert| alert.name).collect();
    let expected = [
        "PgweirDown",
        "PgweirDegraded",
        "PgweirQueueing",
        "PgweirAcquireTimeouts",
        "PgweirSlowAcquires",
        "PgweirLeak",
        "PgweirConnectFailures",
        "PgweirChurn",
        "PgweirAbsent",
    ];
    assert_eq!(names, expected);
}
