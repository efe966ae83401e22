//! pgweir on async-std and on smol.
//!
//! The two share a reactor, and with it everything here but the spawning of tasks. Pick one by feature: `smol`
//! (default) or `async-std`.

mod async_io;
#[cfg(feature = "async-std")]
pub mod async_std;
#[cfg(feature = "smol")]
pub mod smol;

pub use crate::async_io::{AsyncIoStream, AsyncIoTimer};
