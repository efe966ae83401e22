//! Lifetimes, limits, idle reaping, resize, recycle.

use std::time::Duration;

use super::rig::{Rig, config, ms, secs};
use crate::config::PoolConfig;
use crate::pool::{Action, CloseHow, CloseReason, Event, Fate, FaultClass, Notice};

#[test]
fn r_4_3_idle_connections_are_reaped_to_min_size_on_time() {
    let mut rig = Rig::ready(PoolConfig { max_size: 6, max_idle_time: secs(1), ..config() });
    let waiters: Vec<_> = (0..6).map(|_| rig.acquire()).collect();
    rig.connect_all();
    let leases: Vec<_> = waiters.iter().filter_map(|waiter| rig.granted(*waiter)).collect();
    for conn in leases {
        rig.release(conn, Fate::Clean);
    }
    rig.pass(ms(999));
    assert_eq!(rig.counts().idle, 6);
    rig.pass(ms(1));
    assert_eq!(rig.counts().idle, 2, "PEERS 15: a second is a second");
    assert!(rig.take_closes().iter().all(|close| (close.1, close.2) == (CloseReason::IdleTimeout, CloseHow::Graceful)));
    assert_eq!(rig.noticed(|n| matches!(n, Notice::Shrunk { from: 6, to: 2 })), 1);
    rig.pass(secs(100));
    assert_eq!(rig.counts().idle, 2, "PEERS 14: never below min_size, and no churn");
    assert!(rig.take_connects().is_empty());
}

#[test]
fn last_in_first_out_lets_a_surplus_age() {
    let mut rig = Rig::ready(PoolConfig { min_size: 1, max_size: 4, max_idle_time: secs(10), ..config() });
    let waiters: Vec<_> = (0..4).map(|_| rig.acquire()).collect();
    rig.connect_all();
    let leases: Vec<_> = waiters.iter().filter_map(|waiter| rig.granted(*waiter)).collect();
    for conn in &leases {
        rig.release(*conn, Fate::Clean);
    }
    for _ in 0..110 {
        rig.pass(ms(100));
        let conn = rig.lease();
        rig.release(conn, Fate::Clean);
        assert_eq!(conn, leases[3]);
    }
    rig.connect_all();
    assert_eq!(rig.counts().total, 1, "steady light traffic does not keep four alive");
}

#[test]
fn r_9_1_max_queries_retires_on_return_and_replaces() {
    let mut rig = Rig::ready(PoolConfig { min_size: 1, max_size: 1, max_queries: 3, ..config() });
    for _ in 0..2 {
        let conn = rig.lease();
        rig.release(conn, Fate::Clean);
    }
    let conn = rig.lease();
    rig.release(conn, Fate::Clean);
    assert_eq!(rig.take_closes(), [(conn, CloseReason::QueryLimit, CloseHow::Graceful)]);
    assert_eq!(rig.counts().connecting, 0, "PEERS 32: the slot is taken until the peer has closed");
    rig.event(Event::Closed { conn });
    rig.connect_all();
    assert_eq!(rig.counts().idle, 1);
}

#[test]
fn a_close_without_answer_frees_its_slot_at_its_deadline() {
    let mut rig = Rig::ready(PoolConfig { min_size: 1, max_size: 1, max_queries: 1, ..config() });
    let conn = rig.lease();
    rig.release(conn, Fate::Clean);
    rig.pass(config().close_timeout - ms(1));
    assert_eq!(rig.counts().closing, 1);
    rig.pass(ms(1));
    assert_eq!((rig.counts().closing, rig.counts().connecting), (0, 1));
}

