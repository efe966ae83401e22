//! What is refused, where, and with what words.

use pgweir_sim::Scenario;

/// The problems of a text, as a user sees them.
fn problems(text: &str) -> Vec<String> {
    match Scenario::from_yaml("s.yaml", text) {
        Ok(_) => Vec::new(),
        Err(bad) => bad.to_string().lines().map(str::to_owned).collect(),
    }
}

const HEAD: &str = "name: x\nduration: 60s\n";
const WORK: &str = "workload: [{clients: 2, hold: 1ms}]\n";
const REST: &str = "workload: [{clients: 2, hold: 1ms}]\nexpect: {}\n";

#[test]
fn a_small_scenario_is_good() {
    assert_eq!(problems(&format!("{HEAD}{REST}")), [""; 0]);
}

/// What comes after HEAD, and how the first problem begins.
#[test]
fn the_form_is_checked() {
    for (rest, said) in [
        (WORK.to_owned(), "s.yaml:1:1: missing field `expect`"),
        ("expect: {}\n".to_owned(), "s.yaml:1:1: missing field `workload`"),
        (format!("{REST}colour: red\n"), "s.yaml:5:1: unknown field `colour`, expected one of `name`,"),
        (format!("{REST}duration: 5s\n"), "s.yaml:5:1: duplicate field `duration`"),
        (format!("{REST}server: {{conect: 1ms}}\n"), "s.yaml:5:10: server: unknown field `conect`"),
        ("workload:\n- clients: 2\n  hold: 30\nexpect: {}\n".to_owned(), "s.yaml:5:9: workload[0].hold: `30` needs"),
        ("workload:\n- clients: -2\n  hold: 1s\n".to_owned(), "s.yaml:4:12: workload[0].clients: invalid type"),
        ("workload:\n- hold: {normal: 1s}\n  clients: 2\n".to_owned(), "s.yaml:4:9: workload[0].hold: unknown field"),
        (format!("{REST}timeline:\n- at: soon\n  crash: {{}}\n"), "s.yaml:6:7: timeline[0].at: `soon` is not a"),
        (format!("{REST}timeline:\n- at: 1s\n  explode: {{}}\n"), "s.yaml:7:3: timeline[0]: unknown field `explode`"),
        (
            format!("{REST}timeline:\n- at: 1s\n  partition: {{for: 1s, cuts: all}}\n"),
            "s.yaml:7:30: timeline[0].partition.cuts",
        ),
        (
            format!("{REST}timeline:\n- at: 1s\n  suspend: {{for: -1s}}\n"),
            "s.yaml:7:18: timeline[0].suspend.for: `-1s` must not",
        ),
        (
            format!("{REST}server: {{hosts: [{{name: a, rôle: x}}]}}\n"),
            "s.yaml:5:28: server.hosts[0]: unknown field `rôle`",
        ),
        (format!("{WORK}expect:\n  health:\n  - at: 1s\n    status: fine\n"), "s.yaml:7:13: expect.health[0].status"),
        (format!("{WORK}expect: {{answers: {{succeeded: many}}}}\n"), "s.yaml:4:31: expect.answers.succeeded: `many`"),
        ("workload: [\n".to_owned(), "s.yaml:"),
        (format!("{REST}---\na: b\n"), "s.yaml: the file has more than one document"),
    ] {
        let all = problems(&format!("{HEAD}{rest}"));
        assert!(all.first().is_some_and(|first| first.starts_with(said)), "{rest}\nexpected {said}\nseen {all:#?}");
    }
}

#[test]
fn the_pool_is_checked_by_its_own_rules_with_a_place() {
    for (pool, said) in [
        ("  max_size: 5\n  min_size: 10\n", "s.yaml:6:3: pool.max_size: max_size (5) must be at least min_size (10)"),
        ("  min_size: 1\n  maxsize: 5\n", "s.yaml:7:3: pool.maxsize: unknown field `maxsize`"),
        ("  min_size: 1\n  acquire_timeout: 30\n", "s.yaml:7:3: pool.acquire_timeout: "),
        ("  min_size: 1\n  max_size: 0\n", "s.yaml:7:3: pool.max_size: max_size (0) must be 1 to 10,000"),
        ("  min_size: one\n", "s.yaml:6:3: pool.min_size: "),
        ("  hosts: 2\n", "s.yaml:6:3: pool.hosts: must be 1, as many as `server.hosts` has; it can be left out"),
    ] {
        let all = problems(&format!("{HEAD}{REST}pool:\n{pool}"));
        assert!(all.first().is_some_and(|first| first.starts_with(said)), "{pool}\nexpected {said}\nseen {all:#?}");
    }
}

