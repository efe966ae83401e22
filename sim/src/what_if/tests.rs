//! Histories of simulated runs, whose causes are known: what is read out of them, and whether the answers come true when
//! the run itself is made again under the other configuration.

use std::time::Duration;

use pgweir_core::config::PoolConfig;
use pgweir_core::pool::{Action, ConnId, Event, Fault, FaultClass, Machine, ServerFacts};
use pgweir_core::time::Instant;

use super::extract::{Extract, Hold, Origin, extract};
use super::measure::Meter;
use super::*;
use crate::run::run_traced;
use crate::scenario::Scenario;
use crate::settings::{Setting, with_settings};

const MS: Duration = Duration::from_millis(1);
/// What a woken task takes to run, in a simulated run.
const WAKE: Duration = Duration::from_micros(20);

fn scenario(text: &str) -> Scenario {
    Scenario::from_yaml("test.yaml", text).unwrap_or_else(|bad| panic!("{bad}"))
}

/// Everything that the scenario's pool does from `from` until the scenario's end.
fn history(scenario: &Scenario, from: Instant) -> History {
    let mut recorder = Recorder::default();
    let mut before = None;
    let make = |config: &PoolConfig, seed| {
        let machine = Machine::new(config, seed, Instant::ZERO);
        before = Some(machine.clone());
        machine
    };
    run_traced(scenario, scenario.seed, make, &mut recorder).unwrap_or_else(|failure| panic!("{failure}"));
    let mut before = before.expect("a machine was made");
    let end = Instant::ZERO + scenario.duration;
    let (early, late): (Vec<Step>, Vec<Step>) = recorder.into_steps().into_iter().partition(|step| step.at < from);
    for step in early {
        before.handle(step.at, step.event, &mut Vec::new());
    }
    History::new(&scenario.pool, &before, late.into_iter().filter(|step| step.at < end).collect())
}

fn whole(scenario: &Scenario) -> (History, Extract) {
    let history = history(scenario, Instant::ZERO);
    let extract = extract(&history);
    (history, extract)
}

fn set(config: &PoolConfig, settings: &[&str]) -> PoolConfig {
    let settings: Vec<Setting> = settings.iter().map(|setting| setting.parse().expect("a setting")).collect();
    with_settings(config, &settings).unwrap_or_else(|bad| panic!("{bad}"))
}

/// With another seed than the one of the run: nothing is drawn as it was then.
fn ask(history: &History, settings: &[&str]) -> Answer {
    let config = set(history.config(), settings);
    let options = Options { seed: 99, ..Options::default() };
    what_if(history, &config, &options).unwrap_or_else(|failure| panic!("{failure}"))
}

/// What the scenario itself comes to under the other configuration.
fn truth(scenario: &Scenario, settings: &[&str], backs: &[Instant]) -> Measures {
    let other = Scenario { pool: set(&scenario.pool, settings), ..scenario.clone() };
    Meter::of(&history(&other, Instant::ZERO), backs)
}

/// Asserts that two counts differ by no more than this.
#[track_caller]
fn close(what: &str, one: u64, other: u64, by: u64) {
    assert!(one.abs_diff(other) <= by, "{what}: {one} and {other}");
}

#[track_caller]
fn near(what: &str, one: Duration, other: Duration, by: Duration) {
    assert!(one.abs_diff(other) <= by, "{what}: {one:?} and {other:?}");
}

/// Six connections' worth of requests for five seconds.
const BURST: &str = "
name: burst
duration: 15s
pool: {min_size: 2, max_size: 4, acquire_timeout: 300ms}
workload:
  - {every: 5ms, from: 5s, until: 10s, hold: 30ms, queries: 2}
  - {every: 100ms, hold: 3ms}
expect: {}
";

