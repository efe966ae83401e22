//! The pool opens, and 100 tasks share its connections.

use std::time::{Duration, Instant};

use pgweir_core::pool::{State, Status};
use pgweir_core::runtime::Runtime;

use super::{LIMIT, OUTAGE_GRACE};
use crate::demo::error::Error;
use crate::demo::ledger::{Account, Ledger};
use crate::demo::load::{Load, PgPool, TASKS, ask_for};
use crate::demo::rig::Rig;
use crate::demo::screen::{count, span};

const MIN: u32 = 2;
const MAX: u32 = 10;
/// How long the load runs undisturbed.
const STEADY: Duration = Duration::from_secs(3);
/// The requirement.
const READY: Duration = Duration::from_secs(2);

/// Says what is about to happen.
pub(crate) async fn introduce<R: Runtime>(rig: &Rig<R>, runtime: &str) -> Result<(), Error> {
    let version = rig.block(|server| server.query("SHOW server_version"), || ()).await?;
    let version = version.first().and_then(|row| row.text(0).split(' ').next()).unwrap_or_default();
    rig.screen.title("pgweir: a PostgreSQL connection pool, and what becomes of it when the database crashes");
    rig.say("database", format!("PostgreSQL {version}, {}", rig.server.place()));
    rig.say(
        "pool",
        format!("{MIN} to {MAX} connections on {runtime}; outage_grace {OUTAGE_GRACE:?}, otherwise the defaults"),
    );
    rig.say("load", format!("{TASKS} tasks: acquire, query, check the answer, give back, again"));
    Ok(())
}

/// The pool opens and serves.
pub(crate) async fn open<R: Runtime>(rig: &Rig<R>) -> Result<(PgPool<R>, Account), Error> {
    rig.screen.title("1  The pool opens and serves");
    let mark = rig.events.mark();
    let config = rig.server.config().min_size(MIN).max_size(MAX).outage_grace(OUTAGE_GRACE).build()?;
    let begun = Instant::now();
    let pool = PgPool::builder_on(rig.runtime.clone(), config).open().await?;
    let ready = begun.elapsed();
    let (counts, stats, health) = (pool.status(), pool.stats(), pool.health());
    rig.say(
        "ready",
        format!(
            "after {}: {} connections open, {} idle, {} lent",
            span(ready),
            counts.total,
            counts.idle,
            counts.active
        ),
    );
    if let Some(event) = rig.events.find(mark, "pgweir.init.done") {
        rig.say("log", &event.message);
    }
    let fresh = (counts.total, counts.idle, counts.active, stats.total_acquisitions) == (MIN, MIN, 0, 0);
    let sound = health.status == Status::Healthy && health.state == State::Healthy;
    rig.claim(
        ready < READY && fresh && sound,
        format!("ready in under {READY:?}, with {MIN} connections, nothing lent yet; healthy"),
        format!("{}, {counts:?}, {:?}", span(ready), health.status),
    );

    let ledger = Ledger::default();
    let first = Instant::now();
    ask_for(pool.get(), ledger.begin(), 1, 0.0).await;
    rig.say("first query", format!("answered after {}", span(first.elapsed())));

    let load = Load::start(&rig.runtime, &pool, ledger.clone());
    rig.watch(&pool, &ledger);
    let full = rig.until(LIMIT, || pool.status().active == MAX).await;
    rig.sleep(STEADY).await;
    let (busy, health) = (pool.status(), pool.health());
    let account = load.stop(rig).await?.account();
    rig.unwatch();
    report(rig, &account, STEADY);
    rig.say("pool", format!("{} of {MAX} lent, {} callers waiting in line", busy.active, busy.waiting));
    rig.claim(
        full && health.status == Status::Healthy,
        format!("all {MAX} connections in use, and the pool is healthy: busy is not sick"),
        format!("{busy:?}, {:?} {:?}", health.status, health.reasons),
    );
    rig.claim(account.failures() == 0, "every answer was right", account.causes());
    rig.claim_accounted(&account);
    Ok((pool, account))
}

fn report<R: Runtime>(rig: &Rig<R>, account: &Account, time: Duration) {
    let [p50, p95, p99, max] = account.percentiles().map(span);
    let rate = (account.answered() as f64 / time.as_secs_f64()) as u64;
    rig.say("answered", format!("{} requests, {} a second", count(account.answered()), count(rate)));
    rig.say("latency", format!("p50 {p50}, p95 {p95}, p99 {p99}, longest {max}; most of it in line"));
}
