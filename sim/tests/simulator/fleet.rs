//! `fleet`, `speed` and the pages, from the command line.

use crate::support::{command, stderr, stdout};

fn fleet(arguments: &[&str]) -> std::process::Output {
    let all = [&["fleet", "--instances", "20", "--outage", "3s"], arguments].concat();
    command(&all)
}

#[test]
fn a_fleet_is_the_same_in_another_process() {
    let [one, other] = [(); 2].map(|()| stdout(&fleet(&["--quiet"])));
    let digest = |text: &str| {
        let (_, rest) = text.split_once("digest ").unwrap_or_else(|| panic!("no digest in\n{text}"));
        rest.split(',').next().map(str::to_owned)
    };
    assert_eq!(digest(&one), digest(&other));
    assert_ne!(digest(&one), digest(&stdout(&fleet(&["--quiet", "--seed", "2"]))));
}

#[test]
fn a_comparison_has_a_row_for_each_value() {
    let arguments = [
        "--compare",
        "max_connecting=1,4",
        "--compare",
        "jitter=0,0.3",
        "--set",
        "min_size=5",
        "--set",
        "max_connecting=2",
        "--naive",
    ];
    let output = fleet(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    for row in
        ["max_connecting=1 ", "max_connecting=4 ", "backoff_jitter=0 ", "backoff_jitter=0.3 ", "without backoff "]
    {
        assert!(text.lines().any(|line| line.trim_start().starts_with(row)), "{row:?} is not in\n{text}");
    }
    assert!(text.contains("20 instances with 5 to 10 connections") && text.contains("login queue"), "{text}");
    assert!(!text.contains('\x1b'), "colours without a terminal");
}

#[test]
fn impossible_options_are_2_and_say_what_is_expected() {
    for (arguments, said) in [
        (&["--instances", "0"][..], "instances (0) must be 1 to"),
        (&["--rate=-1"], "rate (-1) must be 0 to"),
        (&["--outage", "0s"], "outage must be more than 0s"),
        (&["--outage", "30"], "write for example 500ms, 30s or 5m"),
        (&["--logins-at-once", "0"], "logins-at-once must be 1 or more"),
        (&["--max-connections", "0"], "max-connections must be 1 or more"),
        (&["--set", "max_size"], "write it as field=value, such as max_size=20"),
        (&["--set", "maxsize=3"], "maxsize=3: there is no field `maxsize`"),
        (&["--set", "max_size=5", "--set", "max_size=6"], "max_size=6: `max_size` is set twice"),
        (&["--set", "max_size=0"], "max_size (0) must be 1 to 10,000"),
        (&["--compare", "jitter"], "write for example max_connecting=1,4,10"),
        (&["--compare", "jitter=0,,1"], "write for example max_connecting=1,4,10"),
        (&["--compare", "jitter=0,0.9"], "backoff_jitter=0.9: backoff_jitter (0.9) must be 0 to 0.5"),
        (&["--kind", "flood"], "possible values: refused, starting, black-hole"),
        (&["--html", "/nowhere/x.html"], "/nowhere/x.html: No such file"),
    ] {
        let output = command(&[&["fleet", "--instances", "2", "--outage", "1s"], arguments].concat());
        // An option given twice is refused by itself.
        let output = if stderr(&output).contains("cannot be used multiple times") {
            command(&[&["fleet"], arguments].concat())
        } else {
            output
        };
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stdout(&output));
        assert!(stderr(&output).contains(said), "{arguments:?}: {}", stderr(&output));
    }
    for arguments in [&["speed", "--events", "1"][..], &["speed", "--rounds", "0"], &["speed", "--at-least", "fast"]] {
        assert_eq!(command(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn speed_says_how_fast_it_is_and_fails_below_what_is_asked_for() {
    let output = command(&["speed", "--events", "20000", "--rounds", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.contains("replayed: ") && text.contains("simulated: "), "{text}");
    let output = command(&["speed", "--events", "20000", "--rounds", "1", "--at-least", "1e9"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn pages_are_written_for_runs_and_fleets() {
    let folder = tempfile::tempdir().expect("a folder");
    let scenario = folder.path().join("hostile.yaml");
    let text = "
name: <script>alert(1)</script>
duration: 5s
workload: [{clients: 2, think: 10ms, hold: 1ms}]
timeline: [{at: 2s, kill: {}}]
expect: {answers: {timed_out: 1}}
";
    std::fs::write(&scenario, text).expect("written");
    let (scenario, page) = (scenario.to_str().expect("UTF-8"), folder.path().join("run.html"));
    let output = command(&["run", scenario, scenario, "--html", page.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(1), "an expectation does not hold: {}", stderr(&output));
    let html = std::fs::read_to_string(&page).expect("a page");
    assert!(!html.contains("<script") && html.contains("&lt;script&gt;alert(1)"), "not escaped");
    assert_eq!(html.matches("<section").count(), 2);
    assert!(html.contains("<nav") && html.contains("does not hold") && html.contains("</html>"));

    let page = folder.path().join("fleet.html");
    let output = fleet(&["--html", page.to_str().expect("UTF-8"), "--compare", "max_connecting=1,4"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let html = std::fs::read_to_string(&page).expect("a page");
    assert!(html.contains("max_connecting=4") && html.contains("<svg") && html.contains("Instances back"));
}
