//! Validation and suspicion.

use super::rig::{Rig, config, fault, ms, secs};
use crate::config::{PoolConfig, ValidationPolicy};
use crate::pool::{Action, Check, CloseHow, CloseReason, ConnId, Event, Fate, FaultClass, Notice, Reject};

fn fail(rig: &mut Rig, conn: ConnId) {
    rig.event(Event::ValidationFailed { conn, fault: Box::new(fault(FaultClass::Transient)) });
}

#[test]
fn peers_16_a_recently_used_connection_is_lent_without_a_round_trip() {
    let mut rig = Rig::fixed(1);
    for _ in 0..10 {
        rig.pass(ms(500));
        let conn = rig.lease();
        rig.release(conn, Fate::Clean);
    }
    assert_eq!(rig.machine.stats(rig.now).totals.validations, 0);
}

#[test]
fn r_2_2_a_connection_unused_for_longer_is_proved_first() {
    let mut rig = Rig::fixed(1);
    rig.pass(ms(501));
    let waiter = rig.acquire();
    assert!(rig.granted(waiter).is_none());
    let checks = rig.take(|action| match action {
        Action::Validate { conn, how: Check::RoundTrip, deadline } => Some((*conn, *deadline)),
        _ => None,
    });
    assert_eq!(checks[0].1, rig.now + config().validation_timeout);
    rig.event(Event::Validated { conn: checks[0].0 });
    assert_eq!(rig.granted(waiter), Some(checks[0].0));
}

#[test]
fn r_2_2_the_policy_always_proves_before_every_lease_and_try_get_still_works() {
    let mut rig = Rig::ready(PoolConfig { validation: ValidationPolicy::Always, min_size: 1, max_size: 1, ..config() });
    let conn = rig.lease();
    rig.release(conn, Fate::Clean);
    for round in 1..=5 {
        let waiter = rig.acquire();
        assert!(rig.granted(waiter).is_none(), "not without a check");
        assert_eq!(rig.take_validates(), [conn]);
        rig.event(Event::Validated { conn });
        assert_eq!(rig.granted(waiter), Some(conn));
        rig.release(conn, Fate::Clean);
        let hasty = rig.acquire_for(secs(0));
        assert_eq!(rig.rejected(hasty), Some(Reject::WouldBlock));
        rig.connect_all();
        let again = rig.acquire_for(secs(0));
        assert_eq!(rig.granted(again), Some(conn), "round {round}: the first try had it checked");
        rig.release(conn, Fate::Clean);
    }
}

#[test]
fn peers_2_a_validation_that_times_out_closes_the_connection() {
    let mut rig = Rig::fixed(1);
    rig.pass(secs(1));
    let waiter = rig.acquire();
    let conn = rig.take_validates()[0];
    rig.pass(config().validation_timeout);
    assert_eq!(rig.take_closes(), [(conn, CloseReason::ValidationFailed, CloseHow::Abort)]);
    rig.event(Event::Validated { conn });
    assert!(rig.granted(waiter).is_none(), "a late success changes nothing");
    rig.event(Event::Closed { conn });
    rig.connect_all();
    assert!(rig.granted(waiter).is_some_and(|other| other != conn), "no error while time remains");
}

#[test]
fn peers_3_one_failure_makes_the_siblings_suspect_and_they_are_checked_together() {
    let mut rig = Rig::fixed(6);
    rig.pass(secs(1));
    rig.acquire();
    let first = rig.take_validates();
    assert_eq!(first.len(), 1);
    fail(&mut rig, first[0]);
    let checks = rig.take_validates();
    assert_eq!(checks.len(), 4, "at most max_connecting at a time");
    for conn in checks {
        fail(&mut rig, conn);
    }
    let reasons: Vec<CloseReason> = rig.take_closes().into_iter().map(|(_, reason, _)| reason).collect();
    assert_eq!(reasons[0], CloseReason::ValidationFailed);
    assert!(reasons[1..].iter().all(|reason| *reason == CloseReason::Suspect), "{reasons:?}");
}

