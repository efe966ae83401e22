//! The tools, the cheapest first.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{Mutation, Scratch};

/// Whether anything noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// What noticed, and where.
    Caught(String),
    /// Nothing did.
    Survived,
    /// It does not compile: no mutation to learn from.
    NotBuilt(String),
}

impl Verdict {
    /// What noticed, if something did.
    pub fn caught(&self) -> Option<&str> {
        match self {
            Verdict::Caught(by) => Some(by),
            _ => None,
        }
    }
}

/// How much the dearer tools may do.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Events in a sequence of the exhaustive search.
    pub depth: u32,
    /// Seeds of the simulator's swarm.
    pub seeds: u32,
    /// A tool that takes longer hangs.
    pub limit: Duration,
}

impl Default for Budget {
    /// Each tool is done within a minute where nothing else runs.
    fn default() -> Self {
        Budget { depth: 5, seeds: 200, limit: Duration::from_secs(240) }
    }
}

/// Long enough for a build on a small machine that is busy.
const BUILD_LIMIT: Duration = Duration::from_secs(1200);

/// Plans per property at first: most faults need no more.
const FEW_PLANS: &str = "25";

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judge {
    /// The pool machine's own tests.
    Machine,
    /// The exhaustive search of small pools.
    Exhaustive,
    /// The simulator's swarm.
    Swarm,
    /// The simulator's tests, its scenarios among them.
    Scenarios,
}

impl Judge {
    /// All, the cheapest first.
    pub const ALL: [Judge; 4] = [Judge::Machine, Judge::Exhaustive, Judge::Swarm, Judge::Scenarios];

    /// What it is called by `--judges` and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Judge::Machine => "machine",
            Judge::Exhaustive => "exhaustive",
            Judge::Swarm => "swarm",
            Judge::Scenarios => "scenarios",
        }
    }

    /// Asks this one alone.
    ///
    /// # Errors
    /// A command cannot be started.
    pub fn ask(self, scratch: &Scratch, budget: Budget) -> io::Result<Verdict> {
        match self {
            Judge::Machine => machine(scratch, budget),
            Judge::Exhaustive => simulator(scratch, budget, self, &["--depth", &budget.depth.to_string()]),
            Judge::Swarm => simulator(scratch, budget, self, &["--seeds", &budget.seeds.to_string()]),
            Judge::Scenarios => scenarios(scratch, budget),
        }
    }
}

impl FromStr for Judge {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Judge::ALL.into_iter().find(|judge| judge.name() == name);
        found.ok_or_else(|| format!("{name} is no judge: {}", Judge::ALL.map(Judge::name).join(", ")))
    }
}

/// Asks one after the other about the mutated tree until one notices.
///
/// # Errors
/// A command cannot be started.
pub fn judge(scratch: &Scratch, mutation: &Mutation, budget: Budget) -> io::Result<Verdict> {
    if let Some(model) = mutation.by.as_deref().and_then(|by| by.strip_prefix("loom")) {
        return loom(scratch, model.trim(), budget);
    }
    for judge in Judge::ALL {
        match judge.ask(scratch, budget)? {
            Verdict::Survived => {}
            verdict => return Ok(verdict),
        }
    }
    Ok(Verdict::Survived)
}

/// The pool machine's own tests: all of them with few plans per property, then the properties with as many as usual.
fn machine(scratch: &Scratch, budget: Budget) -> io::Result<Verdict> {
    let tests = |arguments: &[&str]| {
        let mut command = scratch.command("cargo");
        command.args(["test", "-p", "pgweir-core", "--lib"]).args(arguments);
        // That a plan fails is enough; to make it small takes longer.
        command.env("PGWEIR_QUICKCHECK_SHRINK", "0");
        command
    };
    if let Outcome::Failed(text) = run(scratch, &mut tests(&["--no-run"]), BUILD_LIMIT)? {
        return Ok(Verdict::NotBuilt(last_lines(&text)));
    }
    let few = run(scratch, tests(&["pool::"]).env("PGWEIR_QUICKCHECK_TESTS", FEW_PLANS), budget.limit)?;
    match few.verdict("the machine's tests", failed_tests) {
        Verdict::Survived => {}
        verdict => return Ok(verdict),
    }
    let many = run(scratch, &mut tests(&["pool::tests::property"]), budget.limit)?;
    Ok(many.verdict("the machine's tests", failed_tests))
}

/// A command of the simulator, which is called as the judge is.
fn simulator(scratch: &Scratch, budget: Budget, judge: Judge, arguments: &[&str]) -> io::Result<Verdict> {
    // Not optimised: that takes longer to build than it saves.
    let build = run(scratch, scratch.command("cargo").args(["build", "-p", "pgweir-sim"]), BUILD_LIMIT)?;
    if let Outcome::Failed(text) = build {
        return Ok(Verdict::NotBuilt(last_lines(&text)));
    }
    let mut sim = scratch.command("cargo");
    sim.args(["run", "--quiet", "-p", "pgweir-sim", "--", judge.name()]).args(arguments);
    Ok(run(scratch, &mut sim, budget.limit)?.verdict(judge.name(), violation))
}

