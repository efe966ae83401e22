//! Every connection is replaced under load, and nobody notices.

use std::time::Instant;

use pgweir_core::pool::CloseReason;
use pgweir_core::runtime::Runtime;

use super::LIMIT;
use crate::demo::error::Error;
use crate::demo::ledger::{Account, Ledger};
use crate::demo::load::{Load, PgPool};
use crate::demo::rig::Rig;
use crate::demo::screen::{count, span};

/// Every connection is replaced.
pub(crate) async fn recycle<R: Runtime>(rig: &Rig<R>, pool: &PgPool<R>) -> Result<Account, Error> {
    rig.screen.title("5  Every connection is replaced under load");
    let ledger = Ledger::default();
    let load = Load::start(&rig.runtime, pool, ledger.clone());
    rig.watch(pool, &ledger);
    let max = pool.status().max;
    if !rig.until(LIMIT, || pool.status().active == max).await {
        return Err(Error::Late { what: "a load that keeps every connection busy", limit: LIMIT });
    }
    let old = rig.block(|server| server.backends(), || ()).await?;
    let (before, begun) = (recycled(pool), Instant::now());
    pool.recycle();
    let mut left = old.clone();
    let mut new = Vec::new();
    while !(left.is_empty() && new.len() == old.len()) && begun.elapsed() < LIMIT {
        let now = rig.block(|server| server.backends(), || ()).await?;
        (left, new) = now.into_iter().partition(|pid| old.contains(pid));
    }
    let took = begun.elapsed();
    let more = ledger.answered() + 1000;
    rig.until(LIMIT, || ledger.answered() >= more).await;
    let account = load.stop(rig).await?.account();
    rig.unwatch();
    let [_, _, p99, max] = account.percentiles().map(span);
    rig.say("backends", format!("{} before: {}", old.len(), old.join(" ")));
    rig.say("", format!("{} after:  {}", new.len(), new.join(" ")));
    rig.claim(
        left.is_empty() && new.len() == old.len(),
        format!("pool.recycle() replaced all {} in {}, each between two callers", old.len(), span(took)),
        format!("{} old ones left, {} new ones", left.len(), new.len()),
    );
    let closed = recycled(pool) - before;
    rig.claim(
        closed == old.len() as u64,
        "each was closed once, for that reason",
        format!("{closed} of {}", old.len()),
    );
    let text = format!("{} requests meanwhile, no error; p99 {p99}, longest {max}", count(account.answered()));
    rig.claim(account.failures() == 0, text, account.causes());
    rig.claim_accounted(&account);
    Ok(account)
}

fn recycled<R: Runtime>(pool: &PgPool<R>) -> u64 {
    let closed = pool.stats().closed;
    closed.iter().find(|by| by.reason == CloseReason::Recycle).map_or(0, |by| by.count)
}
