//! Models.

mod acquire;
mod close;
mod leak;
mod log;
mod parking;
mod resize;
mod rig;
