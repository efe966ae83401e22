//! What the pool should make of an error: SQLSTATE classes and the kinds of I/O errors.

use std::io;

use super::error::Error;
use crate::pool::{Fault, FaultClass, SqlState};

/// The class of a SQLSTATE (DESIGN 4, "Fast truth"); unknown codes are transient.
pub fn fault_class(code: SqlState) -> FaultClass {
    match code.code() {
        "57P03" => FaultClass::NotYet,
        "25006" => FaultClass::WrongRole,
        "3D000" | "42501" | "55000" => FaultClass::Permanent,
        code if code.starts_with("28") => FaultClass::Permanent,
        code if code.starts_with("53") => FaultClass::Capacity,
        _ => FaultClass::Transient,
    }
}

/// The fault of an operating system's error, `doing` what (`connecting to db1:5432`). All kinds are transient: a wrong
/// address and a name that does not resolve may be repaired without us.
pub fn fault_of_io(doing: &str, error: &io::Error) -> Fault {
    Fault::plain(FaultClass::Transient, format!("{doing}: {error}"))
}

/// The fault of an error that ended a connection.
pub(super) fn fault_of(error: &Error) -> Fault {
    let class = match error {
        Error::Server(db) => fault_class(db.code),
        // A server that does not speak our language, or does not let us in, will not do so a second later.
        Error::Protocol { phase, .. } if phase.is_login() => FaultClass::Permanent,
        Error::Authentication(_) | Error::Config(_) => FaultClass::Permanent,
        Error::Closed { cause: Some(cause), .. } | Error::Io { cause: Some(cause), .. } => fault_class(cause.code),
        Error::Protocol { .. } | Error::Closed { .. } | Error::Io { .. } | Error::Copy(_) => FaultClass::Transient,
    };
    // The fault shows the code by itself.
    let message = match error {
        Error::Server(db) => db.message.clone(),
        Error::Closed { phase, cause: Some(cause) } => {
            format!("the server closed the connection while {phase}: {}", cause.message)
        }
        other => other.to_string(),
    };
    // An ERROR may quote what the statement was given; what ends a session does not.
    let quotable = !matches!(error, Error::Server(db) if !db.is_fatal());
    Fault { class, sqlstate: error.sqlstate(), message: message.into(), quotable }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_follow_the_sqlstate() {
        use FaultClass::{Capacity, NotYet, Permanent, Transient, WrongRole};
        let cases = [
            ("57P03", NotYet),
            ("53300", Capacity),
            ("53200", Capacity),
            ("28P01", Permanent),
            ("28000", Permanent),
            ("3D000", Permanent),
            ("42501", Permanent),
            ("55000", Permanent),
            ("57P01", Transient),
            ("57P02", Transient),
            ("08006", Transient),
            ("58030", Transient),
            ("XX000", Transient),
            ("25006", WrongRole),
            ("22012", Transient),
        ];
        for (code, class) in cases {
            assert_eq!(fault_class(SqlState::parse(code).unwrap()), class, "{code}");
        }
    }

    #[test]
    fn io_errors_are_transient_whatever_their_kind() {
        for kind in [io::ErrorKind::ConnectionRefused, io::ErrorKind::TimedOut, io::ErrorKind::NotFound] {
            let fault = fault_of_io("connecting to db1:5432", &io::Error::from(kind));
            assert_eq!(fault.class, FaultClass::Transient);
            assert!(fault.message.starts_with("connecting to db1:5432: "), "{}", fault.message);
        }
    }
}
