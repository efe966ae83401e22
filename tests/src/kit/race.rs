//! The first of two.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use pgweir_core::runtime::Runtime;

use super::sleep;

/// What `work` returns, or `None` if `end` comes first; the other one is dropped.
pub async fn unless<T>(end: impl Future<Output = ()>, work: impl Future<Output = T>) -> Option<T> {
    let (mut end, mut work) = (pin!(end), pin!(work));
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => end.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// What `work` returns, if it does within `time`; otherwise it is dropped.
///
/// # Errors
/// [`Elapsed`] after `time`.
pub async fn timeout<R: Runtime, T>(runtime: &R, time: Duration, work: impl Future<Output = T>) -> Result<T, Elapsed> {
    unless(sleep(runtime, time), work).await.ok_or(Elapsed(time))
}

/// A [`timeout`] that ended first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not done within {0:?}")]
pub struct Elapsed(pub Duration);
