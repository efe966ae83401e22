//! Start-up, outage, recovery.

use std::time::Duration;

use super::rig::{Rig, config, fault, ms, secs};
use crate::config::PoolConfig;
use crate::pool::{Action, DatabaseStatus, Event, Fate, FaultClass, Notice, Reject, State, Status, WaitPhase};

use FaultClass::{Capacity, NotYet, Permanent, Transient};

/// A running pool whose connections all died and whose server refuses.
fn down(config: PoolConfig) -> Rig {
    let mut rig = Rig::ready(config);
    rig.lose_all();
    for conn in rig.take_connects() {
        rig.connect_failed(conn, Transient);
    }
    rig
}

fn gaps(since: crate::time::Instant, attempts: &[crate::time::Instant]) -> Vec<f64> {
    let mut last = since;
    attempts
        .iter()
        .map(|at| {
            let gap = (*at - last).as_secs_f64();
            last = *at;
            gap
        })
        .collect()
}

fn near(gaps: &[f64], expected: &[f64]) {
    assert_eq!(gaps.len(), expected.len(), "{gaps:?}");
    assert!(gaps.iter().zip(expected).all(|(gap, want)| (want * 0.9..=want * 1.1).contains(gap)), "{gaps:?}");
}

#[test]
fn r_1_1_min_size_connects_start_in_parallel_within_max_connecting() {
    let mut rig = Rig::cold(PoolConfig { min_size: 6, max_connecting: 4, ..config() });
    rig.event(Event::Start { lazy: false });
    assert_eq!(rig.counts().connecting, 4);
    rig.connect_all();
    assert_eq!(rig.noticed(|n| matches!(n, Notice::Initialized { counts, .. } if counts.idle == 6)), 1);
    assert_eq!(rig.machine.state(), State::Healthy);
}

#[test]
fn r_1_2_start_fails_after_init_attempts_with_each_error() {
    let mut rig = Rig::cold(config());
    rig.event(Event::Start { lazy: false });
    let waiter = rig.acquire();
    let begun = rig.now;
    let attempts = rig.pass_failing(secs(10), Transient);
    near(&gaps(begun, &attempts[2..]), &[1.0, 2.0]);
    let faults = rig.notices.iter().find_map(|n| match n {
        Notice::InitFailed { attempts } => Some(attempts.len()),
        _ => None,
    });
    assert_eq!(faults, Some(3));
    assert!(matches!(rig.rejected(waiter), Some(Reject::Unavailable(report)) if report.attempts == 3));
    assert_eq!(rig.machine.state(), State::Terminated);
    assert_eq!(rig.noticed(|n| matches!(n, Notice::Terminated { .. })), 1);
}

#[test]
fn r_1_2_a_permanent_fault_fails_the_start_at_once() {
    let mut rig = Rig::cold(config());
    rig.event(Event::Start { lazy: false });
    let conns = rig.take_connects();
    rig.connected(conns[0]);
    rig.connect_failed(conns[1], Permanent);
    assert_eq!(rig.noticed(|n| matches!(n, Notice::InitFailed { attempts } if attempts.len() == 1)), 1);
    assert_eq!(rig.counts().idle, 0, "9.1: an open that fails half-way leaves no backend");
    rig.close_all();
    assert_eq!(rig.machine.state(), State::Terminated);
}

#[test]
fn r_1_2_a_lazy_start_never_fails() {
    let mut rig = Rig::cold(config());
    rig.event(Event::Start { lazy: true });
    rig.pass_failing(secs(600), Transient);
    assert_eq!(rig.machine.state(), State::Initializing);
    assert_eq!(rig.machine.health(rig.now).status, Status::Unhealthy);
    rig.pass_well(secs(18));
    assert_eq!((rig.machine.state(), rig.counts().idle), (State::Healthy, 2));
}

#[test]
fn min_size_zero_is_initialised_at_once() {
    let mut rig = Rig::cold(PoolConfig { min_size: 0, ..config() });
    rig.event(Event::Start { lazy: false });
    assert_eq!((rig.machine.state(), rig.counts().total), (State::Healthy, 0));
}