#[test]
fn peers_7_connections_opened_together_do_not_end_together() {
    let lifetime = secs(1000);
    let mut rig = Rig::ready(PoolConfig { min_size: 20, max_size: 40, max_connection_lifetime: lifetime, ..config() });
    let begun = rig.now;
    let mut ends = Vec::new();
    while ends.len() < 20 {
        let (at, _) = rig.machine.deadline().expect("lifetimes end");
        rig.now = rig.now.max(at);
        rig.event(Event::Tick);
        for conn in rig.take_connects() {
            rig.connected(conn);
        }
        for (conn, reason, _) in rig.take_closes() {
            assert_eq!(reason, CloseReason::Lifetime);
            ends.push(rig.now - begun);
            rig.event(Event::Closed { conn });
        }
        assert!(rig.counts().idle >= 20, "replaced before retired");
    }
    assert!(ends.iter().all(|end| (secs(900)..=lifetime).contains(end)), "{ends:?}");
    ends.dedup();
    assert!(ends.len() >= 15, "{ends:?}");
    assert!(ends[ends.len() - 1] - ends[0] > secs(40), "{ends:?}");
}

#[test]
fn r_9_2_a_lease_past_its_lifetime_is_retired_on_return_never_under_its_caller() {
    let mut rig = Rig::ready(PoolConfig { max_connection_lifetime: secs(10), ..config() });
    let conn = rig.lease();
    rig.pass_well(secs(60));
    assert_eq!(rig.counts().active, 1);
    rig.release(conn, Fate::Clean);
    for replacement in rig.take_connects() {
        rig.connected(replacement);
    }
    assert_eq!(rig.take_closes(), [(conn, CloseReason::Lifetime, CloseHow::Graceful)]);
}

/// whatever wore it out, a connection that comes back goes after its replacement where there is room for both,
/// and nobody gets it meanwhile.
#[test]
fn r_9_1_what_comes_back_worn_goes_when_its_replacement_is_there() {
    let sizes = PoolConfig { min_size: 1, max_size: 2, ..config() };
    let wear = [
        (CloseReason::Recycle, sizes.clone()),
        (CloseReason::QueryLimit, PoolConfig { max_queries: 1, ..sizes.clone() }),
        (CloseReason::Lifetime, PoolConfig { max_connection_lifetime: secs(10), ..sizes.clone() }),
        (CloseReason::QueryLimit, PoolConfig { max_queries: 1, reset_on_release: true, ..sizes }),
    ];
    for (why, config) in wear {
        let resets = config.reset_on_release;
        let mut rig = Rig::ready(config);
        let conn = rig.lease();
        match why {
            CloseReason::Recycle => rig.event(Event::Recycle),
            CloseReason::Lifetime => rig.pass(secs(60)),
            _ => {}
        }
        rig.release(conn, Fate::Clean);
        let reset = rig.take(|action| matches!(action, Action::Reset { .. }).then_some(()));
        assert_eq!(reset.len(), usize::from(resets), "{why:?}: what its user left behind does not stay");
        if resets {
            rig.event(Event::Reset { conn });
        }
        let waiter = rig.acquire();
        assert_eq!((rig.take_closes(), rig.granted(waiter)), (vec![], None), "{why:?}: it stays, and for nobody");
        let replacement = rig.take_connects();
        assert_eq!((rig.counts().total, replacement.len()), (2, 1), "{why:?}: its replacement is on its way");
        rig.connected(replacement[0]);
        assert_eq!(rig.granted(waiter), Some(replacement[0]), "{why:?}");
        assert_eq!(rig.take_closes(), [(conn, why, CloseHow::Graceful)]);
    }
}

/// where its replacement cannot come first, a worn connection goes at once.
#[test]
fn r_9_1_what_comes_back_worn_goes_at_once_where_nothing_can_come_first() {
    let worn = PoolConfig { min_size: 2, max_size: 2, max_queries: 1, ..config() };
    let mut full = Rig::ready(worn.clone());
    let conn = full.lease();
    full.release(conn, Fate::Clean);
    assert_eq!(full.take_closes(), [(conn, CloseReason::QueryLimit, CloseHow::Graceful)], "there is no room");

    let mut down = Rig::ready(PoolConfig { min_size: 3, max_size: 4, ..worn });
    let (conn, other) = (down.lease(), down.lease());
    down.release(other, Fate::Broken);
    for refused in down.take_connects() {
        down.connect_failed(refused, FaultClass::Transient);
    }
    down.take_closes();
    down.release(conn, Fate::Clean);
    assert_eq!(down.take_closes(), [(conn, CloseReason::QueryLimit, CloseHow::Graceful)], "nobody can be reached");
}

