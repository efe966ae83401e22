//! Acquires: races between grants, cancels and wakers.

use std::task::Poll;
use std::time::Duration;

use super::{Held, Step, World};
use crate::config::PoolConfig;
use crate::error::AcquireError;
use crate::tests::cases;

#[test]
fn a_grant_to_a_dropped_future_goes_to_the_next_in_line() {
    let mut world = World::default();
    let pool = world.pool(1, 1);
    let lease = world.lease(&pool);
    let mut first = Held::new(pool.get());
    let mut second = Held::new(pool.get());
    first.waits();
    second.waits();
    drop(lease);
    assert!(first.is_woken() && !second.is_woken(), "in order of arrival");
    drop(first);
    let lease = second.ready().expect("the connection");
    assert_eq!(pool.status().active, 1);
    assert_eq!(pool.stats().cancelled, 1);
    drop(lease);
    assert_eq!((pool.status().idle, world.toy.open()), (1, 1));
}

#[test]
fn a_cancelled_waiter_keeps_nobody_waiting() {
    let mut world = World::default();
    let pool = world.pool(1, 1);
    let lease = world.lease(&pool);
    let mut first = Held::new(pool.get());
    let mut second = Held::new(pool.get());
    first.waits();
    second.waits();
    drop(first);
    drop(lease);
    second.ready().expect("the connection");
}

#[test]
fn the_task_that_polled_last_is_woken() {
    let mut world = World::default();
    let pool = world.pool(1, 1);
    let lease = world.lease(&pool);
    let mut acquire = Held::new(pool.get());
    acquire.waits();
    let before = acquire.moved();
    acquire.waits();
    drop(lease);
    assert!(!before.lower(), "the first task has nothing to do with it any more");
    acquire.ready().expect("the connection");
}

#[test]
fn a_spurious_poll_changes_nothing() {
    let mut world = World::default();
    let pool = world.pool(1, 1);
    let lease = world.lease(&pool);
    let mut acquire = Held::new(pool.get());
    for _ in 0..10 {
        acquire.waits();
    }
    assert_eq!(pool.status().waiting, 1);
    drop(lease);
    acquire.ready().expect("the connection");
}

#[test]
fn waiters_that_come_and_go_leave_no_memory_behind() {
    let mut world = World::default();
    let pool = world.pool(1, 1);
    let lease = world.lease(&pool);
    for _ in 0..cases(1_000) {
        let mut some: Vec<_> = (0..4).map(|_| Held::new(pool.get())).collect();
        some.iter_mut().for_each(Held::waits);
    }
    drop(lease);
    for _ in 0..cases(1_000) {
        drop(world.lease(&pool));
    }
    assert!(pool.shared().lock().cells.len() <= 4);
    assert_eq!(pool.status().waiting, 0);
}

#[test]
fn a_deadline_is_met_without_anybodys_help() {
    let mut world = World::default();
    let pool = world.pool(1, 1);
    let lease = world.lease(&pool);
    let mut acquire = Held::new(pool.get_timeout(Duration::from_millis(50)));
    let mut patient = Held::new(pool.get_timeout(Duration::MAX));
    acquire.waits();
    patient.waits();
    world.run();
    world.advance(Duration::from_millis(49));
    assert!(!acquire.is_woken());
    world.advance(Duration::from_millis(1));
    let Err(AcquireError::Timeout(report)) = acquire.ready() else { panic!("the time is over") };
    assert_eq!(report.waited, Duration::from_millis(50));
    drop(lease);
    patient.ready().expect("never is a legal deadline");
}

#[test]
fn a_connection_that_died_unseen_is_replaced_within_the_same_acquire() {
    let mut world = World::default();
    let pool = world.pool(1, 1);
    world.advance(Duration::from_millis(10));
    // The reactor has not noticed yet: only the look at checkout can.
    world.toy.line().dead.insert(1);
    let mut acquire = Held::new(pool.get());
    acquire.waits();
    world.run();
    assert_eq!(acquire.ready().expect("another connection").id, 2);
    assert_eq!(world.toy.open(), 1);
    assert_eq!(pool.stats().total_acquisitions, 1);
}

#[test]
fn a_dropped_acquire_gives_back_what_its_hook_had() {
    let mut world = World::default();
    let toy = world.toy.clone();
    let pool = world.start(world.builder(1, 1).before_acquire(move |_| {
        let toy = toy.clone();
        Box::pin(async move {
            toy.step(Step::Reset).await;
            Ok(())
        })
    }));
    world.toy.hold(Step::Reset);
    let mut acquire = Held::new(pool.get());
    acquire.waits();
    assert_eq!(pool.status().active, 1);
    drop(acquire);
    assert_eq!((pool.status().active, pool.status().idle), (0, 1));
    assert!(matches!(pool.try_get(), Err(AcquireError::WouldBlock)), "a hook that waits is not waited for");
    assert_eq!((pool.status().active, pool.status().idle), (0, 1));
}

