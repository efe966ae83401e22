//! The workload: clients that ask for connections, hold them, and give them back or forget to.

use std::time::Duration;

use pgweir_core::pool::{ConnId, Event, Fate, Fault, FaultClass, Reject, SiteId, WaiterId};
use pgweir_core::time::Instant;

use super::driver::Place;
use super::{CallRef, Due, Run, Step, Subject};
use crate::scenario::Group;
use crate::trace::Trace;
use crate::wish::{self, Wish, Wisher};

/// A client that was refused at once pauses at least this long.
const PAUSE: Duration = Duration::from_millis(1);

/// Somebody who makes requests: one at a time, or without waiting for them.
#[derive(Debug)]
pub(super) struct Client {
    group: usize,
    wisher: Wisher,
}

/// One request.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) serial: u32,
    pub(super) client: u32,
    pub(super) waiter: WaiterId,
    pub(super) asked: Instant,
    pub(super) hold: Duration,
    pub(super) queries: u64,
    pub(super) end: End,
    pub(super) stage: Stage,
    /// Nobody looks at its connection any more.
    pub(super) leaked: bool,
    /// Whether a shutdown cut it off.
    pub(super) cut: bool,
}

/// How a lease ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum End {
    Clean,
    /// Dropped in the middle of a query.
    Abandoned,
    /// Dropped before its caller saw it.
    Unused,
    Broken,
    /// Alive, but not to be used again.
    Discarded,
    /// The last query failed because the host takes no writes any more.
    TurnedAway,
    /// A query got no answer.
    TimedOut,
    CutOff,
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stage {
    Over,
    Waiting,
    /// Granted, but its caller has not looked yet.
    Granted(ConnId),
    Holding(ConnId),
}