#[test]
fn requests_are_read_out_exactly() {
    let (history, extract) = whole(&scenario(BURST));
    assert!(history.is_whole());
    let burst: Vec<_> = extract.requests.iter().filter(|request| request.site == 0).collect();
    // The first is made one interval after `from`.
    for (index, request) in burst.iter().enumerate() {
        assert_eq!(request.at, Instant::from_secs(5) + 5 * MS * (index as u32 + 1));
        assert_eq!(request.patience, extract::Patience::Pool);
        assert_eq!((request.origin, request.cancel), (Origin::Made, None));
        match request.hold {
            Hold::Seen(held) => {
                assert!((held == 30 * MS || held == 30 * MS + WAKE) && request.queries == 2, "{held:?}")
            }
            Hold::Unknown => {}
            other => panic!("{other:?}"),
        }
    }
    let unknown = extract.requests.iter().filter(|request| request.hold == Hold::Unknown).count() as u64;
    let timeouts = history.steps().iter().flat_map(|step| &step.actions);
    let timeouts = timeouts.filter(|action| matches!(action, Action::Reject { .. })).count() as u64;
    assert_eq!((burst.len(), unknown), (999, timeouts));
    assert!(unknown > 200, "{unknown}");
    assert!(extract.outages.is_empty() && extract.deaths.is_empty() && extract.limits.is_empty());
}

#[test]
fn a_burst_that_times_out_does_not_with_more_connections() {
    let scenario = scenario(BURST);
    let (history, _) = whole(&scenario);
    let answer = ask(&history, &["max_size=8"]);
    assert_eq!(answer.off().count(), 0, "{answer}");
    let (recorded, again) = (&answer.recorded, &answer.simulated[0]);
    assert_eq!(recorded.requests, again.requests);
    close("timed out", recorded.timed_out, again.timed_out, 5);
    near("p99", recorded.waits.percentile(99.0), again.waits.percentile(99.0), 10 * MS);
    // It comes true.
    let (said, is) = (&answer.changed[0], truth(&scenario, &["max_size=8"], &[]));
    assert_eq!((said.timed_out, is.timed_out), (0, 0));
    assert_eq!((said.granted, is.granted), (is.requests, is.requests));
    assert_eq!((said.peak_open, is.peak_open), (8, 8));
    near("p50", said.waits.percentile(50.0), is.waits.percentile(50.0), MS);
    near("p99", said.waits.percentile(99.0), is.waits.percentile(99.0), 5 * MS);
    // And the other way round.
    let other = Scenario { pool: set(&scenario.pool, &["max_size=8"]), ..scenario.clone() };
    let answer = ask(&history_of(&other), &["max_size=4"]);
    close("timed out of less", answer.changed[0].timed_out, recorded.timed_out, recorded.timed_out / 20);
}

fn history_of(scenario: &Scenario) -> History {
    history(scenario, Instant::ZERO)
}

const OUTAGE: &str = "
name: outage
duration: 90s
pool: {min_size: 4, max_size: 10}
workload: [{every: {exponential: 20ms}, hold: {exponential: 15ms}}]
timeline: [{at: 20s, restart: {stopping: 100ms, down: 25s, starting: 1s}}]
expect: {}
";

#[test]
fn an_outage_is_found_and_what_another_schedule_makes_of_it() {
    let scenario = scenario(OUTAGE);
    let (history, extract) = whole(&scenario);
    let [outage] = &extract.outages[..] else { panic!("{:?}", extract.outages) };
    let end = Instant::from_millis(46_100);
    near("begin", outage.from - Instant::ZERO, Duration::from_secs(20), MS);
    assert!(outage.until.0 <= end && outage.until.1 >= end, "{:?}", outage.until);
    assert!(outage.until.1 - outage.until.0 < Duration::from_millis(1100), "demand looks every second");
    let [deaths] = &extract.deaths[..] else { panic!("{:?}", extract.deaths) };
    assert_eq!((deaths.survived, deaths.fault.sqlstate.map(|code| code.to_string()).as_deref()), (0, Some("57P01")));

    for settings in
        [&["demand_probe_interval=0s"][..], &["demand_probe_interval=5s"], &["outage_grace=10s"], &["max_size=4"]]
    {
        let answer = ask(&history, settings);
        assert_eq!(answer.off().count(), 0, "{answer}");
        let is = truth(&scenario, settings, &[end]);
        let said = &answer.changed[0];
        // The end of the outage is known to half a second here; the schedule is jittered by a tenth.
        close("attempts", said.attempts, is.attempts, 2 + is.attempts / 10);
        close("unavailable", said.unavailable, is.unavailable, 3 + is.requests / 20);
        close("granted", said.granted, is.granted, 3 + is.requests / 20);
        assert_eq!((said.outages, said.peak_open), (is.outages, is.peak_open), "{settings:?}");
    }
}

