//! New bounds meet a release.

use std::time::Duration;

use loom::future::block_on;

use super::rig::{Rig, check, poll_once, spawn};

#[test]
fn a_resize_to_less_meets_a_release() {
    check(3, || {
        let rig = Rig::default();
        let (pool, background) = rig.pool(2, 2);
        let lease = pool.try_get().expect("it is idle");
        let task = background.spawn();
        let releasing = spawn(move || drop(lease));
        pool.resize(1, 1);
        block_on(rig.wire.until(2, 1));
        releasing.join().unwrap();
        assert_eq!(pool.status().max, 1);
        rig.end(pool, task);
    });
}

#[test]
fn a_resize_to_more_meets_a_release_and_an_acquire() {
    check(2, || {
        let rig = Rig::default();
        let (pool, mut background) = rig.pool(1, 1);
        let lease = pool.try_get().expect("it is idle");
        // Its deadline is what the task sleeps for: nothing that the new bounds lead to is due earlier.
        let mut acquire = pool.get_timeout(Duration::from_secs(1));
        assert!(poll_once(&mut acquire).is_pending());
        background.rest();
        let task = background.spawn();
        let user = spawn(move || drop(block_on(acquire).expect("there is one, old or new")));
        pool.resize(2, 2);
        drop(lease);
        block_on(rig.wire.until(2, 2));
        user.join().unwrap();
        rig.end(pool, task);
    });
}
