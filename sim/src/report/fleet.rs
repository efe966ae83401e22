//! Fleets, one beside the other: a table with a row for each, and figures with a line for each.

use std::fmt;
use std::time::Duration;

use super::lines::{COLUMNS, Paint, fold, paint, sparkline, table};
use super::page::{Cell, Figure, Ink, Layer, Mark, Scale, Section, Series, Table};
use crate::fleet::{FleetOutcome, FleetSpec, OutageKind, Sample};
use crate::scenario::show;

/// Lines of a figure, at most: there are no more colours.
const MOST_LINES: usize = Ink::ALL.len();

/// What a column of the table is called, what it means, and what it shows.
type Column = (&'static str, &'static str, fn(&FleetOutcome) -> String);

const COLUMNS_SHOWN: [Column; 15] = [
    ("first", "from the outage's end until the first instance served a caller", |run| within(run.served_within(0.0))),
    ("50 %", "until half of the instances had min_size connections again and served callers", |run| {
        within(run.back_within(50.0))
    }),
    ("99 %", "until 99 % of them did", |run| within(run.back_within(99.0))),
    ("all", "until all of them did", |run| within(run.back_within(100.0))),
    ("connects", "connects that all instances began, from the outage's beginning on", |run| count(run.connects())),
    ("in vain", "those of them that began while the server was away", |run| count(run.connects_in_vain())),
    ("peak/100ms", "most connects that began in a tenth of a second", |run| count(run.peak_connects().into())),
    ("refused", "connects refused by the operating system or the server", |run| count(run.refused())),
    ("overflow", "connects that found the accept backlog full", |run| count(run.overflowed())),
    ("queue", "most connections waiting for their login at once", |run| count(run.queue_peak().into())),
    ("p99 wait", "how long 99 % of them waited at most", |run| show(run.queue_waits().percentile(99.0))),
    ("abandoned", "logins worked on for a client that had given up", |run| count(run.wasted_logins())),
    ("login CPU", "CPU time that the server spent on logins and refusals", |run| seconds(run.login_work())),
    ("wasted", "the part of it that nobody had anything of", |run| seconds(run.wasted_work())),
    ("errors", "callers who got an error", |run| count(run.tally().errors())),
];

fn within(time: Option<Duration>) -> String {
    time.map_or("never".to_owned(), show)
}

fn seconds(time: Duration) -> String {
    format!("{:.1}s", time.as_secs_f64())
}

/// Thousands apart.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A row for each fleet, with what it is called.
pub fn fleet_table(caption: &str, runs: &[(String, FleetOutcome)]) -> Table {
    let head = ["setting"].into_iter().chain(COLUMNS_SHOWN.map(|(name, ..)| name)).map(str::to_owned).collect();
    let row = |(name, run): &(String, FleetOutcome)| {
        let cells = COLUMNS_SHOWN.iter().map(|(_, _, value)| Cell::number(value(run)));
        [Cell::text(name.clone())].into_iter().chain(cells).collect()
    };
    Table { caption: caption.to_owned(), head, rows: runs.iter().map(row).collect() }
}

/// Fleets as a section of a page.
pub fn fleet_section(title: &str, spec: &FleetSpec, runs: &[(String, FleetOutcome)]) -> Section {
    let meaning = |(name, meaning, _): &Column| vec![Cell::text(*name), Cell::text(*meaning)];
    let digest = |(name, run): &(String, FleetOutcome)| {
        vec![
            Cell::text(name.clone()),
            Cell::number(run.seed()),
            Cell::number(run.digest()),
            Cell::number(count(run.events())),
        ]
    };
    Section {
        title: title.to_owned(),
        about: about(spec),
        tables: vec![fleet_table("Settings", runs)],
        marks: runs.first().map(|(_, run)| marks(spec, run)).unwrap_or_default(),
        figures: figures(runs),
        details: vec![
            Table {
                caption: "What the columns mean".to_owned(),
                head: ["Column", "Meaning"].map(str::to_owned).into(),
                rows: COLUMNS_SHOWN.iter().map(meaning).collect(),
            },
            Table {
                caption: "Runs".to_owned(),
                head: ["Setting", "Seed", "Digest", "Events"].map(str::to_owned).into(),
                rows: runs.iter().map(digest).collect(),
            },
        ],
        ..Section::default()
    }
}

/// A fleet in words.
pub(crate) fn about(spec: &FleetSpec) -> String {
    let kind = match spec.kind {
        OutageKind::Refused => "a crash, connects are refused",
        OutageKind::Starting => "a crash, connects are answered \"starting up\"",
        OutageKind::BlackHole => "a black hole",
    };
    let server = &spec.server;
    format!(
        "{} instances with {} to {} connections each, {} acquires a second and instance, each held for {} on average. \
         The outage lasts {}: {kind}. A login costs the server {}, and it works on {} at once; {} more may wait. It \
         allows {} sessions.",
        count(spec.instances.into()),
        spec.pool.min_size(),
        spec.pool.max_size(),
        spec.rate,
        show(spec.hold),
        show(spec.outage),
        show(server.login_cost),
        server.logins_at_once,
        count(server.backlog.into()),
        count(spec.max_connections().into()),
    )
}

fn marks(spec: &FleetSpec, run: &FleetOutcome) -> Vec<Mark> {
    let mark =
        |at: pgweir_core::time::Instant, letter, text: String| Mark { at: at.as_nanos() as f64 / 1e9, letter, text };
    let (began, ended) = run.outage();
    vec![
        mark(began, 'a', format!("the outage begins ({})", show(spec.outage))),
        mark(ended, 'b', "the outage ends".to_owned()),
    ]
}