#[test]
fn r_3_1_an_idle_pool_follows_the_schedule_exactly() {
    let mut rig = Rig::ready(config());
    rig.lose_all();
    let begun = rig.now;
    let attempts = rig.pass_failing(secs(80), Transient);
    assert_eq!(attempts[0], begun, "the first at once");
    near(&gaps(begun, &attempts[1..]), &[1.0, 2.0, 4.0, 8.0, 16.0, 16.0, 16.0][..attempts.len() - 1]);
    assert!(attempts.iter().filter(|at| **at - begun < secs(20)).count() <= 6);
    let numbers: Vec<u32> = rig
        .notices
        .iter()
        .filter_map(|n| if let Notice::ReconnectScheduled { attempt, .. } = n { Some(*attempt) } else { None })
        .collect();
    assert_eq!(numbers[..5], [1, 2, 3, 4, 5], "PEERS 42: an attempt does not reset the counter");
    assert_eq!(rig.noticed(|n| matches!(n, Notice::ConnectivityLost { .. })), 1);
    assert_eq!(rig.machine.state(), State::Unhealthy);
}

#[test]
fn peers_8_under_load_an_outage_of_20_s_sees_at_most_25_attempts_one_at_a_time() {
    let mut rig = down(config());
    let begun = rig.now;
    let mut attempts = 0;
    let (at_once, apart) = if cfg!(miri) { (2, ms(500)) } else { (20, ms(50)) };
    while rig.now - begun < secs(20) {
        for _ in 0..at_once {
            rig.acquire_for(secs(5));
        }
        attempts += rig.pass_failing(apart, Transient).len();
    }
    assert!((15..=25).contains(&attempts), "{attempts} attempts");
}

#[test]
fn demand_never_comes_closer_than_its_interval_to_the_last_attempts_end() {
    let mut rig = down(config());
    let mut starts = Vec::new();
    for _ in 0..40 {
        rig.acquire_for(secs(5));
        rig.pass(ms(100));
        for conn in rig.take_connects() {
            starts.push(rig.now);
            rig.pass(ms(300));
            rig.connect_failed(conn, Transient);
        }
    }
    assert!(starts.len() >= 3);
    let apart = starts.windows(2).all(|pair| pair[1] - pair[0] >= ms(300 + 900 - 100));
    assert!(apart, "{starts:?}");
}

#[test]
fn demand_probes_can_be_turned_off() {
    let mut rig = down(PoolConfig { demand_probe_interval: Duration::ZERO, ..config() });
    let begun = rig.now;
    let mut attempts = Vec::new();
    while rig.now - begun < secs(16) {
        rig.acquire_for(secs(5));
        attempts.extend(rig.pass_failing(ms(100), Transient));
    }
    near(&gaps(begun, &attempts), &[1.0, 2.0, 4.0, 8.0]);
}

#[test]
fn a_survivor_that_is_proved_ends_the_wait_for_the_next_attempt() {
    let mut rig = Rig::ready(PoolConfig { min_size: 3, ..config() });
    let survivor = rig.lease();
    let idle = rig.lease();
    rig.release(idle, Fate::Broken);
    rig.pass_failing(secs(20), Transient);
    assert_eq!(rig.machine.state(), State::Unhealthy);
    // The network was silent, and is back: nobody waits, and the schedule would wait for up to 16 seconds more.
    rig.take_validates();
    rig.release(survivor, Fate::Clean);
    assert_eq!(rig.take_validates(), [survivor]);
    rig.event(Event::Validated { conn: survivor });
    assert_eq!(rig.machine.state(), State::Recovering);
    rig.pass(secs(1));
    assert_eq!(rig.take_connects().len(), 1, "the server lives");
}

#[test]
fn the_server_starting_up_restarts_the_schedule() {
    let mut rig = down(config());
    rig.pass_failing(secs(20), Transient);
    let attempts = rig.pass_failing(secs(40), NotYet);
    let gaps = gaps(attempts[0], &attempts[1..]);
    assert!(gaps.len() > 15 && gaps.iter().all(|gap| (0.9..=1.1).contains(gap)), "{gaps:?}");
}

