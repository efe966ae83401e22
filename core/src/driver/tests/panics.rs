//! A manager or hook that panics costs a connection, not a slot and not the pool.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::{Held, Step, World};
use crate::pool::Fate;

/// The pool works: both connections can be had.
fn check(world: &mut World, pool: &super::ToyPool, what: Step) {
    world.toy.behaves();
    for _ in 0..20 {
        world.advance(Duration::from_secs(1));
    }
    assert_eq!(world.tasks.len(), 1, "{what:?}: the background task lives");
    let one = world.lease(pool);
    let two = world.lease(pool);
    assert_ne!(one.id, two.id);
    drop((one, two));
    world.run();
    let status = pool.status();
    assert_eq!((status.total, status.idle, status.active), (2, 2, 0), "{what:?}");
    assert_eq!(world.toy.open(), 2, "{what:?}");
}

#[test]
fn a_panic_in_a_hook_at_the_acquire_gives_the_connection_back() {
    let mut world = World::default();
    let toy = world.toy.clone();
    let pool = world.start(world.builder(2, 2).before_acquire(move |_| {
        let toy = toy.clone();
        Box::pin(async move {
            toy.begin(Step::Abort);
            Ok(())
        })
    }));
    world.toy.panics(Step::Abort);
    let mut acquire = Held::new(pool.get());
    assert!(catch_unwind(AssertUnwindSafe(|| acquire.poll().is_ready())).is_err());
    drop(acquire);
    world.toy.behaves();
    assert_eq!(pool.status().active, 0);
    check(&mut world, &pool, Step::Abort);
}

#[test]
fn a_panic_at_the_look_before_a_grant_costs_the_connection() {
    let mut world = World::default();
    let pool = world.pool(2, 2);
    world.advance(Duration::from_millis(10));
    world.toy.panics(Step::Peek);
    assert!(catch_unwind(AssertUnwindSafe(|| pool.try_get().is_ok())).is_err());
    world.toy.behaves();
    assert_eq!(pool.status().active, 0);
    check(&mut world, &pool, Step::Peek);
}

#[test]
fn a_panic_at_the_return_of_a_lease_costs_the_connection() {
    for step in [Step::Returned, Step::Listen] {
        let mut world = World::default();
        let pool = world.pool(2, 2);
        let lease = world.lease(&pool);
        world.toy.panics(step);
        assert!(catch_unwind(AssertUnwindSafe(|| drop(lease))).is_err());
        world.toy.behaves();
        assert_eq!(pool.status().active, 0, "{step:?}: nobody holds anything");
        check(&mut world, &pool, step);
    }
}

#[test]
fn a_panic_in_the_background_costs_a_connection_at_most() {
    for step in [Step::Connect, Step::Validate, Step::Reset, Step::Close, Step::Listen, Step::Handle] {
        let mut world = World::default();
        let pool = world.pool(2, 2);
        let lease = world.lease(&pool);
        world.toy.line().fate = Some(Fate::Dirty);
        drop(lease);
        world.toy.line().fate = None;
        if step != Step::Reset {
            world.run();
        }
        world.toy.panics(step);
        match step {
            Step::Validate => {
                world.advance(Duration::from_secs(2));
                Held::new(pool.get()).waits();
            }
            Step::Reset => {}
            _ => pool.recycle(),
        }
        world.run();
        check(&mut world, &pool, step);
    }
}
