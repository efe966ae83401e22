//! The end of a pool meets those who use it and what is still being opened.

use loom::future::block_on;

use super::rig::{Rig, check, spawn};
use crate::error::AcquireError;

#[test]
fn a_close_meets_an_acquire_and_a_release() {
    check(2, || {
        let rig = Rig::default();
        let (pool, background) = rig.pool(1, 1);
        let lease = pool.try_get().expect("it is idle");
        let acquire = pool.get();
        let task = background.spawn();
        let user = spawn(move || {
            drop(lease);
            match block_on(acquire) {
                Ok(lease) => drop(lease),
                Err(error) => assert!(matches!(error, AcquireError::Closed), "{error}"),
            }
        });
        let report = block_on(pool.close());
        user.join().unwrap();
        assert_eq!((report.forced, pool.status().total), (0, 0));
        assert_eq!(rig.wire.open(), 0);
        rig.end(pool, task);
    });
}

#[test]
fn two_closes_wait_for_one_end() {
    check(2, || {
        let rig = Rig::default();
        let (pool, background) = rig.pool(1, 1);
        let task = background.spawn();
        let other = pool.clone();
        let closing = spawn(move || block_on(other.close()));
        let report = block_on(pool.close());
        assert_eq!(closing.join().unwrap(), report);
        rig.end(pool, task);
    });
}

#[test]
fn the_last_handle_is_dropped_while_a_connect_is_in_flight() {
    check(3, || {
        let rig = Rig::default();
        rig.wire.shut();
        let (pool, background) = rig.pool(1, 1);
        let (shared, other, wire) = (pool.shared().clone(), pool.clone(), rig.wire.clone());
        let task = background.spawn();
        let server = spawn(move || {
            wire.admit();
            drop(other);
        });
        drop(pool);
        server.join().unwrap();
        task.join().unwrap();
        // Asked while the pool's state still exists: with it goes whatever was left in it.
        assert!(shared.lock().terminated.is_some());
        assert_eq!(rig.wire.open(), 0);
    });
}

#[test]
fn the_runtime_ends_while_a_lease_comes_back_and_an_acquire_waits() {
    check(3, || {
        let rig = Rig::default();
        let (pool, background) = rig.pool(1, 1);
        let lease = pool.try_get().expect("it is idle");
        let acquire = pool.get();
        let ending = spawn(move || drop(background));
        let releasing = spawn(move || drop(lease));
        match block_on(acquire) {
            Ok(lease) => drop(lease),
            Err(error) => assert!(matches!(error, AcquireError::Closed), "{error}"),
        }
        ending.join().unwrap();
        releasing.join().unwrap();
        assert!(pool.shared().lock().terminated.is_some());
        assert_eq!((pool.status().total, rig.wire.open()), (0, 0));
    });
}
