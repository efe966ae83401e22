//! The testkit of pgweir: real PostgreSQL servers to break, and a network to break them with.
//!
//! - [`LocalPostgres`] starts a throw-away server of its own in well under a second, and can stop it in each of
//!   PostgreSQL's ways, crash it, freeze it and start it again on the same port.
//! - [`Proxy`] stands between a client and a server and can refuse, reset, black-hole, delay, throttle and cut.
//! - [`PgBouncer`] stands there too, as transaction poolers do.
//! - [`ScriptedServer`] is a hostile or broken server: it answers with the bytes that a test gives it. [`wire`] has the
//!   usual ones.
//! - [`Client`] is a small blocking client for the test's own look at the server.
//! - [`monitoring`] runs a Prometheus and knows the dashboard and the alert rules; [`http`] asks endpoints.
//! - [`eventually`] waits for a condition, never for a time.
//! - [`conformance`](mod@conformance) is the suite that every runtime passes.
//! - [`fuzz`] has the bodies of the fuzz targets, and how to run them.
//! - [`kit`] has what a test needs of its runtime, whichever that is.
//!
//! There is no async runtime in here: everything runs on plain threads and blocking sockets, so that tests on any
//! runtime can use it. Calls block: from async code use [`kit::off_thread`] where other tasks of that thread have to make
//! progress meanwhile.
//!
//! Limits are generous (tests run in parallel on small machines), but every wait ends as soon as its condition holds.
//!
//! Environment: `PG_BIN` names the folder with the PostgreSQL binaries to use; `PGWEIR_NO_INSTALL=1` forbids the
//! installation of PostgreSQL and PgBouncer that is otherwise tried as root on Debian and Ubuntu when there is none.

mod client;
pub mod conformance;
pub mod demo;
mod error;
mod example;
pub mod fuzz;
pub mod http;
pub mod kit;
pub mod monitoring;
pub mod mutations;
mod pgbouncer;
mod ports;
mod postgres;
mod processes;
mod proxy;
mod scripted;
mod state;
mod wait;
pub mod wire;

pub use client::{Client, ClientConfig, Endpoint, Row};
pub use error::{Error, Result};
pub use example::example;
pub use pgbouncer::PgBouncer;
pub use postgres::{Auth, Backend, LocalPostgres, LocalPostgresBuilder, StopMode};
pub use proxy::{Cut, Direction, Proxy, ProxyStats, Scope};
pub use rustix::process::Signal;
pub use scripted::{Script, ScriptedServer, Step};
pub use wait::{LIMIT, eventually, poll_until};
