//! Futures dropped at random points over a pool, with concurrency: every answer that does come is checked.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use pgweir_core::client::{Error, Params, ToStatement, TransactionStatus};
use pgweir_tests::Client as Session;

use super::{named, open};
use crate::suite::common::sampler::Sampler;
use crate::suite::common::{backends, run, server, until};
use crate::suite::rt::{self, Client, Lease, Pool};

const NAME: &str = "dropped";
const DROPS: u64 = 3_000;
const TASKS: u64 = 10;

/// SplitMix64: small, and good enough to choose with.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// What the tasks share with the one who watches the server.
#[derive(Default)]
struct Ledger {
    /// When the operation with this tag was dropped.
    dropped: Mutex<BTreeMap<u64, Instant>>,
    drops: AtomicU64,
    finished: AtomicU64,
}

/// PEERS 29, 30 and 45, and issue 2's "done when": 3,000 operations dropped at random points - sleeps, millions of
/// rows, streams, pipelines, open transactions, parameters of megabytes - by ten tasks over four connections. Each
/// later result belongs to its query; no query but a dropped one is ever cancelled; no dropped query runs on the
/// server a second later; no work of a dropped transaction is seen; no backend is leaked.
#[test]
fn three_thousand_dropped_queries() {
    run(|trace| async move {
        server().query("DROP TABLE IF EXISTS ghosts; CREATE TABLE ghosts (tag int8)").unwrap();
        let pool = open(named(NAME).min_size(2).max_size(4).statement_cache_size(64)).await;
        let ledger = Arc::new(Ledger::default());
        let (watched, mut session) = (ledger.clone(), server().client().expect("a session"));
        let watcher = Sampler::start(move || watch(&watched, &mut session));
        let tasks: Vec<_> =
            (0..TASKS).map(|task| rt::spawn(drop_and_check(pool.clone(), ledger.clone(), task))).collect();
        for task in tasks {
            if let Err(error) = task.await {
                panic!("{error}; {:?}\n{}", pool.stats(), trace.tail(40));
            }
        }
        let (drops, finished) = (ledger.drops.load(Ordering::Relaxed), ledger.finished.load(Ordering::Relaxed));
        assert!(drops >= DROPS && finished > DROPS / 20, "{drops} dropped, {finished} finished");
        // Long enough for the watcher to see whatever should have ended by now.
        until("everything is at home", || pool.status().idle == pool.status().total).await;
        let status = pool.status();
        assert_eq!((status.active, status.waiting), (0, 0));
        assert_eq!(backends(server(), NAME).len() as u32, status.total, "no backend that the pool does not know of");
        let looks = watcher.end();
        assert!(looks > 10, "the server was looked at {looks} times");
        let log = server().log();
        for line in log.lines().filter(|line| line.contains("@postgres/dropped ")) {
            for bad in ["PANIC", "unexpected message", "invalid message", "invalid frontend"] {
                assert!(!line.contains(bad), "in the server's log: {line}");
            }
        }
        let report = pool.close().await;
        assert_eq!((report.finished, report.forced), (0, 0));
        assert!(backends(server(), NAME).is_empty());
    });
}

/// Looks at what the server runs.
///
/// # Panics
/// If it runs something that was dropped more than a second before.
fn watch(ledger: &Ledger, session: &mut Session) {
    let sql = format!(
        "SELECT substring(query FROM '/\\* (\\d+) \\*/'), query, now() - query_start FROM pg_stat_activity \
         WHERE application_name = '{NAME}' AND state = 'active'"
    );
    let asked = Instant::now();
    for row in session.query(&sql).expect("an answer") {
        let Ok(tag) = row.text(0).parse::<u64>() else { continue };
        let since = ledger.dropped.lock().expect("no panic").get(&tag).copied();
        let late = since.map(|since| asked.saturating_duration_since(since)).unwrap_or_default();
        assert!(
            late < Duration::from_secs(1),
            "{} still runs {late:?} after it was dropped; it began {} ago",
            row.text(1),
            row.text(2)
        );
    }
    // Often enough, and no load worth speaking of.
    std::thread::sleep(Duration::from_millis(20));
}