#[test]
fn r_3_2_an_acquire_during_an_outage_fails_within_the_grace_with_cause_attempts_and_next() {
    let mut rig = down(config());
    rig.pass_failing(secs(10), Transient);
    let waiter = rig.acquire();
    let asked = rig.now;
    rig.pass_failing(secs(2), Transient);
    let Some(Reject::Unavailable(report)) = rig.rejected(waiter) else { panic!("still waiting") };
    assert_eq!(report.cause, fault(Transient), "PEERS 25");
    assert!(report.attempts >= 4 && report.next_attempt.is_some(), "{report:?}");
    assert_eq!(report.waited, rig.now - asked);
    let hurried = rig.acquire_for(Duration::ZERO);
    assert!(matches!(rig.rejected(hurried), Some(Reject::Unavailable(_))), "try_get is told at once");
}

#[test]
fn a_restart_shorter_than_the_grace_costs_callers_no_error() {
    let mut rig = down(config());
    let waiters: Vec<_> = (0..10).map(|_| rig.acquire()).collect();
    rig.pass_failing(ms(1500), Transient);
    let probe = rig.pass_until_connect();
    rig.connected(probe);
    rig.connect_all();
    assert!(waiters.iter().all(|waiter| rig.granted(*waiter).is_some()));
    assert!(!rig.actions.iter().any(|action| matches!(action, Action::Reject { .. })));
}

#[test]
fn peers_9_a_failed_connect_is_followed_by_another_that_serves_the_waiter() {
    let mut rig = Rig::ready(PoolConfig { min_size: 0, ..config() });
    let waiter = rig.acquire();
    let conn = rig.take_connects()[0];
    rig.connect_failed(conn, Transient);
    rig.pass(secs(1));
    rig.connect_all();
    assert!(rig.granted(waiter).is_some());
}

#[test]
fn peers_27_a_permanent_fault_fails_waiters_at_once_and_is_tried_at_the_slowest_rate() {
    let mut rig = Rig::ready(config());
    rig.lose_all();
    let waiter = rig.acquire();
    let probe = rig.take_connects()[0];
    rig.connect_failed(probe, Permanent);
    assert!(matches!(rig.rejected(waiter), Some(Reject::Unavailable(_))));
    let begun = rig.now;
    let mut attempts = Vec::new();
    while rig.now - begun < secs(60) {
        let waiter = rig.acquire();
        assert!(matches!(rig.rejected(waiter), Some(Reject::Unavailable(_))), "at once");
        attempts.extend(rig.pass_failing(ms(500), Permanent));
    }
    near(&gaps(begun, &attempts), &[16.0, 16.0, 16.0][..attempts.len()]);
    assert!(attempts.len() >= 3);
}

#[test]
fn r_3_3_recovery_refills_to_min_size_at_most_max_connecting_at_a_time() {
    let mut rig = down(PoolConfig { min_size: 8, max_size: 10, ..config() });
    rig.pass_failing(secs(40), Transient);
    rig.notices.clear();
    let probe = rig.pass_until_connect();
    assert_eq!(rig.counts().connecting, 1, "one prober");
    rig.connected(probe);
    assert_eq!(rig.machine.state(), State::Recovering);
    assert_eq!(rig.counts().connecting, 4, "no herd (PEERS 8)");
    rig.connect_all();
    let recovered =
        |n: &Notice| matches!(n, Notice::Recovered { counts, attempts, .. } if counts.idle == 8 && *attempts > 4);
    assert_eq!(rig.noticed(recovered), 1);
    let states: Vec<State> = rig
        .notices
        .iter()
        .filter_map(|n| if let Notice::StateChanged { to, .. } = n { Some(*to) } else { None })
        .collect();
    assert_eq!(states, [State::Recovering, State::Healthy]);
    let attempts = rig.machine.stats(rig.now).totals.connects;
    rig.pass(secs(50));
    assert_eq!(rig.machine.stats(rig.now).totals.connects, attempts, "PEERS 43: recovery leaves nothing running");
}

#[test]
fn peers_33_reconnecting_is_never_given_up() {
    let mut rig = down(config());
    rig.pass_failing(secs(if cfg!(miri) { 1_200 } else { 86_400 }), Transient);
    rig.pass_well(secs(18));
    assert_eq!((rig.counts().idle, rig.machine.state()), (2, State::Healthy));
}

