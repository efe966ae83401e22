//! What the unit tests share, and how Miri is to run them. (The command was not yet seen to finish: which tests must be
//! left out, and how long it takes, is to be found out.)
//!
//! ```text
//! MIRIFLAGS="-Zmiri-env-set=QUICKCHECK_TESTS=2 -Zmiri-env-set=QUICKCHECK_GENERATOR_SIZE=12" cargo +nightly miri test -p pgweir-core --lib -- \
//!     pool:: pg:: journal:: config:: time:: digest::
//! ```
//!
//! Core forbids unsafe code, so what Miri looks at are its dependencies as core uses them: `bytes` under the rows and the
//! receive buffer, `postcard`, the YAML parser (C turned into unsafe Rust), `postgres-protocol`; and arithmetic, which it
//! would find with any debug build. It does not see what needs a socket, a file or a real thread (the driver, the client,
//! `os`), and it tries few cases of each property: those tests are the other tools'.

/// How many cases a random test tries: a hundredth under Miri, where everything takes some hundred times as long.
pub(crate) fn cases(count: u64) -> u64 {
    if cfg!(miri) { count.div_ceil(100) } else { count }
}

/// How far apart the places are that a test of every place tries: under Miri it cannot try them all.
pub(crate) const STRIDE: usize = if cfg!(miri) { 97 } else { 1 };
