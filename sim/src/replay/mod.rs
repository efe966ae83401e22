//! Journals in the simulator: made of its own runs, run again, looked at.

mod moment;
mod recorder;
mod summary;
mod view;

pub use moment::{BadMoment, Moment};
pub use recorder::run_recorded;
pub use summary::{Deviation, Summary};
pub use view::View;
