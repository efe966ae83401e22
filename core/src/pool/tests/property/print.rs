//! Prints what a run told the machine as a test to paste.

use std::fmt::Write;
use std::time::Duration;

use super::guarantee::Broken;
use super::plan::Settings;
use crate::pool::{ConnId, Event, Fault};
use crate::time::Instant;

/// A complete test function: paste it into any file of `core/src/pool/tests`.
pub(super) fn print(settings: &Settings, seed: u64, told: &[(Instant, Event)], broken: &Broken) -> String {
    let mut text = String::new();
    let name = snake_case(&format!("{:?}", broken.guarantee));
    let _ = writeln!(text, "#[test]\nfn {name}_held_not() {{");
    let _ = writeln!(text, "    use crate::pool::tests::property::paste::*;");
    let _ = writeln!(text, "    let config = {};", config(settings));
    let _ = writeln!(text, "    let mut case = Case::new(&config, {seed});");
    for (at, event) in told {
        let _ = writeln!(text, "    case.tell({}, {});", moment(*at), constructor(event));
    }
    text.push_str("}\n");
    text
}

/// What is printed above it: why it is there.
pub(super) fn heading(broken: &Broken) -> String {
    let what: Vec<&str> = broken.what.lines().collect();
    format!("// {:?}: {}\n", broken.guarantee, what.join(" "))
}

fn config(settings: &Settings) -> String {
    let fields = settings.source();
    let line = format!("PoolConfig {{ {}, ..PoolConfig::default() }}", fields.join(", "));
    // As rustfmt does it.
    if "    let config = ;".len() + line.len() <= 120 {
        return line;
    }
    let fields: String = fields.iter().map(|field| format!("        {field},\n")).collect();
    format!("PoolConfig {{\n{fields}        ..PoolConfig::default()\n    }}")
}

fn moment(at: Instant) -> String {
    let nanos = at.as_nanos();
    match nanos % 1_000_000 {
        0 => format!("at({})", nanos / 1_000_000),
        _ => format!("at_nanos({nanos})"),
    }
}

fn constructor(event: &Event) -> String {
    match event {
        Event::Start { lazy } => format!("Event::Start {{ lazy: {lazy} }}"),
        Event::Acquire { waiter, deadline, leak_after: None, .. } => {
            format!("acquire({}, {})", waiter.0, moment(*deadline))
        }
        Event::Acquire { waiter, deadline, leak_after: Some(leak_after), .. } => {
            format!("acquire_watched({}, {}, {})", waiter.0, moment(*deadline), duration(*leak_after))
        }
        Event::Cancel { waiter } => format!("Event::Cancel {{ waiter: WaiterId({}) }}", waiter.0),
        Event::Release { conn, fate, queries, .. } => format!("release({}, Fate::{fate:?}, {queries})", id(*conn)),
        Event::CheckFailed { conn, fault } => failed("check_failed", *conn, fault),
        Event::Connected { conn, .. } => format!("connected({})", id(*conn)),
        Event::ConnectFailed { conn, fault } => failed("connect_failed", *conn, fault),
        Event::Validated { conn } => format!("Event::Validated {{ conn: {} }}", id(*conn)),
        Event::ValidationFailed { conn, fault } => failed("validation_failed", *conn, fault),
        Event::Reset { conn } => format!("Event::Reset {{ conn: {} }}", id(*conn)),
        Event::ResetFailed { conn, fault } => failed("reset_failed", *conn, fault),
        Event::Touched { conn } => format!("Event::Touched {{ conn: {} }}", id(*conn)),
        Event::Lost { conn, fault } => failed("lost", *conn, fault),
        Event::Closed { conn } => format!("Event::Closed {{ conn: {} }}", id(*conn)),
        Event::Tick => "Event::Tick".to_owned(),
        Event::Resize { min_size, max_size } => {
            format!("Event::Resize {{ min_size: {min_size}, max_size: {max_size} }}")
        }
        Event::Pause => "Event::Pause".to_owned(),
        Event::Resume => "Event::Resume".to_owned(),
        Event::Recycle => "Event::Recycle".to_owned(),
        Event::Shutdown { deadline } => format!("Event::Shutdown {{ deadline: {} }}", moment(*deadline)),
    }
}

fn failed(what: &str, conn: ConnId, fault: &Fault) -> String {
    format!("{what}({}, FaultClass::{:?})", id(conn), fault.class)
}

fn id(conn: ConnId) -> String {
    format!("conn({}, {})", conn.slot, conn.generation)
}

fn duration(duration: Duration) -> String {
    if duration == Duration::MAX { "Duration::MAX".to_owned() } else { format!("ms({})", duration.as_millis()) }
}

fn snake_case(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::super::rig::{ms, secs};
    use super::super::guarantee::Guarantee;
    use super::super::plan::{Plan, Settings, Step};
    use super::super::world::World;
    use super::*;
    use crate::pool::Fate;

    /// A grant that nobody saw must not refresh the idle clock: the plan that once showed that nothing noticed.
    fn plan() -> Plan {
        let acquire = Step::Acquire { wait: secs(30), leak_after: None };
        let release = |fate, queries| Step::Release { nth: 0, fate, queries };
        let steps = vec![
            acquire,
            Step::Connect { nth: 0, fault: None },
            release(Fate::Clean, 1),
            Step::Pass { time: ms(400) },
            acquire,
            release(Fate::Unused, 0),
            Step::Pass { time: ms(300) },
            acquire,
        ];
        Plan { settings: Settings::simplest(), seed: 0, lazy: true, steps }
    }

    /// `printed.rs` is compiled and run like every other test, so what is printed compiles.
    #[test]
    fn what_is_printed_is_a_test() {
        let plan = plan();
        let mut world = World::new(&plan.settings.config(), plan.seed, None);
        world.begin(&plan).expect("every guarantee holds");
        let broken =
            Broken { guarantee: Guarantee::Sound, what: "0.1 is lent and was proved at 5.000000000s".to_owned() };
        let printed = heading(&broken) + &print(&plan.settings, plan.seed, &world.told, &broken);
        let kept = include_str!("printed.rs");
        assert!(kept.ends_with(&printed), "printed.rs does not have what is printed now:\n{printed}");
    }

    #[test]
    fn long_settings_are_printed_as_rustfmt_likes_them() {
        let text = config(&Settings::most_different());
        assert!(text.lines().count() > 10 && text.lines().all(|line| line.len() <= 120), "{text}");
    }
}
