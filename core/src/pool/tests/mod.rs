//! Tests of the pool machine in virtual time, each named after the rule that it shows.

mod lending;
mod outage;
mod random;
mod rig;
