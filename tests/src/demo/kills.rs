//! The crash soak: the demo's load while its server is killed again and again, at random moments.

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pgweir_core::pool::State;
use pgweir_core::runtime::Runtime;

use super::args::{self, Flag};
use super::error::Error;
use super::ledger::{Account, Cause, CutOff, Ledger};
use super::load::{Load, PgPool};
use super::moments::Moments;
use super::perform;
use super::rig::Rig;
use super::screen::{count, span};
use super::server::{Server, Simulated};

const HELP: &str = "\
pgweir's crash soak: 100 tasks over a pool of 2 to 10, and a server that is killed again and again.

Usage: cargo run --example kills -- [--kills N] [--seed N]
       (on smol and async-std: -p pgweir-async-std --all-features --example kills-smol or kills-async-std)

  --kills N   how often, 1 to 10,000 (default 20)
  --seed N    of the moments; printed when not given
  --help      this text

With DATABASE_URL set it uses that database, with a proxy in between whose outage stands for the kill.

Exit code: 0 if nothing was lost, hung or handed out dead; 1 if so; 2 for a wrong argument; 130 after Ctrl-C.
";

/// An answer must come within this of the server accepting connections, or it counts as a hang.
const LIMIT: Duration = Duration::from_secs(30);

/// The crash soak.
#[derive(Debug)]
pub struct Kills {
    kills: u64,
    seed: u64,
}

/// One kill: from before the first signal to the end of the last process.
#[derive(Clone, Copy)]
struct Kill {
    begun: Instant,
    done: Instant,
}

/// How a query that was cut off relates to the kill that it fell to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    /// Its connection was granted before anybody had found out.
    InFlight,
    /// Its connection was granted after that, but while the server's last processes were dying: it worked still.
    Dying,
    /// Its connection was granted when the server was dead and the pool had been told: it should not have been.
    Dead,
}

impl Kills {
    /// As the process's arguments say.
    ///
    /// # Errors
    /// The code to exit with, after `--help` or a wrong argument.
    pub fn from_args() -> Result<Self, ExitCode> {
        let flags = [Flag::new("--kills", 1..=10_000, 20), Flag::seed()];
        let [kills, seed] = args::parse(HELP, flags)?;
        Ok(Kills { kills, seed })
    }

    /// Runs it on the runtime that the caller runs on, until it is done or `interrupt` completes.
    pub async fn run<R: Runtime>(self, interrupt: impl Future<Output = ()>) -> ExitCode {
        let panics = count_panics();
        perform(interrupt, async |screen, events| {
            let begun = Instant::now();
            let runtime = R::current();
            let server = Server::start(&runtime, Simulated::Never).await?;
            let rig = Rig::new(runtime, screen, events, server, begun);
            self.soak(&rig, &panics).await?;
            Ok(rig.failed())
        })
        .await
    }

    async fn soak<R: Runtime>(self, rig: &Rig<R>, panics: &AtomicU32) -> Result<(), Error> {
        rig.screen.title(&format!("{} kills at random moments, seed {}", self.kills, self.seed));
        rig.say("database", rig.server.place());
        let config = rig.server.config().min_size(2).max_size(10).outage_grace(Duration::from_millis(500)).build()?;
        let pool = PgPool::builder_on(rig.runtime.clone(), config).open().await?;
        let ledger = Ledger::default();
        let load = Load::start(&rig.runtime, &pool, ledger.clone());
        rig.watch(&pool, &ledger);
        let mut kills = Vec::new();
        let mut moments = Moments(self.seed);
        answered(rig, &ledger).await?;
        for number in 1..=self.kills {
            kills.push(one(rig, &ledger, &mut moments, number).await?);
        }
        answered(rig, &ledger).await?;
        let healthy = rig.until(LIMIT, || pool.health().state == State::Healthy).await;
        rig.sleep(Duration::from_secs(1)).await;
        let account = load.stop(rig).await?.account();
        rig.unwatch();
        let report = pool.close().await;
        let left = rig.block(|server| server.backends(), || ()).await?;

        verdicts(rig, &account, &kills);
        let (told, rest) = (account.of(Cause::Unavailable), others(&account));
        rig.claim(
            rest == 0,
            format!("{} callers were told of the outage; nothing else failed", count(told)),
            account.causes(),
        );
        rig.claim_accounted(&account);
        let panics = panics.load(Ordering::Relaxed);
        rig.claim(panics == 0, "no panic", panics);
        rig.claim(healthy, "the pool is healthy after the last one", format!("{:?}", pool.health().reasons));
        rig.claim(
            (report.forced, report.finished, left.len()) == (0, 0, 0),
            "it closes with nothing left over, on the server neither",
            format!("{report:?}, {left:?}"),
        );
        let [p50, p95, p99, max] = account.percentiles().map(span);
        rig.say(
            "answered",
            format!(
                "{} in {}; p50 {p50}, p95 {p95}, p99 {p99}, longest {max}",
                count(account.answered()),
                span(rig.begun.elapsed())
            ),
        );
        let stats = pool.stats();
        rig.say("connections", format!("{} opened in {} attempts", stats.opened, stats.connect_attempts));
        Ok(())
    }
}

