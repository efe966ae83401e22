//! The PostgreSQL connection machine: bytes in, bytes out, no sockets, no clock.
//!
//! A [`Connection`] holds everything that is known of one session: what is still to be written, which requests wait for
//! which answers, the transaction status, the prepared statements. One task at a time drives it:
//!
//! 1. write [`Connection::outgoing`] and say how much went out with [`Connection::sent`];
//! 2. read, and feed what came to [`Connection::receive`] (the end of the stream to [`Connection::receive_eof`], a
//!    socket's error to [`Connection::receive_io_error`]);
//! 3. take events with [`Connection::poll_event`] until there are none. Do so after every `receive`: what was received
//!    is kept until then.
//!
//! Since all state lives here, a future that drives a request may be dropped at any point: [`Connection::abandon`] its
//! request, and [`Connection::fate`] says what the connection is still good for; [`Connection::settle`] makes a dirty
//! one clean again.
//!
//! Any error of the three `receive` functions is the end of the connection. Errors of a single request come as
//! [`Event::Failed`] and leave the connection usable.

mod answers;
mod connection;
mod encode;
mod error;
mod events;
mod exchange;
mod fault;
mod frame;
mod login;
mod outgoing;
mod request;
mod session;
mod settle;
mod statements;
#[cfg(all(test, not(pgweir_loom)))]
mod tests;

pub use connection::{Connection, Phase};
pub use error::{CopyDirection, DbError, Error, Position, Severity, SubmitError};
pub use fault::{fault_class, fault_of_io};
pub use frame::Limits;
pub use request::{Event, Fetch, Params, Portal, Request, RequestId, TransactionStatus, TypedParams};
pub use session::{CancelKey, SessionConfig, cancel_request};
pub use settle::Settle;
pub use statements::{CacheStats, Column, Statement};
