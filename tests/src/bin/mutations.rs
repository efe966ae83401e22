//! Breaks the source on purpose, one mutation after another, and says what notices.
//!
//! ```text
//! cargo mutations                       all of them: an hour
//! cargo mutations shutdown "idle clock" those whose name has one of these in it
//! cargo mutations --list                only what there is
//! cargo mutations --depth 7 --seeds 500 lets the exhaustive search and the swarm do more
//! ```
//!
//! Ends with code 1 if one survives that nothing explains, or does not compile, and with 2 for a wrong argument or a list
//! that does not fit the source.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints a table")]

use std::fs;
use std::process::ExitCode;
use std::time::Instant;

use pgweir_tests::mutations::{BadList, Budget, Mutation, Scratch, Verdict, judge, read_lists, root};

struct Arguments {
    budget: Budget,
    only_list: bool,
    names: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("{why}\nusage: cargo mutations [--list] [--depth N] [--seeds N] [NAME...]");
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
    let mut given = Arguments { budget: Budget { depth: 5, seeds: 200 }, only_list: false, names: Vec::new() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().and_then(|value| value.parse().ok());
            value.ok_or_else(|| format!("{word} needs a number"))
        };
        match word.as_str() {
            "--list" => given.only_list = true,
            "--depth" => given.budget.depth = number()?,
            "--seeds" => given.budget.seeds = number()?,
            flag if flag.starts_with('-') => return Err(format!("{flag} is no option")),
            _ => given.names.push(word),
        }
    }
    Ok(given)
}

/// Whether each is caught or explained.
fn run(arguments: &Arguments) -> Result<bool, BadList> {
    let mut all = read_lists(&root())?;
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
    let scratch = Scratch::new(&root(), &root().join("target/mutations")).map_err(io)?;
    let (mut caught, mut explained, mut bad) = (0, 0, 0);
    for mutation in &all {
        let begun = Instant::now();
        let verdict = scratch.with(mutation, || judge(&scratch, mutation, arguments.budget))?.map_err(io)?;
        let text = match (verdict, &mutation.explained) {
            (Verdict::Caught(by), Some(_)) => {
                bad += 1;
                format!("caught by {by}, and the list explains why nothing can: strike that")
            }
            (Verdict::Caught(by), None) => {
                caught += 1;
                format!("caught by {by}")
            }
            (Verdict::Survived, Some(why)) => {
                explained += 1;
                format!("survives: {why}")
            }
            (Verdict::Survived, None) => {
                bad += 1;
                "SURVIVES".to_owned()
            }
            (Verdict::NotBuilt(why), _) => {
                bad += 1;
                format!("DOES NOT COMPILE: {why}")
            }
        };
        println!("{:>5.0} s  {}: {text}", begun.elapsed().as_secs_f64(), mutation.name);
    }
    println!("{} mutations: {caught} caught, {explained} survive with a reason, {bad} to look at", all.len());
    Ok(bad == 0)
}