#[test]
fn a_relapse_during_recovery_continues_the_schedule() {
    let mut rig = down(PoolConfig { min_size: 3, ..config() });
    rig.pass_failing(secs(16), Transient);
    for _ in 0..3 {
        rig.notices.clear();
        let conn = rig.pass_until_connect();
        rig.connected(conn);
        for other in rig.take_connects() {
            rig.connect_failed(other, Transient);
        }
        rig.lost(conn);
        rig.close_all();
        assert_eq!(rig.machine.state(), State::Unhealthy);
        let shortest = rig.notices.iter().filter_map(|n| match n {
            Notice::ReconnectScheduled { delay, .. } => Some(*delay),
            _ => None,
        });
        assert!(shortest.min().is_some_and(|delay| delay >= secs(7)), "{:?}", rig.notices);
    }
}

#[test]
fn r_3_5_a_server_that_accepts_and_dies_at_once_is_tried_ever_less_often() {
    let mut rig = Rig::ready(config());
    rig.pass(secs(60));
    rig.lose_all();
    let begun = rig.now;
    let mut accepted = 0;
    while rig.now - begun < secs(60) {
        for conn in rig.take_connects() {
            accepted += 1;
            rig.connected(conn);
            let check = rig.take_validates();
            rig.lost(check.first().copied().unwrap_or(conn));
            rig.close_all();
        }
        rig.pass(ms(20));
    }
    assert!((5..=20).contains(&accepted), "{accepted} connections in a minute");
}

#[test]
fn r_3_5_partial_connectivity_keeps_serving_degraded() {
    let mut rig = Rig::ready(config());
    let (first, second) = (rig.lease(), rig.lease());
    let waiter = rig.acquire();
    let probe = rig.take_connects()[0];
    rig.connect_failed(probe, Transient);
    assert_eq!(rig.machine.state(), State::Degraded);
    rig.pass_failing(secs(5), Transient);
    assert!(rig.rejected(waiter).is_none(), "it waits for what works");
    rig.release(first, Fate::Clean);
    assert_eq!(rig.granted(waiter), Some(first));
    rig.release(second, Fate::Clean);
    assert_eq!(rig.noticed(|n| matches!(n, Notice::ConnectivityLost { .. })), 0);
}

#[test]
fn peers_38_a_full_server_makes_callers_wait_and_growth_slow() {
    let mut rig = Rig::ready(config());
    let waiters: Vec<_> = (0..10).map(|_| rig.acquire()).collect();
    let mut connects = rig.take_connects();
    rig.connected(connects.remove(0));
    connects.extend(rig.take_connects());
    for conn in connects {
        rig.connect_failed(conn, Capacity);
    }
    let begun = rig.now;
    assert_eq!((rig.counts().active, rig.counts().waiting), (3, 7));
    let attempts = rig.pass_failing(secs(29), Capacity);
    near(&gaps(begun, &attempts), &[16.0]);
    let health = rig.machine.health(rig.now);
    assert_eq!((health.status, health.state, health.serviceable), (Status::Degraded, State::Degraded, 3), "R-3.4");
    assert_eq!(health.database, DatabaseStatus::Connected);
    let mut lent = rig.take_grants();
    for waiter in &waiters[3..] {
        rig.release(lent.remove(0).1, Fate::Clean);
        let next = rig.take_grants();
        assert_eq!(next[0].0, *waiter, "callers are served in order");
        lent.extend(next);
    }
}

#[test]
fn peers_38_a_success_from_before_a_refusal_brings_no_second_burst() {
    let mut rig = Rig::ready(config());
    for _ in 0..10 {
        rig.acquire();
    }
    let connects = rig.take_connects();
    assert_eq!(connects.len(), 4, "max_connecting");
    rig.pass(ms(1));
    rig.connect_failed(connects[0], Capacity);
    rig.connected(connects[1]);
    assert_eq!(rig.take_connects(), [], "the refusal is the later word");
    rig.connect_failed(connects[2], Capacity);
    rig.connected(connects[3]);
    assert_eq!(rig.counts().connecting, 0);
    let begun = rig.now;
    let attempts = rig.pass_failing(secs(29), Capacity);
    near(&gaps(begun, &attempts), &[16.0]);
}

