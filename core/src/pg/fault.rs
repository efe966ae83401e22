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
    Fault::new(FaultClass::Transient, format!("{doing}: {error}"))
}

pub(super) fn fault_of(_error: &Error) -> Fault {
    unimplemented!()
}