/// Waits, kills, waits, and starts the server again. Three of four times the kill comes when there have been answers
/// again, else at any moment: while the server starts, or the pool refills.
async fn one<R: Runtime>(rig: &Rig<R>, ledger: &Ledger, moments: &mut Moments, number: u64) -> Result<Kill, Error> {
    let working = moments.draw(4) > 0;
    if working {
        answered(rig, ledger).await?;
    }
    let up = Duration::from_millis(moments.draw(if working { 1500 } else { 400 }));
    rig.sleep(up).await;
    let before = ledger.account();
    let begun = Instant::now();
    rig.block(|server| server.crash(), || ()).await?;
    let done = Instant::now();
    let down = Duration::from_millis(moments.draw(4) * moments.draw(500));
    rig.sleep(down).await;
    let after = ledger.account();
    ledger.mark();
    rig.server.begin_start()?;
    let cut = after.of(Cause::InFlight) - before.of(Cause::InFlight);
    let when = if working { "after the first answers" } else { "at any moment" };
    rig.say(
        &format!("kill {number}"),
        format!("{} {when}; down for {}; {cut} cut off in flight", span(up), span(down)),
    );
    Ok(Kill { begun, done })
}

/// Waits until the server accepts and somebody has an answer from it.
async fn answered<R: Runtime>(rig: &Rig<R>, ledger: &Ledger) -> Result<(), Error> {
    rig.block(|server| server.wait_ready(), || ()).await?;
    ledger.mark();
    if rig.until(LIMIT, || ledger.first_answer().is_some()).await {
        return Ok(());
    }
    Err(Error::Late { what: "an answer from a server that accepts connections", limit: LIMIT })
}

fn verdicts<R: Runtime>(rig: &Rig<R>, account: &Account, kills: &[Kill]) {
    let verdicts: Vec<(&CutOff, Verdict)> =
        account.cut_off.iter().map(|cut| (cut, judge(cut, &account.cut_off, kills))).collect();
    let of = |wanted| verdicts.iter().filter(|(_, verdict)| *verdict == wanted).count();
    let (in_flight, dying, dead) = (of(Verdict::InFlight), of(Verdict::Dying), of(Verdict::Dead));
    rig.say("cut off", format!("{in_flight} queries in flight, and {dying} granted while the last backends died"));
    rig.claim(dead == 0, "no dead connection was granted once the first failure had come back", format!("{dead} did"));
    for (cut, _) in verdicts.iter().filter(|(_, verdict)| *verdict == Verdict::Dead).take(10) {
        let kill = kill_of(cut, kills).map_or(Duration::ZERO, |kill| cut.granted - kill.done);
        rig.say("", format!("granted {} after a kill: {}", span(kill), cut.message));
    }
}

/// The last kill that had begun when the query failed.
fn kill_of(cut: &CutOff, kills: &[Kill]) -> Option<Kill> {
    kills.iter().rev().find(|kill| kill.begun <= cut.returned).copied()
}

fn judge(cut: &CutOff, all: &[CutOff], kills: &[Kill]) -> Verdict {
    // Without a kill there is no reason at all to fail.
    let Some(kill) = kill_of(cut, kills) else { return Verdict::Dead };
    let known = all.iter().map(|cut| cut.returned).filter(|returned| *returned >= kill.begun).min();
    match known {
        Some(known) if cut.granted > known.max(kill.done) => Verdict::Dead,
        Some(known) if cut.granted > known => Verdict::Dying,
        _ => Verdict::InFlight,
    }
}

fn others(account: &Account) -> u64 {
    account.failures() - account.of(Cause::InFlight) - account.of(Cause::Unavailable)
}

/// Counts the panics of the whole process from now on; they are printed as ever.
pub(crate) fn count_panics() -> Arc<AtomicU32> {
    let panics = Arc::new(AtomicU32::new(0));
    let (counter, print) = (panics.clone(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |info| {
        counter.fetch_add(1, Ordering::Relaxed);
        print(info);
    }));
    panics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_after_the_pool_was_told_is_the_only_one_to_blame() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let cut = |granted, returned| CutOff { granted: at(granted), returned: at(returned), message: String::new() };
        let kills = [Kill { begun: at(100), done: at(110) }, Kill { begun: at(500), done: at(505) }];
        let all = [cut(90, 104), cut(95, 112), cut(102, 113), cut(105, 114), cut(111, 115), cut(450, 520), cut(40, 60)];
        let verdicts: Vec<Verdict> = all.iter().map(|cut| judge(cut, &all, &kills)).collect();
        use Verdict::{Dead, Dying, InFlight};
        assert_eq!(verdicts, [InFlight, InFlight, InFlight, Dying, Dead, InFlight, Dead]);
    }
}
