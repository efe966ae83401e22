//! `fleet`: many pools, one server, one outage.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant as WallClock};

use clap::{Args, ValueEnum};
use pgweir_core::config::PoolConfig;
use pgweir_sim::fleet::{FleetOutcome, FleetSpec, MemberKind, OutageKind, Overflow, ServerLimits, run_fleet};
use pgweir_sim::report::{FleetReport, Page, fleet_section};
use pgweir_sim::{Setting, with_settings};

use super::{FAILED, complain, is_coloured, write_page};

/// Takes many pools and their one server through an outage: how soon are all back, and what does it cost the server?
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How many pools.
    #[arg(long, default_value_t = 2_000)]
    instances: u32,
    /// Acquires a second and instance.
    #[arg(long, default_value_t = 10.0)]
    rate: f64,
    /// How long a connection is held, on average.
    #[arg(long, default_value = "10ms", value_parser = duration)]
    hold: Duration,
    /// How long the outage lasts.
    #[arg(long, default_value = "30s", value_parser = duration)]
    outage: Duration,
    /// What the outage looks like.
    #[arg(long, value_enum, default_value_t = Kind::Refused)]
    kind: Kind,
    /// How long to wait for the last instance after the outage.
    #[arg(long, default_value = "5m", value_parser = duration)]
    patience: Duration,
    /// CPU time that one login costs the server.
    #[arg(long, default_value = "5ms", value_parser = duration)]
    login_cost: Duration,
    /// Logins that the server works on at once.
    #[arg(long, default_value_t = 8)]
    logins_at_once: u32,
    /// Connections that may wait for their login.
    #[arg(long, default_value_t = 4_096)]
    backlog: u32,
    /// What happens to connections beyond that: their SYN is dropped, or they are refused.
    #[arg(long, value_enum, default_value_t = Full::Drop)]
    overflow: Full,
    /// Sessions that the server allows [default: enough for every pool at its max_size]
    #[arg(long)]
    max_connections: Option<u32>,
    /// A setting of the pools, as in a configuration file: --set max_size=20.
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    settings: Vec<Setting>,
    /// Runs once with each of some values of a setting: --compare max_connecting=1,4,10.
    #[arg(long, value_name = "KEY=VALUE,VALUE...", value_parser = comparison)]
    compare: Vec<Comparison>,
    /// Adds a pool without backoff, for contrast.
    #[arg(long)]
    naive: bool,
    /// The seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Show only the table.
    #[arg(long, short)]
    quiet: bool,
    /// Write a page with charts to this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// A crash: connects are refused by the operating system.
    Refused,
    /// A crash: connects are answered "the database system is starting up".
    Starting,
    /// The network swallows everything.
    BlackHole,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Full {
    Drop,
    Refuse,
}

/// A field and the values that it is given in turn.
#[derive(Clone, Debug)]
struct Comparison {
    key: String,
    values: Vec<String>,
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}: write for example 500ms, 30s or 5m"))
}

/// Names that people use for fields.
fn field(name: &str) -> &str {
    match name {
        "jitter" => "backoff_jitter",
        name => name,
    }
}

fn comparison(text: &str) -> Result<Comparison, String> {
    let wrong = || format!("`{text}` compares nothing: write for example max_connecting=1,4,10");
    let (key, values) = text.split_once('=').ok_or_else(wrong)?;
    let values: Vec<String> = values.split(',').map(|value| value.trim().to_owned()).collect();
    if key.trim().is_empty() || values.iter().any(String::is_empty) {
        return Err(wrong());
    }
    Ok(Comparison { key: field(key.trim()).to_owned(), values })
}

impl Arguments {
    pub(super) fn run(self) -> io::Result<ExitCode> {
        match self.plan() {
            Ok(plan) => self.carry_out(&plan),
            Err(problem) => Ok(complain(&problem)),
        }
    }

