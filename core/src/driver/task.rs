//! The background task: the one place where a pool's own futures are polled. It carries out the commands that take
//! time, listens to idle connections, and tells the machine when a deadline passes.
//!
//! There is one per pool and it is never restarted, so tasks cannot multiply (PEERS 43). A job lives in its slot: a new
//! command for the slot drops the old job and whatever it had open.

use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::command::Command;
use super::effects::Effects;
use super::hooks::{self, Hook};
use super::member::Member;
use super::shared::{Handle, Place, State};
use super::signal::SlotSignal;
use crate::manager::Manager;
use crate::pool::{Check, CloseHow, ConnId, Event, Fault, FaultClass, HostId, ResetHow, ServerFacts};
use crate::runtime::{Runtime, Timer};
use crate::time::Instant;

/// The future that the runtime spawns for each pool. Ends when the pool has terminated.
pub(crate) struct Background<R: Runtime, M: Manager> {
    shared: Handle<R, M>,
    timer: R::Timer,
    timer_at: Instant,
    jobs: Vec<Option<Job<M::Connection>>>,
    finished: bool,
}

struct Job<C> {
    conn: ConnId,
    kind: Kind,
    future: Pin<Box<dyn Future<Output = Done<C>> + Send>>,
}

/// What a job does, for when it can no longer say so itself.
#[derive(Clone, Copy)]
enum Kind {
    Connect,
    Validate,
    Reset,
    Close,
}

/// How a job ended.
enum Done<C> {
    Connected(Result<(C, ServerFacts), Fault>),
    Validated(Box<Member<C>>, Result<(), Fault>),
    Reset(Box<Member<C>>, Result<(), Fault>),
    Closed,
    /// It panicked, in a hook or a manager of the user's; its connection went with it.
    Panicked(Kind),
}

/// After this many looks other tasks have their turn.
const MAX_TURNS: u32 = 32;

impl<R: Runtime, M: Manager> Background<R, M> {
    pub(crate) fn new(shared: Handle<R, M>) -> Self {
        let timer_at = Instant::MAX;
        let timer = shared.runtime.timer(timer_at);
        Background { shared, timer, timer_at, jobs: Vec::new(), finished: false }
    }

    /// One look at everything that rang. Returns when the machine is next due.
    fn turn(&mut self) -> Instant {
        let shared = self.shared.clone();
        let now = shared.runtime.now();
        let mut effects = Effects::new();
        let mut state = shared.lock();
        if state.machine.deadline().is_some_and(|(at, _)| at <= now) {
            shared.step(&mut state, now, Event::Tick, &mut effects);
        }
        self.listen(&mut state, now, &mut effects);
        let commands = std::mem::take(&mut state.commands);
        self.finished = state.terminated.is_some() && commands.is_empty();
        let delivery = state.delivery(now, shared.wall, self.finished);
        let due = state.machine.due().min(state.recorder.due());
        state.armed = due;
        drop(state);
        effects.ring = false;
        shared.run(effects);
        shared.deliver(delivery);
        let busy = !commands.is_empty();
        for command in commands {
            self.begin(command);
        }
        if self.poll_jobs() || busy {
            shared.signal.raise();
        }
        due
    }

    /// Idle connections whose socket spoke up are looked at before they are lent again.
    fn listen(&mut self, state: &mut State<M>, now: Instant, effects: &mut Effects<M::Connection>) {
        for slot in 0..state.entries.len() {
            let entry = &state.entries[slot];
            if matches!(entry.place, Place::Here(_)) && entry.signal.take() {
                let conn = entry.conn;
                self.shared.step(state, now, Event::Touched { conn }, effects);
            }
        }
    }

