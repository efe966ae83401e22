//! What the examples share.

use async_signal::{Signal, Signals};
use futures_lite::StreamExt;

/// Ctrl-C, or a polite kill.
pub(crate) async fn interrupt() {
    let mut signals = Signals::new([Signal::Int, Signal::Term]).expect("signal handlers");
    signals.next().await;
}