#[test]
fn an_idle_pool_knows_less_of_the_end_and_says_so() {
    let text = OUTAGE.replace("{every: {exponential: 20ms}, hold: {exponential: 15ms}}", "{every: 80s, hold: 1s}");
    let (history, extract) = whole(&scenario(&text));
    let [outage] = &extract.outages[..] else { panic!("{:?}", extract.outages) };
    let (earliest, latest) = outage.until;
    let end = Instant::from_millis(46_100);
    assert!(
        earliest < end && latest >= end && latest - earliest > Duration::from_secs(8),
        "{earliest:?} to {latest:?}"
    );
    let ended = |outage_end| Plan::new(&history, &extract, outage_end, 1.0).ended(outage);
    assert_eq!((ended(OutageEnd::Earliest), ended(OutageEnd::Latest)), (earliest, latest));
    assert_eq!(ended(OutageEnd::Middle), earliest + (latest - earliest) / 2);
    let text = ask(&history, &["backoff_max=2s"]).to_string();
    assert!(text.contains("its end is known to be from"), "{text}");
}

#[test]
fn a_leak_is_held_again_for_as_long() {
    let text = "
name: leak
duration: 100s
pool: {min_size: 2, max_size: 4, leak_detection_timeout: 10s}
workload:
  - {every: {exponential: 50ms}, hold: {exponential: 5ms}}
  - {every: 20s, until: 50s, hold: 5ms, leaks: {count: 1, hold: 30s}}
  - {every: 30s, until: 40s, hold: 5ms, leaks: {count: 1, hold: forever}}
expect: {}
";
    let scenario = scenario(text);
    let (history, extract) = whole(&scenario);
    let holds = |site| extract.requests.iter().filter(move |request| request.site == site).map(|request| request.hold);
    assert_eq!(holds(1).next(), Some(Hold::Seen(Duration::from_secs(30))));
    let unfinished = holds(2).next();
    assert!(matches!(unfinished, Some(Hold::Unfinished(held)) if held > Duration::from_secs(69)), "{unfinished:?}");
    for (setting, leaks) in [("leak_detection_timeout=40s", 1), ("enable_leak_detection=false", 0), ("max_size=3", 2)] {
        let answer = ask(&history, &[setting]);
        assert_eq!((answer.recorded.leaks, answer.simulated[0].leaks), (2, 2));
        assert_eq!((answer.changed[0].leaks, truth(&scenario, &[setting], &[]).leaks), (leaks, leaks), "{setting}");
    }
}

#[test]
fn who_gave_up_gives_up_again_unless_there_is_no_reason_to() {
    let text = "
name: cancellations
duration: 15s
pool: {min_size: 4, max_size: 4}
workload: [{every: {exponential: 5ms}, hold: 22ms, cancel: {share: 0.5, after: 21ms}}]
expect: {}
";
    let scenario = scenario(text);
    let (history, extract) = whole(&scenario);
    let cancelled = history.steps().iter().filter(|step| matches!(step.event, Event::Cancel { .. })).count();
    let read = extract.requests.iter().filter(|request| request.cancel == Some(21 * MS)).count();
    assert!(cancelled > 50 && read >= cancelled && read <= cancelled + 2, "{read} of {cancelled}");
    let answer = ask(&history, &["max_size=12"]);
    let (recorded, again, changed) = (&answer.recorded, &answer.simulated[0], &answer.changed[0]);
    close("cancelled", recorded.cancelled, again.cancelled, recorded.requests / 20);
    assert_eq!(changed.cancelled, 0);
    assert_eq!(truth(&scenario, &["max_size=12"], &[]).cancelled, 0);
}

