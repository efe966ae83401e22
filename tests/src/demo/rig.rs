//! What every stage has at hand: the screen, the pool's events, waiting with a limit, and claims.

use std::fmt::Display;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pgweir_core::runtime::Runtime;

use crate::kit::sleep;

use super::error::Error;
use super::events::Events;
use super::ledger::{Account, Ledger};
use super::load::PgPool;
use super::screen::{Screen, Tone, count};
use super::server::Server;

/// The rhythm of everything that waits for a condition.
const LOOK: Duration = Duration::from_millis(5);

/// What every stage has at hand.
pub(crate) struct Rig<R: Runtime> {
    pub(crate) runtime: R,
    pub(crate) screen: Arc<Screen>,
    pub(crate) events: Events,
    pub(crate) server: Arc<Server>,
    pub(crate) begun: Instant,
    failed: AtomicU32,
    watched: Mutex<Option<(PgPool<R>, Ledger)>>,
}

impl<R: Runtime> Rig<R> {
    pub(crate) fn new(runtime: R, screen: Arc<Screen>, events: Events, server: Server, begun: Instant) -> Self {
        let server = Arc::new(server);
        Rig { runtime, screen, events, server, begun, failed: AtomicU32::new(0), watched: Mutex::new(None) }
    }

    /// Says something.
    pub(crate) fn say(&self, label: &str, text: impl Display) {
        self.screen.say(Tone::Plain, label, &text.to_string());
    }

    /// Checks that what is said is so.
    pub(crate) fn claim(&self, holds: bool, text: impl Display, seen: impl Display) {
        if holds {
            self.screen.say(Tone::Good, "ok", &text.to_string());
        } else {
            self.failed.fetch_add(1, Ordering::Relaxed);
            self.screen.say(Tone::Bad, "FAILED", &format!("expected: {text}; seen: {seen}"));
        }
    }

    /// Claims that did not hold.
    pub(crate) fn failed(&self) -> u32 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Nothing that was begun is missing in the books.
    pub(crate) fn claim_accounted(&self, account: &Account) {
        let (started, missing) = (account.started, account.unaccounted());
        let text = format!("every one of {} requests is accounted for", count(started));
        self.claim(missing == 0, text, format!("{missing} are missing"));
    }

    /// Shows this pool and these books in the status line from now on.
    pub(crate) fn watch(&self, pool: &PgPool<R>, ledger: &Ledger) {
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner) = Some((pool.clone(), ledger.clone()));
    }

    /// Ends that.
    pub(crate) fn unwatch(&self) {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(watched);
        self.screen.clear();
    }

    pub(crate) async fn sleep(&self, time: Duration) {
        self.until(time, || false).await;
    }

    /// Waits until `condition` holds; false if it did not within `limit`.
    pub(crate) async fn until(&self, limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
        let end = Instant::now() + limit;
        loop {
            let late = Instant::now() >= end;
            if condition() {
                return true;
            }
            if late {
                return false;
            }
            self.update_status();
            sleep(&self.runtime, LOOK.min(end.saturating_duration_since(Instant::now()))).await;
        }
    }

    /// Runs something that blocks in a thread of its own; `meanwhile` is called again and again.
    pub(crate) async fn block<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Server) -> Result<T, Error> + Send + 'static,
        mut meanwhile: impl FnMut(),
    ) -> Result<T, Error> {
        const LIMIT: Duration = Duration::from_secs(90);
        let server = self.server.clone();
        let thread = std::thread::spawn(move || work(&server));
        let ended = self
            .until(LIMIT, || {
                meanwhile();
                thread.is_finished()
            })
            .await;
        if !ended {
            return Err(Error::Late { what: "an answer of the server", limit: LIMIT });
        }
        thread.join().unwrap_or_else(|_| Err(Error::Failed("the thread that handles the server panicked".to_owned())))
    }

    fn update_status(&self) {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((pool, ledger)) = &*watched else { return };
        self.screen.status(|| {
            let counts = pool.status();
            format!(
                "   {:5.1} s     {} open, {} lent, {} waiting     {} answered, {} failed",
                self.begun.elapsed().as_secs_f64(),
                counts.total,
                counts.active,
                counts.waiting,
                count(ledger.answered()),
                count(ledger.failed()),
            )
        });
    }
}
