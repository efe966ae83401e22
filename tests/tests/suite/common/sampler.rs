//! A look at something, again and again.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

/// Looks at something all the time, on a thread of its own, until it is told to stop or dropped, also by a panic.
pub struct Sampler {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    over: AtomicBool,
    looks: AtomicU32,
}

impl Sampler {
    /// Begins.
    pub fn start(mut look: impl FnMut() + Send + 'static) -> Sampler {
        let state = Arc::new(State::default());
        let shared = state.clone();
        let thread = thread::spawn(move || {
            while !shared.over.load(Ordering::Relaxed) {
                look();
                shared.looks.fetch_add(1, Ordering::Relaxed);
            }
        });
        Sampler { state, thread: Some(thread) }
    }

    /// How often it has looked.
    ///
    /// # Panics
    /// If a look did.
    pub fn looks(&self) -> u32 {
        let over = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
        assert!(!over, "a look has failed");
        self.state.looks.load(Ordering::Relaxed)
    }

    /// Ends; how often it looked.
    ///
    /// # Panics
    /// As the look did.
    pub fn end(mut self) -> u32 {
        self.state.over.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it ends once");
        thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        self.state.looks.load(Ordering::Relaxed)
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::Relaxed);
    }
}
