//! Whether a machine that was read from somewhere is one that can be.
//!
//! A check sum tells damage, not intent: somebody may have made up a machine. What is checked here on top of the
//! invariants is what these take for granted.

use super::invariants::{Held, hold};
use super::machine::{Limits, Machine};
use super::slot::Slot;
use crate::time::Instant;

/// Half of what a counter can hold: no pool counts so far, and what is told afterwards still fits.
const COUNTED: u64 = u64::MAX / 2;

impl Machine {
    /// Why this machine cannot be, if it cannot. One that can will not panic, whatever it is told.
    pub(crate) fn possible(&self) -> Held {
        self.refers_to_what_exists()?;
        self.has_room()?;
        hold!(self.now < Instant::END, "its time is {:?}", self.now);
        hold!(self.limits == Limits::new(&self.config), "its limits are not those of its configuration");
        // What the last event left unsettled, as the end of a failed start does, the next one settles.
        hold!(self.nudge == 0, "it was written down in the middle of an event");
        self.invariants()
    }

    /// Indices lead to something.
    fn refers_to_what_exists(&self) -> Held {
        hold!(
            self.links.len() == usize::from(self.config.hosts().max(1)),
            "it has {} links to {} hosts",
            self.links.len(),
            self.config.hosts()
        );
        for (index, slot) in self.slots.iter() {
            let host = match slot {
                Slot::Connecting { host, .. } => Some(host),
                slot => slot.life().map(|life| &life.host),
            };
            hold!(
                host.is_none_or(|host| usize::from(host.0) < self.links.len()),
                "slot {index} leads to a host that is not there"
            );
        }
        Ok(())
    }

    /// Counters are not about to overflow.
    fn has_room(&self) -> Held {
        hold!(
            self.totals.has_room(COUNTED),
            "its totals are more than can be counted, or differ from their histograms"
        );
        hold!(self.slow_waits.has_room(COUNTED), "its slow acquires are more than can be counted");
        Ok(())
    }
}
