//! A lease that is held too long, and the warning with its source line.

use std::time::Duration;

use pgweir_core::pool::Status;
use pgweir_core::runtime::Runtime;

use super::LIMIT;
use crate::demo::error::Error;
use crate::demo::ledger::{Account, Cause, Ledger};
use crate::demo::load::PgPool;
use crate::demo::rig::Rig;

const LEAK_AFTER: Duration = Duration::from_secs(1);

/// A lease leaks, is named, and comes back.
pub(crate) async fn leak<R: Runtime>(rig: &Rig<R>, pool: &PgPool<R>) -> Result<Account, Error> {
    rig.screen.title("3  Somebody forgets to give a connection back");
    let ledger = Ledger::default();
    rig.watch(pool, &ledger);
    let mark = rig.events.mark();
    let request = ledger.begin();
    let line = line!() + 1;
    let lease = match pool.get().leak_after(LEAK_AFTER).await {
        Ok(lease) => lease,
        Err(error) => {
            request.failed(Cause::Timeout, None, error.to_string());
            return Err(Error::Failed(format!("an idle pool gave no connection: {error}")));
        }
    };
    rig.say("held", format!("one connection, acquired with leak_after({LEAK_AFTER:?})"));
    let warned = rig.until(LIMIT, || rig.events.find(mark, "pgweir.leak.suspected").is_some()).await;
    let warning = rig.events.find(mark, "pgweir.leak.suspected");
    let (place, seen) = warning.as_ref().map_or(("", "no warning".to_owned()), |event| {
        (event.field("location"), format!("a warning that names {}", event.field("location")))
    });
    if let Some(event) = &warning {
        rig.say("warning", format!("{}, acquired at {place}", event.message));
    }
    rig.claim(
        warned && place.starts_with(&format!("{}:{line}:", file!())),
        "the warning names the line that acquired it",
        seen,
    );
    let during = pool.health();
    rig.say("health", format!("{:?}: {}", during.status, during.reasons.join("; ")).to_lowercase());

    drop(lease);
    request.answered();
    let resolved = rig.until(LIMIT, || rig.events.find(mark, "pgweir.leak.resolved").is_some()).await;
    if let Some(event) = rig.events.find(mark, "pgweir.leak.resolved") {
        rig.say("given back", &event.message);
    }
    let after = pool.health();
    rig.claim(
        during.status == Status::Degraded
            && during.leak_count == 1
            && resolved
            && after.leak_count == 0
            && after.status == Status::Healthy,
        "health was degraded while it lasted, and is healthy again",
        format!(
            "{:?} with {} leaks, then {:?} with {}",
            during.status, during.leak_count, after.status, after.leak_count
        ),
    );
    rig.unwatch();
    Ok(ledger.account())
}
