//! Breaks the source on purpose, one mutation after another, and says what notices.
//!
//! ```text
//! cargo mutations                          all of them: an hour
//! cargo mutations shutdown "idle clock"    those whose name has one of these in it
//! cargo mutations --list                   only what there is
//! cargo mutations --depth 7 --seeds 500    lets the exhaustive search and the swarm do more
//! cargo mutations --limit 900              on a busy machine: a tool that takes so many seconds hangs, not 240
//! cargo mutations --judges swarm,scenarios asks only these, and each of them whatever the other says
//! cargo mutations --outside --judges swarm the machine does not check itself: the judge is alone
//! cargo mutations --record                 writes what it finds into the pool's `mutations.md`
//! ```
//!
//! Ends with code 1 if one survives that nothing explains, or does not compile, and with 2 for a wrong argument or a list
//! that does not fit the source. With `--judges`, one is caught if any of them notices.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints a table")]

use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use pgweir_tests::mutations::{
    BadList, Budget, Judge, Mutation, PAGE, Scratch, Verdict, judge, read_lists, record, root, without_own_checks,
};

const USAGE: &str = "usage: cargo mutations [--list] [--depth N] [--seeds N] [--limit SECONDS] [--judges A,B] [--outside] [--record] [NAME...]";

struct Arguments {
    budget: Budget,
    only_list: bool,
    /// Those that are asked, each whatever the others say; all until one notices where there are none here.
    judges: Vec<Judge>,
    /// The machine does not check itself.
    outside: bool,
    record: bool,
    names: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(BadList(why)) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

fn arguments() -> Result<Arguments, String> {
    let budget = Budget::default();
    let (judges, names) = (Vec::new(), Vec::new());
    let mut given = Arguments { budget, only_list: false, judges, outside: false, record: false, names };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        let number = |value: String| value.parse::<u32>().map_err(|_| format!("{word} needs a number"));
        match word.as_str() {
            "--list" => given.only_list = true,
            "--depth" => given.budget.depth = number(value()?)?,
            "--seeds" => given.budget.seeds = number(value()?)?,
            "--limit" => given.budget.limit = Duration::from_secs(number(value()?)?.into()),
            "--judges" => given.judges = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--outside" => given.outside = true,
            "--record" => given.record = true,
            flag if flag.starts_with('-') => return Err(format!("{flag} is no option")),
            _ => given.names.push(word),
        }
    }
    Ok(given)
}

/// Whether each is caught or explained.
fn run(arguments: &Arguments) -> Result<bool, BadList> {
    let lists = read_lists(&root())?;
    let mut all = lists.clone();
    let is_meant = |mutation: &Mutation| arguments.names.iter().any(|name| mutation.name.contains(name));
    all.retain(|mutation| arguments.names.is_empty() || is_meant(mutation));
    if arguments.only_list {
        all.iter().for_each(|mutation| println!("{}: {}", mutation.file, mutation.name));
        return Ok(true);
    }
    let io = |error: std::io::Error| BadList(error.to_string());
    // One that does not fit is said before an hour's work, not after it.
    for mutation in &all {
        mutation.apply(&fs::read_to_string(root().join(&mutation.file)).map_err(io)?)?;
    }
    // Another place, so that both can run at a time and neither builds what the other has built.
    let folder = if arguments.outside { "target/mutations-outside" } else { "target/mutations" };
    let scratch = Scratch::new(&root(), &root().join(folder)).map_err(io)?;
    let mut sum = Sum::default();
    for mutation in &all {
        let begun = Instant::now();
        let ask = || scratch.with(mutation, || verdicts(&scratch, mutation, arguments));
        let found = if arguments.outside { scratch.with(&without_own_checks(), ask)?? } else { ask()? };
        let found = found.map_err(io)?;
        let text = sum.add(mutation, &found);
        println!("{:>5.0} s  {}: {text}", begun.elapsed().as_secs_f64(), mutation.name);
        if arguments.record {
            let page = fs::read_to_string(root().join(PAGE)).map_err(io)?;
            let page = record(&page, &lists, mutation, &arguments.judges, arguments.outside, &found);
            fs::write(root().join(PAGE), page).map_err(io)?;
        }
    }
    println!(
        "{} mutations: {} caught, {} survive with a reason, {} to look at",
        all.len(),
        sum.caught,
        sum.explained,
        sum.bad
    );
    for (number, judge) in arguments.judges.iter().enumerate() {
        println!("{} of them by {}", sum.by[number], judge.name());
    }
    Ok(sum.bad == 0)
}

/// What each of those that are asked says.
fn verdicts(scratch: &Scratch, mutation: &Mutation, arguments: &Arguments) -> std::io::Result<Vec<Verdict>> {
    match arguments.judges.as_slice() {
        [] => Ok(vec![judge(scratch, mutation, arguments.budget)?]),
        judges => judges.iter().map(|judge| judge.ask(scratch, arguments.budget)).collect(),
    }
}

#[derive(Default)]
struct Sum {
    caught: u32,
    explained: u32,
    bad: u32,
    /// How many each judge noticed.
    by: Vec<u32>,
}

impl Sum {
    /// Counts it, and says what came of it.
    fn add(&mut self, mutation: &Mutation, found: &[Verdict]) -> String {
        self.by.resize(found.len(), 0);
        for (count, verdict) in self.by.iter_mut().zip(found) {
            *count += u32::from(matches!(verdict, Verdict::Caught(_)));
        }
        let not_built = found.iter().find_map(|verdict| match verdict {
            Verdict::NotBuilt(why) => Some(why),
            _ => None,
        });
        let by: Vec<&str> = found.iter().filter_map(Verdict::caught).collect();
        match (not_built, by.is_empty(), &mutation.explained) {
            (Some(why), ..) => {
                self.bad += 1;
                format!("DOES NOT COMPILE: {why}")
            }
            (None, false, Some(_)) => {
                self.bad += 1;
                format!("caught by {}, and the list explains why nothing can: strike that", by.join("; "))
            }
            (None, false, None) => {
                self.caught += 1;
                format!("caught by {}", by.join("; "))
            }
            (None, true, Some(why)) => {
                self.explained += 1;
                format!("survives: {why}")
            }
            (None, true, None) => {
                self.bad += 1;
                "SURVIVES".to_owned()
            }
        }
    }
}
