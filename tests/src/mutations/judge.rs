//! The tools, the cheapest first.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread::sleep;
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

/// How much the dearer tools may do.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Events in a sequence of the exhaustive search.
    pub depth: u32,
    /// Seeds of the simulator's swarm.
    pub seeds: u32,
}

/// Long enough for a build on a small machine that is busy.
const BUILD_LIMIT: Duration = Duration::from_secs(1200);

/// A tool that takes longer hangs: each is done within a minute.
const LIMIT: Duration = Duration::from_secs(240);

/// Plans per property at first: most faults need no more.
const FEW_PLANS: &str = "25";

/// Runs the tools on the mutated tree until one notices.
///
/// # Errors
/// A command cannot be started.
pub fn judge(scratch: &Scratch, mutation: &Mutation, budget: Budget) -> io::Result<Verdict> {
    if let Some(model) = mutation.by.as_deref().and_then(|by| by.strip_prefix("loom")) {
        return loom(scratch, model.trim());
    }
    for judge in [machine, simulator, scenarios] {
        match judge(scratch, budget)? {
            Verdict::Survived => {}
            verdict => return Ok(verdict),
        }
    }
    Ok(Verdict::Survived)
}

/// The pool machine's own tests: all of them with few plans per property, then the properties with as many as usual.
fn machine(scratch: &Scratch, _: Budget) -> io::Result<Verdict> {
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
    let few = run(scratch, tests(&["pool::"]).env("PGWEIR_QUICKCHECK_TESTS", FEW_PLANS), LIMIT)?;
    match few.verdict("the machine's tests", failed_tests) {
        Verdict::Survived => {}
        verdict => return Ok(verdict),
    }
    let many = run(scratch, &mut tests(&["pool::tests::property"]), LIMIT)?;
    Ok(many.verdict("the machine's tests", failed_tests))
}

/// The exhaustive search, then the swarm.
fn simulator(scratch: &Scratch, budget: Budget) -> io::Result<Verdict> {
    // Not optimised: that takes longer to build than it saves.
    let build = run(scratch, scratch.command("cargo").args(["build", "-p", "pgweir-sim"]), BUILD_LIMIT)?;
    if let Outcome::Failed(text) = build {
        return Ok(Verdict::NotBuilt(last_lines(&text)));
    }
    let (depth, seeds) = (budget.depth.to_string(), budget.seeds.to_string());
    for (tool, arguments) in
        [("exhaustive", ["exhaustive", "--depth", &depth].as_slice()), ("swarm", &["swarm", "--seeds", &seeds])]
    {
        let mut sim = scratch.command("cargo");
        sim.args(["run", "--quiet", "-p", "pgweir-sim", "--"]).args(arguments);
        let outcome = run(scratch, &mut sim, LIMIT)?;
        match outcome.verdict(tool, |text| format!("{tool}: {}", last_lines(text))) {
            Verdict::Survived => {}
            verdict => return Ok(verdict),
        }
    }
    Ok(Verdict::Survived)
}

/// The simulator's tests, its scenarios among them.
fn scenarios(scratch: &Scratch, _: Budget) -> io::Result<Verdict> {
    let tests = |arguments: &[&str]| {
        let mut command = scratch.command("cargo");
        command.args(["test", "-p", "pgweir-sim", "--test", "simulator"]).args(arguments);
        command
    };
    if let Outcome::Failed(text) = run(scratch, &mut tests(&["--no-run"]), BUILD_LIMIT)? {
        return Ok(Verdict::NotBuilt(last_lines(&text)));
    }
    Ok(run(scratch, &mut tests(&[]), LIMIT)?.verdict("the simulator's tests", failed_tests))
}

/// The models of loom, or the one that is named.
fn loom(scratch: &Scratch, model: &str) -> io::Result<Verdict> {
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
    let outcome = run(scratch, &mut loom(&[filter]), LIMIT)?;
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
        sleep(Duration::from_millis(50));
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

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join(" | ")
}
