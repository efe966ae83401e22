//! Acquire, queue, grant, release.

use super::rig::{Rig, config, fault, ms, secs};
use crate::config::PoolConfig;
use crate::pool::{Action, CloseHow, CloseReason, Event, Fate, FaultClass, Notice, Reject, ResetHow, State, WaitPhase};
use crate::tests::cases;
use crate::time::Instant;

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

#[test]
fn a_cancel_that_comes_after_the_deadline_but_before_the_tick_still_wins() {
    let mut rig = Rig::fixed(1);
    let _conn = rig.lease();
    let (gone, other) = (rig.acquire_for(secs(1)), rig.acquire_for(secs(1)));
    rig.now = rig.now + ms(1001);
    rig.event(Event::Cancel { waiter: gone });
    assert_eq!(rig.rejected(gone), None, "its caller is gone");
    assert!(matches!(rig.rejected(other), Some(Reject::Timeout(_))));
    assert_eq!(rig.machine.stats(rig.now).totals.cancelled, 1);
}

#[test]
fn peers_39_a_failed_socket_check_puts_the_waiter_back_at_the_head() {
    let mut rig = Rig::fixed(2);
    let first = rig.acquire_for(secs(5));
    let dead = rig.granted(first).unwrap();
    let other = rig.lease();
    let second = rig.acquire();
    rig.pass(ms(10));
    rig.event(Event::CheckFailed { conn: dead, fault: Box::new(fault(FaultClass::Transient)) });
    assert_eq!(rig.take_closes()[0], (dead, CloseReason::ValidationFailed, CloseHow::Abort));
    assert_eq!(rig.counts().waiting, 2);
    assert_eq!(rig.machine.stats(rig.now).totals.acquisitions, 1, "the grant never happened");
    rig.release(other, Fate::Clean);
    assert_eq!(rig.take_validates(), [other], "a sibling is suspect now");
    rig.event(Event::Validated { conn: other });
    assert_eq!(rig.take_grants(), [(first, other)], "ahead of a later one");
    rig.event(Event::Release { conn: other, fate: Fate::Clean, queries: 1, fault: None });
    assert_eq!(rig.granted(second), Some(other));
}

#[test]
fn a_waiter_put_back_keeps_its_deadline() {
    let mut rig = Rig::fixed(1);
    let waiter = rig.acquire_for(secs(2));
    let dead = rig.granted(waiter).unwrap();
    rig.pass(ms(1500));
    rig.event(Event::CheckFailed { conn: dead, fault: Box::new(fault(FaultClass::Transient)) });
    rig.pass(ms(499));
    assert!(rig.rejected(waiter).is_none());
    rig.pass(ms(1));
    let Some(Reject::Timeout(report)) = rig.rejected(waiter) else { panic!("no timeout") };
    assert_eq!(report.waited, secs(2));
}

#[test]
fn peers_10_nobody_barges_past_a_queue() {
    let mut rig = Rig::fixed(1);
    let conn = rig.lease();
    let queued = rig.acquire();
    for _ in 0..100 {
        let hasty = rig.acquire_for(secs(0));
        assert_eq!(rig.rejected(hasty), Some(Reject::WouldBlock));
    }
    rig.release(conn, Fate::Clean);
    let late = rig.acquire();
    assert_eq!(rig.take_grants(), [(queued, conn)]);
    assert!(rig.granted(late).is_none());
}

#[test]
fn peers_11_a_grant_to_a_dropped_acquire_goes_to_the_next_waiter() {
    let mut rig = Rig::fixed(1);
    let conn = rig.lease();
    let (dropped, next) = (rig.acquire(), rig.acquire());
    rig.release(conn, Fate::Clean);
    assert_eq!(rig.granted(dropped), Some(conn));
    rig.event(Event::Cancel { waiter: dropped });
    rig.event(Event::Release { conn, fate: Fate::Unused, queries: 0, fault: None });
    assert_eq!(rig.granted(next), Some(conn));
    let totals = rig.machine.stats(rig.now).totals;
    assert_eq!((totals.acquisitions, totals.releases, totals.cancelled), (2, 1, 1));
    assert_eq!(totals.wait.count(), 3, "what is exported never shrinks");
}

#[test]
fn a_stale_or_foreign_release_changes_nothing() {
    let mut rig = Rig::fixed(1);
    let conn = rig.lease();
    rig.release(conn, Fate::Clean);
    let again = rig.lease();
    assert_eq!(again, conn, "the same connection, another lease");
    let stale = crate::pool::ConnId { generation: conn.generation + 1, ..conn };
    let before = rig.machine.clone();
    rig.release(stale, Fate::Clean);
    assert!(before == rig.machine);
}