/// The swarm, seed 152: the schedule that the first failure of a batch set was over when the last one came.
#[test]
fn a_connect_that_hangs_longer_than_the_schedule_is_followed_by_a_delay_of_its_own() {
    let mut rig = Rig::cold(config());
    rig.event(Event::Start { lazy: true });
    let conns = rig.take_connects();
    rig.connect_failed(conns[0], Transient);
    rig.pass(secs(5));
    assert_eq!((rig.counts().connecting, rig.take_connects().len()), (0, 0), "the other one was given up just now");
    let given_up = rig.now;
    rig.close_all();
    rig.pass_until_connect();
    near(&gaps(given_up, &[rig.now]), &[2.0]);
}

/// The swarm, seed 164: room was made meanwhile, but what failed was something else.
#[test]
fn a_connect_that_fails_otherwise_at_a_full_server_is_followed_by_a_delay_of_its_own() {
    let mut rig = Rig::ready(PoolConfig { min_size: 3, max_size: 6, ..config() });
    let leases = [rig.lease(), rig.lease(), rig.lease()];
    rig.acquire();
    rig.acquire();
    let conns = rig.take_connects();
    rig.connect_failed(conns[0], Capacity);
    rig.release(leases[0], Fate::Discarded);
    rig.close_all();
    assert_eq!(rig.take_connects().len(), 0, "one is in flight");
    rig.pass(ms(100));
    let failed = rig.now;
    rig.connect_failed(conns[1], Transient);
    rig.pass_until_connect();
    assert!(rig.now - failed >= ms(900), "after {:?}", rig.now - failed);
}

/// The swarm, seed 1032: what the first failure of a batch said is not undone by what the last one says.
#[test]
fn a_connect_that_fails_after_a_permanent_fault_does_not_let_demand_in_at_once() {
    let mut rig = Rig::ready(PoolConfig { min_size: 0, max_size: 3, ..config() });
    rig.acquire();
    rig.acquire();
    let conns = rig.take_connects();
    rig.connect_failed(conns[0], Permanent);
    rig.pass(ms(1200));
    rig.connect_failed(conns[1], Transient);
    let failed = rig.now;
    rig.acquire();
    rig.pass_until_connect();
    assert!(rig.now - failed >= ms(900), "after {:?}", rig.now - failed);
}

/// The swarm, seed 6: nothing was wanted when the last connection died, so no outage was declared then.
#[test]
fn the_first_acquire_after_a_permanent_fault_is_told_at_once_though_nothing_was_wanted_before() {
    let mut rig = Rig::ready(PoolConfig { min_size: 0, max_size: 3, ..config() });
    let first = rig.acquire();
    rig.connect_all();
    let lease = rig.granted(first).expect("a connection");
    let second = rig.acquire();
    let conns = rig.take_connects();
    rig.connect_failed(conns[0], Permanent);
    assert_eq!(rig.rejected(second), None, "it may get the first one's connection");
    rig.event(Event::Cancel { waiter: second });
    rig.release(lease, Fate::Broken);
    rig.close_all();
    let waiter = rig.acquire();
    assert!(matches!(rig.rejected(waiter), Some(Reject::Unavailable(_))), "{:?}", rig.counts());
    assert_eq!(rig.machine.state(), State::Unhealthy);
}

/// The swarm, seed 12: a probe that an acquire starts takes its slot out of what can be served.
#[test]
fn the_state_follows_health_when_an_acquire_starts_a_probe() {
    let mut rig = Rig::ready(PoolConfig { min_size: 0, max_size: 3, ..config() });
    let waiters = [rig.acquire(), rig.acquire()];
    rig.connect_all();
    let leases = waiters.map(|waiter| rig.granted(waiter).expect("a connection"));
    let third = rig.acquire();
    let conns = rig.take_connects();
    rig.connect_failed(conns[0], Transient);
    rig.event(Event::Cancel { waiter: third });
    rig.pass(secs(2));
    rig.release(leases[1], Fate::Discarded);
    rig.close_all();
    let before = rig.machine.health(rig.now);
    rig.acquire();
    let after = rig.machine.health(rig.now);
    assert_ne!(before.status, after.status, "the probe makes a difference here");
    assert_eq!((after.status, after.state), (Status::Unhealthy, State::Unhealthy));
}

