//! The accounts of all stages together.

use pgweir_core::runtime::Runtime;

use crate::demo::ledger::Account;
use crate::demo::load::PgPool;
use crate::demo::rig::Rig;
use crate::demo::screen::{Tone, count, span};

/// Adds everything up.
pub(crate) fn summary<R: Runtime>(rig: &Rig<R>, pool: &PgPool<R>, accounts: &[(&str, Account)]) {
    rig.screen.title(&format!("Summary, after {}", span(rig.begun.elapsed())));
    row(rig, "", ["requests", "answered", "failed", "p50", "p95", "p99", "longest"].map(str::to_owned));
    let mut sum = Account::default();
    for (name, account) in accounts {
        account_row(rig, name, account);
        sum.add(account);
    }
    account_row(rig, "all", &sum);
    for (cause, failures) in &sum.failed {
        rig.say("failed", format!("{:>5}  {}", count(failures.count), cause.name()));
    }
    let stats = pool.stats();
    let closed: Vec<String> =
        stats.closed.iter().map(|by| format!("{} {}", by.count, format!("{:?}", by.reason).to_lowercase())).collect();
    rig.say("connections", format!("{} opened with {} attempts; closed: {}", stats.opened, stats.connect_attempts, closed.join(", ")));
    let equation = format!(
        "{} requests started = {} answered + {} failed with a cause",
        count(sum.started),
        count(sum.answered()),
        count(sum.failures()),
    );
    rig.claim(sum.unaccounted() == 0, &equation, format!("{} unaccounted for", sum.unaccounted()));
}

fn account_row<R: Runtime>(rig: &Rig<R>, name: &str, account: &Account) {
    let [p50, p95, p99, max] = account.percentiles().map(span);
    row(
        rig,
        name,
        [count(account.started), count(account.answered()), count(account.failures()), p50, p95, p99, max],
    );
}

fn row<R: Runtime>(rig: &Rig<R>, name: &str, cells: [String; 7]) {
    let text: String = cells.iter().map(|cell| format!("{cell:>10}")).collect();
    rig.screen.say(Tone::Plain, name, &text);
}
