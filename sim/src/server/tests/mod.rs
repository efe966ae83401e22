//! The server, through its [`Host`] interface: by a client of its own codec, and by pgweir's connection machine.

mod client;
mod codec;
mod core;
mod faults;
mod sessions;
mod wire;

use pgweir_core::time::Instant;

const T0: Instant = Instant::ZERO;
