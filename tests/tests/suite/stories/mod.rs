//! The user's stories (REQUIREMENTS, outages aside) on a real server.

mod acquiring;
mod closing;
mod configuring;
mod health;
mod hooks;
mod leaks;
mod logging;
mod opening;
mod pgbouncer;
mod recycling;
mod resetting;
mod sizing;
mod statistics;
mod validating;

use std::time::Duration;

use crate::suite::common::{config, open_lazy, server};
use crate::suite::rt::Client;
use pgweir_core::config::{Config, ConfigBuilder};
use pgweir_core::error::AcquireError;
use pgweir_tests::Proxy;

/// A configuration for the shared server whose connections are called `name`.
fn named(name: &str) -> ConfigBuilder {
    config(&server().url(), name)
}

/// The same by way of a proxy.
fn proxied(name: &str) -> (Proxy, ConfigBuilder) {
    let proxy = Proxy::start(server().address()).expect("a proxy");
    let config = config(&server().url_via(proxy.port()), name);
    (proxy, config)
}

/// Lets so much time pass on the pools' clock: a paused pool's acquire ends when it has.
async fn elapse(time: Duration) {
    let clock = open_lazy(Config::builder().host("127.0.0.1", 1).user("nobody").dbname("none").min_size(0));
    clock.pause();
    let timeout = clock.get_timeout(time).await;
    assert!(matches!(&timeout, Err(AcquireError::Timeout(report)) if report.waited >= time), "{timeout:?}");
}

/// The session's process id, by asking the server.
async fn pid(client: &mut Client) -> i32 {
    let row = client.query_one("SELECT pg_backend_pid()", &[]).await.expect("an answer");
    row.get(0)
}

/// How many backends a pool has, sampled by the server.
fn backends(name: &str) -> usize {
    crate::suite::common::backends(server(), name).len()
}
