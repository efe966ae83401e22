//! A scenario's run as a section of a page.

use pgweir_core::pool::State;
use pgweir_core::time::Instant;

use super::lines::moment;
use super::page::{Band, Cell, Figure, Ink, Layer, Limit, Mark, Scale, Section, Series, Table, Tone};
use crate::chart::{PARTS, Part};
use crate::record::Record;
use crate::run::{Failure, Outcome};
use crate::scenario::{Scenario, What, show};

/// Rows of a table of details, at most.
const MOST_ROWS: usize = 200;

/// A run of `scenario` as a section of a page.
pub fn scenario_section(scenario: &Scenario, outcome: &Outcome) -> Section {
    let record = &outcome.record;
    let passed = outcome.passed();
    Section {
        title: outcome.name.clone(),
        about: scenario.about.clone(),
        verdict: Some((passed, if passed { "passed" } else { "FAILED" }.to_owned())),
        facts: facts(scenario, outcome),
        tables: vec![expectations(outcome), requests(record)],
        marks: marks(scenario, record),
        figures: figures(scenario, record),
        details: vec![states(record)],
    }
}

/// A run that ended early, as a section of a page. `about` says for people what it was.
pub fn failure_section(about: &str, failure: &Failure) -> Section {
    Section {
        title: failure.name.clone(),
        about: about.to_owned(),
        verdict: Some((false, "FAILED".to_owned())),
        facts: vec![
            ("Seed".to_owned(), failure.seed.to_string()),
            ("Failed at".to_owned(), moment(failure.at)),
            ("Guarantee".to_owned(), failure.violation.guarantee.to_owned()),
            ("Seen".to_owned(), failure.violation.detail.clone()),
        ],
        details: vec![Table {
            caption: "The last steps".to_owned(),
            head: vec!["Step".to_owned()],
            rows: failure.last.iter().map(|line| vec![Cell::text(line.clone())]).collect(),
        }],
        ..Section::default()
    }
}

