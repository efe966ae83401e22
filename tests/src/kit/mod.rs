//! What a program needs of its runtime beyond [`Runtime`], built from that trait alone: tasks that can be joined and
//! aborted, sleep, timeout, join and the first of two. The real-database tests and the demo are written with these and
//! so run on every runtime.

mod race;
mod task;

use std::time::Duration;

use pgweir_core::runtime::Runtime;

pub use futures_lite::future::{yield_now, zip as join};
pub use race::{Elapsed, timeout, unless};
pub use task::{Task, TaskError, join_all, spawn};

/// Waits.
pub async fn sleep<R: Runtime>(runtime: &R, time: Duration) {
    runtime.timer(runtime.now() + time).await;
}

/// Runs what blocks on a thread of its own and waits for it: the runtime's thread may be the only one.
///
/// # Panics
/// As `work` does.
pub async fn off_thread<R: Runtime, T: Send + 'static>(runtime: &R, work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(work);
    while !thread.is_finished() {
        sleep(runtime, Duration::from_millis(1)).await;
    }
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
