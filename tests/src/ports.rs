//! Ports that stay ours while nobody listens on them.

use crate::state::{self, FileLock};
use crate::{Error, Result};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};

/// Under the ephemeral ports of Linux (32768 and up) and of macOS (49152 and up): the kernel never gives one of these to
/// a client's socket while our server is stopped.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// A TCP port of 127.0.0.1 that no other user of this testkit takes until this is dropped, in any process.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _lock: FileLock,
}

impl Port {
    /// Reserves a port on which nobody listens.
    pub(crate) fn reserve() -> Result<Port> {
        Port::reserve_in(&state::base_folder(false))
    }

    fn reserve_in(base: &Path) -> Result<Port> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let folder = state::folder(base, "ports")?;
        // Processes begin at different places, so that they seldom try each other's ports.
        let start = (std::process::id() as u16).wrapping_mul(251) % COUNT;
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
            let number = FIRST + (start + step) % COUNT;
            let Some(lock) = FileLock::try_acquire(&folder.join(format!("{number}.lock")))? else { continue };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Port { number, _lock: lock });
            }
        }
        let source = std::io::Error::from(std::io::ErrorKind::AddrInUse);
        Err(Error::io(format!("find a free port between {FIRST} and {}", FIRST + COUNT - 1))(source))
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}
