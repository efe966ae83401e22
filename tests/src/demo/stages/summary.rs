//! The accounts of all stages together.

use pgweir_core::runtime::Runtime;

use crate::demo::ledger::Account;
use crate::demo::load::PgPool;
use crate::demo::rig::Rig;
use crate::demo::screen::{count, span};

/// Adds everything up.
pub(crate) fn summary<R: Runtime>(rig: &Rig<R>, pool: &PgPool<R>, accounts: &[(&str, Account)]) {
    rig.screen.title(&format!("Summary, after {}", span(rig.begun.elapsed())));
    rig.screen.row("", &["requests", "answered", "failed", "p50", "p95", "p99", "longest"].map(str::to_owned));
    let mut sum = Account::default();
    for (name, account) in accounts {
        account_row(rig, name, account);
        sum.add(account);
    }
    account_row(rig, "all", &sum);
    rig.say("failures", sum.causes());
    let stats = pool.stats();
    let closed: Vec<String> =
        stats.closed.iter().map(|by| format!("{} {}", by.count, format!("{:?}", by.reason).to_lowercase())).collect();
    rig.say(
        "connections",
        format!("{} opened in {} attempts; closed: {}", stats.opened, stats.connect_attempts, closed.join(", ")),
    );
    let equation = format!(
        "{} requests started = {} answered + {} failed with a cause",
        count(sum.started),
        count(sum.answered()),
        count(sum.failures()),
    );
    rig.claim(sum.unaccounted() == 0, &equation, format!("{} unaccounted for", sum.unaccounted()));
}

/// Percentiles only where there are enough answers for some.
fn account_row<R: Runtime>(rig: &Rig<R>, name: &str, account: &Account) {
    let mut cells = [account.started, account.answered(), account.failures()].map(count).to_vec();
    if account.answered() >= 100 {
        cells.extend(account.percentiles().map(span));
    }
    rig.screen.row(name, &cells);
}
