//! Tasks that can be joined and aborted.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use pgweir_core::runtime::Runtime;

/// Runs `work` in the background. A dropped [`Task`] lets it go on.
pub fn spawn<R, F>(runtime: &R, work: F) -> Task<F::Output>
where
    R: Runtime,
    F: Future<Output: Send> + Send + 'static,
{
    let shared = Arc::new(Shared::default());
    runtime.spawn("kit", Work { work: Some(Box::pin(work)), shared: shared.clone() });
    Task { shared }
}

/// Waits for all of them.
///
/// # Panics
/// If one of them did.
pub async fn join_all<T>(tasks: impl IntoIterator<Item = Task<T>>) -> Vec<T> {
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap_or_else(|error| panic!("{error}")));
    }
    results
}

/// A task in the background. Awaited, it is what the task returns.
#[derive(Debug)]
pub struct Task<T> {
    shared: Arc<Shared<T>>,
}

/// Why a task returned nothing.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// It panicked.
    #[error("a task panicked: {0}")]
    Panicked(String),
    /// It was aborted, or dropped by its runtime.
    #[error("a task was aborted")]
    Aborted,
}

impl<T> Task<T> {
    /// Drops the work, soon and where it runs, unless it is done before.
    pub fn abort(&self) {
        let worker = {
            let mut state = self.shared.lock();
            state.aborted = true;
            state.worker.take()
        };
        worker.inspect(Waker::wake_by_ref);
    }

    /// Whether it is done, one way or another.
    pub fn is_finished(&self) -> bool {
        self.shared.lock().finished
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, TaskError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.shared.lock();
        if let Some(outcome) = state.outcome.take() {
            return Poll::Ready(outcome);
        }
        assert!(!state.finished, "a task is awaited once");
        state.joiner = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    outcome: Option<Result<T, TaskError>>,
    finished: bool,
    aborted: bool,
    worker: Option<Waker>,
    joiner: Option<Waker>,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        let state = State { outcome: None, finished: false, aborted: false, worker: None, joiner: None };
        Shared { state: Mutex::new(state) }
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first outcome counts.
    fn finish(&self, outcome: Result<T, TaskError>) {
        let mut state = self.lock();
        if state.finished {
            return;
        }
        (state.finished, state.outcome) = (true, Some(outcome));
        let joiner = state.joiner.take();
        drop(state);
        joiner.inspect(Waker::wake_by_ref);
    }

    /// Whether the work is to be dropped; if not, an abort wakes this waker.
    fn is_aborted(&self, cx: &Context<'_>) -> bool {
        let mut state = self.lock();
        state.worker = Some(cx.waker().clone());
        state.aborted
    }
}

/// The task as its runtime sees it.
struct Work<F: Future> {
    work: Option<Pin<Box<F>>>,
    shared: Arc<Shared<F::Output>>,
}

impl<F: Future> Future for Work<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let aborted = self.shared.is_aborted(cx);
        let Some(work) = self.work.as_mut() else { return Poll::Ready(()) };
        let outcome = match aborted {
            true => Err(TaskError::Aborted),
            false => match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(output)) => Ok(output),
                Err(panic) => Err(TaskError::Panicked(words(&*panic))),
            },
        };
        // Whoever joins finds everything dropped that the work had.
        self.work = None;
        self.shared.finish(outcome);
        Poll::Ready(())
    }
}

impl<F: Future> Drop for Work<F> {
    fn drop(&mut self) {
        self.work = None;
        self.shared.finish(Err(TaskError::Aborted));
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