    fn begin(&mut self, command: Command<M::Connection>) {
        let conn = command.conn();
        let slot = conn.slot as usize;
        while self.jobs.len() <= slot {
            self.jobs.push(None);
        }
        // Dropped before its successor starts, and not under the lock: it may own a socket.
        self.end(slot);
        let kind = match &command {
            Command::Connect { .. } => Kind::Connect,
            Command::Validate { .. } => Kind::Validate,
            Command::Reset { .. } => Kind::Reset,
            Command::Close { .. } | Command::Stop { .. } => Kind::Close,
        };
        let shared = self.shared.clone();
        let future: Pin<Box<dyn Future<Output = Done<M::Connection>> + Send>> = match command {
            Command::Connect { host, deadline, .. } => {
                Box::pin(async move { Done::Connected(connect(&shared, host, deadline).await) })
            }
            Command::Validate { mut member, how } => Box::pin(async move {
                let result = match how {
                    Check::Socket => shared.manager.peek(&mut member.connection),
                    Check::RoundTrip => shared.manager.validate(&mut member.connection).await,
                };
                Done::Validated(member, result)
            }),
            Command::Reset { mut member, how, deadline } => Box::pin(async move {
                let result = reset(&shared, &mut member.connection, how, deadline).await;
                Done::Reset(member, result)
            }),
            Command::Close { member: Some(member), how: CloseHow::Graceful, .. } => Box::pin(async move {
                shared.manager.close(member.connection).await;
                Done::Closed
            }),
            Command::Close { member, .. } => Box::pin(async move {
                drop(member);
                Done::Closed
            }),
            Command::Stop { stop, .. } => Box::pin(async move {
                stop.stop().await;
                Done::Closed
            }),
        };
        self.jobs[slot] = Some(Job { conn, kind, future });
        let state = self.shared.lock();
        state.entries[slot].signal.mark();
    }

    /// Polls the jobs whose slot rang; true if one finished.
    fn poll_jobs(&mut self) -> bool {
        let mut finished = false;
        for slot in 0..self.jobs.len() {
            let Some(job) = &mut self.jobs[slot] else { continue };
            let (signal, waker) = {
                let state = self.shared.lock();
                let entry = &state.entries[slot];
                (entry.signal.clone(), entry.waker.clone())
            };
            if !signal.take() {
                continue;
            }
            if let Poll::Ready(done) = job.poll(&waker) {
                let conn = job.conn;
                self.end(slot);
                self.finish(conn, done, waker, signal);
                finished = true;
            }
        }
        finished
    }

    /// Drops the slot's job.
    fn end(&mut self, slot: usize) {
        let job = self.jobs[slot].take();
        caught(|| drop(job));
    }

    fn finish(&mut self, conn: ConnId, done: Done<M::Connection>, waker: Waker, signal: Arc<SlotSignal>) {
        let shared = &self.shared;
        let (member, event) = match done {
            Done::Connected(Ok((connection, facts))) => {
                let member = Box::new(Member { conn, connection, waker, signal, heard: shared.runtime.now() });
                (Some(member), Event::Connected { conn, facts })
            }
            Done::Connected(Err(fault)) => (None, Event::ConnectFailed { conn, fault: Box::new(fault) }),
            Done::Validated(member, Ok(())) => (Some(member), Event::Validated { conn }),
            Done::Validated(member, Err(fault)) => {
                (Some(member), Event::ValidationFailed { conn, fault: Box::new(fault) })
            }
            Done::Reset(member, Ok(())) => (Some(member), Event::Reset { conn }),
            Done::Reset(member, Err(fault)) => (Some(member), Event::ResetFailed { conn, fault: Box::new(fault) }),
            Done::Closed | Done::Panicked(Kind::Close) => (None, Event::Closed { conn }),
            Done::Panicked(kind) => {
                let fault = Box::new(panicked());
                let event = match kind {
                    Kind::Connect => Event::ConnectFailed { conn, fault },
                    Kind::Validate => Event::ValidationFailed { conn, fault },
                    Kind::Reset | Kind::Close => Event::ResetFailed { conn, fault },
                };
                (None, event)
            }
        };
        let (mut member, event) = listened(shared, conn, member, event);
        let now = shared.runtime.now();
        if let Some(member) = &mut member {
            member.heard = now;
        }
        let abort = member.as_ref().and_then(|member| caught(|| shared.manager.abort_handle(&member.connection))?);
        let opened = member.as_ref().filter(|_| matches!(event, Event::Connected { .. }));
        let stop = opened.and_then(|member| caught(|| shared.manager.stop_handle(&member.connection))?);
        let queries = opened.and_then(|member| caught(|| shared.manager.query_count(&member.connection))?);
        let mut effects = Effects::new();
        let mut state = shared.lock();
        let is_back = member.is_some_and(|member| state.put_back(member, &mut effects));
        // Handles keep a socket open: one of a connection that came too late must not stay.
        match state.entry(conn).filter(|_| is_back) {
            Some(entry) => {
                if queries.is_some() {
                    entry.queries = queries;
                }
                let stop = stop.and_then(|stop| entry.stop.replace(stop));
                effects.handles.push((std::mem::replace(&mut entry.abort, abort), stop));
            }
            None => effects.handles.push((abort, stop)),
        }
        shared.step(&mut state, now, event, &mut effects);
        drop(state);
        shared.run(effects);
    }
}

