//! The scan for leaks meets the release of what it looks for.

use super::log;
use super::rig::{Rig, check};
use crate::time::Instant;

#[test]
fn a_leak_scan_meets_the_release() {
    check(3, || {
        log::start();
        let rig = Rig::default();
        let (pool, background) = rig.pool(1, 1);
        let lease = pool.try_get().expect("it is idle");
        rig.runtime.set(Instant::from_millis(30_000));
        let task = background.spawn();
        drop(lease);
        let leaks = pool.stats().suspected_leaks;
        let shared = pool.shared().clone();
        rig.end(pool, task);
        drop(shared);
        assert_eq!(leaks, 0, "it is back");
        match log::take("pgweir.leak.")[..] {
            [] | ["pgweir.leak.suspected", "pgweir.leak.resolved"] => {}
            ref other => panic!("the log says {other:?}"),
        }
    });
}
