//! What a printed test is written in: all that one may need.

#![allow(unused_imports, dead_code)]

pub(in crate::pool::tests) use std::time::Duration;

pub(in crate::pool::tests) use super::super::rig::{ms, secs};
use super::world::World;
pub(in crate::pool::tests) use crate::config::{PoolConfig, ValidationPolicy};
use crate::pool::{ConnId, Fault, ServerFacts, SiteId};
pub(in crate::pool::tests) use crate::pool::{Event, Fate, FaultClass, WaiterId};
use crate::time::Instant;

/// A machine that is told one event after the other, with the reference to judge each step.
pub(in crate::pool::tests) struct Case(World);

impl Case {
    pub(in crate::pool::tests) fn new(config: &PoolConfig, seed: u64) -> Self {
        Case(World::new(config, seed, None))
    }

    /// Panics with the guarantee that the machine breaks, if it does.
    pub(in crate::pool::tests) fn tell(&mut self, at: Instant, event: Event) {
        self.0.set_time(at);
        if let Err(broken) = self.0.tell(event) {
            panic!("{broken}");
        }
    }
}

/// Milliseconds after the epoch.
pub(in crate::pool::tests) fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

pub(in crate::pool::tests) fn at_nanos(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

pub(in crate::pool::tests) fn conn(slot: u32, generation: u32) -> ConnId {
    ConnId { slot, generation }
}

pub(in crate::pool::tests) fn fault(class: FaultClass) -> Fault {
    Fault::plain(class, "a fault")
}

fn boxed(class: FaultClass) -> Box<Fault> {
    Box::new(fault(class))
}

pub(in crate::pool::tests) fn acquire(waiter: u64, deadline: Instant) -> Event {
    Event::Acquire { waiter: WaiterId(waiter), deadline, leak_after: None, site: SiteId(0) }
}

pub(in crate::pool::tests) fn acquire_watched(waiter: u64, deadline: Instant, leak_after: Duration) -> Event {
    Event::Acquire { waiter: WaiterId(waiter), deadline, leak_after: Some(leak_after), site: SiteId(0) }
}

pub(in crate::pool::tests) fn release(conn: ConnId, fate: Fate, queries: u64) -> Event {
    let fault = (fate == Fate::Broken).then(|| boxed(FaultClass::Transient));
    Event::Release { conn, fate, queries, fault }
}

pub(in crate::pool::tests) fn check_failed(conn: ConnId, class: FaultClass) -> Event {
    Event::CheckFailed { conn, fault: boxed(class) }
}

pub(in crate::pool::tests) fn connected(conn: ConnId) -> Event {
    Event::Connected { conn, facts: ServerFacts::default() }
}

pub(in crate::pool::tests) fn connect_failed(conn: ConnId, class: FaultClass) -> Event {
    Event::ConnectFailed { conn, fault: boxed(class) }
}

pub(in crate::pool::tests) fn validation_failed(conn: ConnId, class: FaultClass) -> Event {
    Event::ValidationFailed { conn, fault: boxed(class) }
}

pub(in crate::pool::tests) fn reset_failed(conn: ConnId, class: FaultClass) -> Event {
    Event::ResetFailed { conn, fault: boxed(class) }
}

pub(in crate::pool::tests) fn lost(conn: ConnId, class: FaultClass) -> Event {
    Event::Lost { conn, fault: boxed(class) }
}