    /// What is to be run: first as it was asked for, then what that is compared with.
    fn plan(&self) -> Result<Vec<(String, FleetSpec)>, String> {
        let mut plan = Vec::new();
        let mut add = |name: String, member: MemberKind, settings: &[Setting]| {
            let spec = self.spec(member, settings)?;
            match spec.problems() {
                problems if problems.is_empty() => plan.push((name, spec)),
                problems => return Err(problems.join("\n")),
            }
            Ok(())
        };
        if self.compare.is_empty() {
            let spelt: Vec<String> = self.settings.iter().map(ToString::to_string).collect();
            let name = if spelt.is_empty() { "as configured".to_owned() } else { spelt.join(" ") };
            add(name, MemberKind::Pgweir, &self.settings)?;
        }
        for Comparison { key, values } in &self.compare {
            for value in values {
                let one = Setting::new(key.clone(), value.clone());
                let name = one.to_string();
                let others = self.settings.iter().filter(|setting| setting.field() != key);
                let settings: Vec<Setting> = others.cloned().chain([one]).collect();
                add(name, MemberKind::Pgweir, &settings)?;
            }
        }
        if self.naive {
            add("without backoff".to_owned(), MemberKind::Naive, &self.settings)?;
        }
        Ok(plan)
    }

    fn spec(&self, member: MemberKind, settings: &[Setting]) -> Result<FleetSpec, String> {
        Ok(FleetSpec {
            instances: self.instances,
            pool: with_settings(&PoolConfig::default(), settings).map_err(|bad| bad.to_string())?,
            member,
            rate: self.rate,
            hold: self.hold,
            outage: self.outage,
            kind: match self.kind {
                Kind::Refused => OutageKind::Refused,
                Kind::Starting => OutageKind::Starting,
                Kind::BlackHole => OutageKind::BlackHole,
            },
            patience: self.patience,
            server: ServerLimits {
                login_cost: self.login_cost,
                logins_at_once: self.logins_at_once,
                backlog: self.backlog,
                overflow: match self.overflow {
                    Full::Drop => Overflow::Drop,
                    Full::Refuse => Overflow::Refuse,
                },
                max_connections: self.max_connections,
                ..ServerLimits::default()
            },
            ..FleetSpec::default()
        })
    }

    fn carry_out(&self, plan: &[(String, FleetSpec)]) -> io::Result<ExitCode> {
        let mut runs: Vec<(String, FleetOutcome)> = Vec::new();
        let mut speeds = Vec::new();
        for (name, spec) in plan {
            let begun = WallClock::now();
            match run_fleet(spec, self.seed) {
                Ok(outcome) => {
                    speeds.push(speed(name, &outcome, begun.elapsed()));
                    runs.push((name.clone(), outcome));
                }
                Err(violation) => {
                    writeln!(io::stdout(), "FAILED {name} (seed {}): {violation}", self.seed)?;
                    return Ok(ExitCode::from(FAILED));
                }
            }
        }
        let mut out = io::stdout().lock();
        let Some((_, spec)) = plan.first() else { return Ok(ExitCode::SUCCESS) };
        let report = FleetReport::new(spec, &runs).coloured(is_coloured(out.is_terminal())).brief(self.quiet);
        writeln!(out, "{report}")?;
        speeds.iter().try_for_each(|line| writeln!(out, "{line}"))?;
        if let Some(line) = memory(plan) {
            writeln!(out, "{line}")?;
        }
        let Some(file) = &self.html else { return Ok(ExitCode::SUCCESS) };
        let title = "A fleet through an outage";
        write_page(file, &Page { title: title.to_owned(), sections: vec![fleet_section(title, spec, &runs)] })
    }
}

fn speed(name: &str, outcome: &FleetOutcome, took: Duration) -> String {
    let (lasted, events, took) = (outcome.lasted().as_secs_f64(), outcome.events(), took.as_secs_f64());
    let rate = events as f64 / took / 1e6;
    let (seed, digest) = (outcome.seed(), outcome.digest());
    format!(
        "{name}: seed {seed}, digest {digest}, {lasted:.0} s in {took:.2} s, {events} events, {rate:.2} million a second"
    )
}

/// The process's most memory divided by the instances, where the system tells.
fn memory(plan: &[(String, FleetSpec)]) -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = peak.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let most = plan.iter().map(|(_, spec)| u64::from(spec.instances)).max()?;
    Some(format!("at most {} MB of memory, {:.1} kB for each instance", kib / 1024, kib as f64 / most as f64))
}
