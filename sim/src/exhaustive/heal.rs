//! From here on nothing fails any more.

use std::time::Duration;

use pgweir_core::pool::{Event, Fate, State};
use pgweir_core::time::Instant;

use super::node::{Is, Node};
use crate::oracle::Violation;

/// Faults are forgotten after a minute, so health takes that long.
const TIME: Duration = Duration::from_secs(90);
const EVENTS: u32 = 200;

/// What healing took.
pub(super) struct Healed {
    pub(super) events: u32,
    pub(super) took: Duration,
}

type Unhealed = (Violation, Vec<(Instant, Event)>);

impl Node {
    /// Every connect, check, reset and close succeeds, every lease comes back: everybody is served, and the pool is as
    /// it should be, or has ended if it is to end.
    pub(super) fn heal(mut self) -> Result<Healed, Unhealed> {
        let begun = self.now;
        let mut told = Vec::new();
        while !self.is_well() {
            let event = self.next_good_event();
            let at = self.time_of(&event);
            told.push((at, event.clone()));
            self.tell(at, event).map_err(|violation| (violation, told.clone()))?;
            if told.len() as u32 > EVENTS || at - begun > TIME {
                let (counts, reasons) = (self.machine().counts(), self.machine().health(at).reasons);
                let guarantee = if self.line.is_empty() { "Min restored" } else { "No stranding" };
                let detail = format!("nothing fails any more, and it does not heal: {counts:?} {reasons:?}");
                return Err((Violation { guarantee, detail }, told));
            }
        }
        Ok(Healed { events: told.len() as u32, took: self.now - begun })
    }

    fn is_well(&self) -> bool {
        let counts = self.machine().counts();
        let quiet = self.conns.iter().all(|(_, is)| *is == Is::Idle);
        let restored = quiet && self.line.is_empty() && counts.idle >= counts.min && self.started;
        self.is_over() || (restored && self.machine().state() == State::Healthy)
    }

    fn next_good_event(&self) -> Event {
        if !self.started && !self.ending {
            return Event::Start { lazy: true };
        }
        if self.paused && !self.ending {
            return Event::Resume;
        }
        for (conn, is) in &self.conns {
            let conn = *conn;
            match is {
                Is::Connecting => return Event::Connected { conn, facts: Default::default() },
                Is::Validating => return Event::Validated { conn },
                Is::Resetting => return Event::Reset { conn },
                Is::Closing { .. } => return Event::Closed { conn },
                Is::Lent { .. } => return Event::Release { conn, fate: Fate::Clean, queries: 1, fault: None },
                Is::Idle => {}
            }
        }
        Event::Tick
    }
}
