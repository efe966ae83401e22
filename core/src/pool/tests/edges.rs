//! What happens seldom: texts, limits, and events at awkward moments.

use super::rig::{Rig, config, fault, ms, secs};
use crate::config::PoolConfig;
use crate::pool::{ConnId, DatabaseStatus, Event, Fate, FaultClass, Notice, Reason, Reject, SqlState};

#[test]
fn a_timeout_names_the_five_longest_holders() {
    let mut rig = Rig::fixed(7);
    let mut leases = Vec::new();
    for _ in 0..7 {
        leases.push(rig.lease());
        rig.pass(ms(10));
    }
    assert_eq!(rig.machine.waiting_since(), None);
    let asked = rig.now;
    let waiter = rig.acquire_for(secs(1));
    assert_eq!(rig.machine.waiting_since(), Some(asked));
    rig.pass(secs(1));
    let Some(Reject::Timeout(report)) = rig.rejected(waiter) else { panic!("no timeout") };
    let named: Vec<ConnId> = report.holders.iter().map(|holder| holder.conn).collect();
    assert_eq!(named, leases[..5]);
    assert_eq!(rig.machine.holders(rig.now, 100).len(), 7);
}

#[test]
fn the_times_of_a_lease_are_known_while_it_lasts() {
    let mut rig = Rig::fixed(1);
    let conn = rig.lease();
    let times = rig.machine.lease_times(conn).expect("it is lent");
    assert_eq!((times.arrival, times.since, times.deadline), (rig.now, rig.now, rig.now + secs(30)));
    rig.release(conn, Fate::Clean);
    assert!(rig.machine.lease_times(conn).is_none());
}

#[test]
fn a_connection_that_fails_its_check_during_the_end_is_an_acquire_that_finds_the_pool_closed() {
    let mut rig = Rig::fixed(1);
    let waiter = rig.acquire();
    let conn = rig.granted(waiter).expect("an idle connection");
    rig.event(Event::Shutdown { deadline: rig.now + secs(10) });
    rig.event(Event::CheckFailed { conn, fault: Box::new(fault(FaultClass::Transient)) });
    assert_eq!(rig.rejected(waiter), Some(Reject::Closed));
    rig.close_all();
    assert_eq!(rig.noticed(|n| matches!(n, Notice::Terminated { .. })), 1);
    assert_eq!(rig.machine.stats(rig.now).totals.acquisitions, 0, "nobody saw it");
}

#[test]
fn a_lease_that_breaks_without_a_reason_is_closed_with_one() {
    let mut rig = Rig::fixed(2);
    let conn = rig.lease();
    rig.event(Event::Release { conn, fate: Fate::Broken, queries: 1, fault: None });
    let (fault, _) = rig.machine.last_fault().expect("a fault");
    assert_eq!(fault.to_string(), "the connection came back in an unknown state");
    assert_eq!(rig.take_closes().len(), 1);
}

#[test]
fn a_database_is_connecting_until_it_was_reached_and_connected_where_nothing_is_wanted() {
    let mut rig = Rig::cold(PoolConfig { min_size: 1, ..config() });
    rig.event(Event::Start { lazy: true });
    let health = rig.machine.health(rig.now);
    assert_eq!(health.database, DatabaseStatus::Connecting);
    assert!(health.reasons.contains(&Reason::Initializing), "{:?}", health.reasons);

    let mut rig = Rig::ready(PoolConfig { min_size: 0, ..config() });
    rig.acquire();
    rig.connect_all();
    let (_, conn) = rig.take_grants()[0];
    rig.release(conn, Fate::Clean);
    rig.pass(secs(61));
    rig.close_all();
    assert_eq!(rig.counts().total, 0, "unused for max_idle_time");
    assert_eq!(rig.machine.health(rig.now).database, DatabaseStatus::Connected);
}

#[test]
fn reasons_ids_and_codes_have_texts() {
    assert_eq!(Reason::Initializing.to_string(), "the first connections are not open yet");
    assert_eq!(Reason::InitFailed.to_string(), "min_size could not be reached at start-up");
    let conn = ConnId { slot: 3, generation: 7 };
    assert_eq!((conn.to_string(), format!("{conn:?}")), ("3.7".to_owned(), "conn 3.7".to_owned()));
    assert_eq!(SqlState::try_from("57P01".to_owned()).map(|code| code.to_string()), Ok("57P01".to_owned()));
    let error = SqlState::try_from("57P1".to_owned()).expect_err("too short");
    assert_eq!(error, "\"57P1\" is not a SQLSTATE: five letters or digits");
}

#[test]
fn failed_connects_are_counted_together_too() {
    let mut rig = Rig::cold(PoolConfig { min_size: 2, ..config() });
    rig.event(Event::Start { lazy: true });
    for conn in rig.take_connects() {
        rig.connect_failed(conn, FaultClass::Transient);
    }
    let failures = rig.machine.stats(rig.now).totals.connect_failures;
    assert_eq!(failures.total(), failures.get(FaultClass::Transient));
    assert!(failures.total() > 0);
}
