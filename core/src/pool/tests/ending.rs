//! Shutdown.

use super::rig::{Rig, config, ms, secs};
use crate::config::PoolConfig;
use crate::pool::{Action, CloseHow, CloseReason, Event, Fate, Notice, Reject, ShutdownReport, State};

fn report(rig: &Rig) -> Option<ShutdownReport> {
    rig.notices.iter().find_map(|n| if let Notice::Terminated { report } = n { Some(report.clone()) } else { None })
}

fn shutdown(rig: &mut Rig, within: std::time::Duration) {
    let deadline = rig.now + within;
    rig.event(Event::Shutdown { deadline });
}

#[test]
fn r_5_1_queued_and_new_acquires_fail_at_once_and_leases_may_finish() {
    let mut rig = Rig::fixed(2);
    let (first, second) = (rig.lease(), rig.lease());
    let queued = rig.acquire();
    shutdown(&mut rig, secs(30));
    assert_eq!(rig.rejected(queued), Some(Reject::Closed));
    let late = rig.acquire();
    assert_eq!(rig.rejected(late), Some(Reject::Closed));
    assert_eq!(rig.machine.state(), State::ShuttingDown);
    rig.pass(secs(1));
    for conn in [first, second] {
        rig.release(conn, Fate::Clean);
        assert_eq!(rig.take_closes(), [(conn, CloseReason::Shutdown, CloseHow::Graceful)]);
        rig.event(Event::Closed { conn });
    }
    assert_eq!(rig.machine.state(), State::Terminated);
    let expected = ShutdownReport { finished: 2, forced: 0, rejected: 1, duration: secs(1) };
    assert_eq!(report(&rig), Some(expected));
    assert_eq!(rig.machine.deadline(), None);
}

#[test]
fn peers_36_a_lease_that_is_never_returned_is_cut_off_with_a_notice() {
    let mut rig = Rig::fixed(2);
    let held = rig.lease();
    shutdown(&mut rig, secs(5));
    rig.take_closes();
    rig.pass(secs(5));
    assert_eq!(rig.noticed(|n| matches!(n, Notice::ForcedClose { holder } if holder.conn == held)), 1);
    assert!(rig.take_closes().contains(&(held, CloseReason::Shutdown, CloseHow::Abort)));
    rig.pass(secs(1));
    assert_eq!(rig.machine.state(), State::Terminated, "never more than a second late, answered or not");
    assert_eq!(report(&rig).unwrap().forced, 1);
    rig.release(held, Fate::Clean);
    assert!(rig.actions.is_empty(), "9.1: a release after shutdown changes nothing");
}

#[test]
fn peers_18_the_end_waits_for_what_is_still_open() {
    let mut rig = Rig::ready(config());
    shutdown(&mut rig, secs(10));
    let closes = rig.take_closes();
    assert_eq!(closes.len(), 2);
    rig.event(Event::Closed { conn: closes[0].0 });
    assert_eq!(rig.machine.state(), State::ShuttingDown);
    rig.event(Event::Closed { conn: closes[1].0 });
    assert_eq!(rig.machine.state(), State::Terminated);
}

#[test]
fn r_5_2_a_connect_in_flight_is_aborted_and_a_late_one_changes_nothing() {
    let mut rig = Rig::cold(config());
    rig.event(Event::Start { lazy: false });
    let connects = rig.take_connects();
    shutdown(&mut rig, secs(10));
    assert!(rig.take_closes().iter().all(|close| close.2 == CloseHow::Abort));
    rig.connected(connects[0]);
    assert_eq!(rig.counts().idle, 0);
    for conn in connects {
        rig.event(Event::Closed { conn });
    }
    assert_eq!(rig.machine.state(), State::Terminated, "9.1: rapid shutdown right after open");
}

#[test]
fn peers_44_a_second_shutdown_only_brings_the_deadline_forward() {
    let mut rig = Rig::fixed(1);
    rig.lease();
    shutdown(&mut rig, secs(10));
    shutdown(&mut rig, secs(60));
    rig.pass(secs(2));
    assert_eq!(rig.machine.state(), State::ShuttingDown);
    shutdown(&mut rig, secs(1));
    rig.pass(secs(2));
    assert_eq!(rig.machine.state(), State::Terminated);
    assert_eq!(rig.noticed(|n| matches!(n, Notice::ShutdownStarted { .. })), 1);
    shutdown(&mut rig, secs(1));
    assert_eq!(rig.noticed(|n| matches!(n, Notice::Terminated { .. })), 1, "idempotent");
}

