//! The lock and what it guards: the machine, the connections by slot, the waiting acquires; and `apply`, which carries
//! the machine's actions out as far as that can be done under the lock. Acquire and release are in `lending`.
//!
//! The lock rule: under the lock run `handle`, move connections and grants, collect [`Effects`]. After unlocking: wake,
//! abort, log, drop. Nothing that blocks and no foreign code runs under the lock.

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::Duration;

use super::command::Command;
use super::effects::Effects;
use super::hooks::Hooks;
use super::member::Member;
use super::notices::Report;
use super::origin::Watch;
use super::recorder::Recorder;
use super::signal::{Signal, SlotSignal};
use super::sites::Sites;
use super::sync::{Arc, AtomicUsize, Mutex, MutexGuard, lock};
use super::waiting::{Cells, Outcome};
use crate::config::PoolConfig;
use crate::journal::{JournalOptions, Why};
use crate::manager::{Manager, Stop};
use crate::pool::{
    self, Action, CloseHow, ConnId, Event, Fault, HostId, Machine, Notice, Reject, ShutdownReport, WaiterId,
};
use crate::report::Scale;
use crate::runtime::{Abort, Runtime};
use crate::time::{Instant, Wall};

/// What all handles, leases, acquires and the background task of one pool share.
pub(crate) struct Shared<R: Runtime, M: Manager> {
    pub(crate) runtime: R,
    pub(crate) manager: M,
    pub(crate) hooks: Hooks<M::Connection>,
    pub(crate) acquire_timeout: Duration,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) signal: std::sync::Arc<Signal>,
    pub(crate) watch: Watch,
    /// The manager's names for its hosts.
    host_names: Vec<String>,
    /// Live `Pool` handles: when the last is dropped the pool shuts down.
    pub(crate) handles: AtomicUsize,
    /// Translates the pool's clock to the wall's.
    pub(crate) wall: Wall,
    state: Mutex<State<M>>,
}

/// What the lock guards.
pub(crate) struct State<M: Manager> {
    pub(crate) machine: Machine,
    pub(crate) entries: Vec<Entry<M>>,
    pub(crate) cells: Cells<M::Connection>,
    pub(crate) sites: Sites,
    /// For the background task.
    pub(crate) commands: Vec<Command<M::Connection>>,
    /// When the background task will look by itself.
    pub(crate) armed: Instant,
    /// Set when the background task is gone without having finished: nothing can be opened or awaited any more.
    pub(crate) orphaned: bool,
    pub(crate) opening: Opening,
    pub(crate) terminated: Option<ShutdownReport>,
    /// Who waits for `opening` or `terminated`.
    pub(crate) watchers: BTreeMap<u64, Waker>,
    pub(crate) next_watcher: u64,
    /// The machine's answer to the last event, until it is carried out.
    pub(super) actions: Vec<Action>,
    pub(super) recorder: Recorder,
    /// What is to be logged, in the order in which it happened.
    reports: Vec<Report>,
    /// Whether somebody is logging.
    emitting: bool,
}

/// How far the pool's first connections have come.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Opening {
    Underway,
    Done,
    Failed(Vec<Fault>),
}

/// One slot's connection, or where it is.
pub(crate) struct Entry<M: Manager> {
    pub(crate) conn: ConnId,
    pub(crate) place: Place<M::Connection>,
    pub(crate) abort: Option<std::sync::Arc<dyn Abort>>,
    pub(crate) stop: Option<std::sync::Arc<dyn Stop>>,
    pub(crate) signal: std::sync::Arc<SlotSignal>,
    pub(crate) waker: Waker,
    /// The connection's own count of its lease's queries.
    pub(crate) queries: Option<std::sync::Arc<super::sync::StaticU64>>,
}

/// Where a slot's connection is.
pub(crate) enum Place<C> {
    /// Nowhere: the slot is vacant.
    Empty,
    /// Here: idle, or about to be moved by the next action.
    Here(Box<Member<C>>),
    /// With a lease, a waiter's cell or an acquire that checks it.
    Lent,
    /// With a job of the background task.
    Job,
}

