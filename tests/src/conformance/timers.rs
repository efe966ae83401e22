//! Timers.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pgweir_core::runtime::{Runtime, Timer};
use pgweir_core::time::Instant;

use super::World;
use super::io::{ms, until, within};
use super::wakers::Woken;
use crate::kit::sleep;

/// Polls once, without a waker.
fn is_due<T: Timer>(timer: &mut T) -> bool {
    Pin::new(timer).poll(&mut Context::from_waker(std::task::Waker::noop())).is_ready()
}

/// A timer is due at its deadline or after it, never before, however short.
pub async fn are_never_early<R: Runtime, W: World>() {
    let runtime = R::current();
    for micros in [0, 1, 10, 100, 500, 999, 1_000, 1_001, 1_500, 2_999, 10_000, 25_000] {
        for _ in 0..3 {
            let deadline = runtime.now() + Duration::from_micros(micros);
            within::<R, _>("a timer", runtime.timer(deadline)).await;
            let now = runtime.now();
            assert!(now >= deadline, "{:?} early, of {micros} us", deadline - now);
        }
    }
}

/// A deadline that has passed is due at the first poll or right after it.
pub async fn of_the_past_are_due_at_once<R: Runtime, W: World>() {
    let runtime = R::current();
    sleep(&runtime, ms(2)).await;
    let began = runtime.now();
    for deadline in [Instant::ZERO, began.saturating_sub(ms(1)), began] {
        within::<R, _>("a timer of the past", runtime.timer(deadline)).await;
        let mut timer = runtime.timer(Instant::MAX);
        timer.reset(deadline);
        within::<R, _>("a timer moved to the past", timer).await;
    }
    let took = runtime.now() - began;
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// Deadlines of years, of centuries and of never wait, and can be moved here.
pub async fn of_the_far_future_wait<R: Runtime, W: World>() {
    const YEAR: u64 = 365 * 24 * 3600;
    let runtime = R::current();
    let years = |n: u64| runtime.now() + Duration::from_secs(n * YEAR);
    for deadline in [years(1), years(3), years(30), years(300), years(600), Instant::MAX] {
        let mut timer = runtime.timer(deadline);
        assert!(!is_due(&mut timer), "{deadline:?}");
        timer.reset(deadline);
        assert!(!is_due(&mut timer), "{deadline:?}");
        sleep(&runtime, ms(2)).await;
        assert!(!is_due(&mut timer), "{deadline:?}");
        timer.reset(runtime.now() + ms(2));
        within::<R, _>("a timer that was moved here", timer).await;
    }
}

/// A deadline is moved while it is waited for, to later and to earlier, and the one who waits learns of it.
pub async fn are_moved_while_they_wait<R: Runtime, W: World>() {
    let runtime = R::current();
    let mut timer = runtime.timer(runtime.now() + ms(10));
    assert!(!is_due(&mut timer));
    let later = runtime.now() + ms(60);
    timer.reset(later);
    sleep(&runtime, ms(25)).await;
    let due = is_due(&mut timer);
    assert!(!due || runtime.now() >= later, "due at the deadline that it had before");
    if !due {
        within::<R, _>("the later deadline", &mut timer).await;
    }
    assert!(runtime.now() >= later);

    let mut timer = runtime.timer(runtime.now() + Duration::from_secs(3600));
    let mut moved = false;
    within::<R, _>(
        "the earlier deadline",
        poll_fn(|cx| {
            let polled = Pin::new(&mut timer).poll(cx);
            if !moved {
                moved = true;
                assert!(polled.is_pending());
                timer.reset(runtime.now() + ms(5));
                return Pin::new(&mut timer).poll(cx);
            }
            polled
        }),
    )
    .await;
}

/// A timer that was due becomes pending with a new deadline, again and again.
pub async fn wait_again_after_they_were_due<R: Runtime, W: World>() {
    let runtime = R::current();
    let mut timer = runtime.timer(runtime.now());
    for round in 0..20 {
        within::<R, _>("the timer", &mut timer).await;
        let deadline = runtime.now() + ms(1 + round % 4);
        timer.reset(deadline);
        within::<R, _>("the timer again", &mut timer).await;
        assert!(runtime.now() >= deadline, "round {round}");
        timer.reset(runtime.now() + Duration::from_secs(60));
        assert!(!is_due(&mut timer), "round {round}: pending after it was due");
        timer.reset(runtime.now());
    }
}

/// The task that waits may change between two polls: the latest one's waker is woken.
pub async fn wake_the_waker_of_the_latest_poll<R: Runtime, W: World>() {
    let runtime = R::current();
    let ((first, first_waker), (second, second_waker)) = (Woken::new(), Woken::new());
    let mut timer = runtime.timer(runtime.now() + ms(20));
    for waker in [&first_waker, &second_waker] {
        assert!(Pin::new(&mut timer).poll(&mut Context::from_waker(waker)).is_pending());
    }
    until::<R>("the second waker is woken", || second.once()).await;
    assert!(!first.once(), "the first one is not asked any more");
    assert_eq!(Pin::new(&mut timer).poll(&mut Context::from_waker(&second_waker)), Poll::Ready(()));
}

/// A thousand timers, set in any order: none is early, and none is forgotten.
pub async fn a_thousand_of_them_are_all_due<R: Runtime, W: World>() {
    const COUNT: u64 = 1_000;
    let runtime = R::current();
    let began = runtime.now() + ms(20);
    let mut timers: Vec<_> = (0..COUNT)
        .map(|n| {
            let place = n * 617 % COUNT;
            (began + Duration::from_micros(place * 50), runtime.timer(began + Duration::from_micros(place * 50)))
        })
        .collect();
    within::<R, _>(
        "all timers",
        poll_fn(|cx| {
            timers.retain_mut(|(deadline, timer)| {
                let waits = Pin::new(timer).poll(cx).is_pending();
                assert!(waits || runtime.now() >= *deadline, "early");
                waits
            });
            if timers.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        }),
    )
    .await;
}
