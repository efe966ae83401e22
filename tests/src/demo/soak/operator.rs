//! The operator: resizes, pauses, recycles, shuts the pool down and opens another, and looks closely each time it is
//! quiet.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pgweir_core::config::{Config, ResetPolicy};
use pgweir_core::journal::{Journal, Replay};
use pgweir_core::pool::{ShutdownReport, State};
use pgweir_core::runtime::Runtime;

use super::books::Trouble;
use super::breaker::{Deeds, count};
use super::census::{Look, PATIENCE, list};
use super::field::{ACQUIRE_TIMEOUT, COMMAND_TIMEOUT, Field, SLACK, lock};
use super::process;
use super::watcher::{Vitals, inconsistent};
use crate::demo::error::Error;
use crate::demo::load::PgPool;
use crate::demo::moments::Moments;
use crate::demo::screen::span;
use crate::kit::{off_thread, timeout};
use crate::{Client, LocalPostgres};

const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);
/// A shutdown may outlast its deadline by a second, and the machine may be slow.
const CLOSE_LIMIT: Duration = Duration::from_secs(3).saturating_add(SLACK);
const MOST: u64 = 12;
/// A pool at rest is complete within this.
const REST: Duration = Duration::from_secs(20);
/// What a pause or a forgotten lease does to others is over after this: they have the time of one acquire.
const AFTERMATH: Duration = ACQUIRE_TIMEOUT;

pub(super) struct Operator<R: Runtime> {
    pub(super) field: Arc<Field<R>>,
    pub(super) server: Arc<LocalPostgres>,
    pub(super) application_name: String,
    pub(super) vitals: Arc<Vitals>,
    pub(super) deeds: Arc<Deeds>,
    pub(super) moments: Moments,
    pub(super) tasks: Arc<dyn Fn() -> Option<usize> + Send + Sync>,
    /// Open files when the first pool had been closed; and tasks that are not the soak's.
    pub(super) files: Option<usize>,
    pub(super) strangers: usize,
    pub(super) journal_entries: u64,
}

impl<R: Runtime> Operator<R> {
    /// Until `end`: then the pool is closed for good.
    pub(super) async fn run(&mut self, end: Instant) -> Result<(), Error> {
        self.open().await?;
        let mut next_close = self.next_close();
        while Instant::now() < end {
            let pause = Duration::from_millis(50 + self.moments.draw(1_200));
            self.field.sleep(pause.min(end.saturating_duration_since(Instant::now()))).await;
            if Instant::now() >= next_close {
                match self.moments.draw(2) {
                    0 => self.close_under_load().await?,
                    _ => self.close_at_rest().await?,
                }
                self.open().await?;
                next_close = self.next_close();
            } else {
                self.operate().await;
            }
        }
        count(&self.deeds, "pool closed at the end");
        self.close_at_rest().await
    }

    fn next_close(&mut self) -> Instant {
        Instant::now() + Duration::from_millis(4_000 + self.moments.draw(16_000))
    }

    async fn operate(&mut self) {
        let Some(pool) = self.field.pool() else { return };
        match self.moments.draw(20) {
            0..3 => {
                count(&self.deeds, "resize");
                let max = 1 + self.moments.draw(MOST) as u32;
                // Before the pool may use it; the one before is remembered.
                lock(&self.field.census).allow(max);
                pool.resize(self.moments.draw(u64::from(max) + 1) as u32, max);
            }
            3..6 => {
                count(&self.deeds, "recycle");
                pool.recycle();
            }
            6..9 => {
                count(&self.deeds, "pause and resume");
                let trouble = self.field.books.open(Trouble::Paused);
                pool.pause();
                self.field.sleep(Duration::from_millis(self.moments.draw(1_500))).await;
                pool.resume();
                self.field.books.close(trouble, AFTERMATH);
            }
            9..13 => {
                count(&self.deeds, "leases forgotten");
                let trouble = self.field.books.open(Trouble::Forgotten);
                self.field.to_forget.store(1 + self.moments.draw(3) as u32, Ordering::SeqCst);
                // They may be taken a while from now, and are kept for up to 3 s.
                self.field.books.close(trouble, ACQUIRE_TIMEOUT * 2 + AFTERMATH);
            }
            // Time in which max_size is what it is, and the bound exact.
            _ => {}
        }
    }

    /// A new pool, with a configuration from the seed. The server may be down: then it opens when it can.
    async fn open(&mut self) -> Result<(), Error> {
        let max = 1 + self.moments.draw(MOST) as u32;
        let config = self.config(max)?;
        lock(&self.field.census).allow(max);
        self.field.to_forget.store(0, Ordering::SeqCst);
        let builder = PgPool::builder_on(self.field.runtime.clone(), config);
        let pool = match self.moments.draw(2) {
            0 => builder.open_lazy(),
            _ => match timeout(&self.field.runtime, REST, builder.open()).await {
                Ok(Ok(pool)) => pool,
                Ok(Err(error)) => return Err(Error::Failed(format!("the server is up, but a pool: {error}"))),
                Err(_) => return Err(Error::Late { what: "the opening of a pool", limit: REST }),
            },
        };
        *lock(&self.field.pool) = Some(pool);
        self.field.gate.store(true, Ordering::SeqCst);
        self.field.calm.store(false, Ordering::SeqCst);
        Ok(())
    }

