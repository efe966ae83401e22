//! Many pools, one server, one outage: how soon all are back, and what that costs the server.
//!
//! Every pool is pgweir's machine itself; there are no bytes and no network below it. `spec` says what a fleet is,
//! `world` runs it, `server` is what the pools share, `member` and `naive` what a fleet can be made of, `outcome` what
//! came of it. Of the guarantees, Cap, One answer and One holder are checked on the way.

mod member;
mod naive;
mod outcome;
mod server;
mod spec;
mod world;

use pgweir_core::pool::Machine;

use crate::oracle::Violation;
pub use outcome::{FleetOutcome, FleetTally, Sample};
pub use spec::{FleetSpec, MemberKind, OutageKind, Overflow, ServerLimits};
use world::World;

/// Runs a fleet through its outage. The same seed gives the same run: compare [`FleetOutcome::digest`].
///
/// # Errors
/// A guarantee that did not hold.
///
/// # Panics
/// If the fleet is impossible: see [`FleetSpec::problems`].
pub fn run_fleet(spec: &FleetSpec, seed: u64) -> Result<FleetOutcome, Violation> {
    run(spec, seed, true)
}

/// As [`run_fleet`], without a digest.
pub(crate) fn run(spec: &FleetSpec, seed: u64, digested: bool) -> Result<FleetOutcome, Violation> {
    let problems = spec.problems();
    assert!(problems.is_empty(), "{}", problems.join("; "));
    match spec.member {
        MemberKind::Pgweir => World::<Machine>::new(spec, seed, digested).run(),
        MemberKind::Naive => World::<naive::Naive>::new(spec, seed, digested).run(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pgweir_core::config::PoolConfig;

    use super::*;

    fn small() -> FleetSpec {
        FleetSpec {
            instances: 30,
            ramp: Duration::from_secs(1),
            settle: Duration::from_secs(2),
            outage: Duration::from_secs(5),
            ..FleetSpec::default()
        }
    }

    fn run_small(spec: &FleetSpec, seed: u64) -> FleetOutcome {
        run_fleet(spec, seed).unwrap_or_else(|violation| panic!("{violation}"))
    }

    #[test]
    fn every_kind_of_outage_is_noticed_and_ends() {
        for kind in [OutageKind::Refused, OutageKind::Starting, OutageKind::BlackHole] {
            for member in [MemberKind::Pgweir, MemberKind::Naive] {
                let outcome = run_small(&FleetSpec { kind, member, ..small() }, 1);
                let all =
                    outcome.back_within(100.0).unwrap_or_else(|| panic!("{kind:?}, {member:?}: not all are back"));
                assert!(outcome.served_within(0.0).expect("served") <= all);
                assert!(outcome.back_within(50.0) <= outcome.back_within(99.0));
                let tally = outcome.tally();
                // Through five silent seconds callers just wait.
                let noticed = tally.errors() > 0 || outcome.waits().max() > Duration::from_secs(3);
                assert!(noticed && tally.succeeded > 0, "{kind:?}, {member:?}: {tally:?}");
                assert!(outcome.samples().iter().any(|sample| sample.back == 30), "{kind:?}, {member:?}");
            }
        }
    }

    #[test]
    fn a_seed_gives_one_run_and_another_seed_another() {
        let digests = [1, 1, 2].map(|seed| run_small(&small(), seed).digest());
        assert!(digests[0] == digests[1] && digests[0] != digests[2], "{digests:?}");
    }

    #[test]
    fn pools_with_backoff_leave_the_server_alone() {
        let ours = run_small(&small(), 1);
        let naive = run_small(&FleetSpec { member: MemberKind::Naive, ..small() }, 1);
        // One at the beginning and one a second for each instance.
        assert!(ours.connects_in_vain() <= 30 * 7, "{}", ours.connects_in_vain());
        assert!(naive.connects_in_vain() > 5 * ours.connects_in_vain());
        assert_eq!(ours.refused(), ours.connects_in_vain());
    }

    #[test]
    fn a_server_that_allows_too_few_sessions_says_so() {
        let mut spec = small();
        spec.pool = PoolConfig::builder().min_size(4).max_size(4).build().expect("valid");
        spec.server.max_connections = Some(30);
        spec.patience = Duration::from_secs(20);
        let outcome = run_small(&spec, 1);
        assert_eq!(outcome.back_within(100.0), None);
        assert!(outcome.refused() > outcome.connects_in_vain());
        assert!(outcome.samples().iter().all(|sample| sample.sessions <= 30));
    }

    #[test]
    fn logins_queue_at_the_server_and_cost_it_time() {
        let mut spec = small();
        spec.server.logins_at_once = 1;
        spec.server.login_cost = Duration::from_millis(20);
        let outcome = run_small(&spec, 1);
        assert!(outcome.queue_peak() > 5, "{}", outcome.queue_peak());
        assert!(outcome.queue_waits().max() > Duration::from_millis(100));
        let useful = Duration::from_millis(20) * outcome.logins() as u32;
        assert_eq!(outcome.login_work(), useful + outcome.wasted_work());
    }

    #[test]
    fn impossible_fleets_are_named() {
        let spec = FleetSpec { instances: 0, rate: f64::NAN, outage: Duration::ZERO, ..FleetSpec::default() };
        let problems = spec.problems().join("\n");
        for said in ["instances (0)", "rate (NaN)", "outage must be more than 0s"] {
            assert!(problems.contains(said), "{said:?} is not in {problems}");
        }
        assert!(FleetSpec::default().problems().is_empty());
    }
}
