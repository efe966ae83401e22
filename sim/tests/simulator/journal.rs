//! Journals on the command line: written by a run, run again, looked at, and refused.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;

use pgweir_core::journal::{Check, Journal, Replay, Why, Writer};
use pgweir_core::pool::{Event, State};
use pgweir_core::time::Instant;
use pgweir_sim::NoTrace;
use pgweir_sim::replay::{Moment, Summary, run_recorded};

use crate::support::{command, scenario, shipped, stderr, stdout};

const OUTAGE: &str = "
name: outage
duration: 20s
pool: {min_size: 2, max_size: 4, outage_grace: 500ms}
workload: [{clients: 6, think: 20ms, hold: 5ms}]
timeline: [{at: 8s, crash: {recovering: 4s}}]
expect: {answers: {timed_out: 0}}
";

/// A journal of [`OUTAGE`].
fn journal() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let (result, bytes) = run_recorded(&scenario(OUTAGE), 7, &mut NoTrace);
        result.unwrap_or_else(|failure| panic!("{failure}"));
        bytes
    })
}

/// A file in a directory that goes with it.
struct File {
    path: PathBuf,
    _directory: tempfile::TempDir,
}

fn file(bytes: &[u8]) -> File {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("pool.pgweir");
    std::fs::write(&path, bytes).expect("written");
    File { path, _directory: directory }
}

fn replay(file: &Path, arguments: &[&str]) -> Output {
    command(&[&["replay", file.to_str().expect("UTF-8")], arguments].concat())
}

