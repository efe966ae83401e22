//! The properties: one test for each guarantee.

use std::cell::RefCell;
use std::env;
use std::rc::Rc;

use quickcheck::{Arbitrary, Gen, QuickCheck, TestResult, Testable};

use super::guarantee::{Broken, Evidence, Guarantee};
use super::plan::Plan;
use super::print::{heading, print};
use super::world::run;

/// Plans per property unless PGWEIR_QUICKCHECK_TESTS says otherwise: all properties together take some seconds.
const TESTS: u64 = if cfg!(miri) { 1 } else { 100 };
/// How often so many plans are drawn, at most.
const ROUNDS: u64 = if cfg!(miri) { 20 } else { 4 };
/// Steps of a plan, at most.
const STEPS: usize = if cfg!(miri) { 60 } else { 200 };

#[test]
fn cap_no_more_connections_than_max_size() {
    holds(Guarantee::Cap);
}

#[test]
fn one_answer_each_acquire_gets_exactly_one() {
    holds(Guarantee::OneAnswer);
}

#[test]
fn fifo_grants_follow_the_order_of_arrival() {
    holds(Guarantee::Fifo);
}

#[test]
fn no_stranding_nobody_waits_for_what_is_free() {
    holds(Guarantee::NoStranding);
}

#[test]
fn one_holder_a_connection_is_lent_to_one_and_stale_ids_change_nothing() {
    holds(Guarantee::OneHolder);
}

#[test]
fn the_pool_owns_connects_and_opens_no_more_than_are_wanted() {
    holds(Guarantee::ThePoolOwnsConnects);
}

#[test]
fn fresh_nothing_worn_is_lent() {
    holds(Guarantee::Fresh);
}

#[test]
fn sound_nothing_doubtful_is_lent() {
    holds(Guarantee::Sound);
}

#[test]
fn quiet_outage_one_connect_at_a_time_and_on_schedule() {
    holds(Guarantee::QuietOutage);
}

#[test]
fn fast_truth_an_outage_is_said_to_be_one() {
    holds(Guarantee::FastTruth);
}

#[test]
fn min_restored_whatever_was_lost() {
    holds(Guarantee::MinRestored);
}

#[test]
fn bounded_end_nothing_outlives_a_shutdown() {
    holds(Guarantee::BoundedEnd);
}

#[test]
fn true_numbers_after_every_event() {
    holds(Guarantee::TrueNumbers);
}

#[test]
fn busy_is_not_sick() {
    holds(Guarantee::BusyIsNotSick);
}

#[test]
fn deterministic_also_when_written_down_and_read_back() {
    holds(Guarantee::Deterministic);
}

#[test]
fn punctual_the_deadline_is_never_late() {
    holds(Guarantee::Punctual);
}

#[test]
fn spurious_ticks_are_no_ops() {
    holds(Guarantee::SpuriousTick);
}

#[test]
fn what_is_due_is_done_first() {
    holds(Guarantee::DueFirst);
}

/// Draws plans and fails with the smallest that breaks `guarantee`. Where chance drew plans that hardly put it to the
/// test, more are drawn; if those do not either, nothing would be shown, and that is a failure too.
fn holds(guarantee: Guarantee) {
    let seed = setting("PGWEIR_QUICKCHECK_SEED", 1);
    let tests = setting("PGWEIR_QUICKCHECK_TESTS", TESTS);
    let own_seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(guarantee as u64);
    let evidence = Rc::new(RefCell::new(Evidence::default()));
    let seen = || evidence.borrow().of(guarantee);
    for round in 0..ROUNDS {
        let property = Property { guarantee, seed, evidence: evidence.clone() };
        let round_seed = own_seed ^ round.wrapping_mul(0xd1b5_4a32_d192_ed03);
        QuickCheck::new().rng(Gen::from_size_and_seed(STEPS, round_seed)).tests(tests).quickcheck(property);
        if seen() >= (tests / 2).max(1) {
            return;
        }
    }
    panic!("{guarantee:?} was at stake only {} times in {} plans: nothing is shown", seen(), ROUNDS * tests);
}

fn setting(name: &str, default: u64) -> u64 {
    match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

struct Property {
    guarantee: Guarantee,
    seed: u64,
    evidence: Rc<RefCell<Evidence>>,
}

impl Testable for Property {
    fn result(&self, g: &mut Gen) -> TestResult {
        let plan = Plan::arbitrary(g);
        let (verdict, world) = run(&plan, Some(self.guarantee));
        self.evidence.borrow_mut().add(world.evidence());
        match self.is_broken(verdict) {
            None => TestResult::passed(),
            Some(broken) => TestResult::error(self.explain(plan, broken)),
        }
    }
}

impl Property {
    /// A plan that breaks another guarantee is another property's failure.
    fn is_broken(&self, verdict: Result<(), Broken>) -> Option<Broken> {
        verdict.err().filter(|broken| broken.guarantee == self.guarantee)
    }

    fn explain(&self, plan: Plan, broken: Broken) -> String {
        let (plan, broken) = self.smallest(plan, broken);
        let (_, world) = run(&plan, Some(self.guarantee));
        let test = print(&plan.settings, plan.seed, &world.told, &broken);
        format!("\nPGWEIR_QUICKCHECK_SEED={}: {broken}\n\n{}{test}", self.seed, heading(&broken))
    }

    /// `PGWEIR_QUICKCHECK_SHRINK=0` leaves a failing plan as it is: to know that it fails may be enough.
    fn smallest(&self, mut plan: Plan, mut broken: Broken) -> (Plan, Broken) {
        while setting("PGWEIR_QUICKCHECK_SHRINK", 1) != 0 {
            let smaller = plan.shrink().find_map(|plan| {
                let (verdict, _) = run(&plan, Some(self.guarantee));
                self.is_broken(verdict).map(|broken| (plan, broken))
            });
            match smaller {
                Some(found) => (plan, broken) = found,
                None => break,
            }
        }
        (plan, broken)
    }
}
