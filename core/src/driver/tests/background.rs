//! The background task: jobs that are overtaken, sockets that speak up, deadlines.

use std::time::Duration;

use super::{Held, Step, World};
use crate::error::AcquireError;
use crate::pool::Fate;

#[test]
fn a_connect_that_arrives_too_late_is_not_used() {
    let mut world = World::default();
    world.toy.hold(Step::Connect);
    let pool = world.pool(1, 1);
    assert_eq!(world.toy.asked(Step::Connect), 1);
    world.advance(Duration::from_secs(5));
    world.advance(Duration::from_secs(2));
    assert_eq!(world.toy.asked(Step::Connect), 2, "another attempt");
    world.toy.let_go(Step::Connect);
    world.run();
    assert_eq!(world.toy.line().opened, 1, "the first one's future is gone");
    assert_eq!((pool.status().idle, pool.status().total), (1, 1));
}

#[test]
fn a_slot_whose_close_hangs_is_used_again_after_its_deadline() {
    let mut world = World::default();
    let pool = world.pool(1, 1);
    world.toy.hold(Step::Close);
    pool.recycle();
    world.run();
    assert_eq!((pool.status().closing, world.toy.open()), (1, 1));
    let mut acquire = Held::new(pool.get());
    acquire.waits();
    world.advance(Duration::from_secs(2));
    let lease = acquire.ready().expect("a new connection");
    assert_eq!((lease.id, world.toy.open()), (2, 1), "the old one was dropped");
}

#[test]
fn an_idle_connection_that_hangs_up_is_replaced_without_traffic() {
    let mut world = World::default();
    let pool = world.pool(2, 2);
    world.toy.kill(1);
    world.run();
    assert_eq!((pool.status().idle, world.toy.open()), (2, 2));
    assert!(!world.toy.line().open.contains(&1));
}

#[test]
fn a_dirty_connection_is_drained_before_it_is_lent_again() {
    let mut world = World::default();
    let pool = world.pool(1, 1);
    world.toy.hold(Step::Reset);
    let lease = world.lease(&pool);
    world.toy.line().fate = Some(Fate::Dirty);
    drop(lease);
    let mut acquire = Held::new(pool.get());
    acquire.waits();
    world.run();
    assert!(!acquire.is_woken());
    world.toy.let_go(Step::Reset);
    world.run();
    assert_eq!(acquire.ready().expect("the same one").id, 1);
}

#[test]
fn a_drain_that_hangs_costs_its_deadline_and_the_connection() {
    let mut world = World::default();
    let pool = world.pool(1, 1);
    world.toy.hold(Step::Reset);
    let lease = world.lease(&pool);
    world.toy.line().fate = Some(Fate::Dirty);
    drop(lease);
    world.run();
    world.advance(Duration::from_secs(5));
    world.advance(Duration::from_secs(2));
    assert_eq!(world.toy.line().open.iter().copied().collect::<Vec<_>>(), [2]);
    assert_eq!(pool.status().idle, 1);
}

#[test]
fn a_timer_that_fires_early_is_armed_again() {
    let mut world = World::default();
    let pool = world.pool(1, 1);
    let _lease = world.lease(&pool);
    let mut acquire = Held::new(pool.get_timeout(Duration::from_secs(1)));
    acquire.waits();
    world.run();
    for (_, flag) in &world.tasks {
        std::task::Waker::from(flag.clone()).wake();
    }
    world.run();
    assert!(!acquire.is_woken());
    world.advance(Duration::from_secs(1));
    assert!(matches!(acquire.ready(), Err(AcquireError::Timeout(_))));
}

#[test]
fn what_was_heard_during_a_lease_is_not_looked_at_after_it() {
    let mut world = World::default();
    let pool = world.pool(1, 1);
    let lease = world.lease(&pool);
    // As async-io does when the holder's task takes the socket over from the background task.
    let stale = world.toy.line().listeners.get(&1).cloned().expect("it was listened to");
    stale.wake();
    world.run();
    drop(lease);
    world.run();
    assert_eq!(world.toy.asked(Step::Peek), 0);
    assert_eq!(pool.status().idle, 1);
}

#[test]
fn a_connection_that_its_user_discards_says_nothing_about_the_others() {
    let mut world = World::default();
    let pool = world.pool(2, 2);
    for _ in 0..5 {
        let lease = world.lease(&pool);
        lease.discard();
        world.run();
        let health = pool.health();
        assert!(health.reasons.is_empty(), "{health:?}");
    }
    assert_eq!(world.toy.asked(Step::Validate), 0, "nobody is suspect");
    assert_eq!(world.toy.open(), 2);
    assert_eq!(pool.stats().last_error, None);
}

#[test]
fn a_manager_that_resets_does_so_without_being_configured_to() {
    let mut world = World::default();
    world.toy.line().resets = true;
    let pool = world.pool(1, 1);
    drop(world.lease(&pool));
    assert_eq!(pool.status().resetting, 1);
    world.run();
    assert_eq!((world.toy.asked(Step::Reset), pool.status().idle), (1, 1));
}

#[test]
fn a_manager_with_several_hosts_is_asked_for_each() {
    let mut world = World::default();
    world.toy.line().hosts = Some(2);
    world.toy.line().refuses = [0].into();
    let pool = world.pool(1, 1);
    world.advance(Duration::from_secs(2));
    assert_eq!((pool.status().idle, world.toy.open()), (1, 1), "the second host lets it in");
}
