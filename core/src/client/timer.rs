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

#[cfg(all(test, not(pgweir_loom)))]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::driver::fake::{FakeRuntime, FakeTimer};
    use crate::tests::cases;

    fn poll(timer: &mut LazyTimer<FakeTimer>, runtime: &FakeRuntime, millis: u64) -> bool {
        runtime.set(Instant::from_millis(millis));
        timer.poll(runtime, &mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_thousand_commands_arm_the_timer_once() {
        let runtime = FakeRuntime::default();
        let mut timer = LazyTimer::new();
        assert!(!poll(&mut timer, &runtime, 0), "without a deadline there is none to meet");
        assert_eq!(runtime.armed(), 0);
        for now in 0..cases(1_000) {
            timer.set(Instant::from_millis(now + 5_000));
            assert!(!poll(&mut timer, &runtime, now));
        }
        assert_eq!(runtime.armed(), 1);
    }

    #[test]
    fn a_timer_that_fires_early_is_armed_again_and_the_deadline_is_met() {
        let runtime = FakeRuntime::default();
        let mut timer = LazyTimer::new();
        timer.set(Instant::from_millis(100));
        assert!(!poll(&mut timer, &runtime, 0));
        timer.set(Instant::from_millis(150));
        assert!(!poll(&mut timer, &runtime, 120), "armed for 100");
        assert_eq!(runtime.armed(), 2);
        assert!(!poll(&mut timer, &runtime, 149));
        assert!(poll(&mut timer, &runtime, 150));
        timer.set(Instant::from_millis(300));
        assert!(!poll(&mut timer, &runtime, 299), "it can be used again");
        assert!(poll(&mut timer, &runtime, 300));
    }

    #[test]
    fn an_earlier_deadline_moves_the_timer() {
        let runtime = FakeRuntime::default();
        let mut timer = LazyTimer::new();
        timer.set(Instant::from_millis(100));
        assert!(!poll(&mut timer, &runtime, 0));
        timer.set(Instant::from_millis(50));
        assert!(!poll(&mut timer, &runtime, 10));
        assert!(poll(&mut timer, &runtime, 50));
    }
}
