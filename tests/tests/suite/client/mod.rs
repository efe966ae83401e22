//! The client API against a real server, through a pool.

mod cancelling;
mod dropped;
mod errors;
mod large;
mod login;
mod notifications;
mod pipelines;
mod queries;
mod statements;
mod streams;
mod transactions;
mod types;

use crate::suite::common::{config, open, server};
use crate::suite::rt::{Lease, Pool};
use pgweir_core::config::ConfigBuilder;

/// A configuration for the shared server whose connections are called `name`.
fn named(name: &str) -> ConfigBuilder {
    config(&server().url(), name)
}

/// A pool of one connection, and its lease.
async fn single(name: &str) -> (Pool, Lease) {
    let pool = open(named(name).max_size(1)).await;
    let lease = pool.get().await.expect("a connection");
    (pool, lease)
}

/// The SQLSTATE of a failed query.
#[track_caller]
fn sqlstate<T>(result: Result<T, pgweir_core::client::Error>) -> String {
    match result {
        Ok(_) => panic!("the query was to fail"),
        Err(error) => error.code().map_or_else(|| panic!("no SQLSTATE in {error}"), |code| code.code().to_owned()),
    }
}

/// For a test that measures its process: runs that test again in a process of its own, and says whether this is it.
fn in_a_process_of_its_own(module: &str, test: &str) -> bool {
    const ALONE: &str = "PGWEIR_TESTS_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let test = &crate::suite::common::in_this_binary(module, test);
    let binary = std::env::current_exe().expect("this program's path");
    let output = std::process::Command::new(binary).args(["--exact", test]).env(ALONE, "1").output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    false
}
