//! Everything that can happen next.

use std::time::Duration;

use pgweir_core::pool::{Event, Fate, Fault, FaultClass, SiteId, WaiterId};

use super::Small;
use super::node::{Is, Node};

/// Longer than outage_grace, so that both ways of giving up are seen.
const PATIENCE: Duration = Duration::from_secs(3);

impl Node {
    pub(super) fn moves(&self, small: Small) -> Vec<Event> {
        if self.is_over() {
            // One of each that somebody might still say: nothing may come of it.
            return vec![self.acquire(PATIENCE), Event::Tick, Event::Start { lazy: true }, Event::Recycle];
        }
        let mut moves = Vec::new();
        if !self.started {
            moves.extend([Event::Start { lazy: false }, Event::Start { lazy: true }]);
        }
        if (self.line.len() as u32) < small.waiters {
            moves.push(self.acquire(PATIENCE));
        }
        moves.push(self.acquire(Duration::ZERO));
        moves.extend(self.line.iter().map(|waiter| Event::Cancel { waiter: *waiter }));
        for (conn, is) in &self.conns {
            self.moves_of(*conn, *is, &mut moves);
        }
        if self.machine().deadline().is_some() {
            moves.push(Event::Tick);
        }
        moves.push(if self.paused { Event::Resume } else { Event::Pause });
        moves.push(Event::Recycle);
        let max = self.machine().config().max_size();
        moves.push(match max {
            1 => Event::Resize { min_size: small.connections, max_size: small.connections.max(2) },
            _ => Event::Resize { min_size: 0, max_size: 1 },
        });
        moves.push(Event::Shutdown { deadline: self.now + Duration::from_millis(500) });
        moves
    }

    fn acquire(&self, wait: Duration) -> Event {
        let waiter = WaiterId(self.next_waiter);
        Event::Acquire { waiter, deadline: self.now + wait, leak_after: None, site: SiteId(0) }
    }

    fn moves_of(&self, conn: pgweir_core::pool::ConnId, is: Is, moves: &mut Vec<Event>) {
        match is {
            Is::Connecting => {
                moves.push(Event::Connected { conn, facts: Default::default() });
                for class in [FaultClass::Transient, FaultClass::Permanent, FaultClass::Capacity] {
                    moves.push(Event::ConnectFailed { conn, fault: fault(class) });
                }
            }
            Is::Validating => {
                moves.push(Event::Validated { conn });
                moves.push(Event::ValidationFailed { conn, fault: fault(FaultClass::Transient) });
            }
            Is::Resetting => {
                moves.push(Event::Reset { conn });
                moves.push(Event::ResetFailed { conn, fault: fault(FaultClass::Transient) });
            }
            Is::Idle => {
                moves.push(Event::Touched { conn });
                moves.push(Event::Lost { conn, fault: fault(FaultClass::Transient) });
            }
            Is::Lent { since, .. } => {
                for fate in [Fate::Clean, Fate::Unused, Fate::Dirty, Fate::Broken, Fate::Discarded] {
                    let fault = (fate == Fate::Broken).then(|| fault(FaultClass::Transient));
                    moves.push(Event::Release { conn, fate, queries: 1, fault });
                }
                // The driver looks at the socket as soon as a connection is granted, and not later.
                if since == self.now {
                    moves.push(Event::CheckFailed { conn, fault: fault(FaultClass::Transient) });
                }
            }
            Is::Closing { .. } => moves.push(Event::Closed { conn }),
        }
    }
}

fn fault(class: FaultClass) -> Box<Fault> {
    Box::new(Fault::plain(class, "a fault"))
}
