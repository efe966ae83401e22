//! Mutations: faults put into the source on purpose, to see which of the tools notices.
//!
//! The lists lie beside the code that they change. `cargo mutations` applies them one at a time to a copy of the tree and
//! runs the tools, the cheapest first, until one notices. That takes an hour; that every mutation still fits the source is
//! tested here, and fast.

mod judge;
mod list;
mod page;
mod row;
mod scratch;

pub use judge::{Budget, Judge, Verdict, judge};
pub use list::{BadList, LISTS, Mutation, read_lists, without_own_checks};
pub use page::{PAGE, record};
pub use row::cell;
pub use scratch::Scratch;

use std::path::{Path, PathBuf};

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").to_owned()
}
