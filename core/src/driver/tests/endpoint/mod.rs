//! The endpoint, in virtual time: what it answers, and what its clients may do to it.

mod answers;
mod limits;
mod rig;