#[test]
fn a_waiter_id_that_was_seen_before_is_ignored() {
    let mut rig = Rig::fixed(1);
    let conn = rig.lease();
    let again = Event::Acquire {
        waiter: crate::pool::WaiterId(1),
        deadline: Instant::MAX,
        leak_after: None,
        site: crate::pool::SiteId(0),
    };
    rig.event(again);
    assert_eq!(rig.counts().waiting, 0);
    rig.release(conn, Fate::Clean);
    assert!(rig.actions.is_empty());
}

#[test]
fn max_waiting_bounds_the_queue() {
    let mut rig = Rig::ready(PoolConfig { min_size: 1, max_size: 1, max_waiting: 2, ..config() });
    rig.lease();
    rig.acquire();
    rig.acquire();
    let third = rig.acquire();
    assert_eq!(rig.rejected(third), Some(Reject::QueueFull { max_waiting: 2 }));
}

#[test]
fn peers_6_a_timed_out_acquire_leaves_its_connect_alone() {
    let mut rig = Rig::ready(PoolConfig { min_size: 0, ..config() });
    let impatient = rig.acquire_for(ms(100));
    let conn = rig.take_connects()[0];
    rig.pass(ms(100));
    assert!(matches!(rig.rejected(impatient), Some(Reject::Timeout(report)) if report.phase == WaitPhase::Connecting));
    assert!(rig.take_closes().is_empty(), "the pool owns the connect");
    let next = rig.acquire();
    assert!(rig.take_connects().is_empty(), "no over-creation: one is under way");
    rig.connected(conn);
    assert_eq!(rig.granted(next), Some(conn));
}

#[test]
fn cancelled_demand_is_not_followed_by_more_connects() {
    let mut rig = Rig::ready(PoolConfig { min_size: 0, max_size: 10, max_connecting: 2, ..config() });
    let waiters: Vec<_> = (0..8).map(|_| rig.acquire()).collect();
    assert_eq!(rig.counts().connecting, 2);
    for waiter in waiters {
        rig.event(Event::Cancel { waiter });
    }
    rig.connect_all();
    assert_eq!((rig.counts().idle, rig.counts().total), (2, 2));
}

#[test]
fn a_pause_queues_acquires_and_their_deadlines_still_hold() {
    let mut rig = Rig::ready(config());
    rig.event(Event::Pause);
    let (first, second) = (rig.acquire_for(secs(1)), rig.acquire());
    rig.pass(secs(1));
    assert!(matches!(rig.rejected(first), Some(Reject::Timeout(report)) if report.phase == WaitPhase::Paused));
    rig.event(Event::Resume);
    rig.connect_all();
    assert!(rig.granted(second).is_some());
    let rest: Vec<_> = rig.notices.iter().filter(|n| matches!(n, Notice::Paused | Notice::Resumed)).collect();
    assert_eq!(rest.len(), 2);
}

#[test]
fn what_comes_back_during_a_pause_is_lent_to_nobody() {
    for fate in [Fate::Clean, Fate::Unused] {
        let mut rig = Rig::fixed(1);
        let conn = rig.lease();
        let waiter = rig.acquire();
        rig.event(Event::Pause);
        rig.release(conn, fate);
        assert_eq!((rig.granted(waiter), rig.counts().idle), (None, 1), "{fate:?}");
        rig.event(Event::Resume);
        assert_eq!(rig.granted(waiter), Some(conn), "{fate:?}");
    }
}

#[test]
fn a_timeout_at_the_moment_of_a_connects_deadline_knows_of_it() {
    let mut rig = Rig::cold(PoolConfig { min_size: 0, max_size: 1, connect_timeout: secs(1), ..config() });
    rig.event(Event::Start { lazy: true });
    let waiter = rig.acquire_for(secs(1));
    rig.pass(secs(1));
    let reason = rig.rejected(waiter);
    assert!(matches!(&reason, Some(Reject::Timeout(report)) if report.last_fault.is_some()), "{reason:?}");
}

#[test]
fn what_nobody_saw_counts_no_queries() {
    let mut rig = Rig::ready(PoolConfig { min_size: 1, max_size: 1, max_queries: 3, ..config() });
    let conn = rig.lease();
    rig.release(conn, Fate::Unused);
    for _ in 0..5 {
        assert_eq!(rig.lease(), conn);
        rig.release(conn, Fate::Unused);
    }
    // One that somebody saw is one of three.
    assert_eq!(rig.lease(), conn);
    rig.release(conn, Fate::Clean);
    assert_eq!((rig.take_closes().len(), rig.counts().idle), (0, 1));
}