#[test]
fn a_history_may_begin_and_end_in_the_middle() {
    let text = "
name: middle
duration: 30s
pool: {min_size: 2, max_size: 8, acquire_timeout: 2s}
workload: [{every: {exponential: 100ms}, hold: {uniform: [500ms, 900ms]}}, {every: 9s, until: 10s, hold: 40s}]
expect: {}
";
    let scenario = scenario(text);
    let history = history(&scenario, Instant::from_secs(15));
    assert!(!history.is_whole());
    let extract = extract(&history);
    let of = |origin| extract.requests.iter().filter(move |request| request.origin == origin);
    assert_eq!(of(Origin::Lent).count() as u32, history.counts.active);
    assert_eq!(of(Origin::Waiting).count() as u32, history.counts.waiting);
    assert!(history.counts.active >= 4, "{:?}", history.counts);
    // One that is never given back.
    assert_eq!(of(Origin::Lent).filter(|request| matches!(request.hold, Hold::Unfinished(_))).count(), 1);
    let unfinished = of(Origin::Made).filter(|request| matches!(request.hold, Hold::Unfinished(_))).count();
    assert!(unfinished > 0);
    let answer = ask(&history, &["max_size=20"]);
    assert_eq!(answer.off().count(), 0, "{answer}");
    assert_eq!(answer.recorded.requests, of(Origin::Made).count() as u64);
    assert_eq!(answer.recorded.requests, answer.simulated[0].requests);
    assert!(answer.to_string().contains("the history begins in the middle"), "{answer}");
    assert_eq!(answer.changed[0].timed_out, 0);
}

#[test]
fn who_waited_at_the_beginning_waits_again_and_is_not_counted() {
    let history = history(&scenario(BURST), Instant::from_secs(7));
    assert!(history.counts.waiting > 10, "{:?}", history.counts);
    let answer = ask(&history, &["max_size=8"]);
    assert_eq!(answer.off().count(), 0, "{answer}");
    assert_eq!(answer.recorded.requests, answer.simulated[0].requests);
    close("granted", answer.recorded.granted, answer.simulated[0].granted, 5);
    assert_eq!(answer.changed[0].timed_out, 0);
}

#[test]
fn a_pool_that_is_down_at_the_beginning_is_down_again() {
    let text = OUTAGE.replace("min_size: 4", "demand_probe_interval: 0s, min_size: 4");
    let scenario = scenario(&text);
    // Between the last attempt that failed and the first that succeeded.
    let whole = extract(&history_of(&scenario));
    let (earliest, latest) = whole.outages[0].until;
    let history = history(&scenario, earliest + (latest - earliest) / 10);
    let extract = extract(&history);
    let [outage] = &extract.outages[..] else { panic!("{:?}", extract.outages) };
    assert_eq!((outage.from, outage.until.1), (history.begins(), latest));
    let answer = ask(&history, &["demand_probe_interval=1s"]);
    assert!(answer.recorded.unavailable > 20 && answer.simulated[0].unavailable > 20, "{answer}");
    assert!(answer.changed[0].unavailable > 10, "{answer}");
    assert_eq!(answer.changed[0].requests, answer.recorded.requests);
}

/// A pool of two hosts, told by hand: the second is a standby, and takes over at the end.
#[test]
fn several_hosts_are_one_that_fails_while_all_fail() {
    let config = PoolConfig::builder().hosts(2).min_size(1).max_size(2).build().expect("valid");
    let mut machine = Machine::new(&config, 1, Instant::ZERO);
    let before = machine.clone();
    let (mut steps, mut actions) = (Vec::new(), Vec::new());
    let mut told = vec![(Instant::ZERO, Event::Start { lazy: true })];
    let (down, over) = (Instant::from_secs(10), Instant::from_secs(20));
    while let Some((at, event)) = told.pop() {
        machine.handle(at, event.clone(), &mut actions);
        let mut next = None;
        for action in &actions {
            let Action::Connect { conn, host, .. } = *action else { continue };
            let answered = at + 5 * MS;
            let refused = |class| Event::ConnectFailed { conn, fault: Box::new(Fault::plain(class, "no")) };
            let answer = match host.0 {
                0 if answered < down => Event::Connected { conn, facts: ServerFacts::default() },
                0 => refused(FaultClass::Transient),
                _ if answered < over => refused(FaultClass::WrongRole),
                _ => Event::Connected { conn, facts: ServerFacts::default() },
            };
            next = Some((answered, answer));
        }
        steps.push(Step { at, event, actions: std::mem::take(&mut actions) });
        let dies = steps.len() == 2;
        let timer = machine.deadline().map(|(at, _)| (at, Event::Tick));
        if dies {
            let conn = ConnId { slot: 0, generation: 1 };
            let fault = Box::new(Fault::plain(FaultClass::Transient, "the end of the stream"));
            told.push((down, Event::Lost { conn, fault }));
        } else if let Some(next) = next.or(timer).filter(|(at, _)| *at < Instant::from_secs(40)) {
            told.push(next);
        }
    }
    let history = History::new(&config, &before, steps);
    let extract = extract(&history);
    let [outage] = &extract.outages[..] else { panic!("{:?}", extract.outages) };
    near("begin", outage.from - Instant::ZERO, Duration::from_secs(10), 10 * MS);
    assert!(outage.until.0 < over && outage.until.1 >= over.saturating_sub(5 * MS), "{outage:?}");
    let answer = ask(&history, &["backoff_max=2s"]);
    assert!(answer.to_string().contains("the pool had 2 hosts"), "{answer}");
}

