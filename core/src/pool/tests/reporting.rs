//! Health, state, statistics, leaks.

use std::time::Duration;

use super::rig::{Rig, config, fault, ms, secs};
use crate::config::PoolConfig;
use crate::pool::{
    Action, CloseReason, Event, Fate, FaultClass, HostId, Notice, Reason, Role, ServerFacts, SiteId, State, Status,
    TimerKind, WaiterId,
};

fn acquire_with(rig: &mut Rig, id: u64, leak_after: Duration) -> crate::pool::ConnId {
    let waiter = WaiterId(id);
    let deadline = rig.now + secs(30);
    rig.event(Event::Acquire { waiter, deadline, leak_after: Some(leak_after), site: SiteId(9) });
    rig.granted(waiter).expect("an idle connection")
}

#[test]
fn peers_34_a_fully_lent_pool_that_serves_its_queue_is_healthy() {
    let mut rig = Rig::fixed(4);
    let leases: Vec<_> = (0..4).map(|_| rig.lease()).collect();
    for _ in 0..16 {
        rig.acquire();
    }
    for _ in 0..4 {
        rig.pass(ms(200));
        for conn in &leases {
            rig.release(*conn, Fate::Clean);
        }
    }
    let health = rig.machine.health(rig.now);
    assert_eq!((health.status, health.state), (Status::Healthy, State::Healthy), "{:?}", health.reasons);
    assert_eq!((health.serviceable, health.counts.active), (4, 4));
    assert!(health.reasons.is_empty());
}

#[test]
fn peers_41_slow_acquires_degrade_for_a_while_and_not_for_life() {
    let mut rig = Rig::fixed(1);
    let conn = rig.lease();
    rig.acquire();
    rig.pass(secs(2));
    rig.release(conn, Fate::Clean);
    assert_eq!(rig.noticed(|n| matches!(n, Notice::AcquireSlow { waited, .. } if *waited == secs(2))), 1);
    assert_eq!(rig.machine.state(), State::Degraded);
    let reasons = rig.machine.health(rig.now).reasons;
    assert!(matches!(reasons[..], [Reason::SlowAcquires { count: 1, .. }]), "{reasons:?}");
    rig.release(conn, Fate::Clean);
    rig.pass(secs(61));
    assert_eq!(rig.machine.state(), State::Healthy);
}

#[test]
fn a_fault_degrades_for_a_minute() {
    let mut rig = Rig::ready(config());
    rig.pass(secs(1));
    let conn = rig.unlent()[0];
    rig.lost(conn);
    rig.connect_all();
    assert_eq!(rig.machine.state(), State::Degraded);
    rig.pass_well(ms(59_999));
    assert_eq!(rig.machine.state(), State::Degraded);
    rig.pass_well(ms(1));
    assert_eq!(rig.machine.state(), State::Healthy);
    assert_eq!(rig.noticed(|n| matches!(n, Notice::StateChanged { .. })), 2, "one notice per transition");
    let (fault, at) = rig.machine.last_fault().expect("remembered for the statistics");
    assert_eq!((fault.class, rig.now - at), (FaultClass::Transient, secs(60)));
}

#[test]
fn reading_health_changes_nothing_and_moves_no_timestamp() {
    let mut rig = Rig::ready(config());
    rig.pass(secs(3));
    let before = rig.machine.clone();
    let first = rig.machine.health(rig.now);
    assert_eq!(first, rig.machine.health(rig.now));
    assert!(before == rig.machine, "PEERS 41");
    assert_eq!(first.uptime, secs(3));
}

#[test]
fn r_8_3_lost_slots_count_against_serviceable_capacity() {
    let mut rig = Rig::ready(PoolConfig { min_size: 1, max_size: 10, max_connecting: 9, ..config() });
    rig.lease();
    for _ in 0..9 {
        rig.acquire();
    }
    let connects = rig.take_connects();
    for conn in &connects[..2] {
        rig.connect_failed(*conn, FaultClass::Transient);
    }
    assert_eq!(rig.machine.health(rig.now).serviceable, 1 + connects.len() as u32 - 9);
    for conn in &connects[2..] {
        rig.connect_failed(*conn, FaultClass::Transient);
    }
    let health = rig.machine.health(rig.now);
    assert_eq!((health.serviceable, health.status), (1, Status::Unhealthy), "below half");
    assert!(health.reasons.iter().any(|reason| matches!(reason, Reason::LostCapacity { serviceable: 1, max: 10, .. })));
}

