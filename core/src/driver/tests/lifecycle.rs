//! Opening, closing, and the last handle.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Held, Step, ToyPool, World};
use crate::error::{AcquireError, OpenError};
use crate::pool::State;

#[test]
fn a_dropped_open_closes_what_it_opened() {
    let mut world = World::default();
    world.toy.hold(Step::Connect);
    let mut open = Held::new(world.builder(2, 2).open());
    open.waits();
    world.run();
    assert_eq!(world.toy.asked(Step::Connect), 2);
    drop(open);
    world.run();
    assert!(world.tasks.is_empty(), "the background task has ended");
    world.toy.let_go(Step::Connect);
    assert_eq!(world.toy.open(), 0);
}

#[test]
fn an_open_on_a_runtime_that_is_gone_says_closed() {
    let mut world = World::default();
    let mut open = Held::new(world.builder(1, 1).open());
    open.waits();
    world.stop();
    assert!(matches!(open.ready(), Err(OpenError::Closed)));
}

#[test]
fn a_dropped_close_goes_on_and_all_get_the_same_report() {
    let mut world = World::default();
    let pool = world.pool(1, 2);
    let lease = world.lease(&pool);
    let mut first = Held::new(pool.close());
    first.waits();
    drop(first);
    let mut second = Held::new(pool.close());
    let mut third = Held::new(pool.close());
    second.waits();
    third.waits();
    assert!(matches!(pool.try_get(), Err(AcquireError::Closed)));
    drop(lease);
    world.run();
    let report = second.ready();
    assert_eq!((report.finished, report.forced), (1, 0));
    assert_eq!(third.ready(), report);
    assert_eq!(world.toy.open(), 0);
    assert!(world.tasks.is_empty());
}

#[test]
fn a_lease_outlives_its_pool_cut_off() {
    let mut world = World::default();
    let pool = world.pool(1, 1);
    let lease = world.lease(&pool);
    let mut close = Held::new(pool.close_timeout(Duration::from_secs(1)));
    close.waits();
    world.run();
    world.advance(Duration::from_secs(1));
    assert_eq!(close.ready().forced, 1);
    assert_eq!(world.toy.line().aborted, [1]);
    assert_eq!(world.toy.open(), 1, "its holder still has the object");
    drop(lease);
    assert_eq!(world.toy.open(), 0);
    drop(close);
    drop(pool);
}

#[test]
fn the_last_handle_ends_the_pool_when_the_leases_are_back() {
    let mut world = World::default();
    let pool = world.pool(2, 2);
    let lease = world.lease(&pool);
    let other = pool.clone();
    drop(pool);
    world.run();
    assert_eq!(other.status().total, 2);
    let mut acquire = Held::new(other.get());
    drop(other);
    assert!(matches!(acquire.poll(), std::task::Poll::Ready(Err(AcquireError::Closed))));
    world.run();
    assert_eq!(world.toy.open(), 1);
    drop(lease);
    world.run();
    assert_eq!(world.toy.open(), 0);
    assert!(world.tasks.is_empty());
}

/// A pool of one or two whose connect, in the moment in which it succeeds, hands `act` the pool that is in the slot.
fn meddled_with(
    world: &mut World,
    act: impl Fn(ToyPool) + Send + Sync + 'static,
) -> (ToyPool, Arc<Mutex<Option<ToyPool>>>) {
    let slot: Arc<Mutex<Option<ToyPool>>> = Arc::default();
    let (taken, act) = (slot.clone(), Arc::new(act));
    let pool = world.start(world.builder(1, 2).after_connect(move |_| {
        let (pool, act) = (taken.lock().unwrap().take(), act.clone());
        Box::pin(async move {
            pool.into_iter().for_each(|pool| act(pool));
            Ok(())
        })
    }));
    (pool, slot)
}

#[test]
fn the_last_handle_may_be_dropped_by_a_hook() {
    let mut world = World::default();
    let (pool, slot) = meddled_with(&mut world, drop);
    let _lease = world.lease(&pool);
    let mut acquire = Held::new(pool.get());
    acquire.waits();
    *slot.lock().unwrap() = Some(pool);
    world.run();
    assert!(matches!(acquire.ready(), Err(AcquireError::Closed)));
    drop(_lease);
    world.run();
    assert!(world.tasks.is_empty());
    assert_eq!(world.toy.open(), 0);
}

/// An abort handle keeps a socket open, and with it a backend on the server: the slot of a connect that is given up in the
/// very moment of its success must not keep one.
#[test]
fn a_connect_that_succeeds_as_it_is_given_up_leaves_nothing_of_its_socket() {
    for closes in [false, true] {
        let mut world = World::default();
        let (pool, slot) = meddled_with(&mut world, move |pool| match closes {
            true => drop(Held::new(pool.close()).poll()),
            false => pool.resize(1, 1),
        });
        let lease = world.lease(&pool);
        let mut acquire = Held::new(pool.get());
        acquire.waits();
        *slot.lock().unwrap() = Some(pool.clone());
        world.run();
        assert_eq!((world.toy.line().opened, pool.status().total), (2, 1), "the second came too late");
        assert_eq!((world.toy.open(), world.toy.handles()), (1, 1), "only what is lent is left, closes: {closes}");
        drop(lease);
        world.run();
        assert_eq!((world.toy.open(), world.toy.handles()), if closes { (0, 0) } else { (1, 1) });
    }
}

#[test]
fn a_runtime_that_is_shut_down_leaves_nobody_waiting() {
    let mut world = World::default();
    let pool = world.pool(2, 2);
    let lease = world.lease(&pool);
    let _other = world.lease(&pool);
    let mut acquire = Held::new(pool.get());
    acquire.waits();
    let mut close = Held::new(pool.close());
    close.waits();
    world.stop();
    assert!(matches!(acquire.ready(), Err(AcquireError::Closed)));
    assert_eq!(close.ready().forced, 2);
    drop(lease);
    assert_eq!(world.toy.open(), 1);
    assert!(matches!(pool.try_get(), Err(AcquireError::Closed)));
    assert_eq!(pool.health().state, State::Terminated);
}

#[test]
fn a_runtime_that_is_shut_down_in_the_middle_of_every_job_leaves_no_connection() {
    for step in [Step::Connect, Step::Validate, Step::Reset, Step::Close] {
        let mut world = World::default();
        let pool = world.pool(1, 2);
        world.toy.hold(step);
        let lease = world.lease(&pool);
        match step {
            Step::Connect => {
                Held::new(pool.get()).waits();
                drop(lease);
            }
            Step::Validate => {
                drop(lease);
                world.advance(Duration::from_secs(2));
                Held::new(pool.get()).waits();
            }
            Step::Reset => {
                world.toy.line().fate = Some(crate::pool::Fate::Dirty);
                drop(lease);
            }
            _ => {
                drop(lease);
                pool.recycle();
            }
        }
        world.run();
        world.stop();
        drop(pool);
        assert_eq!(world.toy.open(), 0, "{step:?}");
    }
}
