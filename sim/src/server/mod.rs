//! A simulated PostgreSQL server.
//!
//! [`Postgres`] speaks the wire protocol through a codec of its own, on a clock that is an argument: bytes in, bytes out,
//! through [`Host`](crate::net::Host). It logs clients in, runs a useful subset of SQL, answers what a test scripts,
//! and fails in all the ways that a real server does.
//!
//! ```
//! use pgweir_sim::server::{Answer, Config, Postgres, Type};
//!
//! let mut postgres = Postgres::new(Config::default())?;
//! postgres
//!     .on("SELECT price FROM items WHERE id = $1", |call| match call.params[0].as_int() {
//!         Some(7) => Answer::value("price", Type::Int8, 250),
//!         _ => Answer::error("P0002", "no such item"),
//!     })
//!     .params([Type::Int8])
//!     .columns([("price", Type::Int8)]);
//! # Ok::<(), pgweir_sim::server::PgError>(())
//! ```
//!
//! # What it knows
//!
//! `SELECT` of expressions, from one table, a view (`pg_stat_activity`, `pg_stat_database`, `pg_settings`,
//! `pg_prepared_statements`) or a function (`generate_series`, `unnest`, `pg_sleep`), with WHERE, ORDER BY, LIMIT and
//! `count`, `sum`, `min`, `max` over all rows; `INSERT`, `UPDATE`, `DELETE`, `CREATE` and `DROP TABLE`, in transactions
//! with savepoints, read committed, without waiting for another's row (40001 instead); `SET`, `SHOW`, `RESET`,
//! `DISCARD`, `LISTEN`, `NOTIFY`. Everything else is an honest 0A000, a syntax error that says so, or a [`Script`].
//!
//! # The map
//!
//! `read` and `write` the codec, `login` and `auth` how a session begins, `talk` its messages, `execute`, `run` and
//! `eval` its statements, `sql` their syntax, `plan` their types, `value` and `table` the data, `script` what a test
//! answers, `faults` what is done to the server, `view` what it has seen.

mod auth;
mod clock;
mod config;
mod error;
mod eval;
mod execute;
mod faults;
mod login;
mod plan;
mod postgres;
mod read;
mod run;
mod script;
mod session;
mod settings;
mod sql;
mod table;
mod talk;
#[cfg(test)]
mod tests;
mod value;
mod view;
mod write;

pub use config::{Auth, Config, Role};
pub use error::{PgError, Severity};
pub use faults::{AuthFault, StopMode};
pub use postgres::Postgres;
pub use script::{Answer, Call, Script};
pub use value::{Column, Type, Value};
pub use view::{Counts, Entry, Event, SessionView};