fn facts(scenario: &Scenario, outcome: &Outcome) -> Vec<(String, String)> {
    let record = &outcome.record;
    let waits = &record.waits;
    [
        ("Seed", outcome.seed.to_string()),
        ("Digest", outcome.digest.to_string()),
        ("Virtual time", show(scenario.duration)),
        ("Pool", format!("{} to {} connections", scenario.pool.min_size(), scenario.pool.max_size())),
        ("Waits, half below", show(waits.percentile(50.0))),
        ("Waits, 99 % below", show(waits.percentile(99.0))),
        ("Longest wait", show(waits.max())),
        ("Connections opened", record.opened.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn names<const N: usize>(names: [&str; N]) -> Vec<String> {
    names.map(str::to_owned).into()
}

fn expectations(outcome: &Outcome) -> Table {
    let row = |finding: &crate::expect::Finding| {
        let (word, tone) = if finding.holds { ("holds", Tone::Good) } else { ("does not hold", Tone::Bad) };
        let texts = [&finding.key, &finding.expected, &finding.seen].map(|text| Cell::text(text.clone()));
        [Cell::text(word).toned(tone)].into_iter().chain(texts).collect()
    };
    Table {
        caption: "Expectations".to_owned(),
        head: names(["Result", "What", "Expected", "Seen"]),
        rows: outcome.findings.iter().map(row).collect(),
    }
}

fn requests(record: &Record) -> Table {
    let tally = &record.tally;
    let rows = tally.named().into_iter().filter(|(name, count)| *count > 0 || *name == "started");
    let share = |count: u64| format!("{:.2} %", count as f64 * 100.0 / tally.started.max(1) as f64);
    Table {
        caption: "Requests by outcome".to_owned(),
        head: names(["Outcome", "Count", "Share"]),
        rows: rows
            .map(|(name, count)| vec![Cell::text(name), Cell::number(count), Cell::number(share(count))])
            .collect(),
    }
}

fn states(record: &Record) -> Table {
    let row = |(at, state, reason): &(Instant, State, String)| {
        vec![Cell::number(moment(*at)), Cell::text(state_name(*state)), Cell::text(reason.clone())]
    };
    let more = record.states.len().saturating_sub(MOST_ROWS);
    let caption = if more > 0 { format!("States (and {more} more)") } else { "States".to_owned() };
    Table {
        caption,
        head: names(["At", "State", "Because"]),
        rows: record.states.iter().take(MOST_ROWS).map(row).collect(),
    }
}

/// The steps of the timeline, and when the server could be used again.
fn marks(scenario: &Scenario, record: &Record) -> Vec<Mark> {
    let steps = scenario.timeline.iter().map(|step| (step.at.as_secs_f64(), spell(&step.what)));
    let backs = record.outages.iter().filter_map(|outage| outage.back).map(|at| (seconds(at), BACK.to_owned()));
    let end = scenario.duration.as_secs_f64();
    let mut all: Vec<(f64, String)> = steps.chain(backs).filter(|(at, _)| *at <= end).collect();
    all.sort_by(|one, other| one.0.total_cmp(&other.0));
    let letters = ('a'..='z').chain('A'..='Z').cycle();
    all.into_iter().zip(letters).map(|((at, text), letter)| Mark { at, letter, text }).collect()
}

const BACK: &str = "the server can be used again";

/// `Crash(Crash { down: 1s })` as people write it: `crash: down 1s`.
fn spell(what: &What) -> String {
    let text = format!("{what:?}");
    let (name, rest) = text.split_once(['(', ' ']).unwrap_or((&text, ""));
    let fields = rest.trim_start_matches(name).trim_matches(['(', ')', ' ', '{', '}']);
    let fields: Vec<String> = fields.split(", ").map(|field| field.replacen(':', "", 1)).collect();
    let name = name.to_lowercase();
    if rest.is_empty() { name } else { format!("{name}: {}", fields.join(", ")) }
}

fn seconds(at: Instant) -> f64 {
    (at - Instant::ZERO).as_secs_f64()
}

fn figures(scenario: &Scenario, record: &Record) -> Vec<Figure> {
    let figure = |title: &str, about: &str, unit: &str, scale: Scale, layer: Layer| Figure {
        title: title.to_owned(),
        about: about.to_owned(),
        unit: unit.to_owned(),
        span: (0.0, scenario.duration.as_secs_f64()),
        scale,
        layer,
        limit: None,
    };
    let health = figure(
        "Health",
        "The state that the pool gives for itself, over time; the table of states below says why.",
        "",
        Scale::Linear,
        lanes(scenario, record),
    );
    let mut connections = figure(
        "Connections by state",
        "How many connections were in each state, on average over a short time, one state above the other.",
        "connections",
        Scale::Linear,
        connections(record),
    );
    let value = f64::from(scenario.pool.max_size());
    connections.limit = Some(Limit { name: format!("max_size {}", scenario.pool.max_size()), value });
    let waiting = figure(
        "Waiters",
        "Acquires that waited for a connection at the same time, the most within a short time.",
        "acquires",
        Scale::Linear,
        Layer::Steps(vec![over_time(record, "waiting", Ink::Purple, |part| f64::from(part.waiting()))]),
    );
    let waits = figure(
        "How long acquires waited",
        "For the acquires that got a connection within a short time: the wait that half of them did not exceed, and the longest. The scale is logarithmic; no wait at all stands at its bottom.",
        "wait",
        Scale::LogSeconds,
        waits(record),
    );
    let attempts = figure(
        "Connect attempts",
        "Each attempt to open a connection: when it began, and how long it took to succeed or fail.",
        "took",
        Scale::LogSeconds,
        attempts(record),
    );
    vec![health, connections, waiting, waits, attempts]
}

fn over_time(record: &Record, name: &str, ink: Ink, value: impl Fn(&Part) -> f64) -> Series {
    let width = record.chart.width().as_secs_f64();
    let points = record.chart.parts().iter().enumerate().map(|(index, part)| (index as f64 * width, value(part)));
    Series { name: name.to_owned(), ink, points: points.collect() }
}

fn connections(record: &Record) -> Layer {
    Layer::Stack(vec![
        over_time(record, "active", Ink::Blue, |part| part.shares().active),
        over_time(record, "idle", Ink::Sky, |part| part.shares().idle),
        over_time(record, "validating", Ink::Green, |part| part.shares().validating),
        over_time(record, "resetting", Ink::Purple, |part| part.shares().resetting),
        over_time(record, "connecting", Ink::Orange, |part| part.shares().connecting),
        over_time(record, "closing", Ink::Grey, |part| part.shares().closing),
    ])
}

fn waits(record: &Record) -> Layer {
    let width = record.chart.width().as_secs_f64();
    let parts = || record.chart.parts().iter().enumerate();
    let middle = |index: usize| (index as f64 + 0.5) * width;
    let median = parts().filter_map(|(index, part)| Some((middle(index), part.median_wait()?.as_secs_f64())));
    let longest = parts()
        .filter(|(_, part)| part.median_wait().is_some())
        .map(|(index, part)| (middle(index), part.longest_wait().as_secs_f64()));
    Layer::Points(vec![
        Series { name: "half waited no longer".to_owned(), ink: Ink::Blue, points: median.collect() },
        Series { name: "the longest".to_owned(), ink: Ink::Red, points: longest.collect() },
    ])
}

fn attempts(record: &Record) -> Layer {
    let end = (record.chart.width() * PARTS as u32).as_secs_f64();
    let those = |failed: bool| {
        let wanted = move |attempt: &&crate::record::Attempt| {
            attempt.fault.is_some() == failed && attempt.ended.is_some() && seconds(attempt.at) <= end
        };
        let point = |attempt: &crate::record::Attempt| {
            (seconds(attempt.at), (attempt.ended.unwrap_or(attempt.at) - attempt.at).as_secs_f64())
        };
        record.attempts.iter().filter(wanted).map(point).collect::<Vec<_>>()
    };
    let (succeeded, failed) = (those(false), those(true));
    Layer::Points(vec![
        Series { name: format!("connected ({})", succeeded.len()), ink: Ink::Green, points: succeeded },
        Series { name: format!("failed ({})", failed.len()), ink: Ink::Red, points: failed },
    ])
}

/// The lanes of the health band, the best first.
const LANES: [(State, Ink); 7] = [
    (State::Initializing, Ink::Grey),
    (State::Healthy, Ink::Green),
    (State::Degraded, Ink::Orange),
    (State::Recovering, Ink::Blue),
    (State::Unhealthy, Ink::Red),
    (State::ShuttingDown, Ink::Purple),
    (State::Terminated, Ink::Grey),
];

fn state_name(state: State) -> &'static str {
    match state {
        State::Initializing => "initializing",
        State::Healthy => "healthy",
        State::Degraded => "degraded",
        State::Unhealthy => "unhealthy",
        State::Recovering => "recovering",
        State::ShuttingDown => "shutting down",
        State::Terminated => "terminated",
    }
}

fn lanes(scenario: &Scenario, record: &Record) -> Layer {
    let end = scenario.duration.as_secs_f64();
    let within = record.states.iter().filter(|(at, ..)| seconds(*at) < end);
    let mut times: Vec<(State, f64)> = vec![(State::Initializing, 0.0)];
    times.extend(within.map(|(at, state, _)| (*state, seconds(*at))));
    let used: Vec<(State, Ink)> =
        LANES.into_iter().filter(|(state, _)| times.iter().any(|(seen, _)| seen == state)).collect();
    let bands = times.iter().enumerate().map(|(index, (state, from))| Band {
        lane: used.iter().position(|(used, _)| used == state).unwrap_or(0),
        from: *from,
        to: times.get(index + 1).map_or(end, |next| next.1),
    });
    let bands = bands.collect();
    Layer::Lanes(used.iter().map(|(state, ink)| (state_name(*state).to_owned(), *ink)).collect(), bands)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Page;

    #[test]
    fn steps_are_spelt_as_people_write_them() {
        let second = std::time::Duration::from_secs(1);
        let crash = What::Crash(crate::scenario::Crash { down: second, recovering: second });
        assert_eq!(spell(&crash), "crash: down 1s, recovering 1s");
        assert_eq!(spell(&What::Silence(second)), "silence: 1s");
        assert_eq!(spell(&What::Recycle), "recycle");
    }

    #[test]
    fn a_run_becomes_a_section_with_all_that_happened() {
        let text = "
name: '<b>bold</b>'
about: one outage
duration: 20s
workload: [{clients: 4, think: 10ms, hold: 1ms}]
timeline: [{at: 5s, crash: {down: 2s, recovering: 1s}}]
expect: {answers: {timed_out: 0, broken: {at_least: 1000}}}
";
        let scenario = Scenario::from_yaml("s.yaml", text).unwrap_or_else(|bad| panic!("{bad}"));
        let outcome = crate::run::run(&scenario, 1).unwrap_or_else(|failure| panic!("{failure}"));
        let section = scenario_section(&scenario, &outcome);
        assert_eq!(section.verdict, Some((false, "FAILED".to_owned())));
        let marks: Vec<(f64, char)> = section.marks.iter().map(|mark| (mark.at, mark.letter)).collect();
        assert_eq!(marks, [(5.0, 'a'), (8.0, 'b')]);
        let Layer::Stack(series) = &section.figures[1].layer else { panic!("a stack") };
        for index in 0..PARTS {
            let sum: f64 = series.iter().filter_map(|one| one.points.get(index)).map(|point| point.1).sum();
            assert!(sum <= 10.0 + 1e-9, "{sum} connections in part {index}");
        }
        let Layer::Lanes(lanes, bands) = &section.figures[0].layer else { panic!("lanes") };
        let unhealthy = lanes.iter().position(|(name, _)| name == "unhealthy").expect("it was down");
        let down = bands.iter().find(|band| band.lane == unhealthy).expect("a band");
        assert!((5.0..5.1).contains(&down.from) && (8.0..10.0).contains(&down.to), "{down:?}");
        let page = Page { title: scenario.name.clone(), sections: vec![section] }.html();
        assert!(page.contains("&lt;b&gt;bold&lt;/b&gt;") && !page.contains("<b>bold"));
        assert!(page.contains("does not hold") && page.contains(&outcome.digest.to_string()));
    }
}
