//! A real pool's journal: recorded through a crash under load, run again elsewhere, bit for bit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pgweir_core::journal::{Journal, JournalOptions, Replay, Why};
use pgweir_core::os::{JournalDirectory, JournalFile};
use pgweir_core::pool::{Action, Event, Notice, State};
use pgweir_sim::what_if::{History, Measures, Options, what_if};
use pgweir_tests::{Auth, LocalPostgres};

use super::load::Load;
use super::outage::{hurried, ms};
use crate::suite::common::trace::Trace;
use crate::suite::common::{config, run, until};
use crate::suite::rt::{self, Pool};

const SECRET: &str = "Tr0ub4dor-and-3";
/// Stands in queries, parameters and errors.
const MARKER: &str = "card-4111-1111";

/// What must not be in a journal.
fn assert_silent(bytes: &[u8]) {
    for word in [SECRET, MARKER, "SELECT", "select", "tenant"] {
        let found = bytes.windows(word.len()).any(|window| window == word.as_bytes());
        assert!(!found, "{word:?} is in the journal");
    }
}

/// All checks agree; gives the machine's replay for more questions.
fn replayed(journal: &Journal) -> Replay<'_> {
    let mut replay = Replay::new(journal);
    while let Some(step) = replay.step() {
        assert!(step.agrees(), "entry {}: {:?}: {:?}", step.number, step.entry, step.actions);
    }
    replay
}

fn states(journal: &Journal) -> Vec<State> {
    let mut replay = Replay::new(journal);
    let mut states = Vec::new();
    while let Some(step) = replay.step() {
        states.extend(step.actions.iter().filter_map(|action| match action {
            Action::Notice(notice) => match **notice {
                Notice::StateChanged { to, .. } => Some(to),
                _ => None,
            },
            _ => None,
        }));
    }
    states
}

/// What the pool lived through, to its end, is simulated again as it was configured: every request is made and answered,
/// and the pool gets as large as it was and no larger.
///
/// The outcomes of the requests are not bounded here. These callers ask again as soon as they are served and keep every
/// connection busy, and that is what a what-if does not model: at such a load a moment's difference leaves a queue that
/// does not shrink. The answer says so itself, by the rows that it marks.
fn can_be_asked_about(journal: &Journal, max_size: u64) {
    let history = History::from_journal(journal).expect("the same machine");
    let answer = what_if(&history, history.config(), &Options::default()).unwrap_or_else(|failure| panic!("{failure}"));
    let answered = |of: &Measures| {
        of.granted + of.timed_out + of.unavailable + of.queue_full + of.would_block + of.closed + of.cancelled
    };
    let (recorded, again) = (&answer.recorded, &answer.simulated[0]);
    assert!(recorded.requests > 200 && recorded.outages >= 1, "{answer}");
    assert_eq!((again.requests, answered(again)), (recorded.requests, recorded.requests), "{answer}");
    assert_eq!(answered(recorded), recorded.requests, "{answer}");
    assert_eq!((recorded.peak_open, again.peak_open), (max_size, max_size), "{answer}");
    assert!(answer.to_string().contains("sessions ended at"), "the crash was not found:\n{answer}");
}

/// Queries that fail, and hooks that do, with words of the user's in what they say.
async fn say_private_things(pool: &Pool) {
    for sql in [
        format!("SELECT nothing FROM \"{MARKER}\""),
        format!("DO $$ BEGIN RAISE EXCEPTION 'no such tenant: {MARKER}'; END $$"),
        format!("SELECT CAST('{MARKER}' AS integer)"),
    ] {
        let mut lease = pool.get().await.expect("a connection");
        let error = lease.batch_execute(&sql).await.expect_err("it fails");
        assert!(error.to_string().contains(MARKER), "{error}");
    }
}

async fn crash_under_load(trace: &Trace, pool: &Pool, server: &LocalPostgres) {
    let load = Load::start(pool, 12);
    until("the load runs", || load.successes_since(Instant::now() - ms(100)) > 50).await;
    server.crash().expect("it crashes");
    trace.wait("pgweir.connectivity.lost", 1).await;
    server.start_again().expect("the server starts");
    let recovered = trace.wait("pgweir.connectivity.recovered", 1).await;
    until("the load goes on", || load.successes_since(recovered.at) > 200).await;
    load.finish().await;
}

