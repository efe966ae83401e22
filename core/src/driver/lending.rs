//! What every use of a connection goes through: acquire and release, each one event under the lock, and the ends of an
//! acquire that was dropped or got a dead connection.
//!
//! The usual cases are kept apart: one event, one action, no allocation, no [`Effects`].

use std::panic::Location;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::effects::Effects;
use super::member::Member;
use super::notices;
use super::shared::{Place, Shared, State, UNKNOWN_WAITER};
use super::sync::MutexGuard;
use super::waiting::Outcome;
use crate::error::AcquireError;
use crate::manager::{Manager, Returned};
use crate::pool::{Action, ConnId, Event, Fate, Fault, FaultClass, WaiterId};
use crate::runtime::Runtime;
use crate::time::Instant;

impl<R: Runtime, M: Manager> Shared<R, M> {
    /// An acquire. On `Waiting` the waker is registered.
    ///
    /// The usual case, a free connection and nobody in line, is one event and one action: no allocation, no effects.
    #[inline]
    pub(crate) fn acquire(
        &self,
        now: Instant,
        deadline: Instant,
        leak_after: Option<Duration>,
        location: &'static Location<'static>,
        waker: &Waker,
    ) -> (WaiterId, Outcome<M::Connection>) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let waiter = state.cells.mint();
        let site = state.sites.intern(location);
        state.handle_acquire(now, waiter, deadline, leak_after, site);
        if let [Action::Grant { waiter: granted, conn: ConnId { slot, .. } }] = state.actions[..]
            && granted == waiter
        {
            state.actions.clear();
            let member = state.lend(slot);
            let ring = state.is_due_earlier();
            drop(guard);
            if ring {
                self.signal.raise();
            }
            return (waiter, Outcome::Granted(member));
        }
        self.acquire_slowly(guard, now, waiter, waker)
    }

    #[inline(never)]
    fn acquire_slowly(
        &self,
        mut guard: MutexGuard<'_, State<M>>,
        now: Instant,
        waiter: WaiterId,
        waker: &Waker,
    ) -> (WaiterId, Outcome<M::Connection>) {
        let state = &mut *guard;
        state.cells.enqueue(waiter, waker.clone());
        // The usual case under load: it queues, and nothing else follows.
        if state.actions.is_empty() {
            let ring = state.is_due_earlier();
            drop(guard);
            if ring {
                self.signal.raise();
            }
            return (waiter, Outcome::Waiting);
        }
        let mut effects = Effects::new();
        self.carry_out(state, now, &mut effects);
        let outcome = state.cells.poll(waiter, waker, &mut effects.stale);
        drop(guard);
        self.run(effects);
        (waiter, outcome)
    }

    /// What has become of a queued acquire; registers the waker while there is nothing.
    pub(crate) fn poll_waiter(&self, waiter: WaiterId, waker: &Waker) -> Outcome<M::Connection> {
        let mut stale = None;
        let outcome = self.lock().cells.poll(waiter, waker, &mut stale);
        // Dropped here, not under the lock.
        drop(stale);
        outcome
    }

    /// The acquire is gone: withdraws it, or gives back what it was granted.
    pub(crate) fn cancel(&self, waiter: WaiterId) {
        let now = self.runtime.now();
        let mut effects = Effects::new();
        let mut state = self.lock();
        match state.cells.remove(waiter, &mut effects.stale) {
            Some(Outcome::Granted(member)) => {
                let conn = member.conn;
                state.put_back(member, &mut effects);
                let event = Event::Release { conn, fate: Fate::Unused, queries: 0, fault: None };
                self.step(&mut state, now, event, &mut effects);
            }
            Some(Outcome::Waiting) => self.step(&mut state, now, Event::Cancel { waiter }, &mut effects),
            Some(Outcome::Rejected(_)) | None => {}
        }
        drop(state);
        self.run(effects);
    }

    /// The socket check found a granted connection dead: it goes back, and the waiter to the head of the queue.
    pub(crate) fn check_failed(
        &self,
        waiter: WaiterId,
        member: Box<Member<M::Connection>>,
        fault: Fault,
        waker: &Waker,
    ) -> Outcome<M::Connection> {
        let conn = member.conn;
        let now = self.runtime.now();
        let mut effects = Effects::new();
        let mut guard = self.lock();
        let state = &mut *guard;
        if let Err(stale) = state.put_home(member) {
            // A shutdown has cut it off already. The machine has forgotten the waiter with it and would not answer.
            drop(guard);
            drop(stale);
            return Outcome::Rejected(AcquireError::Closed);
        }
        state.cells.enqueue(waiter, waker.clone());
        self.step(state, now, Event::CheckFailed { conn, fault: Box::new(fault) }, &mut effects);
        let outcome = state.cells.poll(waiter, waker, &mut effects.stale);
        drop(guard);
        self.run(effects);
        outcome
    }

    /// Tells whoever listens that a caller has its connection.
    #[inline]
    pub(crate) fn log_acquired(&self, conn: ConnId) {
        if notices::lease_events() {
            let state = self.lock();
            let (times, counts) = (state.machine.lease_times(conn), state.machine.counts());
            drop(state);
            if let Some(times) = times {
                notices::acquired(conn, times.since - times.arrival, &counts);
            }
        }
    }

    #[inline]
    fn log_released(&self, conn: ConnId, queries: u64) {
        if notices::lease_events() {
            let times = self.lock().machine.lease_times(conn);
            if let Some(times) = times {
                notices::released(conn, self.runtime.now() - times.since, queries);
            }
        }
    }

    /// A lease ends. Works on any thread, with or without a runtime.
    pub(crate) fn release(&self, mut member: Box<Member<M::Connection>>, discard: bool) {
        let conn = member.conn;
        let lost = LostOnPanic { shared: self, conn };
        let Returned { mut fate, queries, mut fault } = self.manager.returned(&mut member.connection);
        if discard && fate != Fate::Broken {
            fate = Fate::Discarded;
        }
        // Registered before it is put back: from now on the background task hears of the socket, not the last holder.
        if fate == Fate::Clean
            && let Poll::Ready(found) = member.poll_idle(&self.manager)
        {
            fate = Fate::Broken;
            fault = Some(Box::new(found));
        }
        self.log_released(conn, queries);
        std::mem::forget(lost);
        let now = self.runtime.now();
        member.heard = now;
        let mut guard = self.lock();
        let state = &mut *guard;
        // The usual case again: the connection is home, nobody waits, there is nothing to do.
        let listening = match state.put_home(member) {
            Ok(listening) => listening,
            Err(stale) => {
                drop(guard);
                drop(stale);
                return;
            }
        };
        state.handle_release(now, conn, fate, queries, fault);
        if state.actions.is_empty() {
            let ring = state.is_due_earlier() | listening;
            drop(guard);
            if ring {
                self.signal.raise();
            }
            return;
        }
        // The usual case under load: it goes to the next in line, and nothing else follows.
        if let [Action::Grant { waiter, conn: ConnId { slot, .. } }] = state.actions[..] {
            state.actions.clear();
            let member = state.lend(slot);
            let settled = state.cells.settle(waiter, Outcome::Granted(member));
            let ring = state.is_due_earlier() | listening;
            drop(guard);
            if ring {
                self.signal.raise();
            }
            match settled {
                Ok(waker) => waker.wake(),
                Err(_dropped) => debug_assert!(false, "{UNKNOWN_WAITER}: {waiter:?}"),
            }
            return;
        }
        let mut effects = Effects::new();
        effects.ring = listening;
        self.carry_out(state, now, &mut effects);
        drop(guard);
        self.run(effects);
    }
}