#[test]
fn impossible_values_are_refused() {
    let group = |group: &str| format!("workload: [{{{group}}}]\nexpect: {{}}\n");
    let step = |steps: &str| format!("{REST}timeline: [{steps}]\n");
    for (rest, said) in [
        (format!("{REST}timers_late_by: 2s\n"), "timers_late_by: must be at most 1s"),
        (group("hold: 1ms"), "workload[0]: who makes requests?"),
        (group("clients: 0, hold: 1ms"), "workload[0].clients: `0` must be 1 to"),
        (group("clients: 1, every: 1s, hold: 1ms"), "workload[0].every: is for an open loop"),
        (group("clients: 1, hold: 0s"), "workload[0].hold: clients that neither think nor hold"),
        (group("every: 0s, hold: 1s"), "workload[0].every: must be at least 100ns"),
        (group("every: 1s, think: 1s, hold: 1s"), "workload[0].think: is for `clients`"),
        (group("clients: 1, hold: 1s, abandon: 1.5"), "workload[0].abandon: `1.5` must be a share"),
        (group("clients: 1, hold: 1s, abandon: .nan"), "workload[0].abandon: `NaN` must be a share"),
        (
            group("clients: 1, hold: 1s, abandon: 0.6, broken: 0.6"),
            "workload[0].broken: `abandon`, `broken` and `discard` together",
        ),
        (group("clients: 1, hold: 1s, until: 2m"), "workload[0].until: `2m` is after the scenario's end"),
        (group("clients: 1, hold: 1s, from: 60s"), "workload[0].from: `60s` must be before the group's end"),
        (group("clients: 100000, hold: 1us"), "workload: would make about 6000000 million requests"),
        (format!("{REST}server: {{connect: forever}}\n"), "server.connect: must end: use `silence`"),
        (format!("{REST}server: {{max_connections: 0}}\n"), "server.max_connections: `0` must be 1 to"),
        (group("clients: 1, hold: 1s, discard: 2"), "workload[0].discard: `2` must be a share"),
        (group("clients: 1, hold: 1s, burst: 2"), "workload[0].burst: is for an open loop"),
        (group("every: 1s, hold: 1s, burst: 0"), "workload[0].burst: `0` must be 1 to"),
        (group("clients: 1, hold: 1s, ramp: 61s"), "workload[0].ramp: `61s` is longer than the group makes requests"),
        (format!("{REST}server: {{hosts: [{{name: ' '}}]}}\n"), "server.hosts[0].name: must not be empty"),
        (
            format!("{REST}server: {{hosts: [{{name: a}}, {{name: a}}]}}\n"),
            "server.hosts[1].name: another host is called `a`",
        ),
        (
            format!("{REST}server: {{hosts: [{{name: a, role: standby}}]}}\n"),
            "server.hosts: one of them must be the primary",
        ),
        (format!("{REST}server: {{connect: {{choice: [[0.5, 1s], [0.5, forever]]}}}}\n"), "server.connect: must end"),
        (step("{at: 5s, host: b, crash: {}}"), "timeline[0].host: `b` is no host: `server.hosts` has db"),
        (step("{at: 5s, host: db, recycle: {}}"), "timeline[0].host: `recycle` happens to the pool, not to `db`"),
        (step("{at: 5s, promote: {}}"), "timeline[0].promote: needs `host` beside it"),
        (step("{at: 5s, times: 3, crash: {}}"), "timeline[0].times: needs `every`"),
        (step("{at: 5s, every: 0s, crash: {}}"), "timeline[0].every: must be more than 0"),
        (step("{at: 5s, every: 1s, times: 0, crash: {}}"), "timeline[0].times: must be at least 1"),
        (step("{at: 5s, every: 1us, crash: {}}"), "timeline[0].every: makes 55000000 steps"),
        (step("{at: 5s, every: 30s, times: 3, crash: {}}"), "timeline[0].at: `65s` must be before"),
        (step("{at: 5s, suspend: {for: 1h}}"), "timeline[0].suspend: lasts until 1h 5s, but the scenario ends at 60s"),
        (step("{at: 5s, partition: {for: 0s}}"), "timeline[0].partition: `for` must be more than 0"),
        (
            step("{at: 5s, partition: {for: 9s}}, {at: 8s, silence: {for: 1s}}"),
            "timeline[1].silence: the one before lasts until 14s",
        ),
        (step("{at: 5s}"), "timeline[0]: nothing happens: write for example"),
        (step("{at: 5s, crash: {}, recycle: {}}"), "timeline[0]: `crash` and `recycle` at one step"),
        (step("{at: 61s, crash: {}}"), "timeline[0].at: `61s` must be before"),
        (
            step("{at: forever, crash: {down: forever, recovering: forever}}"),
            "timeline[0].at: `forever` must be before",
        ),
        (step("{at: 1s, silence: {for: 0s}}"), "timeline[0].silence: `for` must be more than 0"),
        (step("{at: 1s, kill: {share: 2}}"), "timeline[0].kill.share: `2` must be a share"),
        (
            step("{at: 9s, pause: {for: 1s}}, {at: 1s, pause: {for: 10s}}"),
            "timeline[0].pause: the one before lasts until 11s",
        ),
        (
            step("{at: 1s, shutdown: {within: 1s}}, {at: 2s, recycle: {}}"),
            "timeline[1].recycle: the pool is shut down at 1s already",
        ),
        (
            step("{at: 1s, resize: {min_size: 5, max_size: 4}}"),
            "timeline[0].resize: max_size must be 1 to 10,000 and at least min_size",
        ),
    ] {
        refused(&format!("{HEAD}{rest}"), said);
    }
    refused(&format!("name: x\nduration: 0s\n{REST}"), "duration: `0s` must be more than 0");
    refused(&format!("name: x\nduration: forever\n{REST}"), "duration: `forever` must be more than 0");
    refused(&format!("name: ' '\nduration: 1s\n{REST}"), "name: must not be empty");
}