#[test]
fn a_run_writes_a_journal_that_replays() {
    let scenario_file = file(OUTAGE.as_bytes());
    let out = scenario_file.path.with_file_name("run.pgweir");
    let (input, out) = (scenario_file.path.to_str().expect("UTF-8"), out.to_str().expect("UTF-8"));
    let output = command(&["run", input, "--seed", "7", "--journal", out]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    assert!(std::fs::read(out).expect("written") == journal(), "the same run gives the same journal");

    let output = replay(Path::new(out), &[]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    let text = stdout(&output);
    let entries = Journal::read(journal()).expect("whole").entries().len();
    for said in [
        "by a simulation of \"outage\" with seed 7",
        "from 1970-01-01T00:00:00.000Z to 1970-01-01T00:00:20",
        &format!("replayed: all {entries} events gave the recorded actions"),
        "Unhealthy: no connection can be had",
        "waiting",
        "outages                      1",
    ] {
        assert!(text.contains(said), "{said:?} is not in\n{text}");
    }
}

#[test]
fn outages_leaks_and_shutdowns_replay_to_their_end() {
    let told = ["leak.yaml", "shutdown_under_load.yaml", "slow_start.yaml"];
    for (name, text) in shipped().into_iter().filter(|(name, _)| told.contains(&name.as_str())) {
        let scenario = scenario(&text);
        let (result, bytes) = run_recorded(&scenario, scenario.seed, &mut NoTrace);
        let outcome = result.unwrap_or_else(|failure| panic!("{failure}"));
        let journal = Journal::read(&bytes).expect("whole");
        assert_eq!(journal.loss(), None);
        assert_eq!(journal.entries().len() as u64, outcome.events, "{name}");
        let expected = Why::Simulated { scenario: scenario.name.clone(), seed: scenario.seed };
        assert_eq!(journal.header().why, expected);
        let mut replay = Replay::new(&journal);
        assert_eq!(replay.verify(), None, "{name}");
        assert_eq!(replay.machine().state(), State::Terminated, "{name}");
    }
}

#[test]
fn a_moment_shows_the_machine_then() {
    let file = file(journal());
    let output = replay(&file.path, &["--until", "10s"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    for said in
        ["at 10s (1970-01-01T00:00:10.000Z)", "Unhealthy, Unhealthy", "outage      for", "last fault", "waiting     "]
    {
        assert!(text.contains(said), "{said:?} is not in\n{text}");
    }
    assert!(!text.contains(" > Acquire"), "no trace was asked for");
    // The same moment in each way to write it.
    let end = Moment::BeforeEnd(std::time::Duration::ZERO).of(&Journal::read(journal()).expect("whole"));
    let before = format!("-{}ns", end.as_nanos() - 10_000_000_000);
    for moment in [before.as_str(), "1970-01-01T00:00:10Z", "10.0s"] {
        assert_eq!(stdout(&replay(&file.path, &["--until", moment])), text, "{moment}");
    }
    let traced = stdout(&replay(&file.path, &["--until", "10s", "--trace"]));
    assert!(traced.contains("0.000000000s > Start { lazy: false }"), "{traced}");
    let last = traced.lines().rfind(|line| line.contains("s > ")).expect("events");
    assert!(("9.5".."9.9999").contains(&last) || last.starts_with("10.000000000s"), "it ends with the moment: {last}");
}

#[test]
fn a_window_shows_what_happened_around_a_moment() {
    let file = file(journal());
    let output = replay(&file.path, &["--around", "7003ms", "--window", "20ms"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    let at = text.find("at 7s (1970-01-01T00:00:07.003Z)").expect("the machine at the moment");
    let lines = |text: &str| {
        text.lines().filter(|line| line.contains("s > ")).map(|line| line[..11].to_owned()).collect::<Vec<_>>()
    };
    let (before, after) = (lines(&text[..at]), lines(&text[at..]));
    assert!(!before.is_empty() && before.iter().all(|time| ("6.983".."7.003").contains(&time.as_str())), "{before:?}");
    assert!(!after.is_empty() && after.iter().all(|time| ("7.003".."7.024").contains(&time.as_str())), "{after:?}");
    assert!(text.contains("from workload:1:1"), "{text}");
}

#[test]
fn a_deviation_is_1_with_the_entry_and_what_was_seen() {
    let journal = Journal::read(journal()).expect("whole");
    let mut writer = Writer::new(journal.header(), journal.start());
    writer.sites(journal.sites());
    let changed = 1_000
        + journal.entries()[1_000..]
            .iter()
            .position(|entry| matches!(entry.event, Event::Acquire { .. }) && entry.check != Check::of(&[]))
            .expect("an acquire that is granted");
    for (number, entry) in journal.entries().iter().enumerate() {
        let check = if number == changed { Check::of(&[]) } else { entry.check };
        writer.entry(entry.at, &entry.event, check);
    }
    let file = file(&writer.finish());
    let output = replay(&file.path, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let text = stdout(&output);
    for said in [
        format!("DEVIATES at event {} of {}", changed + 1, journal.entries().len()),
        "event     Acquire {".to_owned(),
        "expected  actions with check 00000000".to_owned(),
        format!("seen      actions with check {}", journal.entries()[changed].check),
        "Grant {".to_owned(),
    ] {
        assert!(text.contains(&said), "{said:?} is not in\n{text}");
    }
}

#[test]
fn a_damaged_journal_is_replayed_as_far_as_it_goes_and_says_so() {
    let half = &journal()[..journal().len() / 2];
    let file = file(half);
    let output = replay(&file.path, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    let read = Journal::read(half).expect("its beginning is there").entries().len();
    assert!(text.contains("incomplete: the journal breaks off within the block at byte"), "{text}");
    assert!(text.contains(&format!("replayed: all {read} events")), "{text}");
}

#[test]
fn bad_journals_and_moments_are_2() {
    let mut newer = journal().to_vec();
    newer[8] = 77;
    let mut damaged = journal().to_vec();
    damaged[400] ^= 1;
    for (bytes, said) in [
        (&b""[..], "this is not a pgweir journal"),
        (OUTAGE.as_bytes(), "this is not a pgweir journal"),
        (&newer, "the journal has format version 77, this pgweir reads version 1"),
        (&journal()[..60], "the journal ends within its header, at byte 10"),
        (&damaged, "the journal is damaged in the machine's state, at byte"),
    ] {
        let file = file(bytes);
        let output = replay(&file.path, &[]);
        assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
        let expected = format!("pgweir-sim: {}: {said}", file.path.display());
        assert!(stderr(&output).starts_with(&expected), "{expected:?} is not in {:?}", stderr(&output));
        assert_eq!(stdout(&output), "");
    }
    let missing = replay(Path::new("/nowhere/at.pgweir"), &[]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr(&missing).contains("/nowhere/at.pgweir: No such file"), "{}", stderr(&missing));

    let good = file(journal());
    for arguments in [
        &["--until", "noon"][..],
        &["--until", "10"],
        &["--around", "5s", "--until", "6s"],
        &["--around", "5s", "--window", "2"],
    ] {
        assert_eq!(replay(&good.path, arguments).status.code(), Some(2), "{arguments:?}");
    }
    assert!(stderr(&replay(&good.path, &["--until", "noon"])).contains("write 12.5s (after the beginning)"));
    let two = command(&["run", "a.yaml", "b.yaml", "--journal", "out"]);
    assert_eq!(two.status.code(), Some(2));
    assert!(stderr(&two).contains("--journal takes one scenario"), "{}", stderr(&two));
}

#[test]
fn an_empty_journal_has_a_summary() {
    let whole = Journal::read(journal()).expect("whole");
    let bytes = Writer::new(whole.header(), whole.start()).finish();
    let empty = Journal::read(&bytes).expect("whole");
    let summary = Summary::new(&empty);
    assert!(summary.deviation().is_none());
    assert!(summary.to_string().contains("replayed: all 0 events"), "{summary}");
    assert_eq!(Moment::BeforeEnd(std::time::Duration::MAX).of(&empty), Instant::ZERO);
}