#[test]
fn r_6_1_a_lease_held_too_long_is_reported_at_doubling_intervals() {
    let mut rig = Rig::fixed(2);
    let conn = rig.lease();
    let begun = rig.now;
    let mut reports = Vec::new();
    for _ in 0..250 {
        rig.notices.clear();
        rig.pass(secs(1));
        for notice in &rig.notices {
            if let Notice::LeakSuspected { holder, report } = notice {
                assert_eq!((holder.conn, holder.since), (conn, begun));
                reports.push((*report, holder.held.as_secs()));
            }
        }
    }
    assert_eq!(reports, [(1, 30), (2, 60), (3, 120), (4, 240)]);
    let health = rig.machine.health(rig.now);
    assert_eq!((health.status, health.leak_count), (Status::Degraded, 1), "R-6.3: leases, not warnings");
    rig.release(conn, Fate::Clean);
    assert_eq!(rig.noticed(|n| matches!(n, Notice::LeakResolved { holder } if holder.held == secs(250))), 1);
    assert_eq!(rig.machine.health(rig.now).leak_count, 0);
    assert_eq!(rig.machine.state(), State::Healthy);
}

#[test]
fn r_6_2_a_lease_within_its_own_allowance_is_never_reported() {
    let mut rig = Rig::fixed(3);
    acquire_with(&mut rig, 100, secs(600));
    acquire_with(&mut rig, 101, Duration::MAX);
    acquire_with(&mut rig, 102, ms(10));
    rig.pass(secs(599));
    assert_eq!(rig.machine.health(rig.now).leak_count, 1, "only the third");
    rig.pass(secs(1));
    assert_eq!(rig.machine.health(rig.now).leak_count, 2);
}

#[test]
fn r_6_3_with_detection_off_nothing_is_ever_suspected() {
    let mut rig = Rig::ready(PoolConfig { enable_leak_detection: false, ..config() });
    acquire_with(&mut rig, 100, ms(10));
    let mut zero = Rig::ready(PoolConfig { leak_detection_timeout: Duration::ZERO, ..config() });
    zero.lease();
    for rig in [&mut rig, &mut zero] {
        rig.pass(secs(if cfg!(miri) { 100 } else { 100_000 }));
        assert_eq!(rig.machine.health(rig.now).leak_count, 0);
    }
}

#[test]
fn peers_41_a_leak_never_makes_health_better() {
    let mut rig = Rig::fixed(1);
    let conn = rig.lease();
    rig.pass(secs(31));
    assert_eq!(rig.machine.state(), State::Degraded);
    rig.release(conn, Fate::Broken);
    rig.pass_failing(secs(3), FaultClass::Transient);
    rig.close_all();
    rig.pass_failing(secs(3), FaultClass::Transient);
    assert_eq!(rig.machine.state(), State::Unhealthy);
}

#[test]
fn r_4_1_the_numbers_of_a_short_story() {
    let mut rig = Rig::fixed(5);
    let leases: Vec<_> = (0..5).map(|_| rig.lease()).collect();
    let counts = rig.counts();
    assert_eq!((counts.active, counts.idle, counts.waiting), (5, 0, 0));
    let queued = rig.acquire_for(secs(1));
    let cancelled = rig.acquire();
    rig.event(Event::Cancel { waiter: cancelled });
    rig.pass(secs(1));
    assert!(rig.rejected(queued).is_some());
    for conn in &leases[..4] {
        rig.event(Event::Release { conn: *conn, fate: Fate::Clean, queries: 3, fault: None });
    }
    rig.release(leases[4], Fate::Broken);
    rig.connect_all();
    let totals = rig.machine.stats(rig.now).totals;
    assert_eq!((totals.acquisitions, totals.releases, totals.queries), (5, 5, 13), "R-4.3");
    assert_eq!((totals.timeouts, totals.cancelled, totals.rejected), (1, 1, 0));
    assert_eq!((totals.opened, totals.connects, totals.peak_active, totals.peak_waiting), (6, 6, 5, 2));
    assert_eq!((totals.closed.get(CloseReason::Broken), totals.closed.total()), (1, 1));
    assert_eq!((totals.usage.count(), totals.usage.max()), (5, secs(1)));
    assert_eq!(totals.wait.mean(), Duration::ZERO);
}