#[test]
fn peers_1_a_silent_peer_costs_its_waiter_a_quarter_second_while_there_is_room() {
    let mut rig = Rig::ready(config());
    rig.pass(secs(1));
    let waiter = rig.acquire();
    assert_eq!(rig.take_validates().len(), 1);
    assert_eq!(rig.counts().connecting, 0, "the check may well succeed");
    rig.pass(ms(250));
    let connect = rig.take_connects();
    assert_eq!(connect.len(), 1, "it has taken too long to count on");
    rig.connected(connect[0]);
    assert_eq!(rig.granted(waiter), Some(connect[0]));
}

#[test]
fn peers_1_a_pool_of_silent_peers_recovers_as_soon_as_a_connect_works() {
    let mut rig = Rig::fixed(10);
    rig.pass(secs(1));
    let waiters: Vec<_> = (0..10).map(|_| rig.acquire_for(secs(10))).collect();
    let begun = rig.now;
    while rig.counts().waiting > 0 {
        rig.take_validates();
        for (conn, ..) in rig.take_closes() {
            rig.event(Event::Closed { conn });
        }
        for conn in rig.take_connects() {
            rig.connected(conn);
        }
        rig.pass(ms(10));
    }
    assert!(waiters.iter().all(|waiter| rig.granted(*waiter).is_some()));
    assert!(rig.now - begun <= ms(5200), "{:?}", rig.now - begun);
}

#[test]
fn suspects_are_proved_without_demand_and_good_ones_stay() {
    let mut rig = Rig::fixed(3);
    let conns = rig.unlent();
    rig.lost(conns[0]);
    let checks = rig.take_validates();
    assert_eq!(checks.len(), 2);
    for conn in checks {
        rig.event(Event::Validated { conn });
    }
    assert_eq!(rig.counts().idle, 2);
    assert_eq!(rig.take_closes().len(), 1, "only the dead one is closed");
}

#[test]
fn a_lease_returned_after_a_siblings_death_is_proved_before_the_next_one() {
    let mut rig = Rig::fixed(2);
    let (first, second) = (rig.lease(), rig.lease());
    let waiter = rig.acquire();
    rig.release(first, Fate::Broken);
    rig.release(second, Fate::Clean);
    assert!(rig.granted(waiter).is_none());
    assert_eq!(rig.take_validates(), [second]);
    rig.event(Event::Validated { conn: second });
    assert_eq!(rig.granted(waiter), Some(second));
}

#[test]
fn peers_26_after_a_restart_nobody_but_the_first_sees_an_error() {
    let mut rig = Rig::fixed(5);
    let leases: Vec<ConnId> = (0..5).map(|_| rig.lease()).collect();
    for conn in &leases {
        rig.release(*conn, Fate::Clean);
    }
    let unlucky = rig.lease();
    rig.release(unlucky, Fate::Broken);
    let waiters: Vec<_> = (0..5).map(|_| rig.acquire()).collect();
    for _ in 0..20 {
        for conn in rig.take_validates() {
            fail(&mut rig, conn);
        }
        for (conn, ..) in rig.take_closes() {
            rig.event(Event::Closed { conn });
        }
        for conn in rig.take_connects() {
            rig.connected(conn);
        }
    }
    let fresh: Vec<ConnId> = waiters.iter().filter_map(|waiter| rig.granted(*waiter)).collect();
    assert_eq!(fresh.len(), 5);
    assert!(fresh.iter().all(|conn| !leases.contains(conn)), "none of the dead ones was lent again");
}

#[test]
fn a_fault_during_a_check_outlasts_the_checks_success() {
    let mut rig = Rig::fixed(2);
    let conns = rig.unlent();
    rig.pass(secs(1));
    rig.acquire();
    let checking = rig.take_validates()[0];
    let other = if conns[0] == checking { conns[1] } else { conns[0] };
    rig.lost(other);
    rig.event(Event::Validated { conn: checking });
    assert!(rig.take_grants().is_empty(), "that round trip may be older than the fault");
    assert_eq!(rig.take_validates(), [checking]);
}

#[test]
fn peers_14_touching_a_connection_resets_nothing() {
    let mut rig = Rig::ready(PoolConfig { min_size: 1, ..config() });
    let (first, second) = (rig.lease(), rig.lease_after_check());
    rig.release(first, Fate::Clean);
    rig.release(second, Fate::Clean);
    for _ in 0..59 {
        rig.pass(secs(1));
        for conn in rig.unlent() {
            rig.event(Event::Touched { conn });
        }
        let looks = rig.take(|action| match action {
            Action::Validate { conn, how: Check::Socket, .. } => Some(*conn),
            _ => None,
        });
        assert_eq!(looks.len(), 2);
        for conn in looks {
            rig.event(Event::Validated { conn });
        }
    }
    rig.pass(secs(1));
    assert_eq!(rig.take_closes().len(), 1, "unused for a minute, whatever its socket had to say");
    assert_eq!(rig.noticed(|n| matches!(n, Notice::Validated { .. })), 0);
}

