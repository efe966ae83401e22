//! Giving up requests, and making a connection that came back dirty fit for its next user.

use super::connection::{Connection, Phase};
use super::exchange::{Exchange, Kind, Round};
use super::request::{Request, RequestId, TransactionStatus};
use crate::pool::{Fault, FaultClass};
use crate::time::Instant;

use postgres_protocol::message::frontend;

/// More than this unsent, and closing is cheaper than draining (DESIGN 10).
const MAX_UNSENT: usize = 1 << 20;
/// A rollback can be hit by the cancel that was meant for what went before it; three in a row are not an accident.
const MAX_ROLLBACKS: u8 = 3;

/// What [`Connection::settle`] found to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Settle {
    /// Write, read, and call again.
    Wait {
        /// The server is at work on something that nobody wants any more: a CancelRequest is worth while. It stops one
        /// statement, so a pipeline needs several.
        cancel: bool,
    },
    /// Ready, idle, nothing pending: the next one can have it.
    Settled,
    /// Closing is cheaper, or the only way.
    Close(Fault),
}

/// Whether a CancelRequest may still be on its way to this session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cancel {
    /// None is.
    None,
    /// So many streams with one are open.
    InFlight(u32),
    /// All are known to be through; the signal has had its effect once a request with this id or a later one is
    /// answered.
    Barrier(RequestId),
}

impl Connection {
    /// Nobody wants this request's answer any more. Its events, those already queued included, are dropped; the
    /// connection goes on reading to its ReadyForQuery. If no byte of it was sent it is un-queued. Unknown and finished
    /// requests have their queued events dropped, no more.
    pub fn abandon(&mut self, id: RequestId) {
        self.events.drop_request(id);
        if let Ok(index) = self.pending.binary_search_by_key(&id, |exchange| exchange.id) {
            self.give_up(index);
        }
    }

    /// [`Connection::abandon`]s every request.
    pub fn abandon_all(&mut self) {
        self.events.drop_requests();
        // From the back, so that taking back bytes moves as few as possible.
        for index in (0..self.pending.len()).rev() {
            self.give_up(index);
        }
    }

    /// Makes a connection that came back dirty fit for its next user (DESIGN 10, "Drain of an abandoned request"):
    /// abandons every request, then rolls back what is open. Call it, pump, and call again after each `receive`, until
    /// it says Settled or Close, under a deadline. More than a megabyte unsent is a reason to close.
    ///
    /// To cancel what runs: [`Connection::cancel_started`], send [`cancel_request`](super::cancel_request) on a stream
    /// of its own, read that to its end, [`Connection::cancel_ended`], and go on.
    pub fn settle(&mut self, now: Instant) -> Settle {
        if self.phase != Phase::Ready {
            let fault = self.fault().cloned();
            return Settle::Close(fault.unwrap_or_else(|| {
                Fault::plain(FaultClass::Transient, format!("the connection came back while {}", self.phase))
            }));
        }
        self.abandon_all();
        if self.outgoing.len() > MAX_UNSENT {
            let unsent = self.outgoing.len();
            return Settle::Close(Fault::plain(
                FaultClass::Transient,
                format!(
                    "a request was dropped with {unsent} of its bytes unsent: closing is cheaper than sending them"
                ),
            ));
        }
        if !self.pending.is_empty() {
            let written = self.outgoing.written();
            let cancel = self.pending.iter().any(|exchange| !exchange.internal && exchange.start < written);
            return Settle::Wait { cancel };
        }
        match self.cancel {
            Cancel::InFlight(_) => return Settle::Wait { cancel: false },
            // A round trip, and the signal has met either this or nothing.
            Cancel::Barrier(_) => return self.settle_by(now, ""),
            Cancel::None => {}
        }
        if self.status == TransactionStatus::Idle {
            self.rollbacks = 0;
            return Settle::Settled;
        }
        self.rollbacks += 1;
        if self.rollbacks > MAX_ROLLBACKS {
            return Settle::Close(Fault::plain(FaultClass::Transient, "the open transaction could not be rolled back"));
        }
        self.settle_by(now, "ROLLBACK")
    }

    /// A CancelRequest is about to be sent on another stream. Until [`Connection::cancel_ended`], and a round trip after
    /// it, `settle` will not say Settled and `fate` not Clean: a late cancel must not hit the next user.
    pub fn cancel_started(&mut self) {
        self.cancel = match self.cancel {
            Cancel::InFlight(streams) => Cancel::InFlight(streams.saturating_add(1)),
            Cancel::None | Cancel::Barrier(_) => Cancel::InFlight(1),
        };
    }

    /// The CancelRequest's stream has ended, or it could not be sent. Once for each `cancel_started`.
    pub fn cancel_ended(&mut self) {
        self.cancel = match self.cancel {
            Cancel::InFlight(0 | 1) => Cancel::Barrier(RequestId(self.next_id)),
            Cancel::InFlight(streams) => Cancel::InFlight(streams - 1),
            other => other,
        };
    }

    fn settle_by(&mut self, now: Instant, sql: &str) -> Settle {
        match self.enqueue(now, &Request::Simple { sql }, true) {
            Ok(_) => Settle::Wait { cancel: false },
            Err(error) => Settle::Close(Fault::plain(FaultClass::Transient, error.to_string())),
        }
    }

    fn give_up(&mut self, index: usize) {
        let exchange = &mut self.pending[index];
        if exchange.abandoned {
            return;
        }
        if exchange.start >= self.outgoing.written() {
            self.take_back(index);
            return;
        }
        exchange.abandoned = true;
        self.sync(index);
    }

    /// Un-queues a request of which no byte was sent.
    fn take_back(&mut self, index: usize) {
        let Some(exchange) = self.pending.remove(index) else { return };
        self.outgoing.remove(exchange.start, exchange.end);
        let length = exchange.end - exchange.start;
        for later in self.pending.range_mut(index..) {
            later.start -= length;
            later.end -= length;
        }
        self.queries = self.queries.saturating_sub(u64::from(exchange.kind.runs()));
        for name in &exchange.closes {
            self.statements.close(name.clone());
        }
        if let Exchange { kind: Kind::Close, statement: Some(statement), .. } = &exchange {
            self.statements.close(statement.name.clone());
        }
    }

    /// Ends the round of a request, if it is open: the server will say ReadyForQuery.
    pub(super) fn sync(&mut self, index: usize) {
        if self.pending[index].round != Round::Synced {
            self.pending[index].round = Round::Synced;
            self.scratch.clear();
            frontend::sync(&mut self.scratch);
            self.append_to(index);
        }
    }

    /// Queues what is in the scratch buffer behind the other bytes of this request. Those of later ones are unsent.
    pub(super) fn append_to(&mut self, index: usize) {
        let length = self.scratch.len() as u64;
        let end = self.pending[index].end;
        self.outgoing.insert(end, &self.scratch);
        self.scratch.clear();
        self.pending[index].end += length;
        for later in self.pending.range_mut(index + 1..) {
            later.start += length;
            later.end += length;
        }
    }
}