impl<C> Job<C> {
    /// Polls; a panic ends the job and not the pool.
    fn poll(&mut self, waker: &Waker) -> Poll<Done<C>> {
        let mut cx = Context::from_waker(waker);
        caught(|| self.future.as_mut().poll(&mut cx)).unwrap_or(Poll::Ready(Done::Panicked(self.kind)))
    }
}

/// Runs the manager's or a hook's code: its panic must not end the pool's only task. `None` if it panicked.
fn caught<T>(code: impl FnOnce() -> T) -> Option<T> {
    panic::catch_unwind(AssertUnwindSafe(code)).ok()
}

fn panicked() -> Fault {
    Fault::plain(FaultClass::Transient, "a hook or the manager panicked")
}

/// A connection that is about to be idle is listened to from before it is put back, so that no word of it is missed.
fn listened<R: Runtime, M: Manager>(
    shared: &Handle<R, M>,
    conn: ConnId,
    mut member: Option<Box<Member<M::Connection>>>,
    event: Event,
) -> (Option<Box<Member<M::Connection>>>, Event) {
    let good = matches!(event, Event::Connected { .. } | Event::Validated { .. } | Event::Reset { .. });
    let Some(listener) = member.as_mut().filter(|_| good) else { return (member, event) };
    let found = caught(|| listener.poll_idle(&shared.manager)).unwrap_or_else(|| Poll::Ready(panicked()));
    let Poll::Ready(fault) = found else { return (member, event) };
    let failed = Box::new(fault);
    let event = match event {
        Event::Connected { .. } => {
            member = None;
            Event::ConnectFailed { conn, fault: failed }
        }
        Event::Reset { .. } => Event::ResetFailed { conn, fault: failed },
        _ => Event::ValidationFailed { conn, fault: failed },
    };
    (member, event)
}

async fn connect<R: Runtime, M: Manager>(
    shared: &Handle<R, M>,
    host: HostId,
    deadline: Instant,
) -> Result<(M::Connection, ServerFacts), Fault> {
    let (mut connection, facts) = shared.manager.connect(host, deadline).await?;
    run_hook(shared, &shared.hooks.after_connect, "after_connect", &mut connection).await?;
    Ok((connection, facts))
}

async fn reset<R: Runtime, M: Manager>(
    shared: &Handle<R, M>,
    connection: &mut M::Connection,
    how: ResetHow,
    deadline: Instant,
) -> Result<(), Fault> {
    shared.manager.reset(connection, how, deadline).await?;
    run_hook(shared, &shared.hooks.after_release, "after_release", connection).await
}

/// The machine's deadline for the whole job ends a hook that does not.
async fn run_hook<R: Runtime, M: Manager>(
    shared: &Handle<R, M>,
    hook: &Option<Hook<M::Connection>>,
    name: &str,
    connection: &mut M::Connection,
) -> Result<(), Fault> {
    let Some(hook) = hook else { return Ok(()) };
    let outcome = hook(connection).await;
    hooks::verdict(name, Some(outcome), &shared.manager, connection)
}

impl<R: Runtime, M: Manager> Future for Background<R, M> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.shared.signal.register(cx.waker());
        let mut turns = 0;
        loop {
            while this.shared.signal.take() {
                if turns == MAX_TURNS {
                    this.shared.signal.raise();
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                turns += 1;
                let due = this.turn();
                if this.finished {
                    return Poll::Ready(());
                }
                if due != this.timer_at {
                    this.timer_at = due;
                    this.timer.reset(due);
                }
            }
            match Pin::new(&mut this.timer).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) => {
                    // The timer's clock may run ahead of ours by a hair: the turn decides whether anything is due.
                    this.timer_at = Instant::ZERO;
                    this.shared.signal.raise();
                }
            }
        }
    }
}

impl<R: Runtime, M: Manager> Drop for Background<R, M> {
    fn drop(&mut self) {
        self.shared.signal.clear();
        for slot in 0..self.jobs.len() {
            self.end(slot);
        }
        self.shared.orphan();
    }
}