/// The swarm, seed 1474: what might still have been found good was retired after all was judged.
#[test]
fn a_permanent_fault_is_told_when_the_last_connection_that_might_serve_is_retired() {
    let ten = secs(10);
    let pool = PoolConfig { min_size: 2, max_size: 3, max_connecting: 1, max_connection_lifetime: ten, ..config() };
    let mut rig = Rig::ready(pool);
    let lease = rig.lease();
    rig.pass(ten);
    let replacement = rig.take_connects()[0];
    rig.release(lease, Fate::Broken);
    let waiter = rig.acquire();
    rig.connect_failed(replacement, Permanent);
    assert_eq!((rig.counts().idle, rig.rejected(waiter)), (1, None), "it is retired when the broken one is closed");
    rig.close_all();
    assert_eq!(rig.counts().idle, 0);
    assert!(matches!(rig.rejected(waiter), Some(Reject::Unavailable(_))), "{:?}", rig.counts());
    assert_eq!(rig.machine.state(), State::Unhealthy);
}

#[test]
fn a_full_server_is_tried_again_when_a_connection_of_ours_closes() {
    let mut rig = Rig::ready(PoolConfig { max_queries: 1, ..config() });
    let lease = rig.lease();
    rig.lease();
    let waiter = rig.acquire();
    let probe = rig.take_connects()[0];
    rig.connect_failed(probe, Capacity);
    rig.release(lease, Fate::Clean);
    assert_eq!(rig.counts().connecting, 0, "its slot on the server is taken until it is closed (PEERS 32)");
    rig.close_all();
    assert_eq!(rig.counts().connecting, 1);
    rig.connect_all();
    assert!(rig.granted(waiter).is_some());
}

/// The swarm, seed 3414: while the pool starts, a full server counts as one that is down.
#[test]
fn a_server_that_was_full_during_the_start_is_not_down_after_it() {
    let mut rig = Rig::cold(PoolConfig { min_size: 4, max_size: 4, ..config() });
    rig.event(Event::Start { lazy: false });
    let conns = rig.take_connects();
    rig.connected(conns[0]);
    for conn in &conns[1..] {
        rig.connect_failed(*conn, Capacity);
    }
    rig.event(Event::Resize { min_size: 1, max_size: 4 });
    let health = rig.machine.health(rig.now);
    assert_eq!((health.status, health.serviceable), (Status::Degraded, 1), "{:?}", health.reasons);
    assert_eq!(rig.machine.state(), State::Degraded);
}

#[test]
fn a_full_server_without_any_connection_of_ours_is_an_outage() {
    let mut rig = Rig::ready(PoolConfig { min_size: 0, ..config() });
    let waiter = rig.acquire();
    let probe = rig.take_connects()[0];
    rig.connect_failed(probe, Capacity);
    assert_eq!(rig.machine.state(), State::Unhealthy);
    let attempts = rig.pass_failing(secs(2), Capacity);
    assert!(attempts.len() >= 2, "on the normal schedule");
    assert!(matches!(rig.rejected(waiter), Some(Reject::Unavailable(_))));
}

#[test]
fn peers_31_a_hung_connect_costs_its_slot_until_its_deadline_and_nothing_more() {
    let mut rig = Rig::ready(config());
    let lease = rig.lease();
    rig.lease();
    let first = rig.acquire();
    let hung = rig.take_connects()[0];
    rig.release(lease, Fate::Clean);
    assert_eq!(rig.granted(first), Some(lease), "PEERS 6: whatever comes first serves");
    rig.pass(secs(5));
    let closes = rig.take_closes();
    assert_eq!(closes.len(), 1);
    assert_eq!(closes[0].0, hung);
    assert_eq!(rig.counts().closing, 1);
    rig.event(Event::Closed { conn: hung });
    assert_eq!(rig.counts().total, 2);
    assert_eq!(rig.machine.stats(rig.now).totals.connect_failures.get(Transient), 1);
}

#[test]
fn r_3_1_an_outage_is_noticed_within_the_grace_even_when_connects_hang() {
    let mut rig = Rig::ready(config());
    rig.lose_all();
    assert_eq!(rig.counts().connecting, 1, "one prober");
    let waiter = rig.acquire();
    rig.pass(secs(2));
    assert_eq!(rig.machine.state(), State::Unhealthy, "PEERS 34: health does not say connected");
    assert_eq!(rig.machine.health(rig.now).database, DatabaseStatus::Disconnected);
    assert!(matches!(rig.rejected(waiter), Some(Reject::Unavailable(_))) || rig.counts().waiting == 1);
    rig.pass(secs(2));
    assert_eq!(rig.counts().waiting, 0);
}

