//! The command line: exit codes and what is said.

use pgweir_sim::run;

use crate::support::{command, folder, scenario, shipped, stderr, stdout};

fn write(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a file");
    std::fs::write(file.path(), text).expect("written");
    file
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().expect("UTF-8")
}

const SMALL: &str = "
name: small
duration: 10s
workload: [{clients: 2, think: 10ms, hold: 1ms}]
timeline: [{at: 4s, kill: {}}]
expect: {answers: {timed_out: 0}, states: [initializing, healthy, degraded]}
";

#[test]
fn all_is_as_expected_is_0() {
    let file = write(SMALL);
    let output = command(&["run", path(&file)]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    let text = stdout(&output);
    for said in ["passed small", "ok   answers.timed_out: expected 0, seen 0", "a 4s Kill", "active", "requests"] {
        assert!(text.contains(said), "{said:?} is not in\n{text}");
    }
}

#[test]
fn an_expectation_that_does_not_hold_is_1_with_expected_and_seen() {
    let file = write(&SMALL.replace("timed_out: 0", "succeeded: {at_most: 3}"));
    for arguments in [&["run", path(&file)][..], &["run", "--quiet", path(&file)]] {
        let output = command(arguments);
        assert_eq!(output.status.code(), Some(1));
        let text = stdout(&output);
        assert!(text.contains("answers.succeeded: expected at most 3, seen 1"), "{text}");
        assert!(text.contains("FAILED small") && text.contains("--seed 1 --trace"), "{text}");
    }
}

#[test]
fn one_of_several_that_fails_is_1_and_the_others_are_run() {
    let (good, bad) = (write(SMALL), write(&SMALL.replace("timed_out: 0", "timed_out: 1")));
    let output = command(&["run", "-q", path(&bad), path(&good)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("1 of 2 scenarios passed"), "{}", stdout(&output));
}

#[test]
fn bad_input_is_2_and_nothing_is_run() {
    let (good, bad) = (write(SMALL), write(&SMALL.replace("duration: 10s", "duration: 10")));
    let output = command(&["run", path(&good), path(&bad)]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stdout(&output), "");
    let said = stderr(&output);
    assert!(said.contains(&format!("{}:3:11: duration: `10` needs a unit: write `10s`", path(&bad))), "{said}");

    let output = command(&["run", "/nowhere/at all.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("/nowhere/at all.yaml: No such file"), "{}", stderr(&output));

    for arguments in [&["run"][..], &["walk"], &["run", "--seed", "x", "file"]] {
        assert_eq!(command(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_run_is_the_same_in_another_process() {
    let (_, text) = shipped().into_iter().find(|(name, _)| name == "leak.yaml").expect("leak.yaml");
    let here = run(&scenario(&text), 99).unwrap_or_else(|failure| panic!("{failure}")).digest;
    let file = folder().join("leak.yaml");
    let output = command(&["run", "--seed", "99", file.to_str().expect("UTF-8")]);
    assert!(stdout(&output).contains(&format!("seed 99, digest {here}")), "{here} is not in\n{}", stdout(&output));
}

#[test]
fn a_trace_shows_every_step() {
    let file = write(SMALL);
    let output = command(&["run", "--trace", path(&file)]);
    let text = stdout(&output);
    for said in ["0.000000000s > Start { lazy: false }", "<   Connect { conn: conn 0.1", "4.000000000s * Kill"] {
        assert!(text.contains(said), "{said:?} is not in the trace");
    }
    let outcome = run(&scenario(SMALL), 1).unwrap_or_else(|failure| panic!("{failure}"));
    let events = text.lines().filter(|line| line.contains("s > ")).count() as u64;
    assert_eq!(events, outcome.events);
}
