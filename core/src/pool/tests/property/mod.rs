//! Random plans against a reference model, a named property for each guarantee of the design (DESIGN section 4).
//!
//! quickcheck draws a [`plan`]: a configuration, a seed and steps. The [`world`] carries it out, the [`reference`] judges
//! every action and every omission. What fails is made as small as it gets and printed as a test to paste; [`printed`]
//! is one.
//!
//! `PGWEIR_QUICKCHECK_SEED=7 PGWEIR_QUICKCHECK_TESTS=10000 cargo test --release -p pgweir-core --lib pool::tests::property`
//! draws others, and more: without them the seed is 1 and the plans are 100, the same in every run. What fails says its
//! seed, which fails again with the same number of plans or more. `Host::not_before` in [`reference`] says which connects
//! Quiet outage does not bound. (In release builds the machine does not check itself after each event; the properties do.)

mod guarantee;
mod paste;
mod plan;
mod print;
mod printed;
mod properties;
mod recorded;
mod reference;
mod world;

pub(crate) use recorded::recorded;
