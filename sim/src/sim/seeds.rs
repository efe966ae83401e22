//! Many seeds, or the one that is to be replayed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{SEED_VARIABLE, Sim};
use crate::executor::{again, message};

/// # Panics
/// If the variable is set to something else than a number.
#[track_caller]
pub(super) fn from_environment() -> Option<u64> {
    let text = std::env::var_os(SEED_VARIABLE)?;
    match text.to_str().map(str::parse) {
        Some(Ok(seed)) => Some(seed),
        _ => panic!("{SEED_VARIABLE} is {text:?}, which is no seed: expected a number from 0 to {}", u64::MAX),
    }
}

#[track_caller]
pub(super) fn each(seeds: impl IntoIterator<Item = u64>, mut check: impl FnMut(Sim)) {
    if let Some(seed) = from_environment() {
        return one(seed, &mut check);
    }
    for seed in seeds {
        one(seed, &mut check);
    }
}

#[track_caller]
fn one(seed: u64, check: &mut impl FnMut(Sim)) {
    let sim = Sim::builder().exact_seed(seed).build();
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(sim))) {
        let what = message(&*panic);
        let again = again(seed);
        // A run that failed has said it already.
        match what.ends_with(&again) {
            true => panic!("{what}"),
            false => panic!("{what}\n  {again}"),
        }
    }
}