#[test]
fn an_expired_connection_is_never_granted() {
    let mut rig = Rig::ready(PoolConfig { min_size: 1, max_size: 1, max_connection_lifetime: secs(10), ..config() });
    let old = rig.unlent()[0];
    let waiter = rig.acquire_later(secs(10));
    rig.connect_all();
    assert!(rig.granted(waiter).is_some_and(|conn| conn != old));
}

#[test]
fn expired_idle_connections_are_replaced_a_few_at_a_time() {
    let mut rig = Rig::ready(PoolConfig { min_size: 10, max_size: 10, max_connection_lifetime: secs(10), ..config() });
    rig.now = rig.now + secs(3600);
    rig.event(Event::Tick);
    assert_eq!(rig.take_closes().len(), 4, "a leap of time does not close all at once");
}

#[test]
fn recycle_replaces_idle_ones_in_turn_and_lent_ones_on_return() {
    let mut rig = Rig::ready(PoolConfig { min_size: 4, max_size: 6, ..config() });
    let old = rig.unlent();
    let lent = rig.lease();
    rig.event(Event::Recycle);
    assert_eq!(rig.noticed(|n| matches!(n, Notice::RecycleStarted { connections: 4 })), 1);
    assert_eq!(rig.counts().connecting, 2, "replaced before retired");
    assert!(rig.take_closes().is_empty());
    rig.connect_all();
    rig.release(lent, Fate::Clean);
    rig.connect_all();
    let now = rig.unlent();
    assert_eq!(now.len(), 4);
    assert!(now.iter().all(|conn| !old.contains(conn)));
    assert_eq!(rig.machine.stats(rig.now).totals.closed.get(CloseReason::Recycle), 4);
}

#[test]
fn lending_one_that_is_to_be_replaced_makes_its_siblings_a_surplus() {
    let times = PoolConfig { max_connection_lifetime: secs(80), max_idle_time: secs(60), ..config() };
    let validation = crate::config::ValidationPolicy::Suspect;
    let mut rig = Rig::ready(PoolConfig { min_size: 3, max_size: 3, validation, ..times });
    // The first of them is to be replaced, but there is no room yet.
    let (at, _) = rig.machine.deadline().expect("lifetimes");
    rig.now = at;
    rig.event(Event::Tick);
    rig.event(Event::Resize { min_size: 2, max_size: 3 });
    assert!(rig.take_closes().is_empty(), "one that is being replaced does not make its siblings a surplus");
    for _ in 0..3 {
        // The machine checks after each event that no deadline is later than what is due.
        rig.acquire();
        if !rig.take_closes().is_empty() {
            return;
        }
    }
    panic!("a sibling was unused for longer than max_idle_time and stayed");
}

#[test]
fn a_connect_under_way_at_a_recycle_is_replaced_too() {
    let mut rig = Rig::ready(PoolConfig { min_size: 1, max_size: 4, ..config() });
    rig.lease();
    let waiter = rig.acquire();
    let early = rig.take_connects()[0];
    rig.event(Event::Recycle);
    rig.connected(early);
    assert_eq!(rig.granted(waiter), None, "Fresh: not from before a recycle");
    rig.connect_all();
    assert!(rig.granted(waiter).is_some_and(|conn| conn != early));
}

