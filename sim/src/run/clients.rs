//! The workload: clients that ask for connections, hold them, and give them back or forget to.

use std::time::Duration;

use pgweir_core::pool::{ConnId, Event, Fate, Fault, FaultClass, Reject, SiteId, WaiterId};
use pgweir_core::time::Instant;

use super::driver::Place;
use super::{CLIENTS, CallRef, Due, Run, Step, Subject};
use crate::rng::Rng;
use crate::scenario::Group;
use crate::trace::Trace;

/// A client that was refused at once pauses at least this long.
const PAUSE: Duration = Duration::from_millis(1);

/// Somebody who makes requests: one at a time, or without waiting for them.
#[derive(Debug)]
pub(super) struct Client {
    group: usize,
    rng: Rng,
    leaks_left: u32,
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
                let stream = CLIENTS + ((index as u64) << 32) + u64::from(number);
                let mut rng = Rng::new(self.seed, stream);
                let from = Instant::ZERO + group.from;
                // With a ramp, clients join one after the other.
                let joins = from + group.ramp.mul_f64(f64::from(number) / f64::from(group.clients.unwrap_or(1)));
                match &group.every {
                    Some(every) => {
                        let first = next_arrival(group, Duration::ZERO, every.draw(&mut rng));
                        self.queue.push(from + first, Due::Arrival(id));
                    }
                    None => self.queue.push(joins + group.think.draw(&mut rng), Due::Client(id)),
                }
                // A group's leaks are spread over its clients, the first ones first.
                let clients = group.clients.unwrap_or(1);
                let leaks = group.leaks.as_ref().map_or(0, |leaks| leaks.count);
                let leaks_left = leaks / clients + u32::from(number < leaks % clients);
                self.clients.push(Client { group: index, rng, leaks_left });
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
        if let Some(every) = &group.every {
            let begun = Instant::ZERO + group.from;
            let next = next_arrival(group, self.now - begun, every.draw(&mut who.rng));
            self.queue.push(begun + next, Due::Arrival(client));
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
        // Every request draws the same numbers, so that one that goes otherwise does not change the next.
        let rng = &mut who.rng;
        let mut hold = group.hold.draw(rng);
        let fate = rng.fraction();
        let cancel = group.cancel.as_ref().map(|cancel| (rng.chance(cancel.share), cancel.after.draw(rng)));
        let end = match fate {
            fate if fate < group.abandon => End::Abandoned,
            fate if fate < group.abandon + group.broken => End::Broken,
            fate if fate < group.abandon + group.broken + group.discard => End::Discarded,
            _ => End::Clean,
        };
        let mut leaked = false;
        if let (Some(leaks), true) = (&group.leaks, who.leaks_left > 0) {
            who.leaks_left -= 1;
            hold = leaks.hold.draw(rng);
            leaked = true;
        }
        let deadline = match group.timeout {
            Some(Duration::ZERO) => Instant::ZERO,
            Some(timeout) => self.now + timeout,
            None => self.now + scenario.pool.acquire_timeout(),
        };
        let (leak_after, queries) = (group.leak_after, group.queries);
        let (waiter, asked) = (WaiterId(self.next_waiter), self.now);
        let (stage, cut) = (Stage::Waiting, false);
        let call = Call { serial: 0, client, waiter, asked, hold, queries, end, stage, leaked, cut };
        let cancel = cancel.and_then(|(cancels, after)| cancels.then_some(after));
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
            let think = group.think.draw(&mut who.rng);
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

/// When an open loop that made a request at `at` makes its next one, both counted from its beginning. `gap` is the time
/// between two at full speed. With a ramp the speed grows evenly from nothing: at time t of a ramp r, t²/2r of full
/// speed's time has passed.
fn next_arrival(group: &Group, at: Duration, gap: Duration) -> Duration {
    let ramp = group.ramp.as_secs_f64();
    let at_seconds = at.as_secs_f64();
    if at_seconds >= ramp {
        return at.saturating_add(gap);
    }
    let passed = at_seconds * at_seconds / (2.0 * ramp) + gap.as_secs_f64();
    // Square roots are exact to the last bit everywhere.
    let next = if passed < ramp / 2.0 { (2.0 * ramp * passed).sqrt() } else { passed + ramp / 2.0 };
    // Never the same moment again: time must go on.
    let next = Duration::try_from_secs_f64(next).unwrap_or(Duration::MAX);
    next.max(at + Duration::from_nanos(1))
}