    fn config(&mut self, max: u32) -> Result<Config, Error> {
        let reset = if self.moments.draw(4) == 0 { ResetPolicy::DiscardAll } else { ResetPolicy::Nothing };
        let config = Config::builder()
            .database_url(self.server.url())
            .application_name(&self.application_name)
            .min_size(self.moments.draw(u64::from(max.min(4)) + 1) as u32)
            .max_size(max)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .command_timeout(COMMAND_TIMEOUT)
            .close_timeout(Duration::from_secs(1))
            .shutdown_timeout(SHUTDOWN_TIMEOUT)
            .connect_timeout(Duration::from_secs(3))
            .outage_grace(Duration::from_secs(2))
            .backoff_initial(Duration::from_millis(200))
            .backoff_max(Duration::from_secs(1))
            .validation_interval(Duration::from_millis(200))
            .leak_detection_timeout(Duration::from_secs(1))
            .max_idle_time(Duration::from_secs(3))
            .max_connection_lifetime(Duration::from_secs(5 + self.moments.draw(20)))
            .max_queries(200 + self.moments.draw(3_000))
            .max_connecting(1 + self.moments.draw(6) as u32)
            .reset_policy(reset);
        Ok(config.build()?)
    }

    /// The pool is closed while everybody uses it, and perhaps while the server is down.
    async fn close_under_load(&mut self) -> Result<(), Error> {
        count(&self.deeds, "pool closed under load");
        let Some(pool) = self.field.pool() else { return Ok(()) };
        let report = self.close(&pool).await?;
        self.hold_still().await?;
        self.after_life(pool, report).await
    }

    /// The pool is closed when nobody uses it, and its connections are what the server shows, one by one.
    async fn close_at_rest(&mut self) -> Result<(), Error> {
        count(&self.deeds, "pool closed at rest");
        let Some(pool) = self.field.pool() else { return Ok(()) };
        self.hold_still().await?;
        let complete = || {
            let counts = pool.status();
            counts.total == counts.idle && counts.total >= counts.min && counts.total <= counts.max
        };
        let state = || pool.health().state;
        if !self.field.until(REST, || complete() && matches!(state(), State::Healthy | State::Degraded)).await {
            let seen = format!("{:?}, {:?}", pool.status(), pool.health());
            self.field.books.violated(format!("a pool at rest is not complete after {REST:?}: {seen}"));
        }
        self.compare(&pool).await?;
        let report = self.close(&pool).await?;
        if (report.finished, report.forced, report.rejected) != (0, 0, 0) {
            self.field.books.violated(format!("a pool at rest had something to finish: {report:?}"));
        }
        self.after_life(pool, report).await
    }

    /// Nobody uses the pool or breaks anything, and the server is up.
    async fn hold_still(&self) -> Result<(), Error> {
        const LIMIT: Duration = Duration::from_secs(90);
        self.field.gate.store(false, Ordering::SeqCst);
        self.field.calm.store(true, Ordering::SeqCst);
        let still = || self.field.busy.load(Ordering::SeqCst) == 0 && !self.field.breaking.load(Ordering::SeqCst);
        if !self.field.until(LIMIT, still).await {
            let limit = LIMIT;
            return Err(Error::Late { what: "the end of every request under way", limit });
        }
        let field = self.field.clone();
        off_thread(&self.field.runtime, move || field.empty_drawer(true)).await;
        Ok(())
    }

    /// The pool at rest and the server agree about how many there are.
    async fn compare(&self, pool: &PgPool<R>) -> Result<(), Error> {
        let end = Instant::now() + PATIENCE;
        loop {
            let before = pool.status();
            let look = self.look().await?;
            let agree = look.held.len() == before.total as usize && look.given_up.is_empty();
            if agree {
                return Ok(());
            }
            if Instant::now() > end {
                self.field.books.violated(format!("a pool at rest has {before:?}, the server shows {look}"));
                return Ok(());
            }
        }
    }

    async fn close(&self, pool: &PgPool<R>) -> Result<ShutdownReport, Error> {
        let trouble = self.field.books.open(Trouble::Closing);
        let begun = Instant::now();
        let closed = timeout(&self.field.runtime, CLOSE_LIMIT * 2, pool.close()).await;
        let took = begun.elapsed();
        // Callers that have this pool in hand will yet be told that it is closed.
        self.field.gate.store(false, Ordering::SeqCst);
        self.field.books.close(trouble, SLACK);
        let Ok(report) = closed else {
            return Err(Error::Late { what: "the end of a shutdown", limit: CLOSE_LIMIT * 2 });
        };
        if took > CLOSE_LIMIT {
            self.field.books.violated(format!("a shutdown took {}: {report:?}", span(took)));
        }
        Ok(report)
    }

