//! The callers: tasks that use the pool in every way that a program may, the careless ways too.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pgweir_core::client::{self, Client};
use pgweir_core::error::AcquireError;
use pgweir_core::runtime::Runtime;

use super::books::{Fine, Request};
use super::field::{Field, PgLease, lock};
use crate::demo::ledger::Cause;
use crate::demo::load::{PgPool, cause, query_cause};
use crate::demo::moments::Moments;
use crate::kit::timeout;

pub(super) const CALLERS: usize = 24;
/// What a caller waits after a failure before it tries again.
const PAUSE: Duration = Duration::from_millis(20);
/// The setting that a transaction left open would hand to the next user.
const SIMPLE: &str = "SELECT $1::int4 + 1, coalesce(current_setting('pgweir.soak', true), '') FROM pg_sleep($2)";
const LEFT_OPEN: &str = "BEGIN; SET LOCAL pgweir.soak = 'left behind'";
/// division_by_zero
const REFUSAL: &str = "22012";

/// Makes requests until the soak ends.
pub(super) fn start<R: Runtime>(field: &Arc<Field<R>>, seed: u64) {
    for number in 0..CALLERS {
        let (own, field) = (field.own(), field.clone());
        field.runtime.clone().spawn("soak", async move {
            let _own = own;
            let moments = Moments(seed ^ (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            Call { field: &field, number, moments }.run().await;
        });
    }
}

struct Call<'a, R: Runtime> {
    field: &'a Arc<Field<R>>,
    number: usize,
    moments: Moments,
}

/// How a request ended: well, or with its cause and its text.
type Outcome = Result<Fine, (Cause, String)>;

impl<R: Runtime> Call<'_, R> {
    async fn run(mut self) {
        while !self.field.stopped() {
            // Counted before the gate is looked at: whoever closes the gate waits for what got through.
            self.field.busy.fetch_add(1, Ordering::SeqCst);
            let pool = self.field.gate.load(Ordering::SeqCst).then(|| self.field.pool()).flatten();
            let went_well = match pool {
                Some(pool) => self.request(&pool).await,
                None => false,
            };
            self.field.busy.fetch_sub(1, Ordering::SeqCst);
            let pause = if went_well { Duration::from_micros(self.moments.draw(20_000)) } else { PAUSE };
            self.field.sleep(pause).await;
        }
    }

    async fn request(&mut self, pool: &PgPool<R>) -> bool {
        let field = self.field.clone();
        let request: Request<'_> = field.books.begin();
        let outcome = match self.moments.draw(100) {
            0..5 => self.try_get(pool).await,
            5..12 => self.drop_acquire(pool).await,
            _ => match self.acquire(pool).await {
                Ok(lease) => self.use_lease(lease).await,
                Err(failure) => Err(failure),
            },
        };
        field.unmark(self.number);
        match outcome {
            Ok(fine) => request.fine(fine),
            Err((cause, message)) => {
                request.failed(cause, message);
                return false;
            }
        }
        true
    }

    async fn acquire(&mut self, pool: &PgPool<R>) -> Result<PgLease<R>, (Cause, String)> {
        self.field.books.asked();
        self.field.mark(self.number, false);
        let acquired = pool.get().await;
        self.answer(acquired)
    }

    async fn try_get(&mut self, pool: &PgPool<R>) -> Outcome {
        self.field.books.asked();
        match pool.try_get() {
            // Told so at once, where a patient caller would get the connection that replaces the killed ones.
            Err(AcquireError::WouldBlock | AcquireError::Unavailable(_)) => {
                self.field.books.turned_away();
                Ok(Fine::NothingFree)
            }
            acquired => {
                let lease = self.answer(acquired)?;
                self.use_lease(lease).await
            }
        }
    }

    /// Waits for a moment only, and drops the acquire.
    async fn drop_acquire(&mut self, pool: &PgPool<R>) -> Outcome {
        self.field.books.asked();
        self.field.mark(self.number, false);
        let patience = Duration::from_micros(self.moments.draw(5_000));
        match timeout(&self.field.runtime, patience, pool.get()).await {
            Ok(acquired) => {
                let lease = self.answer(acquired)?;
                self.use_lease(lease).await
            }
            Err(_) => {
                self.field.books.turned_away();
                Ok(Fine::AcquireDropped)
            }
        }
    }

    fn answer(&self, acquired: Result<PgLease<R>, AcquireError>) -> Result<PgLease<R>, (Cause, String)> {
        match &acquired {
            Ok(_) => self.field.books.granted(),
            Err(_) => self.field.books.turned_away(),
        }
        acquired.map_err(|error| (cause(&error), error.to_string()))
    }

    async fn use_lease(&mut self, mut lease: PgLease<R>) -> Outcome {
        self.field.mark(self.number, true);
        if self.is_to_forget() {
            let back = Instant::now() + Duration::from_millis(200 + self.moments.draw(2_800));
            lock(&self.field.drawer).push((back, lease));
            return Ok(Fine::Forgotten);
        }
        let outcome = match self.moments.draw(100) {
            0..10 => self.drop_query(&mut lease).await,
            10..13 => leave_transaction(&mut lease).await,
            13..16 => refusal(&mut lease).await,
            16..18 => {
                let answered = self.query(&mut lease, 0).await;
                lease.discard();
                return answered.map(|_| Fine::Discarded);
            }
            18..20 => {
                let millis = 20 + self.moments.draw(280);
                self.query(&mut lease, millis).await
            }
            20..26 => self.several(&mut lease).await,
            _ => self.query(&mut lease, 0).await,
        };
        drop(lease);
        outcome
    }

    async fn several(&mut self, lease: &mut Client<R>) -> Outcome {
        for _ in 0..self.moments.draw(5) {
            self.query(lease, 0).await?;
        }
        self.query(lease, 2).await
    }

    /// A query that takes so long on the server, its answer checked.
    async fn query(&mut self, lease: &mut Client<R>, millis: u64) -> Outcome {
        let number = self.moments.draw(1 << 30) as i32;
        let seconds = millis as f64 / 1e3;
        let answer = lease.query_one(SIMPLE, &[&number, &seconds]).await;
        let read = answer.and_then(|row| Ok((row.try_get::<_, i32>(0)?, row.try_get::<_, String>(1)?)));
        match read.map_err(failure)? {
            (answer, left) if answer == number + 1 && left.is_empty() => Ok(Fine::Answered),
            (answer, left) => Err((Cause::WrongAnswer, format!("{number} + 1 was answered with {answer}, {left:?}"))),
        }
    }

    async fn drop_query(&mut self, lease: &mut Client<R>) -> Outcome {
        let (patience, millis) = (self.moments.draw(20_000), 1 + self.moments.draw(30));
        let runtime = self.field.runtime.clone();
        let query = self.query(lease, millis);
        timeout(&runtime, Duration::from_micros(patience), query).await.unwrap_or(Ok(Fine::QueryDropped))
    }

    fn is_to_forget(&self) -> bool {
        let take = |left: u32| left.checked_sub(1);
        self.field.to_forget.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok()
    }
}

async fn leave_transaction<R: Runtime>(lease: &mut Client<R>) -> Outcome {
    lease.batch_execute(LEFT_OPEN).await.map_err(failure)?;
    Ok(Fine::TransactionLeft)
}

async fn refusal<R: Runtime>(lease: &mut Client<R>) -> Outcome {
    match lease.query_one("SELECT 1 / ($1::int4 - 7)", &[&7_i32]).await {
        Err(error) if error.code().is_some_and(|code| code.code() == REFUSAL) => Ok(Fine::Refused),
        Err(error) => Err(failure(error)),
        Ok(_) => Err((Cause::WrongAnswer, "a division by zero was answered".to_owned())),
    }
}

fn failure(error: client::Error) -> (Cause, String) {
    (query_cause(&error), error.to_string())
}
