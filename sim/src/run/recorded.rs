//! Runs of a recording: requests come when they came, and the server does what it did.

use std::time::Duration;

use pgweir_core::pool::{Fate, WaiterId};
use pgweir_core::time::Instant;

use super::clients::{Call, End, Stage};
use super::{Due, Failure, Outcome, Run, Step, Subject, run_with};
use crate::rng::Rng;
use crate::scenario::Scenario;
use crate::trace::Trace;
use crate::what_if::recording::{Change, Recording, Refusal};

/// The next of something that was recorded.
#[derive(Clone, Copy, Debug)]
pub(super) enum Recorded {
    Request(u32),
    Change(u32),
}

/// Runs a recording under the scenario's pool, duration and timeline. The scenario's groups make no requests of their
/// own; there is one for each site.
///
/// # Errors
/// As [`run`](super::run), without the last steps.
pub(crate) fn run_recording<S: Subject, T: Trace>(
    scenario: &Scenario,
    recording: &Recording,
    seed: u64,
    make: impl FnMut(&pgweir_core::config::PoolConfig, u64) -> S,
    trace: &mut T,
) -> Result<Outcome, Box<Failure>> {
    run_with(scenario, Some(recording), seed, make, trace)
}

impl<'a, S: Subject, T: Trace> Run<'a, S, T> {
    /// Has the recording begin.
    pub(super) fn play(&mut self, recording: &'a Recording, rng: Rng) {
        self.recording = Some(recording);
        // There is one host.
        self.hosts[0].play(&recording.times, rng);
        self.await_next(0, recording.requests.first().map(|request| request.at), Recorded::Request);
        self.await_next(0, recording.changes.first().map(|(at, _)| *at), Recorded::Change);
    }

    /// One at a time, so that the queue stays small.
    fn await_next(&mut self, index: u32, at: Option<Instant>, what: fn(u32) -> Recorded) {
        if let Some(at) = at {
            self.queue.push(at, Due::Recorded(what(index)));
        }
    }

    pub(super) fn recorded(&mut self, what: Recorded) -> Step {
        let Some(recording) = self.recording else { return Ok(()) };
        match what {
            Recorded::Request(index) => {
                let next = recording.requests.get(index as usize + 1).map(|request| request.at);
                self.await_next(index + 1, next, Recorded::Request);
                if self.open { self.asks_again(recording, index as usize) } else { Ok(()) }
            }
            Recorded::Change(index) => {
                let next = recording.changes.get(index as usize + 1).map(|(at, _)| *at);
                self.await_next(index + 1, next, Recorded::Change);
                if self.open {
                    self.changes(&recording.changes[index as usize].1);
                }
                Ok(())
            }
        }
    }

    fn asks_again(&mut self, recording: &Recording, index: usize) -> Step {
        let request = &recording.requests[index];
        let deadline = match request.patience {
            Some(Duration::ZERO) => Instant::ZERO,
            Some(patience) => self.now + patience,
            None => self.now + self.scenario.pool.acquire_timeout(),
        };
        let end = match request.fate {
            Fate::Dirty => End::Abandoned,
            Fate::Broken => End::Broken,
            Fate::Discarded => End::Discarded,
            Fate::Clean | Fate::Unused => End::Clean,
        };
        let call = Call {
            serial: 0,
            client: request.site,
            waiter: WaiterId(self.next_waiter),
            asked: self.now,
            hold: request.hold,
            queries: request.queries,
            end,
            stage: Stage::Waiting,
            leaked: false,
            cut: false,
        };
        self.acquire(call, deadline, request.leak_after, request.cancel)
    }

    fn changes(&mut self, change: &Change) {
        match change {
            Change::Refuse(refusal) => {
                let Refusal { fault, .. } = refusal;
                self.remark(format_args!("connections are refused: {fault}"));
                self.hosts[0].refuse(refusal.clone());
                self.logins_end(0);
                self.note_outage();
            }
            Change::Accept => {
                self.remark(format_args!("connections are accepted again"));
                self.hosts[0].accept();
                self.note_outage();
            }
            Change::Deaths { share, fault } => {
                self.remark(format_args!("{share} of the sessions end: {fault}"));
                for slot in 0..self.peers.len() {
                    if *share >= 1.0 || self.faults.chance(*share) {
                        self.session_ends(slot, fault);
                    }
                }
            }
        }
    }
}
