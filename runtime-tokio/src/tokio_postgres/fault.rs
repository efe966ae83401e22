//! tokio-postgres's errors as the pool's faults.

use std::error::Error as StdError;
use std::io;

use pgweir_core::pg;
use pgweir_core::pool::{Fault, FaultClass, SqlState};
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, Severity};

/// The fault of an error of an open session. What the server says of itself is classed by its SQLSTATE, as for our own
/// client; the rest may pass.
pub(super) fn of(error: &Error) -> Fault {
    match error.as_db_error() {
        Some(db) => of_notice(db),
        None => Fault::new(FaultClass::Transient, told(error)),
    }
}

/// The same for what the server said without being asked.
pub(super) fn of_notice(db: &DbError) -> Fault {
    let sqlstate = SqlState::parse(db.code().code());
    let class = sqlstate.map_or(FaultClass::Transient, pg::fault_class);
    // Last words are about the session; an error may quote a statement.
    let quotable = matches!(db.parsed_severity(), Some(Severity::Fatal | Severity::Panic));
    Fault { class, sqlstate, message: db.message().into(), quotable }
}

/// The same for a login. What is neither the server's word nor the network's doing is of our own making, such as a
/// missing password or a certificate that is not trusted, and stays so until somebody mends it.
pub(super) fn of_login(error: &Error) -> Fault {
    let fault = of(error);
    let of_network = error.is_closed() || causes(error).any(|cause| cause.is::<io::Error>());
    let class = if error.as_db_error().is_none() && !of_network { FaultClass::Permanent } else { fault.class };
    Fault { class, ..fault }
}

/// The fault with what failed.
pub(super) fn prefixed(what: &str, error: &Error) -> Fault {
    let fault = of(error);
    Fault { message: format!("{what}: {}", fault.message).into(), ..fault }
}

/// An error's message with its causes', which it leaves out.
fn told(error: &Error) -> String {
    let mut text = error.to_string();
    for cause in causes(error) {
        let cause = cause.to_string();
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn causes(error: &Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    let mut next = error.source();
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}
