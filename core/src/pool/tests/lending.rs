//! Acquire, queue, grant, release.

use super::rig::{Rig, config, secs};
use crate::config::PoolConfig;
use crate::pool::{Action, Event, Fate, Reject, State};

#[test]
fn r_1_3_a_fresh_pool_has_min_size_idle_and_nothing_acquired() {
    let rig = Rig::ready(config());
    let stats = rig.machine.stats(rig.now);
    assert_eq!((stats.counts.total, stats.counts.idle, stats.counts.active), (2, 2, 0));
    assert_eq!((stats.totals.acquisitions, stats.totals.releases), (0, 0));
    assert_eq!(rig.machine.state(), State::Healthy);
}

#[test]
fn r_2_1_an_idle_connection_is_granted_with_one_action() {
    let mut rig = Rig::ready(config());
    let waiter = rig.acquire();
    assert!(matches!(rig.actions[..], [Action::Grant { waiter: to, .. }] if to == waiter), "{:?}", rig.actions);
    let conn = rig.granted(waiter).unwrap();
    rig.release(conn, Fate::Clean);
    assert!(rig.actions.is_empty(), "{:?}", rig.actions);
    assert_eq!(rig.counts().idle, 2);
}

#[test]
fn r_2_1_the_pool_grows_to_max_size_then_callers_queue_in_order() {
    let mut rig = Rig::ready(PoolConfig { max_size: 4, ..config() });
    let waiters: Vec<_> = (0..7).map(|_| rig.acquire()).collect();
    assert_eq!(rig.counts().connecting, 2);
    rig.connect_all();
    let grants = rig.take_grants();
    assert_eq!(grants.iter().map(|(waiter, _)| *waiter).collect::<Vec<_>>(), waiters[..4]);
    assert_eq!((rig.counts().active, rig.counts().waiting, rig.counts().total), (4, 3, 4));
    for (waiter, (_, conn)) in waiters[4..].iter().zip(&grants) {
        rig.release(*conn, Fate::Clean);
        assert_eq!(rig.granted(*waiter), Some(*conn), "FIFO");
    }
}

#[test]
fn try_get_never_waits_but_makes_the_next_try_succeed() {
    let mut rig = Rig::ready(PoolConfig { min_size: 0, ..config() });
    let waiter = rig.acquire_for(secs(0));
    assert_eq!(rig.rejected(waiter), Some(Reject::WouldBlock));
    assert_eq!(rig.counts().connecting, 1);
    let again = rig.acquire_for(secs(0));
    assert_eq!(rig.rejected(again), Some(Reject::WouldBlock));
    assert_eq!(rig.counts().connecting, 1, "no over-creation");
    rig.connect_all();
    let third = rig.acquire_for(secs(0));
    assert!(rig.granted(third).is_some());
}

#[test]
fn a_cancelled_waiter_is_answered_no_more() {
    let mut rig = Rig::fixed(1);
    let conn = rig.lease();
    let (first, second) = (rig.acquire(), rig.acquire());
    rig.event(Event::Cancel { waiter: first });
    rig.release(conn, Fate::Clean);
    assert_eq!(rig.take_grants(), [(second, conn)]);
    assert!(rig.rejected(first).is_none());
}
