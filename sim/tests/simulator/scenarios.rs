//! The scenarios that ship, and some more that show what the pool promises.

use pgweir_sim::{Report, run};

use crate::support::{scenario, shipped};

#[test]
fn every_scenario_that_ships_passes() {
    let shipped = shipped();
    assert!(shipped.len() >= 16, "{} scenarios", shipped.len());
    for (file, text) in shipped {
        let scenario = scenario(&text);
        let outcome = run(&scenario, scenario.seed).unwrap_or_else(|failure| panic!("{file}: {failure}"));
        assert!(outcome.passed(), "{file}\n{}", Report::new(&scenario, &outcome));
        assert!(outcome.findings.len() >= 5, "{file} expects little");
    }
}

#[test]
fn every_scenario_that_ships_is_the_same_after_it_was_written_and_read() {
    for (file, text) in shipped() {
        let read = scenario(&text);
        let written = read.to_yaml();
        assert_eq!(scenario(&written), read, "{file}\n{written}");
    }
}

/// A laptop's clock jumps, and nothing that fell due meanwhile is lost or held against anybody.
#[test]
fn all_that_was_due_during_a_sleep_is_done_after_it() {
    passes(
        "
name: leak over night
duration: 400s
pool: {min_size: 1, max_size: 2, leak_detection_timeout: 30s}
workload: [{clients: 1, hold: 1ms, think: 1s}, {clients: 1, from: 5s, until: 6s, hold: 300s}]
timeline: [{at: 10s, suspend: {for: 200s, sessions: kept}}]
expect:
  answers: {broken: 0, timed_out: 0, succeeded: {at_least: 150}}
  leaks: {suspected: 1, first_held: {at_least: 200s, at_most: 206s}}
  attempts: [{from: 10s, until: 210s, count: 0}]
",
    );
}

/// Both directions of a network are cut on their own.
#[test]
fn what_the_server_heard_and_could_not_answer_is_given_up_on_both_sides() {
    passes(
        "
name: logins without an answer
duration: 60s
lazy: true
server: {max_connections: 4}
pool: {min_size: 2, max_size: 4, connect_timeout: 1s, validation_timeout: 1s}
workload: [{clients: 4, hold: 1ms, think: 200ms}]
timeline: [{at: 0s, partition: {for: 20s, cuts: answers}}]
expect:
  recovered_within: 2s
  answers: {succeeded: {at_least: 600}}
  server: {peak_sessions: {at_most: 4}}
",
    );
}

#[test]
fn an_open_loop_speeds_up_evenly_and_clients_join_one_by_one() {
    let arrivals = |group: &str| {
        let scenario = scenario(&format!(
            "{{name: x, duration: 20s, pool: {{min_size: 0, max_size: 50}}, workload: [{group}], expect: {{}}}}"
        ));
        run(&scenario, 1).unwrap_or_else(|failure| panic!("{failure}")).record.tally.started
    };
    assert_eq!(arrivals("{every: 10ms, hold: 1ms}"), 1999);
    let ramped = arrivals("{every: 10ms, ramp: 20s, hold: 1ms}");
    assert!((990..=1000).contains(&ramped), "{ramped}: half as many");
    assert_eq!(arrivals("{every: 1s, burst: 30, hold: 1ms}"), 19 * 30);
    let joining = arrivals("{clients: 10, ramp: 20s, think: 100ms, hold: 100ms}");
    assert!((450..=560).contains(&joining), "{joining}: as many as half of the clients make");
}

#[test]
fn a_seed_is_a_run_and_another_seed_is_another() {
    for file in ["leak.yaml", "silent_peer.yaml", "herd.yaml"] {
        let (_, text) = shipped().into_iter().find(|(name, _)| name == file).expect(file);
        let scenario = scenario(&text);
        let digest = |seed| run(&scenario, seed).unwrap_or_else(|failure| panic!("{failure}")).digest;
        assert_eq!(digest(7), digest(7), "{file}");
        assert_ne!(digest(7), digest(8), "{file}");
    }
}

/// A workload does not change because the pool does: what-if comparisons would mean nothing otherwise.
#[test]
fn the_same_requests_are_made_of_another_pool() {
    let started = |max| {
        let scenario = scenario(&format!(
            "{{name: x, duration: 20s, pool: {{min_size: 1, max_size: {max}}}, \
             workload: [{{every: {{exponential: 5ms}}, hold: {{exponential: 9ms}}}}], expect: {{}}}}"
        ));
        run(&scenario, 1).unwrap_or_else(|failure| panic!("{failure}")).record.tally.started
    };
    assert_eq!(started(3), started(30));
}

fn passes(text: &str) {
    let scenario = scenario(text);
    let outcome = run(&scenario, 1).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(outcome.passed(), "{}", Report::new(&scenario, &outcome));
}

#[test]
fn r_1_2_a_start_that_fails_is_reported_and_everybody_is_told() {
    passes(
        "
name: wrong password
duration: 60s
pool: {min_size: 2}
workload: [{clients: 3, hold: 1ms, think: 1s}]
timeline: [{at: 0s, refuse_logins: {for: 59s}}]
expect:
  states: [initializing, terminated]
  answers: {succeeded: 0, unavailable: {at_most: 6}, closed: {at_least: 100}}
  attempts: [{count: {at_most: 4}}]
",
    );
}

#[test]
fn r_1_2_a_lazy_start_waits_for_its_server() {
    passes(
        "
name: the application starts before its database
duration: 120s
lazy: true
server: {state: down}
workload: [{clients: 3, hold: 1ms, think: 1s}]
timeline: [{at: 30s, restart: {starting: 20s}}]
expect:
  recovered_within: 1500ms
  first_grant_within: 1500ms
  answers: {succeeded: {at_least: 150}, unavailable: {at_least: 20}}
  health: [{at: 20s, status: unhealthy, state: initializing}, {at: 119s, status: healthy}]
",
    );
}

#[test]
fn a_cancel_between_deadline_and_tick_wins() {
    passes(
        "
name: late timers
duration: 20s
timers_late_by: 5ms
pool: {min_size: 1, max_size: 1}
workload:
  - {clients: 5, think: 1ms, hold: 90ms, timeout: 100ms, cancel: {share: 0.5, after: {uniform: [99ms, 106ms]}}}
expect:
  answers: {cancelled: {at_least: 50}, timed_out: {at_least: 50}}
",
    );
}