/// One task's part of the drops.
async fn drop_and_check(pool: Pool, ledger: Arc<Ledger>, task: u64) {
    let mut random = Random::new(0xC0FFEE + task);
    let mut lease: Option<Lease> = None;
    let mut round = 0;
    while ledger.drops.load(Ordering::Relaxed) < DROPS {
        round += 1;
        let tag = task * 1_000_000 + round;
        // An acquire may be dropped too, before or after it was granted.
        let mut client = match lease.take() {
            Some(lease) => lease,
            None => match cut(pool.get(), &mut random).await {
                Some(lease) => lease.expect("a connection"),
                None => continue,
            },
        };
        let mut inner = Random::new(random.below(u64::MAX));
        match cut(operate(&mut client, &mut inner, tag), &mut random).await {
            Some(()) => ledger.finished.fetch_add(1, Ordering::Relaxed),
            None => {
                ledger.dropped.lock().expect("no panic").insert(tag, Instant::now());
                ledger.drops.fetch_add(1, Ordering::Relaxed)
            }
        };
        // The next query is on the same lease, where it waits for what was dropped, or on the next one.
        if client.transaction_status() == TransactionStatus::Idle && quick(tag) && random.below(3) == 0 {
            check(&mut client, tag).await;
        } else {
            drop(client);
            client = pool.get().await.expect("a connection");
            check(&mut client, tag).await;
            assert_eq!(client.transaction_status(), TransactionStatus::Idle, "as another left it");
        }
        if random.below(2) == 0 {
            lease = Some(client);
        }
    }
}

/// Whether the operation with this tag ends by itself soon.
fn quick(tag: u64) -> bool {
    !matches!(kind(tag), 0 | 1 | 5)
}

fn kind(tag: u64) -> u64 {
    tag % 10
}

/// Drops a future after a random number of polls or a random time, unless it is done before.
async fn cut<F: Future>(future: F, random: &mut Random) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut polls = if random.below(3) == 0 { 1 + random.below(12) } else { u64::MAX };
    let magnitude = 6 + random.below(8);
    let time = Duration::from_micros(50 + random.below(1 << magnitude));
    let polled = std::future::poll_fn(|cx| {
        if polls == 0 {
            return Poll::Ready(None);
        }
        polls -= 1;
        future.as_mut().poll(cx).map(Some)
    });
    rt::timeout(time, polled).await.ok().flatten()
}

/// An answer is that of its query, from its own session; nothing of anybody's dropped transaction is there.
async fn check(client: &mut Client, tag: u64) {
    let own = client.backend_pid();
    let sql = "SELECT $1::int8, pg_backend_pid(), (SELECT count(*) FROM ghosts)";
    let row = client.query_one(sql, &[&(tag as i64)]).await;
    let row = row.unwrap_or_else(|error| panic!("after {tag}: {error}"));
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i32>(1), row.get::<_, i64>(2)), (tag as i64, own, 0));
}

