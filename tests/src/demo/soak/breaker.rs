//! The breaker: ends backends and restarts the server, at moments from the seed.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pgweir_core::runtime::Runtime;

use super::books::Trouble;
use super::field::{Field, lock};
use crate::demo::error::Error;
use crate::demo::moments::Moments;
use crate::kit::off_thread;
use crate::{LocalPostgres, StopMode};

/// A killed backend's lease is used within this.
const AFTER_KILL: Duration = Duration::from_secs(3);
/// After the server accepts connections the pool has one within this: the next probe is a second away at most.
const AFTER_START: Duration = Duration::from_secs(5);

/// How often what was done.
pub(super) type Deeds = Mutex<BTreeMap<&'static str, u64>>;

pub(super) struct Breaker<R: Runtime> {
    pub(super) field: Arc<Field<R>>,
    pub(super) server: Arc<LocalPostgres>,
    pub(super) application_name: String,
    pub(super) deeds: Arc<Deeds>,
    pub(super) moments: Moments,
}

impl<R: Runtime> Breaker<R> {
    /// Until the soak ends.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        while !self.field.stopped() {
            let pause = Duration::from_millis(100 + self.moments.draw(2_400));
            self.field.sleep(pause).await;
            self.field.breaking.store(true, Ordering::SeqCst);
            let outcome = match self.field.calm.load(Ordering::SeqCst) {
                true => Ok(()),
                false => self.break_something().await,
            };
            self.field.breaking.store(false, Ordering::SeqCst);
            outcome?;
        }
        Ok(())
    }

    async fn break_something(&mut self) -> Result<(), Error> {
        match self.moments.draw(20) {
            0..12 => {
                let most = 1 + self.moments.draw(3);
                self.kill(most).await
            }
            12..15 => self.kill(1_000).await,
            15..17 => self.restart("restart, fast", |server| server.stop(StopMode::Fast)).await,
            17..19 => self.restart("restart, immediate", |server| server.stop(StopMode::Immediate)).await,
            _ => self.restart("crash, kill -9", LocalPostgres::crash).await,
        }
    }

    /// pg_terminate_backend for up to so many of the pool's backends.
    async fn kill(&mut self, most: u64) -> Result<(), Error> {
        count(&self.deeds, if most == 1_000 { "all backends killed" } else { "some backends killed" });
        let (name, turn) = (&self.application_name, self.moments.draw(1_000));
        let sql = format!(
            "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE application_name = '{name}' \
             ORDER BY (pid::int8 * 7919 + {turn}) % 1009 LIMIT {most}) AS victims"
        );
        let trouble = self.field.books.open(Trouble::Killed);
        let killed = self.off_thread(move |server| server.query(&sql)).await?;
        self.field.books.killed(killed.iter().filter(|row| row.text(0) == "t").count());
        self.field.books.close(trouble, AFTER_KILL);
        Ok(())
    }

    async fn restart(
        &mut self,
        name: &'static str,
        stop: impl FnOnce(&LocalPostgres) -> crate::Result<()> + Send + 'static,
    ) -> Result<(), Error> {
        count(&self.deeds, name);
        let down = Duration::from_millis(self.moments.draw(4) * self.moments.draw(1_200));
        let trouble = self.field.books.open(Trouble::Down);
        self.off_thread(move |server| stop(server)).await?;
        self.field.sleep(down).await;
        self.off_thread(LocalPostgres::start_again).await?;
        self.field.books.close(trouble, AFTER_START);
        Ok(())
    }

    async fn off_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&LocalPostgres) -> crate::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let server = self.server.clone();
        Ok(off_thread(&self.field.runtime, move || work(&server)).await?)
    }
}

pub(super) fn count(deeds: &Deeds, name: &'static str) {
    *lock(deeds).entry(name).or_default() += 1;
}
