//! Callers that want a connection all the time, and what became of each of their requests.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pgweir_core::client::Error;

use crate::suite::rt::{self, AcquireError, Pool};

/// Tasks that query without pause until they are told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<Request>>>,
    tasks: Vec<rt::Task<()>>,
}

/// One request of a caller.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) began: Instant,
    pub(crate) took: Duration,
    pub(crate) failure: Option<Failure>,
}

/// Why a request failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// There was no connection to be had.
    Acquire(AcquireError),
    /// The query failed.
    Query(Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Acquire(error) => write!(f, "acquire: {error}"),
            Failure::Query(error) => write!(f, "query: {error}"),
        }
    }
}

impl Request {
    pub(crate) fn ended(&self) -> Instant {
        self.began + self.took
    }

    pub(crate) fn query_error(&self) -> Option<&Error> {
        match &self.failure {
            Some(Failure::Query(error)) => Some(error),
            _ => None,
        }
    }

    pub(crate) fn acquire_error(&self) -> Option<&AcquireError> {
        match &self.failure {
            Some(Failure::Acquire(error)) => Some(error),
            _ => None,
        }
    }
}

impl Load {
    /// Starts `callers` tasks; each request is an acquire and a query whose answer is checked. After a failure a
    /// caller takes a breath of 10 ms.
    pub(crate) fn start(pool: &Pool, callers: usize) -> Load {
        Load::start_paced(pool, callers, Duration::ZERO)
    }

    /// As [`Load::start`], with a pause between a caller's requests.
    pub(crate) fn start_paced(pool: &Pool, callers: usize, pause: Duration) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for caller in 0..callers {
            let (pool, stop, requests) = (pool.clone(), Arc::clone(&stop), Arc::clone(&requests));
            tasks.push(rt::spawn(async move {
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    let expected = (caller * 1_000_000 + number) as i64;
                    number += 1;
                    let failure = request(&pool, expected).await.err();
                    let rest = if failure.is_some() { pause.max(Duration::from_millis(10)) } else { pause };
                    requests.lock().expect("not poisoned").push(Request { began, took: began.elapsed(), failure });
                    if !rest.is_zero() {
                        rt::sleep(rest).await;
                    }
                }
            }));
        }
        Load { stop, requests, tasks }
    }

    /// How many requests succeeded that began after `moment`.
    pub(crate) fn successes_since(&self, moment: Instant) -> usize {
        let requests = self.requests.lock().expect("not poisoned");
        requests.iter().rev().filter(|request| request.failure.is_none() && request.began >= moment).count()
    }

    /// Stops the callers and gives all requests in the order of their ends.
    pub(crate) async fn finish(mut self) -> Vec<Request> {
        self.stop.store(true, Ordering::Relaxed);
        rt::join_all(std::mem::take(&mut self.tasks)).await;
        std::mem::take(&mut *self.requests.lock().expect("not poisoned"))
    }
}

impl Drop for Load {
    /// The tasks end with a test that fails, too: the runtime may be everybody's.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

async fn request(pool: &Pool, expected: i64) -> Result<(), Failure> {
    let mut client = pool.get().await.map_err(Failure::Acquire)?;
    let row = client.query_one("SELECT $1::int8", &[&expected]).await.map_err(Failure::Query)?;
    assert_eq!(row.get::<_, i64>(0), expected, "the answer belongs to the question");
    Ok(())
}
