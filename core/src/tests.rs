//! What the unit tests share, and how Miri runs them:
//!
//! ```text
//! cargo +nightly miri-core        # everything that can run there
//! cargo +nightly miri-quick       # a part of it, for CI
//! ```
//!
//! What follows `--` chooses tests by name; figures are in `core/docs/proof.md`. Miri uses one core: to use two, start
//! two of them with other names. `--report-time -Zunstable-options` says what each test took on Miri's own clock, which
//! counts what was executed and shows the same on a busy machine: a second there is about one and a third of a real
//! one.
//!
//! Core forbids unsafe code, so what Miri looks at are its dependencies as core uses them: `bytes` under the rows and
//! the receive buffer, `postcard`, the YAML parser (C turned into unsafe Rust), `postgres-protocol`; and arithmetic,
//! which it would find with any debug build. The pool machine has no dependency with unsafe code in it: Miri has the
//! least to say there. Miri takes some thousand times as long as the processor, and some hundred and fifty events of
//! the machine are a second: under it tests try fewer cases, shorter runs and fewer of a list, by the helpers below.
//! Where fewer would show nothing a test is left out and says why. The machine checks itself after each event only
//! where a property asks for it.

/// How many cases a random test tries: a hundredth under Miri, where everything takes some hundred times as long.
pub(crate) fn cases(count: u64) -> u64 {
    if cfg!(miri) { count.div_ceil(100) } else { count }
}

/// How many events a random run has: few under Miri, and enough for something to have happened.
pub(crate) const fn steps(count: usize) -> usize {
    if !cfg!(miri) || count < 40 {
        count
    } else if count < 1_280 {
        40
    } else {
        count / 32
    }
}

/// Of a list of cases each is tried, and under Miri each seventh.
pub(crate) const EACH: usize = if cfg!(miri) { 7 } else { 1 };

/// How far apart the places are that a test of every place tries: under Miri it cannot try them all.
pub(crate) const STRIDE: usize = if cfg!(miri) { 97 } else { 1 };
