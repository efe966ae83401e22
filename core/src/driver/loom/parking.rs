//! The background task goes to sleep while somebody has something for it.

use std::time::Duration;

use loom::future::block_on;

use super::rig::{Rig, check, hang_up, poll_once, spawn};
use crate::error::AcquireError;
use crate::time::Instant;

#[test]
fn the_task_parks_while_a_command_is_posted() {
    check(3, || {
        let rig = Rig::default();
        let (pool, background) = rig.pool(0, 1);
        let task = background.spawn();
        drop(block_on(pool.get()).expect("a connection is opened for it"));
        rig.end(pool, task);
    });
}

#[test]
fn the_task_parks_while_an_earlier_deadline_is_posted() {
    check(3, || {
        let rig = Rig::default();
        let (pool, background) = rig.pool(1, 1);
        let lease = pool.try_get().expect("it is idle");
        let task = background.spawn();
        let mut acquire = pool.get_timeout(Duration::from_secs(1));
        assert!(poll_once(&mut acquire).is_pending());
        let runtime = rig.runtime.clone();
        let clock = spawn(move || runtime.set(Instant::from_millis(1000)));
        assert!(matches!(block_on(acquire), Err(AcquireError::Timeout(_))));
        clock.join().unwrap();
        drop(lease);
        rig.end(pool, task);
    });
}

#[test]
fn the_task_parks_while_an_idle_socket_ends() {
    check(3, || {
        let rig = Rig::default();
        let (pool, background) = rig.pool(1, 1);
        let socket = rig.wire.socket(1);
        let task = background.spawn();
        hang_up(&socket);
        block_on(rig.wire.until(2, 1));
        rig.end(pool, task);
    });
}

#[test]
fn a_socket_ends_while_its_connection_is_put_back() {
    check(2, || {
        let rig = Rig::default();
        let (pool, background) = rig.pool(1, 1);
        let lease = pool.try_get().expect("it is idle");
        let socket = rig.wire.socket(lease.id);
        let task = background.spawn();
        let releasing = spawn(move || drop(lease));
        hang_up(&socket);
        block_on(rig.wire.until(2, 1));
        releasing.join().unwrap();
        rig.end(pool, task);
    });
}
