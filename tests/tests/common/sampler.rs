//! A look at something, again and again.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// Looks at something all the time, on a thread of its own, until it is told to stop or dropped, also by a panic.
pub struct Sampler {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<u32>>,
}

impl Sampler {
    /// Begins.
    pub fn start(mut look: impl FnMut() + Send + 'static) -> Sampler {
        let over = Arc::new(AtomicBool::new(false));
        let ended = over.clone();
        let thread = thread::spawn(move || {
            let mut looks = 0;
            while !ended.load(Ordering::Relaxed) {
                look();
                looks += 1;
            }
            looks
        });
        Sampler { over, thread: Some(thread) }
    }

    /// Ends; how often it looked.
    ///
    /// # Panics
    /// As the look did.
    pub fn end(mut self) -> u32 {
        self.over.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it ends once");
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
