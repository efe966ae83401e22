//! The clock of this process's pools.

use std::sync::LazyLock;

use pgweir_core::time::Instant;

/// Reads the processor's cycle counter where that is sound (half the price of the system call that costs none), the
/// system's monotonic clock elsewhere. All pools share one epoch: times in their reports compare.
static CLOCK: LazyLock<Clock> = LazyLock::new(|| {
    let clock = quanta::Clock::new();
    Clock { epoch: clock.raw(), clock }
});

struct Clock {
    clock: quanta::Clock,
    epoch: u64,
}

/// Calibrates the clock, which takes up to some milliseconds once per process: better now than at the first acquire.
pub(crate) fn prepare() {
    LazyLock::force(&CLOCK);
}

#[inline]
pub(crate) fn now() -> Instant {
    Instant::from_nanos(CLOCK.clock.delta_as_nanos(CLOCK.epoch, CLOCK.clock.raw()))
}