impl<S: Subject, T: Trace> Run<'_, S, T> {
    /// Makes the clients, and has them begin.
    pub(super) fn hire(&mut self) {
        let scenario = self.scenario;
        for (index, group) in scenario.workload.iter().enumerate() {
            for number in 0..group.clients.unwrap_or(1) {
                let id = self.clients.len() as u32;
                let mut wisher = Wisher::new(self.seed, index, number, group);
                let begins = wisher.begins(number, group);
                let due = if group.every.is_some() { Due::Arrival(id) } else { Due::Client(id) };
                self.queue.push(begins, due);
                self.clients.push(Client { group: index, wisher });
            }
        }
    }

    fn group(&self, client: u32) -> &Group {
        &self.scenario.workload[self.clients[client as usize].group]
    }

    fn makes_requests(&self, client: u32) -> bool {
        self.open && self.scenario.is_open(self.group(client), self.now - Instant::ZERO)
    }

    pub(super) fn client_asks(&mut self, client: u32) -> Step {
        if self.makes_requests(client) { self.ask(client) } else { Ok(()) }
    }

    pub(super) fn arrival(&mut self, client: u32) -> Step {
        if !self.makes_requests(client) {
            return Ok(());
        }
        let scenario = self.scenario;
        let who = &mut self.clients[client as usize];
        let group = &scenario.workload[who.group];
        if let Some(next) = who.wisher.next_arrival(self.now, group) {
            self.queue.push(next, Due::Arrival(client));
        }
        for _ in 0..group.burst {
            self.ask(client)?;
        }
        Ok(())
    }

    fn ask(&mut self, client: u32) -> Step {
        let scenario = self.scenario;
        let who = &mut self.clients[client as usize];
        let group = &scenario.workload[who.group];
        let Wish { hold, end, cancel, leaked } = who.wisher.wish(group);
        let end = match end {
            wish::End::Clean => End::Clean,
            wish::End::Discarded => End::Discarded,
            wish::End::Abandoned => End::Abandoned,
            wish::End::Broken => End::Broken,
        };
        let deadline = match group.timeout {
            Some(Duration::ZERO) => Instant::ZERO,
            Some(timeout) => self.now + timeout,
            None => self.now + scenario.pool.acquire_timeout(),
        };
        let (leak_after, queries) = (group.leak_after, group.queries);
        let (waiter, asked) = (WaiterId(self.next_waiter), self.now);
        let (stage, cut) = (Stage::Waiting, false);
        let call = Call { serial: 0, client, waiter, asked, hold, queries, end, stage, leaked, cut };
        self.acquire(call, deadline, leak_after, cancel)
    }

    /// A request is made. Its site is its client's group.
    pub(super) fn acquire(
        &mut self,
        call: Call,
        deadline: Instant,
        leak_after: Option<Duration>,
        cancel: Option<Duration>,
    ) -> Step {
        let (waiter, site) = (call.waiter, self.clients[call.client as usize].group);
        self.next_waiter += 1;
        let call = self.place(call);
        self.record.tally.started += 1;
        if let Some(after) = cancel {
            self.queue.push(self.now + after, Due::Cancel(call));
        }
        self.asking = Some((waiter, call.index));
        let posted = self.post(Event::Acquire { waiter, deadline, leak_after, site: SiteId(site as u32) });
        if self.asking.take().is_some() {
            self.waiting.insert(waiter, call.index);
        }
        posted
    }

    fn place(&mut self, call: Call) -> CallRef {
        match self.free_calls.pop() {
            Some(index) => {
                let slot = &mut self.calls[index as usize];
                let serial = slot.serial;
                *slot = Call { serial, ..call };
                CallRef { index, serial }
            }
            None => {
                self.calls.push(call);
                CallRef { index: self.calls.len() as u32 - 1, serial: 0 }
            }
        }
    }

    fn call(&self, call: CallRef) -> Option<&Call> {
        self.calls.get(call.index as usize).filter(|found| found.serial == call.serial)
    }

    fn set(&mut self, call: CallRef, stage: Stage) {
        self.calls[call.index as usize].stage = stage;
    }

    /// The machine answered an acquire.
    pub(super) fn answered(&mut self, waiter: WaiterId, stage: Stage) -> Option<CallRef> {
        let index = match self.asking {
            Some((asking, index)) if asking == waiter => {
                self.asking = None;
                index
            }
            _ => self.waiting.remove(&waiter)?,
        };
        let call = &mut self.calls[index as usize];
        call.stage = stage;
        Some(CallRef { index, serial: call.serial })
    }

    pub(super) fn refused(&mut self, waiter: WaiterId, reason: &Reject) {
        let Some(call) = self.answered(waiter, Stage::Over) else { return };
        let tally = &mut self.record.tally;
        *match reason {
            Reject::Timeout(_) => &mut tally.timed_out,
            Reject::WouldBlock => &mut tally.would_block,
            Reject::Unavailable(_) => &mut tally.unavailable,
            Reject::QueueFull { .. } => &mut tally.queue_full,
            Reject::Closed => &mut tally.closed,
        } += 1;
        self.goes_on(call);
    }

    /// The caller looks at what it was granted.
    pub(super) fn seen(&mut self, call: CallRef) -> Step {
        let Some(&Call { stage: Stage::Granted(conn), waiter, asked, hold, .. }) = self.call(call) else {
            return Ok(());
        };
        let mute = self.is_mute(conn);
        let Some(peer) = self.peer(conn) else { return Ok(()) };
        if let (Some(fault), false) = (peer.dead.clone(), mute) {
            // The socket has ended: as if it had never been granted.
            peer.place = Place::Idle;
            self.set(call, Stage::Waiting);
            self.waiting.insert(waiter, call.index);
            return self.post(Event::CheckFailed { conn, fault: Box::new(fault) });
        }
        let now = self.now;
        self.set(call, Stage::Holding(conn));
        self.record.waited(now, now - asked);
        self.record.outage_sees(|outage| {
            if outage.back.is_some() {
                outage.granted.get_or_insert(now);
            }
        });
        if hold < Duration::MAX {
            self.queue.push(now + hold, Due::Done(call));
        }
        Ok(())
    }

    /// The caller is done, if its last query was answered.
    pub(super) fn done(&mut self, call: CallRef) -> Step {
        let Some(&Call { stage: Stage::Holding(conn), end, client, .. }) = self.call(call) else { return Ok(()) };
        // A recorded hold was measured with what silence there was.
        if self.is_mute(conn) && self.recording.is_none() {
            let gives_up = self.now + self.group(client).command_timeout;
            self.queue.push(gives_up, Due::CommandTimeout(call));
            self.hold_back(conn, Due::Done(call));
            return Ok(());
        }
        // A session that lost its right to write fails its last query, and lives.
        let turned_away = end == End::Clean && self.host_of(conn).turns_away().is_some();
        self.release(call, conn, if turned_away { End::TurnedAway } else { end })
    }

    /// The caller's query fails because the connection has ended. Who leaked a lease does not look at it.
    pub(super) fn broken(&mut self, call: CallRef) -> Step {
        let Some(&Call { stage: Stage::Holding(conn), cut, leaked, .. }) = self.call(call) else { return Ok(()) };
        match (cut, leaked) {
            (true, false) => self.release(call, conn, End::CutOff),
            (true, true) => {
                self.over(call, End::CutOff);
                Ok(())
            }
            (false, true) => Ok(()),
            (false, false) if self.is_mute(conn) => {
                self.hold_back(conn, Due::Broken(call));
                Ok(())
            }
            (false, false) => self.release(call, conn, End::Broken),
        }
    }

    /// The caller gives up a query that gets no answer.
    pub(super) fn command_timeout(&mut self, call: CallRef) -> Step {
        let Some(&Call { stage: Stage::Holding(conn), .. }) = self.call(call) else { return Ok(()) };
        if self.is_mute(conn) { self.release(call, conn, End::TimedOut) } else { Ok(()) }
    }

    /// The caller drops its request.
    pub(super) fn cancel(&mut self, call: CallRef) -> Step {
        let Some(&Call { stage, waiter, .. }) = self.call(call) else { return Ok(()) };
        match stage {
            Stage::Over => Ok(()),
            Stage::Waiting => {
                self.waiting.remove(&waiter);
                self.over(call, End::Unused);
                self.post(Event::Cancel { waiter })
            }
            Stage::Granted(conn) => self.release(call, conn, End::Unused),
            // Who was recorded to give up only waited: with a connection there is no reason to.
            Stage::Holding(_) if self.recording.is_some() => Ok(()),
            Stage::Holding(conn) => self.release(call, conn, End::Abandoned),
        }
    }

    /// A shutdown takes the connection away: the query that is under way fails.
    pub(super) fn cut(&mut self, call: CallRef) {
        if self.call(call).is_some() {
            self.calls[call.index as usize].cut = true;
            self.soon.push_back(Due::Broken(call));
        }
    }

    fn release(&mut self, call: CallRef, conn: ConnId, end: End) -> Step {
        let mute = self.is_mute(conn);
        let queries = self.call(call).map_or(0, |call| call.queries);
        let mut end = end;
        let mut dead = None;
        if let Some(peer) = self.peer(conn) {
            if !matches!(peer.place, Place::Closing | Place::Empty) {
                peer.place = Place::Idle;
            }
            // A socket that has ended says so when it is put back.
            dead = peer.dead.clone().filter(|_| !mute && end != End::Unused);
        }
        let fate = match end {
            _ if dead.is_some() => Fate::Broken,
            End::Clean => Fate::Clean,
            End::Abandoned | End::TimedOut | End::TurnedAway => Fate::Dirty,
            End::Discarded => Fate::Discarded,
            End::Unused => Fate::Unused,
            End::Broken | End::CutOff => Fate::Broken,
        };
        if dead.is_some() && matches!(end, End::Clean | End::Discarded) {
            end = End::Broken;
        }
        let lost = || Fault::plain(FaultClass::Transient, "the connection was lost while it was used");
        let fault = (fate == Fate::Broken).then(|| Box::new(dead.unwrap_or_else(lost)));
        self.over(call, end);
        self.post(Event::Release { conn, fate, queries, fault })
    }

    /// A request that was granted has its outcome.
    fn over(&mut self, call: CallRef, end: End) {
        let tally = &mut self.record.tally;
        *match end {
            End::Clean | End::Discarded => &mut tally.succeeded,
            End::Abandoned | End::Unused => &mut tally.cancelled,
            End::Broken | End::TimedOut | End::TurnedAway => &mut tally.broken,
            End::CutOff => &mut tally.cut_off,
        } += 1;
        self.goes_on(call);
    }

    /// A request is over; its client goes on.
    fn goes_on(&mut self, call: CallRef) {
        let scenario = self.scenario;
        let found = &mut self.calls[call.index as usize];
        found.stage = Stage::Over;
        found.serial += 1;
        self.free_calls.push(call.index);
        let (client, asked) = (found.client, found.asked);
        let who = &mut self.clients[client as usize];
        let group = &scenario.workload[who.group];
        if group.clients.is_some() {
            let think = who.wisher.thinks(group);
            let pause = if self.now - asked < PAUSE { think.max(PAUSE) } else { think };
            self.queue.push(self.now + pause, Due::Client(client));
        }
    }

    /// Requests that will still end by themselves.
    pub(super) fn is_busy(&self) -> bool {
        let ends = |call: &Call| match call.stage {
            Stage::Over => false,
            Stage::Waiting | Stage::Granted(_) => true,
            Stage::Holding(_) => call.hold < Duration::MAX,
        };
        self.calls.iter().any(ends)
    }
}