impl<R: Runtime, M: Manager> Shared<R, M> {
    pub(crate) fn new(
        runtime: R,
        manager: M,
        hooks: Hooks<M::Connection>,
        config: &PoolConfig,
        journal: JournalOptions,
    ) -> Self {
        let now = runtime.now();
        let wall = Wall { at: now, unix: runtime.unix_time() };
        let machine = Machine::new(config, runtime.seed(), now);
        let host_names = (0..config.hosts.max(1)).map(|host| manager.host_name(HostId(host))).collect();
        Shared {
            host_names,
            manager,
            hooks,
            acquire_timeout: config.acquire_timeout,
            shutdown_timeout: config.shutdown_timeout,
            signal: std::sync::Arc::new(Signal::new()),
            watch: Watch::new(config),
            handles: AtomicUsize::new(1),
            wall,
            state: Mutex::new(State {
                recorder: Recorder::new(journal, &machine),
                machine,
                entries: Vec::new(),
                cells: Cells::new(),
                sites: Sites::new(),
                commands: Vec::new(),
                armed: Instant::MAX,
                orphaned: false,
                opening: Opening::Underway,
                terminated: None,
                watchers: BTreeMap::new(),
                next_watcher: 0,
                actions: Vec::with_capacity(8),
                reports: Vec::new(),
                emitting: false,
            }),
            runtime,
        }
    }

    /// What is needed to show moments and hosts to people.
    pub(crate) fn scale(&self, now: Instant) -> Scale<'_> {
        Scale { now, wall: self.wall, hosts: &self.host_names }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State<M>> {
        lock(&self.state)
    }

    /// Whether somebody holds the lock: in a test with one thread, whether foreign code runs under it.
    #[cfg(all(test, not(pgweir_loom)))]
    pub(crate) fn is_locked(&self) -> bool {
        self.state.try_lock().is_err()
    }

    /// Tells the machine one thing and carries out what it answers.
    pub(crate) fn post(&self, event: Event) {
        let now = self.runtime.now();
        let mut effects = Effects::new();
        let mut state = self.lock();
        self.step(&mut state, now, event, &mut effects);
        drop(state);
        self.run(effects);
    }

    /// One event under the lock: the machine's answer is applied, the rest is left in `effects`.
    pub(crate) fn step(&self, state: &mut State<M>, now: Instant, event: Event, effects: &mut Effects<M::Connection>) {
        state.handle(now, event);
        self.carry_out(state, now, effects);
    }

    /// Applies the actions that the machine has left.
    pub(super) fn carry_out(&self, state: &mut State<M>, now: Instant, effects: &mut Effects<M::Connection>) {
        self.apply_all(state, now, effects);
        if state.orphaned {
            self.settle_orphan(state, now, effects);
        }
        effects.ring |= state.is_due_earlier() | !state.commands.is_empty();
    }

    fn apply_all(&self, state: &mut State<M>, now: Instant, effects: &mut Effects<M::Connection>) {
        let mut actions = std::mem::take(&mut state.actions);
        for action in actions.drain(..) {
            state.apply(action, now, &self.signal, effects);
        }
        state.actions = actions;
    }

    /// Without a background task nothing can be awaited: what it should close is dropped, and the machine told so.
    fn settle_orphan(&self, state: &mut State<M>, now: Instant, effects: &mut Effects<M::Connection>) {
        while let Some(command) = state.commands.pop() {
            let conn = command.conn();
            if let Command::Stop { stop, .. } = command {
                effects.handles.push((None, Some(stop)));
            } else {
                effects.members.extend(command.into_member());
            }
            state.handle(now, Event::Closed { conn });
            self.apply_all(state, now, effects);
        }
    }

