//! A pool's recent past, written down so that it can be run again: bit for bit, on another machine, under a magnifying
//! glass.
//!
//! A journal is the [`Machine`](crate::pool::Machine) as it was at some moment and every event it was told since, each
//! with the time and a [`Check`] over what the machine answered. Since the machine is deterministic, that is all it
//! takes: [`Replay`] tells a copy of the machine the same events and compares the checks, so that the first deviation,
//! if there ever is one, is found at its event.
//!
//! # What is not in it
//!
//! No query, no parameter, no result, no password, no name of a host or a user of the configuration: events carry ids,
//! times, classes of faults and SQLSTATEs. The one free text is a fault's message, and that is written only when it is
//! the operating system's, the server's last words or pgweir's own ([`Fault::quotable`](crate::pool::Fault::quotable)),
//! cut to [`Fault::KEPT`](crate::pool::Fault::KEPT) bytes. It is left out where faults are serialised, so there is no
//! way around it. The machine decides nothing by a message, and the checks leave text out: a replay with "(not
//! recorded)" in its place agrees all the same.
//!
//! # The format
//!
//! Eight bytes of magic, two of version, then blocks: a kind, a length, the body and a CRC-32 over all three. The bodies
//! are postcard. In order: the header, the machine with a seal over its values and the names of its fields, then sites
//! and entries in any number, then the end. Each block of entries begins with its own base time, so each can be read
//! once those before it were. What is damaged or missing costs what follows it and no more: [`Journal::loss`].
//!
//! `format` the blocks, `header` and `check` what is in them, `write` and `read`, `replay`; `ring`
//! the recorder and `sink` where it writes to.

mod check;
mod format;
mod header;
mod read;
mod replay;
mod ring;
mod sink;
#[cfg(all(test, not(pgweir_loom)))]
mod tests;
mod write;

pub use check::Check;
pub use format::FORMAT;
pub use header::{Header, Site, Why};
pub use read::{Entry, Journal, JournalError, Loss, Part};
pub use replay::{Replay, Step};
pub(crate) use ring::{Ring, SITES, Tape};
pub use sink::{Chunk, Dump, JournalOptions, JournalSink, Stream};
pub use write::Writer;
