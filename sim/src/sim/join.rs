//! The result of a task.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use crate::executor::{Executor, TaskId, lock};

/// Waits for a task that was [spawned](crate::Sim::spawn). Dropping it lets the task go on.
pub struct JoinHandle<T> {
    executor: Arc<Executor>,
    task: TaskId,
    result: Arc<Mutex<Outcome<T>>>,
}

/// What a task leaves behind.
struct Outcome<T> {
    value: Option<T>,
    waiter: Option<Waker>,
    finished: bool,
}

impl<T: Send + 'static> JoinHandle<T> {
    pub(super) fn spawn(
        executor: &Arc<Executor>,
        name: &'static str,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Self {
        let result = Arc::new(Mutex::new(Outcome { value: None, waiter: None, finished: false }));
        let outcome = result.clone();
        let task = executor.spawn(name, async move {
            let value = task.await;
            let waiter = {
                let mut outcome = lock(&outcome);
                outcome.value = Some(value);
                outcome.finished = true;
                outcome.waiter.take()
            };
            if let Some(waiter) = waiter {
                waiter.wake();
            }
        });
        JoinHandle { executor: executor.clone(), task, result }
    }
}

impl<T> JoinHandle<T> {
    /// Drops the task where it is, at whatever it waits for; if it calls this itself, as soon as it waits.
    pub fn abort(self) {
        self.executor.abort(self.task);
    }

    /// Whether the task has come to its end.
    pub fn is_finished(&self) -> bool {
        lock(&self.result).finished
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = T;

    /// # Panics
    /// If it was ready before.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let new = cx.waker().clone();
        let (value, old) = {
            let mut outcome = lock(&self.result);
            match outcome.value.take() {
                Some(value) => (Some(value), Some(new)),
                None => {
                    assert!(!outcome.finished, "the result was taken already");
                    (None, outcome.waiter.replace(new))
                }
            }
        };
        drop(old);
        value.map_or(Poll::Pending, Poll::Ready)
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("task", &self.task).finish_non_exhaustive()
    }
}