/// Gives a connection up when the manager's code panics with it in its hands, so that the slot is not lost with it.
/// Forgotten when all went well.
pub(crate) struct LostOnPanic<'a, R: Runtime, M: Manager> {
    pub(crate) shared: &'a Shared<R, M>,
    pub(crate) conn: ConnId,
}

impl<R: Runtime, M: Manager> Drop for LostOnPanic<'_, R, M> {
    #[cold]
    fn drop(&mut self) {
        let fault = Fault::plain(FaultClass::Transient, "the manager panicked");
        let (fate, fault) = (Fate::Broken, Some(Box::new(fault)));
        self.shared.post(Event::Release { conn: self.conn, fate, queries: 0, fault });
    }
}

impl<M: Manager> State<M> {
    /// Moves a connection that is here to a holder. By slot alone: the machine grants no stale connection, and to read
    /// the whole id just after its halves were written would cost the hot path 5 ns.
    #[inline]
    pub(super) fn lend(&mut self, slot: u32) -> Box<Member<M::Connection>> {
        let entry = &mut self.entries[slot as usize];
        match std::mem::replace(&mut entry.place, Place::Lent) {
            Place::Here(member) => member,
            _ => unreachable!("the machine granted {}, which is not idle", entry.conn),
        }
    }

    /// Whether the background task must look earlier than it would by itself. Asked once per change: whoever asks
    /// rings, so the answer counts as armed.
    #[inline]
    pub(super) fn is_due_earlier(&mut self) -> bool {
        let due = self.machine.due();
        let earlier = due < self.armed;
        if earlier {
            self.armed = due;
        }
        earlier
    }

    /// A connection comes back; says whether its socket spoke up between its registration and now. A stale one is
    /// given back.
    #[inline]
    fn put_home(&mut self, member: Box<Member<M::Connection>>) -> Result<bool, Box<Member<M::Connection>>> {
        match self.entry(member.conn) {
            Some(entry) if matches!(entry.place, Place::Lent | Place::Job) => {
                entry.place = Place::Here(member);
                Ok(entry.signal.is_marked())
            }
            _ => Err(member),
        }
    }

    /// A connection comes back from a lease or a job; a stale one is dropped. Whether it is back.
    pub(crate) fn put_back(
        &mut self,
        member: Box<Member<M::Connection>>,
        effects: &mut Effects<M::Connection>,
    ) -> bool {
        match self.put_home(member) {
            Ok(listening) => {
                effects.ring |= listening;
                true
            }
            Err(stale) => {
                effects.members.push(stale);
                false
            }
        }
    }
}
