//! Random runs for the tests of journals.

use quickcheck::{Arbitrary, Gen};

use super::plan::Plan;
use super::world::{BEGIN, run};
use crate::journal::Check;
use crate::pool::{Event, Machine};
use crate::time::Instant;

/// What a machine was told by a random run of at least `length` events, and answered, from the `skip`th on: the machine
/// before, the events, the machine after.
pub(crate) fn recorded(seed: u64, length: usize, skip: usize) -> (Machine, Vec<(Instant, Event, Check)>, Machine) {
    let mut g = Gen::from_size_and_seed(4 * length, seed);
    let (plan, told) = loop {
        let plan = Plan::arbitrary(&mut g);
        let (verdict, world) = run(&plan, None);
        if verdict.is_ok() && world.told.len() >= length {
            break (plan, world.told);
        }
    };
    let mut machine = Machine::new(&plan.settings.config(), plan.seed, BEGIN);
    let mut hear = |at: Instant, event: &Event| {
        let mut actions = Vec::new();
        machine.handle(at, event.clone(), &mut actions);
        (machine.clone(), Check::of(&actions))
    };
    let mut start = None;
    for (at, event) in &told[..skip] {
        start = Some(hear(*at, event).0);
    }
    let mut heard = Vec::new();
    let mut end = start.clone();
    for (at, event) in &told[skip..length] {
        let (after, check) = hear(*at, event);
        heard.push((*at, event.clone(), check));
        end = Some(after);
    }
    let start = start.expect("something is skipped");
    (start.clone(), heard, end.unwrap_or(start))
}
