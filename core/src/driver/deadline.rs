//! A future with an end.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use crate::runtime::Runtime;
use crate::time::Instant;

/// The future's result, or `None` once the deadline has passed; the future is dropped then.
pub(crate) async fn within<R: Runtime, F: Future>(runtime: &R, deadline: Instant, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut timer = None;
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        // Made late: what is ready at once needs none.
        let timer = timer.get_or_insert_with(|| runtime.timer(deadline));
        Pin::new(timer).poll(cx).map(|()| None)
    })
    .await
}