/// One operation, to be dropped somewhere; what it gets is checked as it comes.
async fn operate(client: &mut Client, random: &mut Random, tag: u64) {
    let number = tag as i64;
    match kind(tag) {
        0 => {
            let sql = format!("SELECT pg_sleep(100) /* {tag} */");
            let error = client.query(&sql, &[]).await.expect_err("it sleeps for longer than the test");
            panic!("{tag}: {error}");
        }
        1 => {
            let sql = format!("SELECT g FROM generate_series(1, 3000000) g /* {tag} */");
            let rows = client.query(&sql, &[]).await.unwrap();
            assert_eq!(rows.len(), 3_000_000);
        }
        2 => stream(client, random, number).await,
        3 => pipeline(client, random, number).await,
        4 => transaction(client, random, tag).await,
        5 => {
            let sql = format!("SELECT 1; SELECT pg_sleep(100) /* {tag} */; SELECT 3");
            client.simple_query(&sql).await.unwrap();
            panic!("{tag} sleeps for longer than the test");
        }
        6 => {
            let text = "x".repeat(random.below(3_000_000) as usize);
            let sql = "SELECT length($1::text)::int8 + $2::int8";
            let row = client.query_one(sql, &[&text, &number]).await.unwrap();
            assert_eq!(row.get::<_, i64>(0), text.len() as i64 + number);
        }
        7 => {
            let error = client.query("SELECT 1 / ($1::int8 - $1::int8)", &[&number]).await.unwrap_err();
            assert_eq!(error.code().unwrap().code(), "22012", "{error}");
        }
        8 => {
            let statement = client.prepare(&format!("SELECT $1::int8 + {}", tag % 400)).await.unwrap();
            let row = client.query_one(&statement, &[&number]).await.unwrap();
            assert_eq!(row.get::<_, i64>(0), number + number % 400);
        }
        _ => {
            let row = client.query_one("SELECT $1::int8 * 3, pg_sleep(0.002)", &[&number]).await.unwrap();
            assert_eq!(row.get::<_, i64>(0), number * 3);
        }
    }
}

async fn stream(client: &mut Client, random: &mut Random, number: i64) {
    let fetch = NonZeroU32::new(1 + random.below(50) as u32).expect("not zero");
    let sql = "SELECT g + $1::int8 FROM generate_series(1, 1000) g";
    let mut stream = client.query_stream(sql, &[&number], fetch).await.unwrap();
    for n in 0..random.below(200) as i64 {
        assert_eq!(stream.next().await.unwrap().unwrap().get::<_, i64>(0), number + 1 + n);
    }
}

async fn pipeline(client: &mut Client, random: &mut Random, number: i64) {
    let values: Vec<i64> = (0..1 + random.below(100) as i64).map(|n| number + n).collect();
    let params: Vec<[&(dyn postgres_types::ToSql + Sync); 1]> = values.iter().map(|value| [value as _]).collect();
    let sleeps = ["SELECT $1::int8", "SELECT $1::int8, pg_sleep(0.001)"];
    let sql: &dyn ToStatement = &sleeps[random.below(2) as usize];
    let queries: Vec<(&dyn ToStatement, Params<'_>)> = params.iter().map(|p| (sql, p as Params<'_>)).collect();
    let results = client.pipeline(&queries).await.unwrap();
    assert!(
        results
            .iter()
            .zip(&values)
            .all(|(result, value)| { result.as_ref().is_ok_and(|outcome| outcome.rows[0].get::<_, i64>(0) == *value) })
    );
}

/// Never committed: nobody else may ever see its rows.
async fn transaction(client: &mut Client, random: &mut Random, tag: u64) {
    let number = tag as i64;
    let mut transaction = client.transaction().await.unwrap();
    transaction.execute("INSERT INTO ghosts VALUES ($1)", &[&number]).await.unwrap();
    let mut nested = transaction.transaction().await.unwrap();
    nested.execute("INSERT INTO ghosts VALUES (-1)", &[]).await.unwrap();
    match random.below(4) {
        0 => nested.rollback().await.unwrap(),
        1 => nested.commit().await.unwrap(),
        2 => {
            let error: Error = nested.execute("SELECT 1/0", &[]).await.unwrap_err();
            assert_eq!(error.code().unwrap().code(), "22012");
            drop(nested);
        }
        _ => {
            let sql = format!("SELECT pg_sleep(0.01) /* {tag} */");
            nested.query(&sql, &[]).await.unwrap();
            drop(nested);
        }
    }
    if random.below(2) == 0 {
        transaction.rollback().await.unwrap();
    }
}