#[test]
fn expectations_that_contradict_each_other_or_the_scenario_are_refused() {
    let crash = "timeline: [{at: 10s, crash: {recovering: 45s}}]\n";
    for (expect, said) in [
        ("answers: {succeeded: {at_least: 5, at_most: 4}}", "answers.succeeded: nothing can be 5 to 4"),
        ("answers: {started: 10, succeeded: 8, timed_out: {at_least: 3}}", "answers.started: at most 10 requests"),
        ("answers: {would_block: 1}", "answers.would_block: no group has `timeout: 0`"),
        ("waits: {p50: {at_least: 2s}, p99: {at_most: 1s}}", "waits.p50: p50 is to be at least 2s and p99 at most 1s"),
        ("recovered_within: 6s", "recovered_within: the server is back at 55s, but the scenario ends at 60s"),
        ("attempts: [{from: 5s, until: 5s, count: 1}]", "attempts[0].from: from `5s` to `5s` is no part"),
        ("attempts: [{from: 5s}]", "attempts[0]: expects nothing"),
        ("attempts: [{count: 3, gaps: [1s]}]", "attempts[0].gaps: makes 2 attempts, but `count` is 3"),
        ("attempts: [{times: [2s, 1s]}]", "attempts[0].times: must be in order"),
        ("attempts: [{from: 3s, times: [2s]}]", "attempts[0].times: must be between `from` and `until`"),
        ("attempts: [{count: 3, within: 1s}]", "attempts[0].within: is for `times`"),
        ("attempts: [{times: [1s], gaps: [1s]}]", "attempts[0].gaps: makes 2 attempts, but `times` has 1"),
        ("health: [{at: 61s, status: healthy}]", "health[0].at: `61s` is after the scenario's end"),
        ("health: [{at: 1s, status: healthy, state: unhealthy}]", "health[0].status: a pool in state Unhealthy"),
        ("health: [{at: 1s, status: healthy}, {at: 1s, status: degraded}]", "health[1].status: another one is"),
        ("states: [initializing, healthy], health: [{at: 1s, state: unhealthy}]", "health[0].state: Unhealthy is not"),
        ("states: [healthy]", "states: must begin with `initializing`"),
        ("states: [initializing, recovering]", "states[1]: Recovering never follows Initializing"),
        ("leaks: {suspected: 2, reports: 1}", "leaks.reports: is less than `suspected`"),
        ("leaks: {suspected: 1, resolved: 2}", "leaks.resolved: is more than `suspected`"),
        ("connections: {peak: 11}", "connections.peak: 11 connections are more than max_size (10)"),
        ("shutdown: {forced: 0}", "shutdown: there is no `shutdown` in the timeline"),
    ] {
        refused(&format!("{HEAD}{WORK}{crash}expect: {{{expect}}}\n"), &format!("expect.{said}"));
    }
    refused(&format!("{HEAD}{WORK}expect: {{noticed_within: 1s}}\n"), "expect.noticed_within: there is no outage");
    // A process that does not run notices nothing.
    let sleep = "timeline: [{at: 10s, suspend: {for: 10s}}]\n";
    refused(
        &format!("{HEAD}{WORK}{sleep}expect: {{noticed_within: 1s}}\n"),
        "expect.noticed_within: there is no outage",
    );
    let off = "pool: {enable_leak_detection: false}\n";
    refused(
        &format!("{HEAD}{WORK}{off}expect: {{leaks: {{suspected: 1}}}}\n"),
        "expect.leaks.suspected: leak detection",
    );
}

