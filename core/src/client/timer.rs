//! One timer per connection for every command's deadline.

use std::pin::Pin;
use std::task::{Context, Poll};

use crate::runtime::{Runtime, Timer};
use crate::time::Instant;

/// A deadline that moves with every command while the runtime's timer behind it stays where it is.
///
/// Arming a timer costs more than a fast query spends on this side of the wire, and nearly no command ever meets its
/// deadline. So the timer is armed when there is none or when it is later than the new deadline, and left alone
/// otherwise: should it fire early, it is armed again for the deadline now in force. With equal timeouts that is once
/// per timeout, not once per command.
#[derive(Debug)]
pub(crate) struct LazyTimer<T> {
    deadline: Instant,
    timer: Option<T>,
    armed_for: Instant,
}

impl<T: Timer> LazyTimer<T> {
    /// Without a deadline.
    pub(crate) fn new() -> Self {
        LazyTimer { deadline: Instant::MAX, timer: None, armed_for: Instant::MAX }
    }

    /// Sets the deadline; [`Instant::MAX`] is none. The timer behind it is not touched.
    pub(crate) fn set(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// Ready when the deadline has passed; otherwise `cx` will be woken when it does, if not before.
    pub(crate) fn poll<R: Runtime<Timer = T>>(&mut self, runtime: &R, cx: &mut Context<'_>) -> Poll<()> {
        if self.deadline == Instant::MAX {
            return Poll::Pending;
        }
        let timer = match &mut self.timer {
            Some(timer) => {
                if self.armed_for > self.deadline {
                    timer.reset(self.deadline);
                    self.armed_for = self.deadline;
                }
                timer
            }
            none => {
                self.armed_for = self.deadline;
                none.insert(runtime.timer(self.deadline))
            }
        };
        while Pin::new(&mut *timer).poll(cx).is_ready() {
            let due = runtime.now() >= self.deadline;
            // A fired timer must be moved before it is polled again; a past deadline makes it fire at once, as it should.
            timer.reset(self.deadline);
            self.armed_for = self.deadline;
            if due {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}
