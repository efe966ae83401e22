//! Random scenarios: whatever a server does, every guarantee holds.

use std::fmt::Write;

use pgweir_sim::run;

use crate::support::scenario;

/// A small generator: the same scenarios everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.roll(from.len() as u64) as usize]
    }
}

fn any_scenario(seed: u64) -> String {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let late = dice.pick(&["0s", "50us", "5ms"]);
    let mut text = format!("name: random {seed}\nduration: 90s\nlazy: true\ntimers_late_by: {late}\n");
    pool(&mut text, &mut dice);
    let (sessions, connect) = (3 + dice.roll(20), dice.pick(&["0s", "5ms", "100ms"]));
    writeln!(text, "server: {{max_connections: {sessions}, connect: {connect}}}").expect("a string");
    workload(&mut text, &mut dice);
    timeline(&mut text, &mut dice);
    text.push_str("expect: {}\n");
    text
}

fn pool(text: &mut String, dice: &mut Dice) {
    let max = 1 + dice.roll(8);
    let min = dice.roll(max + 1);
    writeln!(text, "pool:\n  min_size: {min}\n  max_size: {max}").expect("a string");
    for (key, values) in [
        ("acquire_timeout", &["100ms", "2s", "30s"][..]),
        ("connect_timeout", &["500ms", "5s"]),
        ("validation", &["interval", "always", "suspect"]),
        ("validation_interval", &["0s", "20ms", "500ms"]),
        ("validation_timeout", &["300ms", "5s"]),
        ("reset_timeout", &["200ms", "5s"]),
        ("reset_on_release", &["true", "false"]),
        ("max_queries", &["0", "7", "500"]),
        ("max_idle_time", &["0s", "3s", "60s"]),
        ("max_connection_lifetime", &["0s", "10s", "1h"]),
        ("leak_detection_timeout", &["0s", "50ms", "10s"]),
        ("demand_probe_interval", &["0s", "200ms", "1s"]),
        ("outage_grace", &["0s", "500ms", "2s"]),
        ("backoff_initial", &["100ms", "1s"]),
        ("max_connecting", &["1", "2", "4"]),
        ("max_waiting", &["3", "1000"]),
    ] {
        writeln!(text, "  {key}: {}", dice.pick(values)).expect("a string");
    }
}

fn workload(text: &mut String, dice: &mut Dice) {
    text.push_str("workload:\n");
    for _ in 0..1 + dice.roll(3) {
        let who = match dice.roll(2) {
            0 => format!("clients: {}, think: {{exponential: 40ms}}", 1 + dice.roll(20)),
            _ => format!("every: {{exponential: {}ms}}", 20 + dice.roll(300)),
        };
        let timeout = dice.pick(&["", ", timeout: 0s", ", timeout: 50ms"]);
        let hold = dice.pick(&["1ms", "{exponential: 20ms}", "{uniform: [0s, 300ms]}"]);
        let leaks = dice.roll(3);
        writeln!(
            text,
            "  - {{{who}{timeout}, hold: {hold}, abandon: 0.05, broken: 0.02, command_timeout: 3s, \
             cancel: {{share: 0.1, after: {{uniform: [0s, 110ms]}}}}, leaks: {{count: {leaks}, hold: 12s}}}}"
        )
        .expect("a string");
    }
}

fn timeline(text: &mut String, dice: &mut Dice) {
    text.push_str("timeline:\n  - {at: 0s, round_trip: {exponential: 2ms}}\n");
    let mut at = 0;
    loop {
        at += dice.roll(12_000);
        let time = 1 + dice.roll(4_000);
        if at + time > 80_000 {
            break;
        }
        let (some, more) = (dice.roll(9_000), dice.roll(9_000));
        let what = match dice.roll(12) {
            0 => format!("restart: {{stopping: {time}ms, down: {some}ms, starting: {more}ms}}"),
            1 => format!("crash: {{down: {some}ms, recovering: {time}ms}}"),
            2 => "kill: {share: 0.5}".to_owned(),
            3 => "kill: {}".to_owned(),
            4 => format!("silence: {{for: {time}ms}}"),
            5 => format!("refuse_logins: {{for: {time}ms}}"),
            6 => format!("max_connections: {}", 1 + some % 10),
            7 => format!("other_sessions: {}", some % 20),
            8 => format!("resize: {{min_size: {}, max_size: {}}}", some % 3, 2 + more % 9),
            9 => format!("pause: {{for: {time}ms}}"),
            10 => "recycle: {}".to_owned(),
            _ => format!("round_trip: {}", dice.pick(&["1ms", "250ms", "{exponential: 30ms}"])),
        };
        writeln!(text, "  - {{at: {at}ms, {what}}}").expect("a string");
        // None overlaps its like.
        at += time;
    }
    if dice.roll(3) == 0 {
        writeln!(text, "  - {{at: 85s, shutdown: {{within: {}ms}}}}", dice.roll(3_000)).expect("a string");
    }
}

/// How many scenarios are tried: as many as `PGWEIR_SEEDS` says, beginning with the `PGWEIR_FIRST_SEED`th.
fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first = number("PGWEIR_FIRST_SEED").unwrap_or(0);
    first..first + number("PGWEIR_SEEDS").unwrap_or(50)
}

#[test]
fn every_guarantee_holds_whatever_the_server_does() {
    for seed in seeds() {
        let text = any_scenario(seed);
        if let Err(failure) = run(&scenario(&text), seed) {
            panic!("{failure}\n{text}");
        }
    }
}
