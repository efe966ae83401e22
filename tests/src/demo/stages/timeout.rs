//! All connections are held, and an acquire that times out says by whom.

use std::time::{Duration, Instant};

use pgweir_core::error::AcquireError;
use pgweir_core::pool::WaitPhase;
use pgweir_core::runtime::Runtime;

use super::LIMIT;
use crate::demo::error::Error;
use crate::demo::ledger::{Account, Cause, Ledger, Request};
use crate::demo::load::{PgPool, ask};
use crate::demo::rig::Rig;
use crate::demo::screen::{Tone, span};

const TIMEOUT: Duration = Duration::from_millis(500);
/// How late the error may be on a busy machine.
const SLACK: Duration = Duration::from_millis(1000);
/// Callers ahead of the one that times out.
const AHEAD: u32 = 2;

/// An acquire times out and explains itself.
pub(crate) async fn timeout<R: Runtime>(rig: &Rig<R>, pool: &PgPool<R>) -> Result<Account, Error> {
    rig.screen.title("4  A timeout that explains itself");
    let ledger = Ledger::default();
    rig.watch(pool, &ledger);
    let max = pool.status().max;
    let mut held = Vec::new();
    for _ in 0..max {
        let request = ledger.begin();
        match pool.get().await {
            Ok(lease) => held.push((lease, request)),
            Err(error) => return Err(Error::Failed(format!("not every connection could be acquired: {error}"))),
        }
    }
    for number in 0..AHEAD as i32 {
        let (acquire, request) = (pool.get(), ledger.begin());
        rig.runtime.spawn("demo", async move {
            ask(acquire, request, number).await;
        });
    }
    if !rig.until(LIMIT, || pool.status().waiting == AHEAD).await {
        return Err(Error::Late { what: "two callers in the queue", limit: LIMIT });
    }
    rig.say("held", format!("all {max} connections, with {AHEAD} callers in the queue; then get_timeout({TIMEOUT:?})"));
    refused(rig, pool, ledger.begin()).await;
    for (lease, request) in held {
        drop(lease);
        request.answered();
    }
    let served = rig.until(LIMIT, || ledger.answered() == u64::from(max + AHEAD)).await;
    rig.unwatch();
    rig.claim(
        served,
        format!("the {AHEAD} callers ahead of it got theirs when the others gave back"),
        ledger.account().causes(),
    );
    Ok(ledger.account())
}

async fn refused<R: Runtime>(rig: &Rig<R>, pool: &PgPool<R>, request: Request) {
    let begun = Instant::now();
    let error = match pool.get_timeout(TIMEOUT).await {
        Err(error) => error,
        Ok(_) => {
            request.answered();
            return rig.claim(false, "a timeout", "a connection");
        }
    };
    let took = begun.elapsed();
    request.failed(Cause::Timeout, None, error.to_string());
    rig.screen.say(Tone::Warning, "error", &error.to_string());
    let AcquireError::Timeout(report) = &error else {
        return rig.claim(false, "a timeout", &error);
    };
    let named = report.holders.iter().filter(|holder| holder.location.is_some_and(|line| line.file() == file!()));
    rig.claim(took >= TIMEOUT && took <= TIMEOUT + SLACK, format!("it came after {TIMEOUT:?}, not later"), span(took));
    rig.claim(
        report.phase == WaitPhase::InQueue && report.position == AHEAD && named.count() == 5,
        "it says what for, its place in line, the counts, and who holds connections since when",
        &error,
    );
}
