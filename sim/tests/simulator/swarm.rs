//! The swarm: seeds that pass, seeds that did not once, and canaries that it must find.

use pgweir_sim::swarm::{Coverage, draw, run_seed, run_seed_of};
use pgweir_sim::{Scenario, run};

use crate::canaries::{Wrong, make};
use crate::support::{command, stderr, stdout};

/// Seeds that every test run tries, in a debug build: the machine's own checks run too.
const SEEDS: u64 = 40;

/// Seeds that failed once, one a line: the seed, and why.
const REGRESSIONS: &str = include_str!("regressions.txt");

#[test]
fn the_first_seeds_pass_and_reach_most_of_what_there_is() {
    let mut coverage = Coverage::default();
    for seed in 1..=SEEDS {
        run_seed(seed, &mut coverage).unwrap_or_else(|failure| panic!("{failure}"));
    }
    assert_eq!(coverage.seeds(), SEEDS);
    for (kind, which) in [
        ("fault", "crash"),
        ("fault", "partition"),
        ("fault", "demote"),
        ("fault", "suspend"),
        ("reject", "timeout"),
        ("reject", "unavailable"),
        ("reject", "queue full"),
        ("close", "Suspect"),
        ("close", "Lifetime"),
        ("close", "ConnectTimeout"),
        ("refusal", "WrongRole"),
        ("refusal", "Capacity"),
        ("notice", "leak"),
        ("notice", "recovered"),
        ("driver", "too late"),
    ] {
        assert!(coverage.met(kind, which) > 0, "{kind} {which} was met by none of {SEEDS} seeds\n{coverage}");
    }
}

#[test]
fn seeds_that_failed_once_pass() {
    let mut seeds = 0;
    for line in REGRESSIONS.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (seed, why) = line.split_once(' ').unwrap_or((line, ""));
        let seed: u64 = seed.parse().unwrap_or_else(|_| panic!("regressions.txt: {line:?} does not begin with a seed"));
        assert!(!why.trim().is_empty(), "regressions.txt: why is seed {seed} there?");
        run_seed(seed, &mut Coverage::default()).unwrap_or_else(|failure| panic!("{why}\n{failure}"));
        seeds += 1;
    }
    assert!(seeds > 0);
}

#[test]
fn a_seed_has_one_digest_here_and_in_another_process_and_as_a_file() {
    for seed in [5, 77] {
        let digest =
            |seed| run_seed(seed, &mut Coverage::default()).unwrap_or_else(|failure| panic!("{failure}")).digest;
        let here = digest(seed);
        assert_eq!(here, digest(seed), "seed {seed}");
        assert_ne!(here, digest(seed + 1));
        let output = command(&["swarm", "--seed", &seed.to_string()]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(stdout(&output).contains(&format!("digest {here}")), "{here} is not in\n{}", stdout(&output));
        let file = Scenario::from_yaml("saved.yaml", &draw(seed).to_yaml()).unwrap_or_else(|bad| panic!("{bad}"));
        assert_eq!(run(&file, seed).unwrap_or_else(|failure| panic!("{failure}")).digest, here);
    }
}

#[test]
fn the_command_says_how_fast_it_was_and_what_it_met_whatever_the_number_of_jobs() {
    let digest = |jobs: &str| {
        let output = command(&["swarm", "--seeds", "8", "--first", "3", "--jobs", jobs]);
        let text = stdout(&output);
        assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
        for said in
            ["8 seeds from 3", "8 seeds passed", "virtual seconds a second", "million events", "never met", "close "]
        {
            assert!(text.contains(said), "{said:?} is not in\n{text}");
        }
        text.split("digest ").nth(1).map(str::to_owned)
    };
    assert_eq!(digest("1"), digest("2"));
    let random = command(&["swarm", "--seeds", "1", "--first", "random"]);
    assert!(stdout(&random).starts_with("1 seeds from "), "{}", stdout(&random));
    for arguments in [&["swarm", "--first", "soon"][..], &["swarm", "--jobs", "0"], &["swarm", "--seeds", "-1"]] {
        assert_eq!(command(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_seed_is_saved_as_a_file_that_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("seed.yaml");
    let path = path.to_str().expect("UTF-8");
    let output = command(&["swarm", "--seed", "12", "--save", path]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let again = command(&["run", "-q", path]);
    assert!(stdout(&again).contains("passed swarm seed 12"), "{}", stdout(&again));
    let nowhere = command(&["swarm", "--seed", "12", "--save", "/nowhere/seed.yaml"]);
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(stderr(&nowhere).contains("/nowhere/seed.yaml: No such file"), "{}", stderr(&nowhere));
}

/// Each kind of mistake is found by one of the first seeds; how many it may take is beside it.
#[test]
fn every_canary_is_found_within_so_many_seeds() {
    for (wrong, within) in [
        (Wrong::LostWakeup, 3),
        (Wrong::DoubleGrant, 5),
        (Wrong::Barging, 5),
        (Wrong::StaleId, 20),
        (Wrong::RetryStorm, 5),
        (Wrong::OverCreation, 3),
        (Wrong::ExpiredGrant, 20),
        (Wrong::DirtyGrant, 5),
        (Wrong::LostRelease, 3),
        (Wrong::DeadGrant, 5),
        (Wrong::Unproved, 10),
        (Wrong::OverCap, 10),
        (Wrong::SilentLeak, 10),
        (Wrong::EndlessShutdown, 20),
        (Wrong::StaleRecycle, 20),
        (Wrong::Drift, 3),
        (Wrong::Rosy, 3),
        (Wrong::Gloomy, 3),
        (Wrong::SilentState, 3),
        (Wrong::FalseReason, 5),
        (Wrong::FalseWait, 5),
        (Wrong::SilentEnd, 20),
        (Wrong::Unwarned, 20),
        (Wrong::Miscounted, 3),
    ] {
        let found = (1..=within).find(|seed| run_seed_of(*seed, make(wrong)).is_err());
        assert!(found.is_some(), "{wrong:?} was not found by {within} seeds");
    }
}