#[test]
fn a_shutdown_without_patience_still_says_goodbye_to_idle_connections() {
    let mut rig = Rig::ready(PoolConfig { min_size: 2, ..config() });
    let lease = rig.lease();
    shutdown(&mut rig, secs(0));
    let closes = rig.take_closes();
    assert_eq!(closes.iter().filter(|close| close.2 == CloseHow::Graceful).count(), 1);
    assert!(closes.contains(&(lease, CloseReason::Shutdown, CloseHow::Abort)));
    rig.pass(secs(1));
    assert_eq!(rig.machine.state(), State::Terminated);
}

#[test]
fn a_dirty_return_during_shutdown_is_drained_then_closed() {
    let mut rig = Rig::fixed(1);
    let conn = rig.lease();
    shutdown(&mut rig, secs(2));
    rig.release(conn, Fate::Dirty);
    let resets = rig.take(|a| if let Action::Reset { deadline, .. } = a { Some(*deadline) } else { None });
    assert_eq!(resets, [rig.now + secs(2)], "PEERS 30: what runs on the server is cancelled, within the deadline");
    rig.event(Event::Reset { conn });
    assert_eq!(rig.take_closes(), [(conn, CloseReason::Shutdown, CloseHow::Graceful)]);
}

#[test]
fn a_shutdown_before_start_and_during_an_outage_ends_at_once() {
    let mut cold = Rig::cold(config());
    let waiter = cold.acquire();
    shutdown(&mut cold, secs(10));
    assert_eq!(cold.rejected(waiter), Some(Reject::Closed));
    assert_eq!(cold.machine.state(), State::Terminated);

    let mut down = Rig::ready(config());
    down.lose_all();
    down.pass_failing(secs(5), crate::pool::FaultClass::Transient);
    shutdown(&mut down, secs(10));
    assert_eq!(down.machine.state(), State::Terminated);
    down.pass(secs(60));
    assert!(down.take_connects().is_empty(), "nothing outlives it");
}

#[test]
fn nothing_is_accepted_after_the_end() {
    let mut rig = Rig::ready(config());
    shutdown(&mut rig, secs(0));
    rig.pass(secs(2));
    rig.actions.clear();
    rig.notices.clear();
    for event in [
        Event::Start { lazy: false },
        Event::Resize { min_size: 5, max_size: 5 },
        Event::Pause,
        Event::Resume,
        Event::Recycle,
        Event::Tick,
    ] {
        rig.event(event);
    }
    rig.pass(ms(10));
    assert!(rig.actions.is_empty() && rig.notices.is_empty(), "{:?} {:?}", rig.actions, rig.notices);
}

#[test]
fn a_reset_that_began_before_the_shutdown_ends_with_its_deadline() {
    let mut rig = Rig::ready(PoolConfig { min_size: 1, max_size: 1, reset_timeout: secs(30), ..config() });
    let conn = rig.lease();
    rig.release(conn, Fate::Dirty);
    shutdown(&mut rig, secs(2));
    rig.pass(secs(1));
    assert_eq!(rig.take_closes(), [], "until then it may clean up");
    rig.pass(secs(1));
    assert_eq!(rig.take_closes(), [(conn, CloseReason::Shutdown, CloseHow::Abort)]);
}

#[test]
fn a_second_shutdown_brings_the_deadline_forward_but_never_back() {
    let mut rig = Rig::fixed(1);
    let held = rig.lease();
    shutdown(&mut rig, secs(10));
    shutdown(&mut rig, secs(5));
    shutdown(&mut rig, secs(60));
    rig.pass(secs(4));
    assert_eq!(rig.take_closes(), []);
    rig.pass(secs(1));
    assert_eq!(rig.take_closes(), [(held, CloseReason::Shutdown, CloseHow::Abort)]);
}
