//! What the unit tests share, and how Miri is to run them:
//!
//! ```text
//! cargo +nightly miri-core -- pg::fault pg::outgoing pg::tests::abandon pg::tests::edges client:: config::yaml --skip timer
//! ```
//!
//! The words at the end choose tests by name. These are some 35, seen in three runs of two to six minutes each on a busy
//! machine: each start compiles core anew, and then a test takes seconds. Without any, all that need no file are tried;
//! that was not yet seen to end, nor `pg::tests::hostile`, `journal::`, the driver or the machine, where one test may
//! take minutes.
//!
//! Core forbids unsafe code, so what Miri looks at are its dependencies as core uses them: `bytes` under the rows and the
//! receive buffer, `postcard`, the YAML parser (C turned into unsafe Rust), `postgres-protocol`; and arithmetic, which it
//! would find with any debug build. The pool machine has no dependency with unsafe code in it: Miri has the least to say
//! there. It does not see what needs a socket or a file, and it tries few cases of each property: those tests are the
//! other tools'.

/// How many cases a random test tries: a hundredth under Miri, where everything takes some hundred times as long.
pub(crate) fn cases(count: u64) -> u64 {
    if cfg!(miri) { count.div_ceil(100) } else { count }
}

/// How far apart the places are that a test of every place tries: under Miri it cannot try them all.
pub(crate) const STRIDE: usize = if cfg!(miri) { 97 } else { 1 };