#[test]
fn peers_4_a_timeout_says_who_holds_the_connections_and_what_failed_last() {
    let mut rig = Rig::ready(PoolConfig { max_size: 3, ..config() });
    let first = rig.lease();
    rig.pass(ms(100));
    let second = rig.lease();
    let waiters = [rig.acquire_for(secs(2)), rig.acquire_for(secs(2))];
    let probe = rig.take_connects()[0];
    rig.connect_failed(probe, Transient);
    rig.pass_failing(secs(2), Transient);
    let Some(Reject::Timeout(report)) = rig.rejected(waiters[1]) else { panic!("no timeout") };
    assert_eq!((report.phase, report.waited, report.position), (WaitPhase::InQueue, secs(2), 0));
    assert_eq!(report.last_fault, Some(fault(Transient)));
    let holders: Vec<_> = report.holders.iter().map(|holder| (holder.conn, holder.held)).collect();
    assert_eq!(holders, [(first, ms(2100)), (second, secs(2))], "the longest first");
    assert_eq!(report.counts.active, 2);
}

#[test]
fn two_hosts_a_failed_one_hands_over_to_the_other_at_once() {
    let mut rig = Rig::ready(PoolConfig { min_size: 0, hosts: 2, ..config() });
    let waiter = rig.acquire();
    let host = |rig: &mut Rig| {
        rig.take(|action| if let Action::Connect { conn, host, .. } = action { Some((*conn, host.0)) } else { None })
    };
    let first = host(&mut rig);
    assert_eq!(first[0].1, 0);
    rig.connect_failed(first[0].0, FaultClass::WrongRole);
    let second = host(&mut rig);
    assert_eq!(second[0].1, 1);
    rig.connected(second[0].0);
    assert!(rig.granted(waiter).is_some());
}

#[test]
fn a_recovery_ends_also_where_no_connection_is_wanted_any_more() {
    let mut rig = Rig::cold(PoolConfig { min_size: 2, max_size: 6, ..config() });
    rig.event(Event::Start { lazy: true });
    rig.take_connects();
    rig.now = rig.now + config().connect_timeout;
    rig.event(Event::Tick);
    assert_eq!(rig.counts().closing, 2, "neither connect was answered");
    let conn = rig.pass_until_connect();
    rig.event(Event::Resize { min_size: 2, max_size: 2 });
    rig.connected(conn);
    rig.event(Event::Recycle);
    assert_eq!((rig.counts().idle, rig.counts().closing), (0, 3));
    rig.event(Event::Resize { min_size: 0, max_size: 4 });
    assert_eq!(rig.machine.state(), State::Healthy);
    assert_eq!(rig.noticed(|n| matches!(n, Notice::Recovered { .. })), 1);
}

/// The swarm, seeds 3217 and 4234: healthy was announced, and recovering right after it.
#[test]
fn a_lazy_start_is_not_over_before_the_outage_during_it_is() {
    let mut rig = Rig::cold(PoolConfig { min_size: 3, max_size: 3, ..config() });
    rig.event(Event::Start { lazy: true });
    for conn in rig.take_connects() {
        rig.connect_failed(conn, Transient);
    }
    let first = rig.pass_until_connect();
    rig.connected(first);
    let second = rig.take_connects()[0];
    rig.connected(second);
    rig.lost(first);
    rig.event(Event::Resize { min_size: 0, max_size: 3 });
    assert_eq!(rig.machine.state(), State::Initializing, "the one that is open is being asked");
    assert_eq!(rig.take_validates(), [second]);
    rig.event(Event::Validated { conn: second });
    assert_eq!(rig.machine.state(), State::Degraded, "{:?}", rig.machine.health(rig.now).reasons);
    assert_eq!(rig.noticed(|n| matches!(n, Notice::Recovered { .. })), 1);
    assert_eq!(rig.noticed(|n| matches!(n, Notice::StateChanged { to: State::Recovering, .. })), 0);
}
