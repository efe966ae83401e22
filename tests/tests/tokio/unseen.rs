//! About tokio's current-thread runtime, because the test needs a pool whose only thread is its caller's: elsewhere the
//! pool has a thread of its own and sees everything.

use pgweir_tests::LocalPostgres;

use crate::suite::common::{config, open};

/// PEERS 26: the server restarts while every connection is idle and the pool has no chance to look: its only thread is
/// the one that restarts the server. Nobody gets a dead connection all the same.
#[test]
fn a_restart_while_idle_costs_nobody_anything() {
    let server = LocalPostgres::start().expect("a server");
    crate::block_on(async {
        let pool = open(config(&server.url(), "unseen").min_size(6).max_size(6)).await;
        let old: Vec<i32> = {
            let mut leases = Vec::new();
            for _ in 0..6 {
                leases.push(pool.get().await.expect("a connection"));
            }
            leases.iter().map(|lease| lease.backend_pid()).collect()
        };
        server.restart().expect("it restarts");
        assert_eq!(pool.status().idle, 6, "nothing has run yet");
        let mut leases = Vec::new();
        for _ in 0..6 {
            let mut lease = pool.get().await.expect("a connection");
            lease.batch_execute("SELECT 1").await.expect("one that works");
            assert!(!old.contains(&lease.backend_pid()));
            leases.push(lease);
        }
    });
}
