//! A manager or hook that panics costs a connection, not a slot and not the pool.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::{Held, Step, World};

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
