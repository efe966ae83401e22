//! Tasks and who of them is ready.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};

use super::lock;
use crate::rng::Rng;

pub(super) type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A place for a task, and which of its tasks is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskId {
    slot: usize,
    /// Counts the tasks of a run, the main future being 0.
    pub(super) serial: u64,
}

impl TaskId {
    /// The future that [`run`](super::Executor::run) was given. It lives on the stack, in no slot.
    pub(super) const MAIN: TaskId = TaskId { slot: usize::MAX, serial: 0 };
}

pub(super) struct Task {
    pub(super) id: TaskId,
    pub(super) name: &'static str,
    pub(super) future: BoxFuture,
    pub(super) waker: Waker,
    pub(super) flag: Arc<Flag>,
}

enum Slot {
    Vacant,
    Waiting(Task),
    /// It is being polled; `aborted` if it is not to come back.
    Running {
        serial: u64,
        name: &'static str,
        aborted: bool,
    },
}

/// All tasks but the main one.
pub(super) struct Tasks {
    slots: Vec<Slot>,
    vacant: Vec<usize>,
    next_serial: u64,
}

impl Tasks {
    pub(super) fn new() -> Self {
        Tasks { slots: Vec::new(), vacant: Vec::new(), next_serial: 1 }
    }

    pub(super) fn add(&mut self, name: &'static str, future: BoxFuture, ready: &Arc<Ready>) -> TaskId {
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(Slot::Vacant);
            self.slots.len() - 1
        });
        let id = TaskId { slot, serial: self.next_serial };
        self.next_serial += 1;
        let flag = Flag::new(id, ready);
        self.slots[slot] = Slot::Waiting(Task { id, name, future, waker: Waker::from(flag.clone()), flag });
        id
    }

    /// Takes a task out to be polled; `None` if it is over.
    pub(super) fn take(&mut self, id: TaskId) -> Option<Task> {
        let slot = self.slots.get_mut(id.slot)?;
        match slot {
            Slot::Waiting(task) if task.id == id => {
                let running = Slot::Running { serial: id.serial, name: task.name, aborted: false };
                match std::mem::replace(slot, running) {
                    Slot::Waiting(task) => Some(task),
                    Slot::Vacant | Slot::Running { .. } => None,
                }
            }
            _ => None,
        }
    }

    /// Puts a polled task back; gives it back if it was aborted meanwhile, for the caller to drop.
    pub(super) fn put_back(&mut self, task: Task) -> Option<Task> {
        let slot = task.id.slot;
        if matches!(self.slots[slot], Slot::Running { aborted: true, .. }) {
            self.vacate(slot);
            return Some(task);
        }
        self.slots[slot] = Slot::Waiting(task);
        None
    }

    /// A task has ended.
    pub(super) fn remove(&mut self, id: TaskId) {
        self.vacate(id.slot);
    }

    /// Takes a task out for good; if it is being polled, as soon as that returns.
    pub(super) fn abort(&mut self, id: TaskId) -> Option<Task> {
        match self.slots.get_mut(id.slot) {
            Some(Slot::Waiting(task)) if task.id == id => {
                match std::mem::replace(&mut self.slots[id.slot], Slot::Vacant) {
                    Slot::Waiting(task) => {
                        self.vacant.push(id.slot);
                        Some(task)
                    }
                    Slot::Vacant | Slot::Running { .. } => None,
                }
            }
            Some(Slot::Running { serial, aborted, .. }) if *serial == id.serial => {
                *aborted = true;
                None
            }
            _ => None,
        }
    }

    /// Takes out all tasks, in the order in which they were spawned.
    pub(super) fn take_all(&mut self) -> Vec<Task> {
        let mut all = Vec::new();
        for slot in 0..self.slots.len() {
            if let Slot::Waiting(_) = &self.slots[slot]
                && let Slot::Waiting(task) = std::mem::replace(&mut self.slots[slot], Slot::Vacant)
            {
                self.vacant.push(slot);
                all.push(task);
            }
        }
        all.sort_by_key(|task| task.id.serial);
        all
    }

    /// The name of a task that is not over.
    pub(super) fn name(&self, id: TaskId) -> Option<&'static str> {
        match self.slots.get(id.slot)? {
            Slot::Waiting(task) if task.id == id => Some(task.name),
            Slot::Running { serial, name, .. } if *serial == id.serial => Some(name),
            _ => None,
        }
    }

    /// The names of all tasks, in no particular order.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Vacant => None,
            Slot::Waiting(Task { name, .. }) | Slot::Running { name, .. } => Some(*name),
        })
    }

    fn vacate(&mut self, slot: usize) {
        self.slots[slot] = Slot::Vacant;
        self.vacant.push(slot);
    }
}

/// The tasks that were woken.
#[derive(Default)]
pub(super) struct Ready(Mutex<Vec<TaskId>>);

impl Ready {
    /// Takes one out, each with the same chance.
    pub(super) fn pick(&self, rng: &mut Rng) -> Option<TaskId> {
        let mut list = lock(&self.0);
        match list.len() {
            0 => None,
            1 => list.pop(),
            many => Some(list.swap_remove(rng.below(many as u64) as usize)),
        }
    }
}

/// A task's waker: it puts the task on the list, unless it is there already.
pub(super) struct Flag {
    id: TaskId,
    raised: AtomicBool,
    ready: Arc<Ready>,
}

impl Flag {
    /// For a new task, which is ready.
    pub(super) fn new(id: TaskId, ready: &Arc<Ready>) -> Arc<Self> {
        lock(&ready.0).push(id);
        Arc::new(Flag { id, raised: AtomicBool::new(true), ready: ready.clone() })
    }

    /// The task is about to be polled: from here on a wake counts again.
    pub(super) fn lower(&self) {
        self.raised.store(false, Ordering::Release);
    }

    /// The task is over: no wake counts any more.
    pub(super) fn retire(&self) {
        self.raised.store(true, Ordering::Release);
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.raised.swap(true, Ordering::AcqRel) {
            lock(&self.ready.0).push(self.id);
        }
    }
}