    /// The background task is gone. If it had not finished, its runtime was shut down: the pool ends at once, so that
    /// nobody waits for what cannot happen.
    pub(crate) fn orphan(&self) {
        let now = self.runtime.now();
        let mut effects = Effects::new();
        let mut state = self.lock();
        state.orphaned = true;
        if state.terminated.is_none() {
            self.step(&mut state, now, Event::Shutdown { deadline: now }, &mut effects);
            // Whatever was with a job died with the task.
            for slot in 0..state.entries.len() {
                let conn = state.entries[slot].conn;
                self.step(&mut state, now, Event::Closed { conn }, &mut effects);
            }
            self.step(&mut state, now, Event::Tick, &mut effects);
        }
        let delivery = state.delivery(now, self.wall, true);
        drop(state);
        effects.ring = false;
        self.run(effects);
        self.deliver(delivery);
    }

    /// After unlocking: everything that may run foreign code or take time.
    pub(crate) fn run(&self, effects: Effects<M::Connection>) {
        if effects.ring {
            self.signal.raise();
        }
        effects.abort();
        if effects.emit {
            self.emit();
        }
        effects.finish();
    }

    /// Logs what there is to log, in the order in which it happened: one thread does so at a time, for all.
    #[cold]
    fn emit(&self) {
        loop {
            let reports = {
                let mut state = self.lock();
                if state.emitting || state.reports.is_empty() {
                    return;
                }
                state.emitting = true;
                std::mem::take(&mut state.reports)
            };
            let turn = Emitting(self);
            let scale = self.scale(self.runtime.now());
            for report in &reports {
                report.suspects().into_iter().for_each(|location| self.watch.note(location));
                report.emit(&scale);
            }
            drop(turn);
        }
    }
}

pub(super) const UNKNOWN_WAITER: &str = "an answer for a waiter that is gone";

/// The turn of whoever is logging, which ends also where a subscriber panics.
struct Emitting<'a, R: Runtime, M: Manager>(&'a Shared<R, M>);

impl<R: Runtime, M: Manager> Drop for Emitting<'_, R, M> {
    fn drop(&mut self) {
        self.0.lock().emitting = false;
    }
}

impl<M: Manager> State<M> {
    /// Registers a watcher of `opening` and `terminated`; without a key it gets one. Returns the waker it replaces.
    pub(crate) fn watch(&mut self, key: &mut Option<u64>, waker: &Waker) -> Option<Waker> {
        let key = *key.get_or_insert_with(|| {
            self.next_watcher += 1;
            self.next_watcher
        });
        self.watchers.insert(key, waker.clone())
    }

    /// Carries out one action as far as possible under the lock.
    fn apply(
        &mut self,
        action: Action,
        now: Instant,
        signal: &std::sync::Arc<Signal>,
        effects: &mut Effects<M::Connection>,
    ) {
        match action {
            Action::Grant { waiter, conn } => {
                let member = self.lend(conn.slot);
                self.settle(waiter, Outcome::Granted(member), effects);
            }
            Action::Reject { waiter, reason } => {
                if matches!(reason, Reject::Timeout(_)) {
                    effects.ring |= self.recorder.mark(&Why::Timeout);
                }
                let error = self.acquire_error(reason, now);
                self.reports.push(Report::Rejected(error.clone()));
                effects.emit = true;
                self.settle(waiter, Outcome::Rejected(error), effects);
            }
            Action::Connect { conn, host, deadline } => {
                self.occupy(conn, signal);
                self.commands.push(Command::Connect { conn, host, deadline });
            }
            Action::Validate { conn, how, .. } => {
                let member = self.take(conn);
                self.commands.push(Command::Validate { member, how });
            }
            Action::Reset { conn, how, deadline } => {
                let member = self.take(conn);
                self.commands.push(Command::Reset { member, how, deadline });
            }
            Action::Close { conn, how, .. } => self.close(conn, how, effects),
            Action::Notice(notice) => self.notice(*notice, effects),
        }
    }