/// From shortly before the outage to the end, in seconds.
fn span(run: &FleetOutcome) -> (f64, f64) {
    let from = (run.outage().0.as_nanos() as f64 / 1e9 - 5.0).max(0.0);
    (from, run.lasted().as_secs_f64().max(from + 1.0))
}

fn shown(run: &FleetOutcome) -> Vec<Sample> {
    let (from, _) = span(run);
    run.samples().iter().filter(|sample| sample.at.as_nanos() as f64 / 1e9 >= from).copied().collect()
}

fn figures(runs: &[(String, FleetOutcome)]) -> Vec<Figure> {
    let spans = runs.iter().map(|(_, run)| span(run));
    let span = spans.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1))).unwrap_or((0.0, 1.0));
    let figure = |title: &str, about: &str, unit: &str, value: fn(&Sample) -> u32| Figure {
        title: title.to_owned(),
        about: about.to_owned(),
        unit: unit.to_owned(),
        span,
        scale: Scale::Linear,
        layer: Layer::Steps(
            runs.iter()
                .take(MOST_LINES)
                .zip(Ink::ALL)
                .map(|((name, run), ink)| series(name, ink, run, value))
                .collect(),
        ),
        limit: None,
    };
    vec![
        figure(
            "Instances back",
            "Instances that have min_size connections again and have served a caller since the outage ended.",
            "instances",
            |sample| sample.back,
        ),
        figure(
            "Unhealthy instances",
            "Instances that say of themselves that no connection can be had.",
            "instances",
            |sample| sample.unhealthy,
        ),
        figure(
            "Connects",
            "Connects that all instances began in a tenth of a second.",
            "connects per 100 ms",
            |sample| sample.connects,
        ),
        figure("Login queue", "Connections that waited at the server for their login.", "connections", |sample| {
            sample.queued
        }),
        figure("Sessions", "Sessions at the server.", "sessions", |sample| sample.sessions),
        figure("Errors", "Callers who got an error in a tenth of a second.", "errors per 100 ms", |sample| {
            sample.errors
        }),
    ]
}

fn series(name: &str, ink: Ink, run: &FleetOutcome, value: fn(&Sample) -> u32) -> Series {
    // A sample is of the time before it.
    let point = |sample: &Sample| (sample.at.as_nanos() as f64 / 1e9 - 0.1, f64::from(value(sample)));
    Series { name: name.to_owned(), ink, points: shown(run).iter().map(point).collect() }
}

/// Fleets for a terminal; shown with `{}`.
#[derive(Clone, Copy, Debug)]
pub struct FleetReport<'a> {
    spec: &'a FleetSpec,
    runs: &'a [(String, FleetOutcome)],
    coloured: bool,
    brief: bool,
}

impl<'a> FleetReport<'a> {
    /// Of `runs`, each with what it is called; `spec` is what they have in common.
    pub fn new(spec: &'a FleetSpec, runs: &'a [(String, FleetOutcome)]) -> Self {
        FleetReport { spec, runs, coloured: false, brief: false }
    }

    /// The same in colours, for a terminal.
    #[must_use]
    pub fn coloured(self, coloured: bool) -> Self {
        FleetReport { coloured, ..self }
    }

    /// The table only.
    #[must_use]
    pub fn brief(self, brief: bool) -> Self {
        FleetReport { brief, ..self }
    }
}

impl fmt::Display for FleetReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", about(self.spec))?;
        table(f, &fleet_table("", self.runs), self.coloured)?;
        if self.brief { Ok(()) } else { pictures(f, self.runs, self.coloured) }
    }
}

/// What a line of bars is called, its colour, and what it shows.
type Line = (&'static str, Paint, fn(&Sample) -> u32);

/// A fleet's run over time, in lines of bars.
fn pictures(text: &mut impl fmt::Write, runs: &[(String, FleetOutcome)], coloured: bool) -> fmt::Result {
    let lines: [Line; 4] = [
        ("connects", Paint::Yellow, |sample| sample.connects),
        ("login queue", Paint::Red, |sample| sample.queued),
        ("sessions", Paint::Green, |sample| sample.sessions),
        ("unhealthy", Paint::Red, |sample| sample.unhealthy),
    ];
    for (name, run) in runs {
        let samples = shown(run);
        let (from, to) = span(run);
        let width = (to - from) / COLUMNS as f64;
        writeln!(
            text,
            "\n  {name}: {from:.0} s to {to:.0} s, each character {}",
            show(Duration::from_secs_f64(width))
        )?;
        for (what, colour, value) in lines {
            let values = fold(samples.iter().map(value), samples.len());
            let most = values.iter().copied().max().unwrap_or(0);
            let bars = paint(coloured, colour, &sparkline(&values, most));
            writeln!(text, "    {what:>11} {bars} {} at most", count(most.into()))?;
        }
        let mut marks = [' '; COLUMNS];
        for (at, letter) in [(run.outage().0, 'a'), (run.outage().1, 'b')] {
            let column = ((at.as_nanos() as f64 / 1e9 - from) / width) as usize;
            marks[column.min(COLUMNS - 1)] = letter;
        }
        writeln!(text, "                {}", marks.iter().collect::<String>().trim_end())?;
    }
    writeln!(text, "\n    a the outage begins, b it ends\n")?;
    for (name, meaning, _) in COLUMNS_SHOWN {
        writeln!(text, "    {name:<11} {}", paint(coloured, Paint::Dim, meaning))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        let all = [0, 7, 999, 1_000, 65_536, 1_234_567];
        assert_eq!(all.map(count), ["0", "7", "999", "1,000", "65,536", "1,234,567"]);
    }
}
