//! Tests of the pool machine in virtual time, each named after the rule that it shows.

mod checking;
mod dry;
mod edges;
mod ending;
mod lending;
mod outage;
pub(crate) mod property;
mod recycling;
mod reporting;
mod rig;
