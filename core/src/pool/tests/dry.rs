//! When nothing sound is open: from when on, and whether that is an outage.

use super::rig::{Rig, config, ms, secs};
use crate::config::PoolConfig;
use crate::pool::{Event, Fate, FaultClass::Transient, Notice, Reject, Status};

#[test]
fn a_dry_spell_ends_with_the_last_waiter_where_nothing_else_is_wanted() {
    let grace = config().outage_grace;
    let mut rig = Rig::ready(PoolConfig { min_size: 0, max_size: 1, ..config() });
    rig.acquire();
    let conn = rig.take_connects()[0];
    rig.connected(conn);
    rig.release(conn, Fate::Broken);
    rig.close_all();
    // The connect that follows hangs.
    let first = rig.acquire();
    let dry = rig.now;
    rig.now = dry + grace / 2;
    rig.event(Event::Cancel { waiter: first });
    let second = rig.acquire_later(ms(100));
    let again = rig.now;
    rig.pass(dry + grace - rig.now);
    assert!(rig.machine.health(rig.now).outage.is_none(), "in between nobody wanted anything");
    rig.pass(again + grace - rig.now);
    assert!(rig.machine.health(rig.now).outage.is_some());
    rig.pass(grace);
    assert!(matches!(rig.rejected(second), Some(Reject::Unavailable(_))));
}

#[test]
fn leases_do_not_hide_an_outage() {
    let mut rig = Rig::fixed(2);
    let held = rig.lease();
    rig.lose_all();
    for conn in rig.take_connects() {
        rig.connect_failed(conn, Transient);
    }
    assert_eq!(rig.counts().active, 1);
    let health = rig.machine.health(rig.now);
    assert!(health.outage.is_some(), "what is lent is in doubt and proves nothing until it comes back");
    assert_eq!(health.status, Status::Unhealthy);
    rig.release(held, Fate::Clean);
    assert_eq!(rig.take_validates(), [held]);
    rig.event(Event::Validated { conn: held });
    assert!(rig.machine.health(rig.now).outage.is_none());
}

#[test]
fn a_strict_start_that_ends_because_nothing_is_missing_tells_of_the_outage_at_once() {
    let mut rig = Rig::cold(PoolConfig { min_size: 1, max_size: 1, ..config() });
    rig.event(Event::Start { lazy: false });
    let conn = rig.take_connects()[0];
    rig.connect_failed(conn, Transient);
    let who = rig.acquire_for(secs(30));
    rig.event(Event::Resize { min_size: 0, max_size: 1 });
    assert_eq!(rig.noticed(|n| matches!(n, Notice::Initialized { .. })), 1);
    assert_eq!(rig.machine.health(rig.now).status, Status::Unhealthy, "one waits, and the only host failed");
    let grace = rig.machine.config().outage_grace;
    rig.pass_failing(grace, Transient);
    assert!(matches!(rig.rejected(who), Some(Reject::Unavailable(_))), "within the grace, not at its own deadline");
}
