//! Acquires among themselves and with the release they wait for.

use loom::future::block_on;

use super::rig::{Rig, check, poll_once, spawn};

#[test]
fn a_grant_meets_an_acquire_that_is_dropped() {
    check(3, || {
        let rig = Rig::default();
        let (pool, background) = rig.pool(1, 1);
        let lease = pool.try_get().expect("it is idle");
        let mut first = pool.get();
        assert!(poll_once(&mut first).is_pending());
        let second = pool.get();
        let dropping = spawn(move || drop(first));
        let waiting = spawn(move || drop(block_on(second).expect("the other is gone")));
        drop(lease);
        dropping.join().unwrap();
        waiting.join().unwrap();
        let status = pool.status();
        assert_eq!((status.idle, status.active, status.waiting), (1, 0, 0));
        rig.close(pool, background);
    });
}

#[test]
fn a_release_meets_two_acquires() {
    check(3, || {
        let rig = Rig::default();
        let (pool, background) = rig.pool(1, 1);
        let lease = pool.try_get().expect("it is idle");
        let acquires = [pool.get(), pool.get()];
        let waiting = acquires.map(|acquire| spawn(move || drop(block_on(acquire).expect("it comes back"))));
        drop(lease);
        waiting.into_iter().for_each(|thread| thread.join().unwrap());
        let status = pool.status();
        assert_eq!((status.idle, status.active, status.waiting), (1, 0, 0));
        assert_eq!(rig.wire.opened(), 1);
        rig.close(pool, background);
    });
}

#[test]
fn a_grant_meets_an_acquire_that_moves_to_another_task() {
    check(3, || {
        let rig = Rig::default();
        let (pool, background) = rig.pool(1, 1);
        let lease = pool.try_get().expect("it is idle");
        let mut acquire = pool.get();
        assert!(poll_once(&mut acquire).is_pending());
        let releasing = spawn(move || drop(lease));
        drop(block_on(acquire).expect("it comes back"));
        releasing.join().unwrap();
        assert_eq!(pool.status().idle, 1);
        rig.close(pool, background);
    });
}
