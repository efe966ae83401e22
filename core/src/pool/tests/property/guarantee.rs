//! The guarantees of the design, and how often a run put each to the test.

use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Guarantee {
    Cap,
    OneAnswer,
    Fifo,
    NoStranding,
    OneHolder,
    ThePoolOwnsConnects,
    Fresh,
    Sound,
    QuietOutage,
    FastTruth,
    MinRestored,
    BoundedEnd,
    TrueNumbers,
    BusyIsNotSick,
    /// The same events give the same actions, whether or not it was written down and read back meanwhile.
    Deterministic,
    /// The deadline is never later than what must happen.
    Punctual,
    /// A tick at which nothing is due changes nothing.
    SpuriousTick,
    /// What is due is done before the event is looked at.
    DueFirst,
}

pub(super) const GUARANTEES: usize = Guarantee::DueFirst as usize + 1;

/// A guarantee that did not hold.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Broken {
    pub(super) guarantee: Guarantee,
    pub(super) what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.guarantee, self.what)
    }
}

/// How often a guarantee was at stake: a property that nothing put to the test has shown nothing.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Evidence([u64; GUARANTEES]);

impl Evidence {
    pub(super) fn saw(&mut self, guarantee: Guarantee) {
        self.0[guarantee as usize] += 1;
    }

    pub(super) fn of(&self, guarantee: Guarantee) -> u64 {
        self.0[guarantee as usize]
    }

    pub(super) fn add(&mut self, other: &Evidence) {
        self.0.iter_mut().zip(other.0).for_each(|(mine, its)| *mine += its);
    }
}