    fn settle(&mut self, waiter: WaiterId, outcome: Outcome<M::Connection>, effects: &mut Effects<M::Connection>) {
        match self.cells.settle(waiter, outcome) {
            Ok(waker) => effects.wake(waker),
            // Cannot happen: the machine answers live waiters only. Should it, the connection must not be lost unseen.
            Err(outcome) => {
                debug_assert!(false, "{UNKNOWN_WAITER}: {waiter:?}");
                if let Outcome::Granted(member) = outcome {
                    effects.members.push(member);
                }
            }
        }
    }

    fn close(&mut self, conn: ConnId, how: CloseHow, effects: &mut Effects<M::Connection>) {
        let Some(entry) = self.entry(conn) else { return };
        let (abort, stop) = (entry.abort.take(), entry.stop.take());
        let command = match (std::mem::replace(&mut entry.place, Place::Empty), stop) {
            (Place::Lent, stop) => {
                // Its holder keeps the object; the socket is cut from here.
                effects.aborts.extend(abort);
                match stop {
                    Some(stop) => Command::Stop { conn, stop },
                    None => Command::Close { conn, member: None, how },
                }
            }
            (place, stop) => {
                // Foreign objects: not dropped under the lock.
                effects.handles.push((abort, stop));
                let member = if let Place::Here(member) = place { Some(member) } else { None };
                Command::Close { conn, member, how }
            }
        };
        self.commands.push(command);
    }

    fn notice(&mut self, notice: Notice, effects: &mut Effects<M::Connection>) {
        match &notice {
            Notice::Initialized { .. } => self.opening = Opening::Done,
            Notice::InitFailed { attempts } => self.opening = Opening::Failed(attempts.clone()),
            Notice::Terminated { report } => self.terminated = Some(report.clone()),
            Notice::StateChanged { to: pool::State::Unhealthy, .. } => {
                effects.ring |= self.recorder.mark(&Why::Unhealthy)
            }
            _ => {}
        }
        if matches!(notice, Notice::Initialized { .. } | Notice::InitFailed { .. } | Notice::Terminated { .. }) {
            for waker in std::mem::take(&mut self.watchers).into_values() {
                effects.wake(waker);
            }
        }
        let report = self.report(notice);
        self.reports.push(report);
        effects.emit = true;
    }

    /// The entry of a connection that is still current.
    pub(crate) fn entry(&mut self, conn: ConnId) -> Option<&mut Entry<M>> {
        self.entries.get_mut(conn.slot as usize).filter(|entry| entry.conn == conn)
    }

    /// Makes a slot's entry ready for a new connection.
    fn occupy(&mut self, conn: ConnId, signal: &std::sync::Arc<Signal>) {
        while self.entries.len() <= conn.slot as usize {
            let slot = SlotSignal::new(signal.clone());
            let slot = std::sync::Arc::new(slot);
            self.entries.push(Entry {
                conn: ConnId { slot: self.entries.len() as u32, generation: 0 },
                place: Place::Empty,
                abort: None,
                stop: None,
                waker: Waker::from(slot.clone()),
                signal: slot,
                queries: None,
            });
        }
        let entry = &mut self.entries[conn.slot as usize];
        entry.conn = conn;
        entry.place = Place::Job;
        entry.abort = None;
        entry.stop = None;
        entry.queries = None;
    }

    /// Moves a connection that is here to a job.
    fn take(&mut self, conn: ConnId) -> Box<Member<M::Connection>> {
        let entry = &mut self.entries[conn.slot as usize];
        match std::mem::replace(&mut entry.place, Place::Job) {
            Place::Here(member) => member,
            _ => unreachable!("the machine works on {conn}, which is not here"),
        }
    }
}

impl<R: Runtime, M: Manager> std::fmt::Debug for Shared<R, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts = self.lock().machine.counts();
        f.debug_struct("Pool").field("counts", &counts).finish_non_exhaustive()
    }
}

/// Loom's Arc has no `Arc<dyn Trait>`, so handles to the whole are spelled once.
pub(crate) type Handle<R, M> = Arc<Shared<R, M>>;
