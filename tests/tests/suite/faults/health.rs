//! What a pool says of itself (R-8, PEERS 34, 41).

use std::time::Instant;

use pgweir_core::pool::{DatabaseStatus, State, Status};
use pgweir_tests::Proxy;

use super::load::Load;
use super::outage::{hurried, ms};
use crate::suite::common::{config, open, run, server, unique, until};
use crate::suite::rt;

/// PEERS 34: every connection is lent and callers queue: that is busy, not sick.
#[test]
fn a_busy_pool_is_healthy() {
    run(async |_trace| {
        let pool = open(config(&server().url(), &unique("busy")).min_size(3).max_size(3)).await;
        let load = Load::start(&pool, 30);
        until("it is busy", || pool.status().active == 3 && pool.status().waiting > 10).await;
        let began = Instant::now();
        let mut looks = 0;
        while began.elapsed() < ms(500) {
            let health = pool.health();
            assert_eq!((health.status, health.state), (Status::Healthy, State::Healthy), "{health:?}");
            assert_eq!(health.database.status, DatabaseStatus::Connected);
            looks += 1;
            rt::yield_now().await;
        }
        assert!(looks > 500, "R-8.2: {looks} looks in half a second");
        load.finish().await;
    });
}

/// PEERS 34, 41: through the whole of an outage health says that the database is disconnected, whatever else is wrong:
/// a suspected leak does not make it any better. Looking changes nothing, and is quick all the while.
#[test]
fn an_outage_is_never_called_connected() {
    run(async |trace| {
        let proxy = Proxy::start(server().address()).expect("a proxy");
        let url = server().url_via(proxy.port());
        let wary = hurried(config(&url, &unique("sick")).min_size(2).max_size(4)).leak_detection_timeout(ms(600));
        let pool = open(wary).await;
        let held = pool.get().await.expect("a connection");
        let load = Load::start(&pool, 4);
        trace.wait("pgweir.leak.suspected", 1).await;
        assert_eq!(pool.health().status, Status::Degraded);
        proxy.refuse();
        proxy.reset_all();
        trace.wait("pgweir.connectivity.lost", 1).await;
        let began = Instant::now();
        let mut looks = Vec::new();
        while began.elapsed() < ms(800) {
            let asked = Instant::now();
            let health = pool.health();
            looks.push(asked.elapsed());
            assert_eq!((health.status, health.state), (Status::Unhealthy, State::Unhealthy), "{health:?}");
            assert_eq!(health.database.status, DatabaseStatus::Disconnected, "{health:?}");
            assert_eq!(health.leak_count, 1, "{health:?}");
            assert!(health.reasons.len() >= 2, "{health:?}");
            rt::yield_now().await;
        }
        looks.sort_unstable();
        let median = looks[looks.len() / 2];
        assert!(median < ms(1), "a look takes {median:?}");
        let (before, _, after) = (pool.stats(), pool.health(), pool.stats());
        assert_eq!(before.last_health_check, after.last_health_check);
        proxy.listen().expect("it listens");
        trace.wait("pgweir.connectivity.recovered", 1).await;
        assert_eq!(pool.health().leak_count, 1, "still held");
        drop(held);
        until("healthy again, with nothing left over", || {
            let health = pool.health();
            health.status == Status::Healthy && health.leak_count == 0 && health.reasons.is_empty()
        })
        .await;
        load.finish().await;
    });
}
