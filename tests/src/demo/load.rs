//! The load: tasks that acquire, query, check the answer and give back, over and over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pgweir_core::client::{self, Client, Postgres};
use pgweir_core::driver::{Acquire, Pool};
use pgweir_core::error::AcquireError;
use pgweir_core::runtime::Runtime;

use super::error::Error;
use super::ledger::{Cause, Ledger, Request};
use super::rig::Rig;
use crate::kit::sleep;

pub(crate) type PgPool<R> = Pool<R, Postgres<R>>;
pub(crate) type PgAcquire<R> = Acquire<R, Postgres<R>>;

/// Tasks at work.
pub(crate) const TASKS: usize = 100;
/// What a caller waits after a failure before it tries again.
const PAUSE: Duration = Duration::from_millis(20);
/// How long the tasks may take to finish what they have begun.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Tasks that make requests until they are told to stop.
pub(crate) struct Load {
    pub(crate) ledger: Ledger,
    stop: Arc<AtomicBool>,
    running: Arc<AtomicUsize>,
}

impl Load {
    pub(crate) fn start<R: Runtime>(runtime: &R, pool: &PgPool<R>, ledger: Ledger) -> Self {
        let load = Load { ledger, stop: Arc::default(), running: Arc::new(AtomicUsize::new(TASKS)) };
        for task in 0..TASKS {
            let (stop, running) = (load.stop.clone(), Running(load.running.clone()));
            let (runtime, pool, ledger) = (runtime.clone(), pool.clone(), load.ledger.clone());
            runtime.clone().spawn("demo", async move {
                let _running = running;
                let mut number = task as i32;
                while !stop.load(Ordering::Relaxed) {
                    number = number.wrapping_add(TASKS as i32);
                    if !ask(pool.get(), ledger.begin(), number).await {
                        sleep(&runtime, PAUSE).await;
                    }
                }
            });
        }
        load
    }

    /// Lets every task finish its request.
    pub(crate) async fn stop<R: Runtime>(self, rig: &Rig<R>) -> Result<Ledger, Error> {
        self.stop.store(true, Ordering::Relaxed);
        if !rig.until(STOP_LIMIT, || self.running.load(Ordering::Relaxed) == 0).await {
            return Err(Error::Late { what: "the end of every request under way", limit: STOP_LIMIT });
        }
        Ok(self.ledger.clone())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Counts its task as running, whatever ends it.
struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One request. Three of four queries are answered at once, the fourth takes 2 to 9 ms on the server.
pub(crate) async fn ask<R: Runtime>(acquire: PgAcquire<R>, request: Request, number: i32) -> bool {
    let busy = if number % 4 == 0 { f64::from(2 + number.rem_euclid(8)) / 1e3 } else { 0.0 };
    ask_for(acquire, request, number, busy).await
}

/// One request whose query takes `seconds` on the server. True if it was answered.
pub(crate) async fn ask_for<R: Runtime>(acquire: PgAcquire<R>, request: Request, number: i32, seconds: f64) -> bool {
    let mut lease = match acquire.await {
        Ok(lease) => lease,
        Err(error) => {
            request.failed(cause(&error), None, error.to_string());
            return false;
        }
    };
    let granted = Instant::now();
    let outcome = query(&mut lease, number, seconds).await;
    drop(lease);
    match outcome {
        Ok(()) => request.answered(),
        Err((cause, message)) => {
            request.failed(cause, Some(granted), message);
            return false;
        }
    }
    true
}

async fn query<R: Runtime>(client: &mut Client<R>, number: i32, seconds: f64) -> Result<(), (Cause, String)> {
    let answer = match seconds > 0.0 {
        true => client.query_one("SELECT $1::int4 + 1 FROM pg_sleep($2)", &[&number, &seconds]).await,
        false => client.query_one("SELECT $1::int4 + 1", &[&number]).await,
    };
    match answer.and_then(|row| row.try_get::<_, i32>(0)) {
        Ok(answer) if answer == number.wrapping_add(1) => Ok(()),
        Ok(answer) => Err((Cause::WrongAnswer, format!("{number} + 1 was answered with {answer}"))),
        Err(error) => Err((query_cause(&error), error.to_string())),
    }
}

pub(crate) fn query_cause(error: &client::Error) -> Cause {
    if error.is_closed() { Cause::InFlight } else { Cause::Refused }
}

pub(crate) fn cause(error: &AcquireError) -> Cause {
    match error {
        AcquireError::Unavailable(_) => Cause::Unavailable,
        AcquireError::QueueFull { .. } => Cause::QueueFull,
        AcquireError::Closed => Cause::Closed,
        _ => Cause::Timeout,
    }
}