#[test]
fn a_dirty_connection_is_drained_before_anybody_else_gets_it() {
    let mut rig = Rig::fixed(1);
    let conn = rig.lease();
    let waiter = rig.acquire();
    rig.release(conn, Fate::Dirty);
    assert!(rig.granted(waiter).is_none());
    let resets = rig.take(|action| match action {
        Action::Reset { conn, how, deadline } => Some((*conn, *how, *deadline)),
        _ => None,
    });
    assert_eq!(resets, [(conn, ResetHow::Drain, rig.now + config().reset_timeout)]);
    rig.event(Event::Reset { conn });
    assert_eq!(rig.granted(waiter), Some(conn));
}

#[test]
fn peers_45_a_reset_that_never_ends_costs_its_slot_until_its_deadline() {
    let mut rig = Rig::fixed(1);
    let conn = rig.lease();
    rig.release(conn, Fate::Dirty);
    let waiter = rig.acquire();
    rig.pass(config().reset_timeout);
    assert_eq!(rig.take_closes(), [(conn, CloseReason::ResetFailed, CloseHow::Abort)]);
    rig.event(Event::Closed { conn });
    rig.connect_all();
    assert!(rig.granted(waiter).is_some());
}

#[test]
fn peers_19_the_reset_policy_applies_to_clean_returns_but_not_to_unseen_grants() {
    let mut rig = Rig::ready(PoolConfig { reset_on_release: true, ..config() });
    let conn = rig.lease();
    rig.event(Event::Release { conn, fate: Fate::Unused, queries: 0, fault: None });
    assert!(rig.actions.is_empty());
    let conn = rig.lease();
    rig.release(conn, Fate::Clean);
    assert!(matches!(rig.actions[..], [Action::Reset { how: ResetHow::Policy, .. }]), "{:?}", rig.actions);
}

#[test]
fn peers_28_time_never_goes_back_and_a_leap_breaks_nothing() {
    let mut rig = Rig::ready(config());
    let conn = rig.lease();
    let now = rig.now;
    rig.now = Instant::ZERO;
    rig.release(conn, Fate::Clean);
    rig.event(Event::Tick);
    assert_eq!(rig.counts().idle, 2, "nothing expires when a clock steps back");
    rig.now = now + secs(400 * 24 * 3600);
    rig.event(Event::Tick);
    rig.connect_all();
    assert_eq!(rig.counts().idle, 2, "a leap replaces what is too old");
    let waiter = rig.acquire();
    assert!(rig.granted(waiter).is_some());
}

#[test]
fn peers_40_age_belongs_to_the_connection_not_to_its_slot() {
    let mut rig = Rig::ready(PoolConfig { min_size: 1, max_connection_lifetime: secs(3), ..config() });
    for _ in 0..20 {
        rig.pass_well(ms(500));
        let conn = rig.lease_after_check();
        rig.release(conn, Fate::Broken);
        rig.connect_all();
    }
    let totals = rig.machine.stats(rig.now).totals;
    assert_eq!(totals.closed.get(CloseReason::Lifetime), 0, "none of them lived for three seconds");
}

#[test]
fn the_hot_path_neither_allocates_slots_nor_arms_more_than_a_bound() {
    let mut rig = Rig::fixed(4);
    let mut actions = Vec::with_capacity(4);
    let (mut ticks, rounds) = (0, cases(10_000));
    for round in 0..rounds {
        rig.now = rig.now + ms(1);
        if rig.machine.deadline().is_some_and(|(at, _)| at <= rig.now) {
            ticks += 1;
        }
        let conn = rig.lease();
        actions.clear();
        rig.machine.handle(rig.now, Event::Release { conn, fate: Fate::Clean, queries: 1, fault: None }, &mut actions);
        assert!(actions.is_empty(), "round {round}");
    }
    assert!(ticks < 10, "{ticks} spurious deadlines in ten seconds");
    assert_eq!(rig.machine.stats(rig.now).totals.acquisitions, rounds);
}

#[test]
fn a_resize_keeps_the_rules_of_the_configuration() {
    let mut rig = Rig::ready(config());
    for (asked, given) in [((9, 0), (1, 1)), ((u32::MAX, u32::MAX), (10_000, 10_000)), ((2, 5), (2, 5))] {
        rig.event(Event::Resize { min_size: asked.0, max_size: asked.1 });
        assert_eq!((rig.counts().min, rig.counts().max), given);
        let restored = serde_json::to_string(&rig.machine).expect("serialised");
        assert!(serde_json::from_str::<crate::pool::Machine>(&restored).expect("still valid") == rig.machine);
    }
}
