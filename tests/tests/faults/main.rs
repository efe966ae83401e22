//! Outages, silent peers, hostile servers and shut-down runtimes, on real servers and real sockets, and the
//! regression cases of other pools that need those.

#[path = "../common/mod.rs"]
mod common;
mod load;

mod cleanup;
mod health;
mod hostile;
mod lifecycle;
mod limits;
mod outage;
mod roles;
mod secrets;
mod shutdown;
mod silent;