#[test]
fn an_answer_that_comes_too_late_is_none() {
    let config = PoolConfig::builder().min_size(1).connect_timeout(Duration::from_secs(2)).build().expect("valid");
    let mut machine = Machine::new(&config, 1, Instant::ZERO);
    let before = machine.clone();
    let conn = ConnId { slot: 0, generation: 1 };
    let late = Event::ConnectFailed { conn, fault: Box::new(Fault::plain(FaultClass::Permanent, "too late")) };
    let told = [(0, Event::Start { lazy: true }), (2, Event::Tick), (3, late), (4, Event::Tick)];
    let steps = told.map(|(at, event)| {
        let (at, mut actions) = (Instant::from_secs(at), Vec::new());
        machine.handle(at, event.clone(), &mut actions);
        Step { at, event, actions }
    });
    let history = History::new(&config, &before, steps.into());
    let extract = extract(&history);
    let [outage] = &extract.outages[..] else { panic!("{:?}", extract.outages) };
    assert!(matches!(outage.trouble, extract::Trouble::Silent), "{outage:?}");
    assert_eq!((outage.from, outage.until), (Instant::ZERO, (Instant::from_secs(2), Instant::MAX)));
    assert_eq!(Meter::of(&history, &[]).attempts_failed, 1);
}

#[test]
fn silence_a_full_server_and_single_deaths_are_told_apart() {
    let text = "
name: troubles
duration: 120s
pool: {min_size: 4, max_size: 12, connect_timeout: 2s, validation_timeout: 1s, max_idle_time: 3s}
workload:
  - {every: {exponential: 30ms}, hold: {exponential: 20ms}, command_timeout: 3s}
  - {every: {exponential: 20ms}, from: 60s, until: 80s, hold: 300ms, broken: 0.01}
timeline:
  - {at: 20s, silence: {for: 10s}}
  - {at: 50s, max_connections: 6}
  - {at: 90s, kill: {share: 0.3}}
expect: {}
";
    let scenario = scenario(text);
    let (history, extract) = whole(&scenario);
    let silent = |outage: &&extract::Outage| matches!(outage.trouble, extract::Trouble::Silent);
    let silences: Vec<_> = extract.outages.iter().filter(silent).collect();
    let [silence] = &silences[..] else { panic!("{:?}", extract.outages) };
    near("begin", silence.from - Instant::ZERO, Duration::from_secs(20), Duration::from_secs(2));
    let (earliest, latest) = silence.until;
    assert!(earliest <= Instant::from_secs(30) && latest >= Instant::from_secs(30), "{earliest:?} to {latest:?}");
    assert_eq!(extract.limits.first().and_then(|limit| limit.sessions), Some(6), "{:?}", extract.limits);
    assert!(extract.limits[0].at >= Instant::from_secs(60));
    // Callers that broke their own connections did not make it an event of the server.
    let kills: Vec<_> = extract.deaths.iter().filter(|deaths| deaths.at > Instant::from_secs(55)).collect();
    assert!(kills.iter().all(|deaths| deaths.at >= Instant::from_secs(90)), "{kills:?}");
    let broken = extract.requests.iter().filter(|request| request.fate == pgweir_core::pool::Fate::Broken).count();
    assert!(broken >= 3, "{broken}");
    let answer = ask(&history, &["max_size=5"]);
    assert_eq!(answer.off().count(), 0, "{answer}");
    assert_eq!(answer.changed[0].peak_open, 5);
    // What the server cannot keep is an answer, not a failure.
    let hasty = ask(&history, &["connect_timeout=1ms", "validation_timeout=100us", "close_timeout=100us"]);
    assert!(hasty.changed[0].opened < 5 && hasty.changed[0].granted < hasty.recorded.granted / 2, "{hasty}");
}

