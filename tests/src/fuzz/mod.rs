//! The bodies of the fuzz targets, as plain functions of bytes: libFuzzer calls them, and so does an ordinary test.
//!
//! # How to run them
//!
//! ```text
//! cargo install cargo-fuzz --locked
//! cargo +nightly fuzz run --fuzz-dir tests/fuzz -s none machine_events -- -max_total_time=600 -timeout=10
//! ```
//!
//! `-s none` leaves out the address sanitizer, which would check the dependencies alone and makes everything several times
//! slower: there is no unsafe code in here.
//!
//! The targets are the names of [`TARGETS`]. Where they begin is committed (`tests/fuzz/corpus/TARGET`): a few dozen small
//! files. What a run finds on top goes into the same folder; put back what is worth keeping with
//! `cargo +nightly fuzz cmin --fuzz-dir tests/fuzz TARGET`, and leave the rest out of the commit.
//!
//! On stable Rust, without a fuzzer, `cargo test -p pgweir-tests --test fuzzed` runs every committed file and everything
//! that ever went wrong (`tests/fuzz/regressions/TARGET`).
//!
//! # When one fails
//!
//! libFuzzer leaves the bytes in `tests/fuzz/artifacts/TARGET`. `cargo +nightly fuzz tmin --fuzz-dir tests/fuzz TARGET
//! FILE` makes them few; then they go into `tests/fuzz/regressions/TARGET` under a name that says what was wrong, and
//! the defect gets a unit test of its own where it was.
//!
//! # What they check
//!
//! | Target | Bytes are | What must hold |
//! |---|---|---|
//! | `machine_events` | a configuration, a seed, events (with `arbitrary`) | every invariant of the machine; what can be seen from outside: Cap, One answer, FIFO, One holder, True numbers, Bounded end, deadlines; a tick before an event changes nothing; the journal of it replays to the same machine |
//! | `server_bytes` | a server's bytes, whole, in pieces or among a client's calls | no panic, the same events for any pieces, an error ends the connection, what is held is in proportion to what came |
//! | `journal` | a journal, with its check sums put right | an error, or a replay without a panic, and what was read is written the same |
//! | `scenario` | a simulator's scenario | a problem with a place, or what was read is written the same |
//! | `url` | a connection URL or `key=value` string | problems that name their field, or what was read prints to a URL that is read the same |
//! | `pool_yaml`, `environment` | a pool's YAML, variables | problems that name their field, or a valid configuration that survives being written |
//!
//! # What they do not cover
//!
//! Coverage guides the search, nothing says that it has seen everything: how many executions found nothing is all that
//! it can say. There are no threads in here (the driver is loom's), no sockets, no TLS; a SCRAM exchange is not carried
//! to its end, since it needs the client's nonce. Memory is watched by libFuzzer's own limit (2 GB) in a run, and
//! exactly only by the test `bounded`.

mod journal;
mod machine;
mod server_bytes;
mod texts;

pub use journal::journal;
pub use machine::machine_events;
pub use server_bytes::server_bytes;
pub use texts::{environment, pool_yaml, scenario, url};

/// A target: its name, and what it does with bytes. It panics if something does not hold.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// As in `tests/fuzz`.
    pub name: &'static str,
    /// Tries these bytes.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: [Target; 7] = [
    Target { name: "machine_events", run: machine_events },
    Target { name: "server_bytes", run: server_bytes },
    Target { name: "journal", run: journal },
    Target { name: "scenario", run: scenario },
    Target { name: "url", run: url },
    Target { name: "pool_yaml", run: pool_yaml },
    Target { name: "environment", run: environment },
];
