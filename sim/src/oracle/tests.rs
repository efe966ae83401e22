//! Several things at one moment: their order counts.

use pgweir_core::config::{PoolConfig, ValidationPolicy};
use pgweir_core::pool::{Action, ConnId, Event, Fate, Machine, ServerFacts, SiteId, WaiterId};
use pgweir_core::time::Instant;

use super::Oracle;

/// A pool of two and its oracle.
struct Watched {
    machine: Machine,
    oracle: Oracle,
    now: Instant,
}

impl Watched {
    fn new(validation: ValidationPolicy) -> Self {
        let config = PoolConfig::builder().min_size(2).max_size(2).validation(validation).build().expect("valid");
        let (machine, oracle) = (Machine::new(&config, 1, Instant::ZERO), Oracle::new(&config, Default::default()));
        let mut watched = Watched { machine, oracle, now: Instant::ZERO };
        for action in watched.tell(Event::Start { lazy: true }) {
            if let Action::Connect { conn, .. } = action {
                watched.tell(Event::Connected { conn, facts: ServerFacts::default() });
            }
        }
        watched
    }

    #[track_caller]
    fn tell(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.oracle.event(self.now, &event).unwrap_or_else(|violation| panic!("{event:?}: {violation}"));
        self.machine.handle(self.now, event.clone(), &mut actions);
        for action in &actions {
            self.oracle.action(self.now, action).unwrap_or_else(|violation| panic!("{action:?}: {violation}"));
        }
        let settled = self.oracle.settled(self.now, self.machine.counts());
        settled.unwrap_or_else(|violation| panic!("{event:?}: {violation}"));
        actions
    }

    #[track_caller]
    fn acquire(&mut self, waiter: u64) -> Vec<Action> {
        let (waiter, deadline) = (WaiterId(waiter), Instant::from_secs(30));
        self.tell(Event::Acquire { waiter, deadline, leak_after: None, site: SiteId(0) })
    }

    #[track_caller]
    fn lease_of_no_time(&mut self, waiter: u64) -> ConnId {
        let actions = self.acquire(waiter);
        let [Action::Grant { conn, .. }] = actions[..] else { panic!("{actions:?}") };
        self.tell(Event::Release { conn, fate: Fate::Clean, queries: 0, fault: None });
        conn
    }
}

#[test]
fn a_lease_that_ends_at_the_moment_of_its_proof_leaves_its_connection_unproved() {
    let mut pool = Watched::new(ValidationPolicy::Always);
    let (one, other) = (pool.lease_of_no_time(1), pool.lease_of_no_time(2));
    assert_ne!(one, other, "each was proved once, by its login");
    // The one is checked for the waiter; the other could not be lent either, and does not keep it waiting.
    let actions = pool.acquire(3);
    let [Action::Validate { conn, .. }] = actions[..] else { panic!("{actions:?}") };
    let actions = pool.tell(Event::Validated { conn });
    assert!(actions.contains(&Action::Grant { waiter: WaiterId(3), conn }), "{actions:?}");
}

#[test]
fn a_grant_of_what_was_not_proved_since_its_last_lease_is_noticed_at_the_same_moment() {
    let mut pool = Watched::new(ValidationPolicy::Always);
    let conn = pool.lease_of_no_time(1);
    let (waiter, deadline) = (WaiterId(2), Instant::from_secs(30));
    let asked = Event::Acquire { waiter, deadline, leak_after: None, site: SiteId(0) };
    pool.oracle.event(pool.now, &asked).expect("nothing is overdue");
    let violation = pool.oracle.action(pool.now, &Action::Grant { waiter, conn }).expect_err("not proved");
    assert_eq!(violation.guarantee, "Sound", "{violation}");
    // It is what the policy forbids; the usual one allows it.
    let mut pool = Watched::new(ValidationPolicy::Interval);
    assert_eq!(pool.lease_of_no_time(1), pool.lease_of_no_time(2));
}

#[test]
fn what_the_pool_is_not_woken_for_is_noticed_before_it_is_due() {
    let mut pool = Watched::new(ValidationPolicy::Interval);
    for waiter in 1..=3 {
        pool.acquire(waiter);
    }
    let (counts, wakes) = (pool.machine.counts(), pool.machine.deadline().map(|(at, _)| at));
    assert_eq!((counts.waiting, wakes), (1, Some(Instant::from_secs(30))), "the third waits, for so long");
    pool.oracle.wakes_in_time(wakes).expect("it is woken when the third gives up");
    for late in [None, Some(Instant::from_secs(31))] {
        let violation = pool.oracle.wakes_in_time(late).expect_err("the third would hear of it too late");
        assert_eq!(violation.guarantee, "One answer", "{violation}");
        assert!(violation.detail.contains("foreseen"), "{violation}");
    }
}