#[test]
fn what_was_done_to_the_pool_is_done_again() {
    let text = "
name: operations
duration: 30s
pool: {min_size: 2, max_size: 6}
workload: [{every: {exponential: 20ms}, hold: {exponential: 30ms}}]
timeline:
  - {at: 5s, resize: {min_size: 1, max_size: 3}}
  - {at: 10s, pause: {for: 500ms}}
  - {at: 15s, recycle: {}}
  - {at: 25s, shutdown: {within: 2s}}
expect: {}
";
    let (history, extract) = whole(&scenario(text));
    use extract::Operation::{Pause, Recycle, Resize, Shutdown};
    let at = Instant::from_secs;
    let done = [
        (at(5), Resize { min_size: 1, max_size: 3 }),
        (at(10), Pause(500 * MS)),
        (at(15), Recycle),
        (at(25), Shutdown(Duration::from_secs(2))),
    ];
    assert_eq!(extract.operations, done);
    let answer = ask(&history, &["max_size=8"]);
    assert_eq!(answer.off().count(), 0, "{answer}");
    assert!(answer.recorded.closed > 100 && answer.recorded.closed == answer.simulated[0].closed, "{answer}");
    assert!(answer.to_string().contains("the pool was resized"), "{answer}");
}

/// What the documentation says of loops: a faster pool would have been asked for more.
#[test]
fn callers_that_wait_before_they_ask_again_are_not_modelled() {
    let text = "
name: a closed loop
duration: 10s
pool: {max_size: 4}
workload: [{clients: 20, think: {exponential: 20ms}, hold: {exponential: 10ms}}]
expect: {}
";
    let scenario = scenario(text);
    let (said, is) = (ask(&history_of(&scenario), &["max_size=8"]), truth(&scenario, &["max_size=8"], &[]));
    assert_eq!(said.off().count(), 0, "{said}");
    assert_eq!(said.changed[0].requests, said.recorded.requests);
    assert!(is.requests > said.recorded.requests * 3 / 2, "{} and {}", is.requests, said.recorded.requests);
    assert!(said.changed[0].waits.percentile(99.0) < is.waits.percentile(99.0));
}

#[test]
fn the_same_seed_gives_the_same_answer() {
    let (history, _) = whole(&scenario(BURST));
    let config = set(history.config(), &["max_size=5"]);
    let ask = |seed, seeds| {
        let options = Options { seed, seeds, ..Options::default() };
        what_if(&history, &config, &options).unwrap_or_else(|failure| panic!("{failure}"))
    };
    assert_eq!(ask(7, 1).to_string(), ask(7, 1).to_string());
    let several = ask(7, 3);
    assert_eq!((several.simulated.len(), several.changed.len()), (3, 3));
    assert_eq!(several.changed[0].timed_out, ask(7, 1).changed[0].timed_out);
    assert_eq!(several.changed[2].granted, ask(9, 1).changed[0].granted);
}

#[test]
fn load_is_scaled_in_the_changed_run_only() {
    let (history, _) = whole(&scenario(BURST));
    let ask = |load| {
        let options = Options { load, ..Options::default() };
        what_if(&history, history.config(), &options).unwrap_or_else(|failure| panic!("{failure}"))
    };
    let requests = history.steps().iter().filter(|step| matches!(step.event, Event::Acquire { .. })).count() as u64;
    for load in [0.25, 1.5, 3.0] {
        let answer = ask(load);
        assert_eq!(answer.simulated[0].requests, requests);
        let wanted = (requests as f64 * load) as u64;
        close("requests", answer.changed[0].requests, wanted, wanted / 10);
    }
    assert!(ask(1.0).changed.is_empty());
    assert_eq!(ask(0.0).changed[0].requests, 0);
}

#[test]
fn an_empty_history_has_an_answer() {
    let config = PoolConfig::default();
    let history = History::new(&config, &Machine::new(&config, 1, Instant::ZERO), Vec::new());
    let answer = ask(&history, &["max_size=3"]);
    assert_eq!((answer.recorded.requests, answer.changed[0].requests), (0, 0));
}
