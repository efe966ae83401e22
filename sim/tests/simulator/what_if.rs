//! `what-if`: journals of simulated runs, from the command line.

use std::time::Duration;

use pgweir_core::config::PoolConfig;
use pgweir_core::journal::{Check, Header, Journal, Replay, Why, Writer};
use pgweir_core::pool::Machine;
use pgweir_core::time::{Instant, Wall};
use pgweir_sim::replay::run_recorded;
use pgweir_sim::swarm::draw;
use pgweir_sim::what_if::{History, Options, Recorder, what_if};
use pgweir_sim::{NoTrace, Trace, run_traced};

use crate::support::{command, scenario, stderr, stdout};

const BURST: &str = "
name: burst
duration: 12s
pool: {min_size: 2, max_size: 4, acquire_timeout: 300ms}
workload: [{every: {exponential: 5ms}, from: 3s, until: 8s, hold: {uniform: [20ms, 40ms]}}]
timeline: [{at: 10s, crash: {recovering: 500ms}}]
expect: {}
";

/// The journal of a run, from `from` on.
fn journal(text: &str, from: Instant) -> Vec<u8> {
    let scenario = scenario(text);
    let mut recorder = Recorder::default();
    let mut made = None;
    let make = |config: &PoolConfig, seed| {
        let machine = Machine::new(config, seed, Instant::ZERO);
        made = Some(machine.clone());
        machine
    };
    run_traced(&scenario, 1, make, &mut recorder).unwrap_or_else(|failure| panic!("{failure}"));
    let mut machine = made.expect("a machine was made");
    let header = Header {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        config: scenario.pool.clone(),
        wall: Wall { at: Instant::ZERO, unix: Duration::from_secs(1_000_000_000) },
        why: Why::Demand,
        written: Instant::ZERO + scenario.duration,
    };
    let mut writer = None;
    for step in recorder.into_steps() {
        if step.at < from {
            machine.handle(step.at, step.event, &mut Vec::new());
        } else if step.at < Instant::ZERO + scenario.duration {
            let writer = writer.get_or_insert_with(|| Writer::new(&header, &machine));
            writer.entry(step.at, &step.event, Check::of(&step.actions));
        }
    }
    writer.unwrap_or_else(|| Writer::new(&header, &machine)).finish()
}

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".journal").tempfile().expect("a file");
    std::fs::write(file.path(), bytes).expect("written");
    file
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().expect("UTF-8")
}

