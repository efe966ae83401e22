//! What the examples share with the real-database tests.

#![allow(dead_code, unused_imports, reason = "the tests use more of it")]

#[path = "../../tests/suite/common/mod.rs"]
pub(crate) mod common;
#[path = "../../tests/suite/faults/load.rs"]
pub(crate) mod load;
#[path = "../../tests/suite/rt.rs"]
pub(crate) mod rt;
