//! `swarm --whole-stack`: the same, with real bytes between a real client and the simulated server.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant as WallClock};

use pgweir_sim::{Digest, Report, swarm, whole};

use super::{FAILED, keep};

/// Runs the seeds until one fails; a single one with a report.
pub(super) fn run(first: u64, seeds: u64, save: Option<&Path>) -> io::Result<ExitCode> {
    let begun = WallClock::now();
    let (mut events, mut lasted, mut digest) = (0, Duration::ZERO, Digest::default());
    for number in 0..seeds {
        let seed = first.wrapping_add(number);
        let outcome = match whole::run_whole_seed(seed) {
            Ok(outcome) => outcome,
            Err(failure) => {
                let mut out = io::stdout().lock();
                writeln!(out, "FAILED {failure}\n  again: pgweir-sim swarm --whole-stack --seed {seed}")?;
                return Ok(keep(seed, save).unwrap_or(ExitCode::from(FAILED)));
            }
        };
        events += outcome.events;
        lasted += outcome.lasted;
        digest.add(&outcome.digest.to_string());
        if seeds == 1 {
            writeln!(io::stdout(), "{}", Report::new(&swarm::draw(seed), &outcome))?;
        } else if io::stderr().is_terminal() {
            // A progress line that cannot be written is not missed.
            let _ = write!(io::stderr(), "\r\x1b[K{} of {seeds} seeds", number + 1);
        }
    }
    let took = begun.elapsed().as_secs_f64();
    writeln!(
        io::stdout(),
        "{seeds} seeds from {first} passed on the whole stack in {took:.1} s: {:.1} seeds and {:.0} virtual seconds a \
         second, {events} events, digest {digest}",
        seeds as f64 / took,
        lasted.as_secs_f64() / took,
    )?;
    Ok(ExitCode::SUCCESS)
}