#[test]
fn replacements_on_their_way_are_waited_for_also_when_they_fill_the_pool() {
    let mut rig = Rig::ready(PoolConfig { min_size: 4, max_size: 8, max_connecting: 8, ..config() });
    let old = rig.unlent();
    rig.event(Event::Recycle);
    let on_their_way = rig.take_connects();
    assert_eq!((on_their_way.len(), rig.counts().total), (4, 8));
    rig.event(Event::Tick);
    rig.acquire();
    assert!(rig.take_closes().is_empty(), "replaced before retired");
    for (retired, conn) in on_their_way.into_iter().enumerate() {
        assert_eq!(rig.take_closes().len(), usize::from(retired > 0), "one for one");
        rig.connected(conn);
    }
    rig.connect_all();
    assert!(rig.unlent().iter().all(|conn| !old.contains(conn)));
}

#[test]
fn a_connection_that_waits_for_its_replacement_is_not_lent_any_more() {
    let mut rig = Rig::ready(PoolConfig { min_size: 1, max_size: 2, ..config() });
    rig.event(Event::Recycle);
    assert!(rig.take_closes().is_empty(), "its replacement is not open yet");
    let waiter = rig.acquire();
    assert_eq!(rig.granted(waiter), None, "Fresh: not past a recycle mark");
    rig.connect_all();
    assert!(rig.granted(waiter).is_some());
}

#[test]
fn peers_12_no_resize_breaks_the_cap() {
    let mut rig = Rig::fixed(4);
    let leases: Vec<_> = (0..4).map(|_| rig.lease()).collect();
    rig.event(Event::Resize { min_size: 1, max_size: 2 });
    rig.event(Event::Resize { min_size: 1, max_size: 4 });
    rig.acquire();
    rig.connect_all();
    assert_eq!(rig.counts().total, 4);
    rig.event(Event::Resize { min_size: 1, max_size: 2 });
    for conn in &leases[..2] {
        rig.release(*conn, Fate::Clean);
    }
    assert!(rig.take_closes().iter().all(|close| close.1 == CloseReason::Shrink));
    rig.release(leases[2], Fate::Clean);
    assert_eq!(rig.take_grants().len(), 1, "two are left and serve");
}

#[test]
fn peers_12_a_resize_closes_surplus_connects_and_idle_ones_first() {
    let mut rig = Rig::ready(PoolConfig { min_size: 4, max_size: 8, ..config() });
    rig.event(Event::Resize { min_size: 8, max_size: 8 });
    assert_eq!(rig.counts().connecting, 4);
    rig.event(Event::Resize { min_size: 2, max_size: 2 });
    assert_eq!((rig.counts().connecting, rig.counts().idle, rig.counts().closing), (0, 2, 6));
    let late = rig.take_connects();
    rig.connected(late[0]);
    assert_eq!(rig.counts().idle, 2, "a late success of an aborted connect changes nothing");
    rig.event(Event::Resize { min_size: 9, max_size: 3 });
    assert_eq!((rig.counts().min, rig.counts().max), (3, 3));
}

#[test]
fn r_9_1_a_failed_replacement_is_tried_again_until_min_holds() {
    let mut rig = Rig::ready(PoolConfig { max_queries: 1, ..config() });
    rig.pass(secs(20));
    let conn = rig.lease_after_check();
    rig.release(conn, Fate::Clean);
    rig.pass_failing(secs(5), crate::pool::FaultClass::Transient);
    assert_eq!(rig.counts().idle, 1);
    rig.pass_well(secs(5));
    assert_eq!(rig.counts().idle, 2);
}

#[test]
fn lifetimes_and_idle_times_can_be_off() {
    let mut rig = Rig::ready(PoolConfig {
        min_size: 0,
        max_idle_time: Duration::ZERO,
        max_connection_lifetime: Duration::ZERO,
        max_queries: 0,
        ..config()
    });
    let conn = rig.lease_after_check();
    rig.event(Event::Release { conn, fate: Fate::Clean, queries: u64::MAX, fault: None });
    rig.pass(secs(1_000_000));
    assert_eq!(rig.counts().idle, 1);
    assert_eq!(rig.machine.deadline(), None);
}