/// The simulator's tests, its scenarios among them.
fn scenarios(scratch: &Scratch, budget: Budget) -> io::Result<Verdict> {
    let tests = |arguments: &[&str]| {
        let mut command = scratch.command("cargo");
        command.args(["test", "-p", "pgweir-sim", "--test", "simulator"]).args(arguments);
        command
    };
    if let Outcome::Failed(text) = run(scratch, &mut tests(&["--no-run"]), BUILD_LIMIT)? {
        return Ok(Verdict::NotBuilt(last_lines(&text)));
    }
    Ok(run(scratch, &mut tests(&[]), budget.limit)?.verdict("the simulator's tests", failed_tests))
}

/// The models of loom, or the one that is named.
fn loom(scratch: &Scratch, model: &str, budget: Budget) -> io::Result<Verdict> {
    let loom = |arguments: &[&str]| {
        let mut command = scratch.command("cargo");
        command.args(["test", "-p", "pgweir-core", "--release", "--lib"]).args(arguments);
        // Dependencies are built otherwise, too: not where the others are.
        let target = scratch.output().with_file_name("loom");
        command.env("RUSTFLAGS", "--cfg pgweir_loom").env("CARGO_TARGET_DIR", target);
        command
    };
    if let Outcome::Failed(text) = run(scratch, &mut loom(&["--no-run"]), BUILD_LIMIT)? {
        return Ok(Verdict::NotBuilt(last_lines(&text)));
    }
    let filter = if model.is_empty() { "loom" } else { model };
    let outcome = run(scratch, &mut loom(&[filter]), budget.limit)?;
    Ok(outcome.verdict(&format!("loom: {filter}"), |text| format!("loom: {}", failed_tests(text))))
}

enum Outcome {
    Passed,
    /// With what it said.
    Failed(String),
    Hung,
}

impl Outcome {
    /// What it means for a mutation that `tool` was run on; `say` names what failed.
    fn verdict(self, tool: &str, say: impl FnOnce(&str) -> String) -> Verdict {
        match self {
            Outcome::Passed => Verdict::Survived,
            Outcome::Failed(text) => Verdict::Caught(say(&text)),
            Outcome::Hung => Verdict::Caught(format!("{tool}: it hangs")),
        }
    }
}

/// Runs a command to its end, or to the limit's, with all that it started.
fn run(scratch: &Scratch, command: &mut Command, limit: Duration) -> io::Result<Outcome> {
    let path = scratch.output();
    fs::create_dir_all(path.parent().unwrap_or(&path))?;
    let file = File::create(&path)?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let mut child = command.env("RUST_BACKTRACE", "0").process_group(0).spawn()?;
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            let text = fs::read(&path)?;
            let text = String::from_utf8_lossy(&text).into_owned();
            return Ok(if status.success() { Outcome::Passed } else { Outcome::Failed(text) });
        }
        if begun.elapsed() > limit {
            if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                kill_process_group(group, Signal::KILL)?;
            }
            child.wait()?;
            return Ok(Outcome::Hung);
        }
        // Between two looks whether the judge has ended.
        thread::sleep(Duration::from_millis(50));
    }
}

/// The names of the tests that failed, at most three; how it ended where there is none.
fn failed_tests(text: &str) -> String {
    let failed = text.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
    let names: Vec<&str> = failed.map(|name| name.trim_start_matches("pool::tests::")).collect();
    match names.len() {
        0 => last_lines(text),
        few @ 1..=3 => names[..few].join(", "),
        many => format!("{}, and {} more", names[..2].join(", "), many - 2),
    }
}

/// The guarantee that the simulator saw broken, in its words; how it ended where it names none.
fn violation(text: &str) -> String {
    let mut lines = text.lines();
    let found = lines.find_map(|line| match line.split_once(" waiters: ") {
        // Of the exhaustive search: with the pool's size before it, and the events after it.
        Some((size, violation)) if size.contains(" connections, ") => Some(violation.to_owned()),
        // Of the swarm: the line after the seed's.
        _ => line.starts_with("FAILED ").then(String::new),
    });
    match found {
        Some(violation) if !violation.is_empty() => violation,
        Some(_) => lines.next().map_or_else(String::new, |line| line.trim().to_owned()),
        None => last_lines(text),
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_simulator_saw_is_said_in_its_words() {
        let exhaustive = "1 connections, 1 waiters, depth 5: 9 states\n  by depth [2]\n\
                          1 connections, 2 waiters: FIFO: out of order\n\n  0s Start { lazy: true }\n";
        assert_eq!(violation(exhaustive), "FIFO: out of order");
        let swarm =
            "200 seeds from 1\n\nFAILED swarm: seed 3 failed at 1s\n  Cap: 5 exist\n  | > 1s Tick\n  again: it\n";
        assert_eq!(violation(swarm), "Cap: 5 exist");
        assert_eq!(violation("one\n\ntwo\n"), "one | two");
    }

    #[test]
    fn a_judge_is_found_by_its_name_only() {
        for judge in Judge::ALL {
            assert_eq!(judge.name().parse(), Ok(judge));
        }
        assert!("sworm".parse::<Judge>().is_err_and(|why| why.contains("machine, exhaustive, swarm, scenarios")));
    }
}
