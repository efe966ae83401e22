//! What a replay is compared by.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, chain};
use crate::pool::{Action, ConnId, WaiterId};

/// 32 bits over the actions that followed an event, text for people left out. Zero: there were none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Check(u32);

impl Check {
    /// The check over `actions`. The hot path's answers, nothing and one grant, take a nanosecond.
    #[inline]
    pub fn of(actions: &[Action]) -> Self {
        match actions {
            [] => Check(0),
            [Action::Grant { waiter, conn: ConnId { slot, .. } }] => Check::grant(*waiter, *slot),
            actions => Check::digest(actions),
        }
    }

    /// By slot alone: which connection is in it was decided by actions that have their own checks, and to read the whole
    /// id just after its halves were written would cost the hot path 5 ns.
    #[inline]
    fn grant(waiter: WaiterId, slot: u32) -> Self {
        Check::fold(chain(waiter.0, u64::from(slot)))
    }

    #[cold]
    fn digest(actions: &[Action]) -> Self {
        let mut digest = Digest::default();
        digest.add_facts(actions);
        Check::fold(digest.bits())
    }

    #[inline]
    fn fold(bits: u64) -> Self {
        Check((bits ^ (bits >> 32)) as u32)
    }

    #[inline]
    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    #[inline]
    pub(crate) fn from_bits(bits: u32) -> Self {
        Check(bits)
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}
