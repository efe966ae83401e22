//! What the oracle keeps of a step, and of the whole run.

use pgweir_core::pool::{CloseReason, ConnId, FaultClass, ShutdownReport};
use pgweir_core::time::Instant;

/// What matters of the step that is being made.
#[derive(Clone, Debug, Default)]
pub(super) struct Step {
    /// Whether it is an acquire: one that is refused at once is demand while it is handled.
    pub(super) asked: bool,
    pub(super) nudge: bool,
    /// A suspected lease that ended: it must be announced.
    pub(super) resolved: Option<ConnId>,
    /// A connection that just came back, from its user or from a reset.
    pub(super) returned: Option<ConnId>,
    /// A lease whose cutting off was announced.
    pub(super) forced: Option<ConnId>,
}

/// What must be found in the pool's own numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) asked: u64,
    pub(super) granted: u64,
    /// Those included that were taken back.
    pub(super) grants: u64,
    pub(super) released: u64,
    pub(super) cancelled: u64,
    pub(super) timeouts: u64,
    pub(super) rejected: u64,
    pub(super) opened: u64,
    pub(super) connects: u64,
    pub(super) suspected: u64,
    pub(super) queries: u64,
    pub(super) validations: u64,
    pub(super) peak_active: u32,
    pub(super) closed: [u64; CloseReason::ALL.len()],
    pub(super) failures: [u64; FaultClass::ALL.len()],
    /// When anything last failed at all.
    pub(super) trouble_at: Option<Instant>,
    /// When something failed that health must still speak of.
    pub(super) fault_at: Option<Instant>,
    /// When the pool last was as it should be.
    pub(super) well_since: Option<Instant>,
    /// When an acquire last took too long.
    pub(super) slow_at: Option<Instant>,
    pub(super) ending: ShutdownReport,
    pub(super) init_failed: bool,
}

impl Seen {
    /// A connect failed.
    pub(super) fn failed(&mut self, now: Instant, class: FaultClass) {
        self.failures[class as usize] += 1;
        (self.trouble_at, self.fault_at) = (Some(now), Some(now));
    }

    /// A connection that was opened then was lost. One from before the pool was last well is part of what that ended.
    pub(super) fn lost(&mut self, now: Instant, opened: Instant) {
        self.trouble_at = Some(now);
        if self.well_since.is_none_or(|since| opened >= since) {
            self.fault_at = Some(now);
        }
    }
}
