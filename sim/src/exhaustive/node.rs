//! A machine, the oracle that watches it, and what both are waiting for.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pgweir_core::config::PoolConfig;
use pgweir_core::pool::{Action, ConnId, Event, Machine, Notice, State, WaiterId};
use pgweir_core::time::Instant;

use crate::oracle::{Oracle, Verdict, Violation};

/// What a connection is in, as far as it matters to what can happen to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Is {
    Connecting,
    Validating,
    Resetting,
    Idle,
    Lent { since: Instant, waiter: WaiterId },
    Closing { deadline: Instant },
}

#[derive(Clone)]
pub(super) struct Node {
    machine: Machine,
    oracle: Oracle,
    pub(super) now: Instant,
    pub(super) conns: Vec<(ConnId, Is)>,
    pub(super) line: Vec<WaiterId>,
    pub(super) next_waiter: u64,
    pub(super) started: bool,
    pub(super) paused: bool,
    pub(super) ending: bool,
}

impl Node {
    pub(super) fn new(config: &PoolConfig) -> Self {
        // Late enough for everything of the machine's birth to lie long ago.
        let now = Instant::from_secs(1000);
        Node {
            machine: Machine::new(config, 1, now),
            oracle: Oracle::new(config, std::time::Duration::ZERO),
            now,
            conns: Vec::new(),
            line: Vec::new(),
            next_waiter: 0,
            started: false,
            paused: false,
            ending: false,
        }
    }

    pub(super) fn machine(&self) -> &Machine {
        &self.machine
    }

    pub(super) fn is_over(&self) -> bool {
        self.machine.state() == State::Terminated
    }

    /// A tick comes at the deadline, everything else now.
    pub(super) fn time_of(&self, event: &Event) -> Instant {
        match (event, self.machine.deadline()) {
            (Event::Tick, Some((at, _))) => self.now.max(at),
            _ => self.now,
        }
    }

    /// The next connect in flight succeeds.
    pub(super) fn connected(&self) -> Option<Event> {
        let connecting = self.conns.iter().find(|(_, is)| *is == Is::Connecting);
        connecting.map(|(conn, _)| Event::Connected { conn: *conn, facts: Default::default() })
    }

    /// Tells the machine, and checks all that can be checked.
    pub(super) fn tell(&mut self, at: Instant, event: Event) -> Verdict {
        self.now = at;
        self.oracle.event(at, &event)?;
        self.note_event(&event);
        let machine = &mut self.machine;
        let handled = catch_unwind(AssertUnwindSafe(|| {
            let mut actions = Vec::new();
            machine.handle(at, event, &mut actions);
            machine.check_invariants();
            actions
        }));
        let actions = handled.map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Violation { guarantee: "Invariant", detail: text.unwrap_or_default() }
        })?;
        for action in &actions {
            self.oracle.action(at, action)?;
            self.note_action(action);
        }
        self.conns.retain(|(_, is)| !matches!(is, Is::Closing { deadline } if *deadline <= at));
        let wakes = self.machine.deadline().map(|(at, _)| at);
        self.oracle.settled(at, self.machine.counts())?;
        self.oracle.wakes_in_time(wakes)?;
        self.oracle.is_well_said(at, &self.machine.health(at))
    }

    fn note_event(&mut self, event: &Event) {
        match event {
            Event::Start { .. } => self.started = true,
            Event::Acquire { waiter, .. } => {
                self.line.push(*waiter);
                self.next_waiter = self.next_waiter.max(waiter.0 + 1);
            }
            Event::Cancel { waiter } => self.line.retain(|other| other != waiter),
            Event::CheckFailed { conn, .. } => {
                if let Some((_, Is::Lent { waiter, .. })) = self.conns.iter().find(|(id, _)| id == conn) {
                    self.line.push(*waiter);
                    self.line.sort_unstable();
                }
                self.put(*conn, Is::Idle);
            }
            Event::Connected { conn, .. }
            | Event::Validated { conn }
            | Event::Reset { conn }
            | Event::Release { conn, .. }
            | Event::ValidationFailed { conn, .. }
            | Event::ResetFailed { conn, .. } => self.put(*conn, Is::Idle),
            Event::ConnectFailed { conn, .. } | Event::Closed { conn } => self.conns.retain(|(id, _)| id != conn),
            Event::Pause => self.paused = true,
            Event::Resume => self.paused = false,
            Event::Shutdown { .. } => self.ending = true,
            _ => {}
        }
    }

    fn note_action(&mut self, action: &Action) {
        match action {
            Action::Connect { conn, .. } => {
                self.conns.retain(|(id, _)| id.slot != conn.slot);
                self.conns.push((*conn, Is::Connecting));
                self.conns.sort_unstable_by_key(|(id, _)| id.slot);
            }
            Action::Validate { conn, .. } => self.put(*conn, Is::Validating),
            Action::Reset { conn, .. } => self.put(*conn, Is::Resetting),
            Action::Grant { waiter, conn } => {
                self.line.retain(|other| other != waiter);
                self.put(*conn, Is::Lent { since: self.now, waiter: *waiter });
            }
            Action::Reject { waiter, .. } => self.line.retain(|other| other != waiter),
            Action::Close { conn, deadline, .. } => self.put(*conn, Is::Closing { deadline: *deadline }),
            Action::Notice(notice) => match **notice {
                Notice::InitFailed { .. } => self.ending = true,
                Notice::Terminated { .. } => self.conns.clear(),
                _ => {}
            },
        }
    }

    fn put(&mut self, conn: ConnId, to: Is) {
        if let Some((_, is)) = self.conns.iter_mut().find(|(id, _)| *id == conn) {
            *is = to;
        }
    }
}
