//! The whole stack on the simulator: scheduling, time, the network and the pool on top of them.

mod digest;
mod executor;
mod faults;
mod hosts;
mod pool;
mod streams;