/// What is written again is another step each.
#[test]
fn a_step_with_every_happens_again_and_again() {
    let steps = |step: &str| {
        let text = format!("{HEAD}{REST}timeline: [{{at: 50s, recycle: {{}}}}, {step}]\n");
        let scenario = Scenario::from_yaml("s.yaml", &text).unwrap_or_else(|bad| panic!("{bad}"));
        scenario.timeline.iter().map(|step| step.at.as_secs()).collect::<Vec<_>>()
    };
    assert_eq!(steps("{at: 5s, every: 20s, times: 2, crash: {}}"), [5, 25, 50]);
    assert_eq!(steps("{at: 5s, every: 20s, crash: {}}"), [5, 25, 45, 50], "until the end");
}

fn refused(text: &str, said: &str) {
    let all = problems(text);
    // After `s.yaml:line:column:`.
    let says = |problem: &String| problem.splitn(4, ':').nth(3).is_some_and(|rest| rest.trim_start().starts_with(said));
    assert!(all.iter().any(says), "{text}\nexpected {said}\nseen {all:#?}");
}

#[test]
fn all_problems_are_reported_at_once_in_order() {
    let work = "workload:\n- {clients: 0, hold: 1ms}\n";
    let text = format!("{HEAD}{work}timeline:\n- {{at: 2m, crash: {{}}}}\nexpect: {{connections: {{peak: 99}}}}\n");
    let place = |problem: &String| problem.split(' ').next().unwrap_or_default().to_owned();
    let places: Vec<String> = problems(&text).iter().map(place).collect();
    assert_eq!(places, ["s.yaml:4:4:", "s.yaml:6:4:", "s.yaml:7:24:"]);
}

#[test]
fn hostile_files_end() {
    for text in ["[", "{a: ", "- ", "? ", "&a [", "!a ", "'", "*a ", "\u{0}", "a: &a\n", "name: x\n"] {
        assert!(!problems(&text.repeat(1_000)).is_empty(), "{text:?}");
    }
    assert!(problems(&"#".repeat(3 << 20))[0].contains("more than 1048576"));
}

/// A scenario that ships, with lines lost, doubled and exchanged, and characters lost: it is good, or it is refused with
/// words, and with a place where one is known.
#[test]
fn a_mangled_scenario_is_good_or_refused_with_a_place() {
    fn property(edits: Vec<(u8, u16, u16)>) -> bool {
        let mut lines: Vec<String> = include_str!("../../scenarios/failover.yaml").lines().map(str::to_owned).collect();
        for (what, at, other) in edits.into_iter().take(6) {
            let (at, other) = (usize::from(at) % lines.len(), usize::from(other) % lines.len());
            match what % 6 {
                0 if lines.len() > 1 => drop(lines.remove(at)),
                1 => lines.insert(at, lines[other].clone()),
                2 => lines.swap(at, other),
                3 => lines[at] = lines[at].replacen([':', ',', '{', '}', '[', ']', 's'], "", 1),
                4 => lines[at] = lines[at].replace(|c: char| c.is_ascii_digit(), "99999999999"),
                _ => lines[at] = format!("  {}", lines[at]),
            }
        }
        match Scenario::from_yaml("mangled.yaml", &lines.join("\n")) {
            Ok(scenario) => Scenario::from_yaml("again.yaml", &scenario.to_yaml()).as_ref() == Ok(&scenario),
            Err(bad) => {
                !bad.problems.is_empty()
                    && bad
                        .problems
                        .iter()
                        .all(|problem| !problem.problem.is_empty() && (problem.line > 0 || problem.key.is_empty()))
            }
        }
    }
    quickcheck::QuickCheck::new().tests(2_000).quickcheck(property as fn(Vec<(u8, u16, u16)>) -> bool);
}