    /// Nothing of a closed pool is left, and its numbers are those of its callers.
    async fn after_life(&mut self, pool: PgPool<R>, report: ShutdownReport) -> Result<(), Error> {
        *lock(&self.field.pool) = None;
        self.check_numbers(&pool, &report);
        self.check_journal(&pool);
        drop(pool);
        self.check_server().await?;
        lock(&self.field.census).allow(0);
        self.check_tasks().await;
        self.check_files().await
    }

    fn check_numbers(&self, pool: &PgPool<R>, report: &ShutdownReport) {
        let (stats, life) = (pool.stats(), self.field.books.end_life());
        let mut broken = inconsistent(&stats, report.forced.into());
        let settled = stats.total_acquisitions + stats.timeouts + stats.rejected + stats.cancelled;
        if settled != life.asked || life.asked != life.granted + life.turned_away {
            broken.push(format!("{settled} acquires are over for the pool, for its callers {life:?}: {stats:?}"));
        }
        // A lease that was cut off between its grant and its caller's look is one that the caller never saw.
        let unseen = stats.total_acquisitions.checked_sub(life.granted);
        if unseen.is_none_or(|unseen| unseen > report.forced.into()) {
            broken.push(format!("{} acquisitions, callers saw {}", stats.total_acquisitions, life.granted));
        }
        if (stats.total, stats.waiting) != (0, 0) {
            broken.push(format!("a closed pool has {:?}", pool.status()));
        }
        broken.into_iter().for_each(|what| self.field.books.violated(what));
    }

    /// The journal's ring is run again, bit for bit.
    fn check_journal(&mut self, pool: &PgPool<R>) {
        let Some(dump) = pool.journal() else { return self.field.books.violated("there is no journal".to_owned()) };
        let journal = match Journal::read(&dump.to_bytes()) {
            Ok(journal) => journal,
            Err(error) => return self.field.books.violated(format!("the journal cannot be read: {error}")),
        };
        self.journal_entries += journal.entries().len() as u64;
        if let Some(loss) = journal.loss() {
            self.field.books.violated(format!("the journal is not whole: {loss:?}"));
        }
        if let Some(number) = Replay::new(&journal).verify() {
            let entry = &journal.entries()[number];
            self.field.books.violated(format!("the journal does not replay: entry {number}, {entry:?}"));
        }
    }

    async fn check_server(&self) -> Result<(), Error> {
        let end = Instant::now() + PATIENCE;
        loop {
            let look = self.look().await?;
            if !look.held.is_empty() {
                self.field.books.violated(format!("a closed pool holds backends: {}", list(&look.held)));
                return Ok(());
            }
            if look.given_up.is_empty() {
                return Ok(());
            }
            if Instant::now() > end {
                let what = format!("{PATIENCE:?} after a pool was closed there are {}", list(&look.given_up));
                self.field.books.violated(what);
                return Ok(());
            }
        }
    }

    async fn look(&self) -> Result<Look, Error> {
        let (field, observer) = (self.field.clone(), self.server.client_config());
        off_thread(&self.field.runtime, move || {
            let mut client = Client::connect(&observer)?;
            lock(&field.census).look(&mut client)
        })
        .await
    }

    /// All tasks are the soak's own, or were there before.
    async fn check_tasks(&self) {
        let field = &self.field;
        let extra = || {
            let all = (self.tasks)()?;
            Some(all.saturating_sub(field.own_tasks.load(Ordering::SeqCst) + self.strangers))
        };
        if !field.until(SLACK, || extra().is_none_or(|extra| extra == 0)).await {
            field.books.violated(format!("a closed pool has left {:?} tasks", extra()));
        }
    }

    /// Between two pools there are as many open files as there were the first time.
    async fn check_files(&mut self) -> Result<(), Error> {
        let connected = || self.vitals.connected.load(Ordering::SeqCst);
        if !self.field.until(REST, connected).await {
            return Err(Error::Late { what: "the watcher's session", limit: REST });
        }
        let Some(expected) = self.files else {
            self.files = Some(process::open_files()?);
            return Ok(());
        };
        // The watcher may be reading a file of /proc.
        let mut seen = process::open_files()?;
        let end = Instant::now() + SLACK;
        while seen != expected && Instant::now() < end {
            self.field.sleep(Duration::from_millis(20)).await;
            seen = process::open_files()?;
        }
        if seen != expected {
            self.field.books.violated(format!("{seen} files are open without a pool, {expected} the first time"));
        }
        Ok(())
    }
}
