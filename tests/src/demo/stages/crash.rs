//! The server crashes under load, stays down for a while, and comes back.

use std::time::{Duration, Instant};

use pgweir_core::pool::{State, Status};
use pgweir_core::runtime::Runtime;

use super::{LIMIT, OUTAGE_GRACE};
use crate::demo::error::Error;
use crate::demo::ledger::{Account, Cause, Ledger};
use crate::demo::load::{Load, PgPool};
use crate::demo::rig::Rig;
use crate::demo::screen::{count, span};
use crate::demo::server::Server;
use crate::demo::timeline::Timeline;

/// How long a caller may be kept waiting beyond outage_grace: the machine may be busy.
const SLACK: Duration = Duration::from_millis(1500);
/// The pool's default.
const MAX_CONNECTING: usize = 4;
/// From the server accepting connections to the first answer.
const BACK: Duration = Duration::from_secs(5);
/// How long the load goes on after the recovery.
const AFTER: Duration = Duration::from_millis(1500);

/// What was seen.
struct Outage {
    accepting: Instant,
    in_flight: u32,
    recovered: bool,
    first_answer: Option<Instant>,
}

/// The server crashes and comes back.
pub(crate) async fn crash<R: Runtime>(rig: &Rig<R>, pool: &PgPool<R>, down: Duration) -> Result<Account, Error> {
    rig.screen.title(&format!("2  The server crashes under load and stays down for {} s", down.as_secs()));
    let ledger = Ledger::default();
    let load = Load::start(&rig.runtime, pool, ledger.clone());
    rig.watch(pool, &ledger);
    let mut timeline = Timeline::begin(&rig.events);
    let outage = suffer(rig, pool, &ledger, &mut timeline, down).await?;
    let healthy = rig.until(LIMIT, || pool.health().state == State::Healthy).await;
    rig.sleep(AFTER).await;
    let account = load.stop(rig).await?.account();
    rig.unwatch();
    callers(rig, &account, &outage);
    attempts(rig, &timeline);
    recovery(rig, &account, &outage, healthy, pool);
    rig.claim_accounted(&account);
    Ok(account)
}

/// The crash, the time without a server, and the way back, told as it happens.
async fn suffer<R: Runtime>(
    rig: &Rig<R>,
    pool: &PgPool<R>,
    ledger: &Ledger,
    timeline: &mut Timeline,
    down: Duration,
) -> Result<Outage, Error> {
    let busy = || ledger.answered() > 500 && pool.status().active == pool.status().max;
    if !rig.until(LIMIT, busy).await {
        return Err(Error::Late { what: "a load that keeps every connection busy", limit: LIMIT });
    }
    let in_flight = pool.status().active;
    let crashed = Instant::now();
    timeline.start(crashed, &rig.events);
    timeline.note(crashed, format!("{}; {in_flight} queries are in flight", rig.server.crash_text()));
    timeline.advance(rig);
    rig.block(|server| server.crash(), || timeline.advance(rig)).await?;
    ledger.mark();
    let end = crashed + down;
    rig.until(end.saturating_duration_since(Instant::now()), || {
        timeline.advance(rig);
        false
    })
    .await;
    timeline.note(Instant::now(), "the server is started again");
    rig.server.begin_start()?;
    let ready = |server: &Server| server.wait_ready().map(|()| Instant::now());
    let accepting = rig.block(ready, || timeline.advance(rig)).await?;
    timeline.note(accepting, "the server accepts connections");
    let mut first_answer = None;
    let back = || {
        if let (None, Some(at)) = (first_answer, ledger.first_answer()) {
            first_answer = Some(at);
            let after = span(at.saturating_duration_since(accepting));
            timeline.note(at, format!("the first caller has its answer, {after} after that"));
        }
        timeline.advance(rig);
        timeline.recovered() && first_answer.is_some()
    };
    let recovered = rig.until(LIMIT, back).await;
    Ok(Outage { accepting, in_flight, recovered, first_answer })
}

/// What the callers saw.
fn callers<R: Runtime>(rig: &Rig<R>, account: &Account, outage: &Outage) {
    let cut = account.of(Cause::InFlight);
    if let Some(failures) = account.failed.get(&Cause::InFlight) {
        rig.say("in flight", format!("{cut} failed: \"{}\"", failures.example));
    }
    let told = account.failed.get(&Cause::Unavailable);
    if let Some(failures) = told {
        rig.say(
            "told why",
            format!(
                "{} callers, after {} at most: \"{}\"",
                count(failures.count),
                span(failures.slowest),
                failures.example
            ),
        );
    }
    rig.claim(
        // None, if each had its answer in its socket already.
        cut <= u64::from(outage.in_flight),
        "only what was in flight failed with its connection: nobody was given a dead one",
        format!("{cut} of {} in flight", outage.in_flight),
    );
    let slowest = told.map_or(Duration::ZERO, |failures| failures.slowest);
    let rest = account.failures() - cut - account.of(Cause::Unavailable);
    rig.claim(
        told.is_some() && rest == 0 && slowest <= OUTAGE_GRACE + SLACK,
        format!("everybody else was told why after about {OUTAGE_GRACE:?}, not left to wait for 30 s"),
        format!("{}; the slowest after {}", account.causes(), span(slowest)),
    );
}

/// What the pool asked of the server meanwhile.
fn attempts<R: Runtime>(rig: &Rig<R>, timeline: &Timeline) {
    let (count, (all, known)) = (timeline.attempts(), timeline.together());
    rig.claim(
        count > 0 && known <= 1 && all <= MAX_CONNECTING,
        format!("{count} connection attempts in the whole outage, one at a time once it was known"),
        format!("{count} attempts, {all} at once at the loss, {known} after it"),
    );
}

fn recovery<R: Runtime>(rig: &Rig<R>, account: &Account, outage: &Outage, healthy: bool, pool: &PgPool<R>) {
    let first = outage.first_answer.map(|at| at.saturating_duration_since(outage.accepting));
    rig.claim(
        outage.recovered && first.is_some_and(|time| time <= BACK),
        format!("back by itself within {BACK:?} of the server accepting, without a restart"),
        first.map_or_else(|| "no answer".to_owned(), span),
    );
    let later = outage
        .first_answer
        .map_or(0, |first| account.failed.values().filter(|failures| failures.last_begun > first).count());
    let health = pool.health();
    rig.claim(
        later == 0 && healthy && health.status == Status::Healthy,
        format!("after that first answer nothing failed any more; healthy, {} connections open", pool.status().total),
        format!("{} later failures, {:?} {:?}", later, health.status, health.reasons),
    );
}
