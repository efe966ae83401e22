//! Every real-database test that is not about one runtime. This folder is a part of one test binary per runtime; the
//! binary's root says which, with one line: `pgweir_tests::conformance!(...)`.

pub(crate) mod common;
pub(crate) mod rt;

mod client;
mod complete;
mod edges;
mod faults;
mod stories;