#[test]
fn deadline_is_none_before_the_start_and_names_what_it_waits_for() {
    let mut rig = Rig::cold(config());
    assert_eq!(rig.machine.deadline(), None);
    rig.event(Event::Start { lazy: false });
    assert_eq!(rig.machine.deadline(), Some((rig.now + config().connect_timeout, TimerKind::Connect)));
}

#[test]
fn a_spurious_tick_changes_nothing() {
    let mut rig = Rig::ready(config());
    rig.lease();
    let before = rig.machine.clone();
    rig.event(Event::Tick);
    assert!(before == rig.machine && rig.actions.is_empty());
}

#[test]
fn the_same_seed_and_events_give_the_same_actions_and_another_seed_another_jitter() {
    let delays = |seed: u64| {
        let mut rig = Rig::cold(config());
        rig.machine = crate::pool::Machine::new(&config(), seed, rig.now);
        rig.event(Event::Start { lazy: true });
        rig.pass_failing(secs(100), FaultClass::Transient);
        rig.notices
    };
    assert_eq!(delays(1), delays(1));
    assert_ne!(delays(1), delays(2));
}

/// what is told of each host: attempts, failures, role, connections, the last error.
#[test]
fn every_host_is_told_by_itself() {
    let mut rig = Rig::cold(PoolConfig { min_size: 2, hosts: 2, ..config() });
    rig.event(Event::Start { lazy: false });
    let connects = |rig: &mut Rig| -> Vec<_> {
        let connects = std::mem::take(&mut rig.actions).into_iter();
        connects
            .filter_map(|a| if let Action::Connect { conn, host, .. } = a { Some((conn, host)) } else { None })
            .collect()
    };
    let first = connects(&mut rig);
    assert_eq!(first.len(), 2);
    assert_eq!(rig.machine.hosts()[0].connecting, 2);
    rig.pass(ms(3));
    for (conn, _) in first {
        rig.event(Event::ConnectFailed { conn, fault: Box::new(fault(FaultClass::Transient)) });
    }
    let facts = ServerFacts { backend_pid: 4711, role: Role::Primary };
    // One at a time while nothing is open.
    for _ in 0..2 {
        let (conn, host) = connects(&mut rig)[0];
        assert_eq!(host, HostId(1));
        rig.event(Event::Connected { conn, facts: facts.clone() });
    }
    let hosts = rig.machine.hosts();
    let told: Vec<_> = hosts.iter().map(|h| (h.reachable, h.connections, h.attempts, h.failures, h.role)).collect();
    assert_eq!(told, [(false, 0, 2, 2, Role::Unknown), (true, 2, 2, 0, Role::Primary)]);
    assert_eq!(hosts[0].last_error.as_ref().map(|(_, at)| *at), Some(rig.now));
    assert_eq!(hosts[1].last_error, None);
    let open: u32 = hosts.iter().map(|host| host.connections).sum();
    assert_eq!(open, rig.machine.counts().total);
    // A connection that dies is told of its host; the role is remembered beyond it.
    let conn = rig.unlent()[0];
    rig.lost(conn);
    let hosts = rig.machine.hosts();
    assert_eq!((hosts[1].connections, hosts[1].failures, hosts[1].role), (1, 0, Role::Primary));
    assert!(hosts[1].last_error.is_some());
}

#[test]
fn holders_have_their_backend_and_the_queue_its_order() {
    let mut rig = Rig::cold(PoolConfig { min_size: 1, max_size: 1, ..config() });
    rig.event(Event::Start { lazy: false });
    let Some(Action::Connect { conn, .. }) = rig.actions.pop() else { panic!("no connect") };
    rig.event(Event::Connected { conn, facts: ServerFacts { backend_pid: 4711, role: Role::Unknown } });
    let held = rig.lease();
    rig.pass(ms(10));
    let waiters: Vec<WaiterId> = (0..3).map(|_| rig.acquire()).collect();
    let holder = &rig.machine.holders(rig.now, 5)[0];
    assert_eq!((holder.conn, holder.backend_pid, holder.held), (held, 4711, ms(10)));
    let queue = rig.machine.queue(2);
    assert_eq!(queue.iter().map(|queued| queued.waiter).collect::<Vec<_>>(), waiters[..2]);
    assert_eq!((queue[0].since, queue[0].deadline), (rig.now, rig.now + secs(30)));
    rig.release(held, Fate::Clean);
    let holder = &rig.machine.holders(rig.now, 5)[0];
    assert_eq!((holder.conn, holder.waiter), (held, waiters[0]), "another lease of the same connection");
}