/// The figures of a row.
fn row(text: &str, name: &str) -> Vec<String> {
    let line = text.lines().find(|line| line.trim_start().starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no {name:?} in\n{text}"));
    line.trim_start()[name.len()..]
        .split("  ")
        .map(|cell| cell.trim().to_owned())
        .filter(|cell| !cell.is_empty())
        .collect()
}

#[test]
fn a_journal_is_answered_side_by_side() {
    let file = file(&journal(BURST, Instant::ZERO));
    let output = command(&["what-if", path(&file), "--set", "max_size=10", "--set", "outage_grace=5s"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    for said in [
        "max_size: 4 -> 10",
        "outage_grace: 2s -> 5s",
        "recorded  ",
        "simulated as recorded, within the rule",
        "the database system is in recovery mode",
        "recorded on demand, from 2001-09-09T01:46:40.000Z on",
    ] {
        assert!(text.contains(said), "{said:?} is not in\n{text}");
    }
    let timed_out = row(&text, "timed out");
    assert!(timed_out[0].parse::<u32>().expect("a count") > 100, "{timed_out:?}");
    assert_eq!(timed_out[2], "0");
    assert_eq!(row(&text, "connections at most"), ["4", "4", "10"]);
}

#[test]
fn the_same_options_give_the_same_output() {
    let file = file(&journal(BURST, Instant::from_secs(5)));
    let run = |seed: &str| {
        let output = command(&["what-if", path(&file), "--set", "max_size=6", "--seeds", "3", "--seed", seed]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stdout(&output)
    };
    let text = run("5");
    assert_eq!(text, run("5"));
    assert!(text.contains(" to ") && text.contains("the history begins in the middle"), "{text}");
    let load = command(&["what-if", path(&file), "--scale-load", "2", "--outage-end", "latest"]);
    let text = stdout(&load);
    assert_eq!(row(&text, "requests").len(), 3, "{text}");
}

#[test]
fn what_cannot_be_used_is_2_with_the_reason() {
    let whole = journal(BURST, Instant::ZERO);
    let good = file(&whole);
    for (arguments, said) in [
        (&["--set", "max_size=0"][..], "max_size=0: max_size (0) must be 1 to 10,000"),
        (&["--set", "outage_grace=5"], "write 5s"),
        (&["--set", "maxsize=5"], "there is no field `maxsize`"),
        (&["--set", "max_size"], "write it as field=value"),
        (&["--seeds", "0"], "0 is not in 1..=10000"),
        (&["--scale-load", "-1"], "write a factor from 0 to 1000"),
        (&["--scale-load", "NaN"], "write a factor from 0 to 1000"),
    ] {
        let joined;
        let mut all = vec!["what-if", path(&good)];
        if let [option, value @ "-1"] = arguments {
            joined = format!("{option}={value}");
            all.push(&joined);
        } else {
            all.extend(arguments);
        }
        let output = command(&all);
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(2), ""), "{arguments:?}");
        assert!(stderr(&output).contains(said), "{arguments:?}: {}", stderr(&output));
    }
    let mut damaged = whole.clone();
    damaged[20] ^= 1;
    for (bytes, said) in [
        (&b"name: a scenario\n"[..], "this is not a pgweir journal"),
        (&damaged, "damaged in its header"),
        (&whole[..40], "the journal ends within"),
    ] {
        let bad = file(bytes);
        let output = command(&["what-if", path(&bad)]);
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(2), ""), "{said}");
        assert!(stderr(&output).contains(&format!("{}: ", path(&bad))), "{}", stderr(&output));
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
    }
    let output = command(&["what-if", "/nowhere/at.all"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("/nowhere/at.all: No such file"), "{}", stderr(&output));
}

#[test]
fn what_is_left_of_a_damaged_journal_is_used_and_the_rest_reported() {
    let long = BURST.replace("12s", "60s").replace("until: 8s", "until: 50s");
    let whole = journal(&long, Instant::ZERO);
    let file = file(&whole[..whole.len() * 4 / 5]);
    let output = command(&["what-if", path(&file), "--set", "max_size=6"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(text.contains("WARNING: the journal breaks off"), "{text}");
    assert_eq!(row(&text, "requests").len(), 3, "{text}");
}

#[test]
fn a_page_has_the_comparison_and_nothing_else_gets_into_it() {
    let folder = tempfile::Builder::new().prefix("<b>").tempdir().expect("a folder");
    let (file, page) = (folder.path().join("pool.journal"), folder.path().join("page.html"));
    std::fs::write(&file, journal(BURST, Instant::ZERO)).expect("written");
    let (file, page) = (file.to_str().expect("UTF-8"), page.to_str().expect("UTF-8"));
    let output = command(&["what-if", file, "--set", "max_size=10", "--html", page]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains(&format!("wrote {page}")));
    let html = std::fs::read_to_string(page).expect("a page");
    for said in ["<dt>max_size</dt><dd>4 → 10</dd>", "<td>timed out</td>", "within the rule", "recorded on demand"] {
        assert!(html.contains(said), "{said:?} is not in\n{html}");
    }
    assert!(!html.contains("<b>/") && html.contains("&lt;b&gt;") && html.contains("</html>"), "not escaped");
    let output = command(&["what-if", file, "--html", "/nowhere/x.html"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("/nowhere/x.html: No such file"), "{}", stderr(&output));
}

/// The journal's second half.
fn from_the_middle(journal: &Journal) -> History {
    let mut replay = Replay::new(journal);
    for _ in 0..journal.entries().len() / 2 {
        replay.step();
    }
    let before = replay.machine().clone();
    let mut recorder = Recorder::default();
    while let Some(step) = replay.step() {
        recorder.event(step.entry.at, &step.entry.event);
        step.actions.iter().for_each(|action| recorder.action(step.entry.at, action));
    }
    History::new(before.config(), &before, recorder.into_steps())
}

/// Whatever a pool lived through can be asked about, from the beginning or from the middle: every guarantee holds in what
/// is simulated of it, as recorded and as any other pool, and every request is made again.
#[test]
fn whatever_the_swarm_lives_through_can_be_asked_about() {
    // At 60 and 85 leases end at the moment at which their connections were proved.
    let short = (1..).filter(|seed| draw(*seed).duration <= Duration::from_secs(20));
    for (number, seed) in [60, 85].into_iter().chain(short.take(8)).enumerate() {
        let (result, bytes) = run_recorded(&draw(seed), seed, &mut NoTrace);
        result.unwrap_or_else(|failure| panic!("{failure}"));
        let journal = Journal::read(&bytes).expect("whole");
        let whole = number < 2 || number % 2 == 0;
        let history =
            if whole { History::from_journal(&journal).expect("the same machine") } else { from_the_middle(&journal) };
        let other = draw(seed + 1).pool;
        let answer = what_if(&history, &other, &Options::default())
            .unwrap_or_else(|failure| panic!("swarm seed {seed}: {failure}"));
        for measures in answer.simulated.iter().chain(&answer.changed) {
            assert_eq!(measures.requests, answer.recorded.requests, "swarm seed {seed}: {answer}");
        }
    }
}
