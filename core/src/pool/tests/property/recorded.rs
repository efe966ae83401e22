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
    let hear = |machine: &mut Machine, at: Instant, event: &Event| {
        let mut actions = Vec::new();
        machine.handle(at, event.clone(), &mut actions);
        Check::of(&actions)
    };
    assert!(skip > 0, "something is skipped");
    for (at, event) in &told[..skip] {
        hear(&mut machine, *at, event);
    }
    let start = machine.clone();
    let heard = told[skip..length].iter().map(|(at, event)| (*at, event.clone(), hear(&mut machine, *at, event)));
    let heard = heard.collect();
    (start, heard, machine)
}