#[test]
fn a_crash_under_load_is_recorded_and_replays_bit_for_bit() {
    run(async |trace| {
        let directory = tempfile::tempdir().expect("a directory");
        let dumps = Arc::new(JournalDirectory::new(directory.path().join("dumps"), 3).expect("a sink"));
        let server = LocalPostgres::builder().auth(Auth::ScramSha256).password(SECRET).start().expect("a server");
        let config = hurried(config(&server.url(), "journal")).password(SECRET).min_size(4).max_size(4);
        let options = JournalOptions::new().entries(1 << 18).sink(dumps.clone());
        let refusals = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let pool = Pool::builder(config.build().expect("valid"))
            .journal(options)
            .after_connect(move |_| {
                let first = refusals.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 5;
                Box::pin(async move { if first { Err(format!("no such tenant: {MARKER}").into()) } else { Ok(()) } })
            })
            .open()
            .await
            .expect("the pool opens");
        say_private_things(&pool).await;
        crash_under_load(&trace, &pool, &server).await;
        say_private_things(&pool).await;
        // A lease that is held over the dump, to be found in it.
        let held = pool.get().await.expect("a connection");
        until("the pool is at rest", || pool.status().active == 1 && pool.status().idle == 3).await;
        let dump = pool.journal().expect("recorded");
        let (status, events) = (pool.status(), dump.entries());
        let bytes = dump.to_bytes();
        assert_silent(&bytes);

        let journal = Journal::read(&bytes).expect("whole");
        assert_eq!(journal.loss(), None);
        assert_eq!((journal.entries().len(), journal.header().why.clone()), (events, Why::Demand));
        assert!(events > 500, "{events} events");
        let per_event = bytes.len() as f64 / events as f64;
        assert!(per_event < 30.0, "{per_event:.1} bytes an event");
        let replay = replayed(&journal);
        let machine = replay.machine();
        assert_eq!(machine.counts(), status, "the replay ends where the pool is");
        let holders = machine.holders(machine.now(), 10);
        assert_eq!(holders.len(), 1);
        let site = journal.site(holders[0].site).expect("a known line");
        assert!(site.file.ends_with("journal.rs"), "{site}");
        let states = states(&journal);
        assert!(states.contains(&State::Unhealthy) && states.contains(&State::Recovering), "{states:?}");
        let crashed = |entry: &&pgweir_core::journal::Entry| matches!(entry.event, Event::ConnectFailed { .. });
        assert!(journal.entries().iter().any(|entry| crashed(&entry)));

        // The pool turned unhealthy: a journal of that moment is in the directory.
        drop(held);
        dumps.flush();
        trace.wait("pgweir.journal.written", 1).await;
        let files: Vec<_> = std::fs::read_dir(directory.path().join("dumps"))
            .expect("there")
            .map(|entry| entry.expect("readable").path())
            .collect();
        assert_eq!(files.len(), 1, "{files:?}");
        assert!(files[0].to_str().expect("UTF-8").ends_with("-unhealthy.pgweir"), "{files:?}");
        let bytes = std::fs::read(&files[0]).expect("readable");
        assert_silent(&bytes);
        let journal = Journal::read(&bytes).expect("whole");
        assert_eq!(journal.header().why, Why::Unhealthy);
        replayed(&journal);
        pool.close().await;
    });
}

#[test]
fn a_file_gets_everything_through_a_crash_to_the_end() {
    run(async |trace| {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pool.pgweir");
        let file = Arc::new(JournalFile::new(&path).expect("a sink"));
        let server = LocalPostgres::start().expect("a server");
        let config = hurried(config(&server.url(), "journal-file")).min_size(2).max_size(4);
        let options = JournalOptions::new().sink(file.clone());
        let pool = Pool::builder(config.build().expect("valid")).journal(options).open().await.expect("the pool opens");
        crash_under_load(&trace, &pool, &server).await;
        rt::sleep(Duration::from_millis(20)).await;
        pool.close().await;
        // The last piece is handed over by the background task as it ends.
        until("the journal has its end", || {
            file.flush();
            let bytes = std::fs::read(&path).expect("readable");
            Journal::read(&bytes).expect("a journal").loss().is_none()
        })
        .await;
        let journal = Journal::read(&std::fs::read(&path).expect("readable")).expect("whole");
        assert_eq!(journal.header().why, Why::Continuous);
        let replay = replayed(&journal);
        assert_eq!((replay.machine().state(), replay.machine().counts()), (State::Terminated, pool.status()));
        assert_eq!(states(&journal).last(), Some(&State::Terminated));
        can_be_asked_about(&journal, 4);
        assert_eq!(std::fs::read_dir(directory.path()).expect("there").count(), 1, "nothing was overwritten");
    });
}
