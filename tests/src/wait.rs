//! Waiting for conditions.

use std::thread;
use std::time::{Duration, Instant};

/// The usual limit of a wait: generous, because many tests share few cores, and free, because a wait ends as soon as
/// its condition holds.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Waits until `condition` holds, asking again every 1 to 20 ms.
///
/// # Panics
/// After `limit`, naming `what` and the caller's line.
#[track_caller]
pub fn eventually(what: &str, limit: Duration, condition: impl FnMut() -> bool) {
    assert!(poll_until(limit, condition), "{what}: not within {limit:?}");
}

/// Waits until `condition` holds, asking again every 1 to 20 ms; false if it did not within `limit`. It is asked at
/// least once, and a last time at the end.
pub fn poll_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        let last = Instant::now() >= end;
        if condition() {
            return true;
        }
        if last {
            return false;
        }
        // Between two looks at the condition; longer each time, and never beyond the limit.
        thread::sleep(pause.min(end.saturating_duration_since(Instant::now())));
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
