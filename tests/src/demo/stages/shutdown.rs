//! A shutdown with one query that ends in time and one that does not.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pgweir_core::pool::ShutdownReport;
use pgweir_core::runtime::Runtime;

use super::LIMIT;
use crate::demo::error::Error;
use crate::demo::ledger::{Account, Cause, Ledger};
use crate::demo::load::{PgPool, ask_for};
use crate::demo::rig::Rig;
use crate::demo::screen::span;

const DEADLINE: Duration = Duration::from_secs(1);
/// How far a shutdown may outlast its deadline.
const BEYOND: Duration = Duration::from_secs(1);
/// How long the quick query takes on the server, in seconds.
const QUICK: f64 = 0.4;
/// And the slow one.
const SLOW: f64 = 25.0;

/// The pool shuts down.
pub(crate) async fn shutdown<R: Runtime>(rig: &Rig<R>, pool: &PgPool<R>) -> Result<Account, Error> {
    rig.screen.title(&format!("6  Graceful shutdown, with {} s for what is under way", DEADLINE.as_secs()));
    let mark = rig.events.mark();
    let ledger = Ledger::default();
    rig.watch(pool, &ledger);
    for seconds in [QUICK, SLOW] {
        let (acquire, request) = (pool.get(), ledger.begin());
        rig.runtime.spawn("demo", async move {
            ask_for(acquire, request, 1, seconds).await;
        });
    }
    if !rig.until(LIMIT, || pool.status().active == 2).await {
        return Err(Error::Late { what: "two queries under way", limit: LIMIT });
    }
    rig.say("under way", format!("a query of {QUICK} s and one of {SLOW} s; then close_timeout({DEADLINE:?})"));

    let begun = Instant::now();
    let report: Arc<Mutex<Option<ShutdownReport>>> = Arc::default();
    let (closing, to) = (pool.clone(), report.clone());
    rig.runtime.spawn("demo", async move {
        let done = closing.close_timeout(DEADLINE).await;
        *to.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
    });
    rig.until(LIMIT, || pool.is_closed()).await;
    let latecomer = Instant::now();
    ask_for(pool.get(), ledger.begin(), 1, 0.0).await;
    let latecomer = latecomer.elapsed();

    let look = || report.lock().unwrap_or_else(PoisonError::into_inner).clone();
    rig.until(LIMIT, || look().is_some()).await;
    let took = begun.elapsed();
    let Some(report) = look() else {
        return Err(Error::Late { what: "the end of the shutdown", limit: LIMIT });
    };
    rig.until(LIMIT, || ledger.account().unaccounted() == 0).await;
    rig.unwatch();
    let account = ledger.account();
    judge(rig, mark, &account, &report, took, latecomer);
    backends(rig).await?;
    rig.claim_accounted(&account);
    Ok(account)
}

fn judge<R: Runtime>(
    rig: &Rig<R>,
    mark: usize,
    account: &Account,
    report: &ShutdownReport,
    took: Duration,
    latecomer: Duration,
) {
    if let Some(failures) = account.failed.get(&Cause::Closed) {
        rig.say("latecomer", format!("refused after {}: \"{}\"", span(latecomer), failures.example));
    }
    let forced = rig.events.find(mark, "pgweir.shutdown.forced");
    if let Some(event) = &forced {
        rig.say("warning", format!("{}, acquired at {}", event.message, event.field("location")));
    }
    if let Some(failures) = account.failed.get(&Cause::InFlight) {
        rig.say("its caller", format!("\"{}\"", failures.example));
    }
    rig.say(
        "report",
        format!("{} finished, {} forced, after {}", report.finished, report.forced, span(report.duration)),
    );
    rig.claim(
        (report.finished, report.forced) == (1, 1) && account.answered() == 1 && account.of(Cause::InFlight) == 1,
        "the query inside the deadline got its answer, the other was cut off and told so",
        format!("{report:?}, {} answered, {}", account.answered(), account.causes()),
    );
    rig.claim(
        account.of(Cause::Closed) == 1 && forced.is_some() && took >= DEADLINE && took <= DEADLINE + BEYOND,
        format!("nobody new got in, and the deadline held: over after {}", span(took)),
        format!("{}; after {}", account.causes(), span(took)),
    );
}

/// The server agrees that nobody is there any more.
async fn backends<R: Runtime>(rig: &Rig<R>) -> Result<(), Error> {
    let begun = Instant::now();
    let mut left = rig.block(|server| server.backends(), || ()).await?;
    while !left.is_empty() && begun.elapsed() < BEYOND {
        left = rig.block(|server| server.backends(), || ()).await?;
    }
    rig.claim(
        left.is_empty(),
        "pg_stat_activity shows no backend of the pool any more",
        format!("{} after {}: {}", left.len(), span(begun.elapsed()), left.join(" ")),
    );
    Ok(())
}