#[test]
fn a_hook_that_refuses_gets_another_connection() {
    let mut world = World::default();
    let pool = world.start(world.builder(1, 2).before_acquire(|conn| {
        let id = conn.id;
        Box::pin(async move { if id == 1 { Err("not this one".into()) } else { Ok(()) } })
    }));
    assert_eq!(world.lease(&pool).id, 2);
    world.run();
    assert_eq!(world.toy.open(), 1);
}

#[test]
fn more_acquires_than_may_wait_are_refused_and_the_others_served() {
    let mut world = World::default();
    let config = PoolConfig { min_size: 1, max_size: 1, max_waiting: 2, ..PoolConfig::default() };
    let builder = world.configured(config);
    let pool = world.start(builder);
    let lease = world.lease(&pool);
    let mut queued: Vec<_> = (0..2).map(|_| Held::new(pool.get())).collect();
    queued.iter_mut().for_each(Held::waits);
    let mut third = Held::new(pool.get());
    assert!(matches!(third.poll(), Poll::Ready(Err(AcquireError::QueueFull { max_waiting: 2 }))));
    drop(lease);
    for mut acquire in queued {
        drop(acquire.ready().expect("the connection"));
    }
}

#[test]
fn a_hook_that_fails_after_the_shutdown_cut_it_off_ends_the_acquire() {
    let mut world = World::default();
    let toy = world.toy.clone();
    let pool = world.start(world.builder(1, 1).before_acquire(move |_| {
        let toy = toy.clone();
        Box::pin(async move {
            toy.step(Step::Validate).await;
            Err("too late".into())
        })
    }));
    world.toy.hold(Step::Validate);
    let mut acquire = Held::new(pool.get());
    acquire.waits();
    let mut close = Held::new(pool.close_timeout(Duration::ZERO));
    close.waits();
    world.run();
    assert_eq!(close.ready().forced, 1);
    world.toy.let_go(Step::Validate);
    assert!(matches!(acquire.ready(), Err(AcquireError::Closed)));
}

#[test]
fn an_acquire_whose_connection_was_cut_off_by_the_shutdown_is_answered() {
    let mut world = World::default();
    let pool = world.pool(1, 1);
    let lease = world.lease(&pool);
    let mut acquire = Held::new(pool.get());
    acquire.waits();
    world.run();
    world.advance(Duration::from_millis(10));
    drop(lease);
    world.advance(Duration::from_millis(10));
    let mut close = Held::new(pool.close_timeout(Duration::ZERO));
    close.waits();
    world.run();
    assert_eq!(close.ready().forced, 1);
    match acquire.ready() {
        Err(AcquireError::Closed) => {}
        other => panic!("closed is what it is: {other:?}"),
    }
    drop(acquire);
    assert_eq!(world.toy.open(), 0);
}

#[test]
fn a_hook_at_the_acquire_has_no_longer_than_the_acquire() {
    let mut world = World::default();
    let toy = world.toy.clone();
    let pool = world.start(world.builder(1, 1).before_acquire(move |_| {
        let toy = toy.clone();
        Box::pin(async move {
            toy.step(Step::Reset).await;
            Ok(())
        })
    }));
    world.toy.hold(Step::Reset);
    let mut acquire = Held::new(pool.get_timeout(Duration::from_secs(1)));
    acquire.waits();
    world.advance(Duration::from_millis(999));
    assert!(!acquire.is_woken());
    world.advance(Duration::from_millis(1));
    assert!(matches!(acquire.ready(), Err(AcquireError::Timeout(_))));
    world.toy.let_go(Step::Reset);
    world.run();
    drop(world.lease(&pool));
    assert_eq!(pool.status().active, 0);
}

#[test]
fn a_future_that_resolved_says_so_when_it_is_polled_again() {
    let mut world = World::default();
    let pool = world.pool(1, 1);
    let _lease = world.lease(&pool);
    let mut refused = Held::new(pool.get_timeout(Duration::ZERO));
    assert!(matches!(refused.poll(), Poll::Ready(Err(AcquireError::WouldBlock))));
    let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| refused.poll().is_ready()));
    let message = *again.expect_err("it is over").downcast::<String>().expect("a text");
    assert!(message.contains("after it has resolved"), "{message}");
}