#[test]
fn a_look_at_the_socket_does_not_clear_a_suspicion() {
    let mut rig = Rig::fixed(2);
    let conns = rig.unlent();
    rig.event(Event::Touched { conn: conns[1] });
    rig.take_validates();
    rig.lost(conns[0]);
    rig.event(Event::Validated { conn: conns[1] });
    assert_eq!(rig.take_validates(), [conns[1]], "a round trip follows");
}

#[test]
fn peers_17_a_reset_that_finds_the_role_changed_makes_the_siblings_suspect() {
    for (class, suspects) in [(FaultClass::WrongRole, 2), (FaultClass::Transient, 0)] {
        let mut rig = Rig::fixed(3);
        let conn = rig.lease();
        rig.release(conn, Fate::Dirty);
        rig.event(Event::ResetFailed { conn, fault: Box::new(fault(class)) });
        assert_eq!(rig.take_closes(), [(conn, CloseReason::ResetFailed, CloseHow::Abort)]);
        assert_eq!(rig.take_validates().len(), suspects, "{class:?}");
    }
}

/// An outage that a surviving connection ends shows that the server lives; the refill keeps the distance of demand all
/// the same.
#[test]
fn a_server_that_lives_is_tried_early_but_not_at_once() {
    let mut rig = Rig::fixed(2);
    let survivor = rig.unlent()[1];
    rig.lost(rig.unlent()[0]);
    rig.close_all();
    // The check of the survivor is not answered yet; outage_grace passes.
    rig.pass_failing(ms(2100), FaultClass::Transient);
    let conn = rig.pass_until_connect();
    rig.connect_failed(conn, FaultClass::Transient);
    let failed = rig.now;
    assert!(rig.machine.health(rig.now).outage.is_some());
    rig.event(Event::Validated { conn: survivor });
    assert!(rig.machine.health(rig.now).outage.is_none() && rig.take_connects().is_empty());
    rig.pass_until_connect();
    assert!((ms(900)..=ms(1000)).contains(&(rig.now - failed)), "after {:?}", rig.now - failed);
}

#[test]
fn a_fault_during_a_reset_outlasts_the_resets_success() {
    let mut rig = Rig::ready(PoolConfig { min_size: 2, max_size: 2, reset_on_release: true, ..config() });
    let conn = rig.lease();
    rig.release(conn, Fate::Clean);
    for other in rig.unlent() {
        rig.lost(other);
    }
    let waiter = rig.acquire();
    rig.event(Event::Reset { conn });
    assert!(rig.granted(waiter).is_none(), "the reset may have been answered before the fault");
    assert_eq!(rig.take_validates(), [conn]);
    rig.event(Event::Validated { conn });
    assert_eq!(rig.granted(waiter), Some(conn));
}

#[test]
fn a_check_leaves_the_idle_clock_alone() {
    let limit = config().max_idle_time;
    let mut rig = Rig::ready(PoolConfig { min_size: 3, max_size: 3, ..config() });
    rig.event(Event::Resize { min_size: 0, max_size: 3 });
    rig.pass(limit / 2);
    let conns = rig.unlent();
    rig.lost(conns[0]);
    rig.connect_all();
    assert_eq!((rig.counts().idle, rig.machine.stats(rig.now).totals.validations), (2, 2));
    rig.pass(limit / 2);
    let mut reaped: Vec<ConnId> = rig.take_closes().into_iter().map(|(conn, ..)| conn).collect();
    reaped.sort();
    assert_eq!(reaped, conns[1..], "a connection that only the pool uses is a surplus all the same");
}

#[test]
fn each_waiter_has_one_connection_checked_for_it() {
    let mut rig = Rig::fixed(5);
    rig.pass(secs(1));
    for _ in 0..3 {
        rig.acquire();
        assert_eq!(rig.take_validates().len(), 1, "what is being checked already serves the others");
    }
    assert_eq!(rig.counts().validating, 3);
}
