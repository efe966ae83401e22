//! Resize, pause, recycle (issue 2, item 4), on the server's own count.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use pgweir_core::error::AcquireError;
use pgweir_core::pool::{Status, WaitPhase};

use super::{backends, elapse, named, pid};
use crate::suite::common::sampler::Sampler;
use crate::suite::common::{backends_meanwhile, open, run, server, until, wait_for_backends};
use crate::suite::rt::{self, Pool};

/// Tasks that query all the time until told to stop; each gives the number of its queries, and none may fail.
struct Load {
    over: Arc<AtomicBool>,
    tasks: Vec<rt::Task<u64>>,
}

impl Load {
    fn on(pool: &Pool, tasks: usize) -> Load {
        let over = Arc::new(AtomicBool::new(false));
        let task = || {
            let (pool, over) = (pool.clone(), over.clone());
            rt::spawn(async move {
                let mut served = 0;
                while !over.load(Ordering::Relaxed) {
                    let mut client = pool.get().await.expect("a connection");
                    client.query_one("SELECT pg_sleep(0.0005)", &[]).await.expect("an answer");
                    served += 1;
                }
                served
            })
        };
        Load { tasks: (0..tasks).map(|_| task()).collect(), over }
    }

    async fn end(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        let mut served = 0;
        for task in self.tasks {
            served += task.await.expect("no request failed");
        }
        served
    }
}

/// DESIGN 4, Cap, and PEERS 12 and 32: up and down under load, the server never sees more backends than the larger of
/// the old bound and the new, and never more than the new one once the pool says that it is there.
#[test]
fn resized_under_load() {
    run(|_| async {
        let pool = open(named("resize-load").min_size(1).max_size(8)).await;
        let cap = Arc::new(AtomicU32::new(8));
        let (in_force, mut session) = (cap.clone(), server().client().unwrap());
        let sampler = Sampler::start(move || {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'resize-load'";
            let before = in_force.load(Ordering::SeqCst);
            let seen: u32 = session.query(sql).unwrap()[0].text(0).parse().unwrap();
            let allowed = before.max(in_force.load(Ordering::SeqCst));
            assert!(seen <= allowed, "{seen} backends where {allowed} are allowed");
        });
        let load = Load::on(&pool, 16);
        let mut sizes = [2, 8, 1, 5, 3, 8, 2, 7, 1, 8].into_iter().cycle();
        let mut resizes = 0;
        while resizes < 20 || sampler.looks() < 100 {
            let new = sizes.next().expect("without end");
            cap.fetch_max(new, Ordering::SeqCst);
            pool.resize(1, new);
            until("the bound is reached", || pool.status().total <= new).await;
            cap.store(new, Ordering::SeqCst);
            if new > 1 {
                until("the pool grows again", || pool.status().total == new).await;
            }
            resizes += 1;
        }
        assert!(load.end().await > 20);
        sampler.end();
        let stats = pool.stats();
        assert_eq!((stats.timeouts, stats.rejected), (0, 0));
    });
}

/// PEERS 12: 4 to 2 to 4 with all four lent is still four; a smaller bound takes idle connections at once and lent ones
/// when they come back.
#[test]
fn resized_while_lent() {
    run(|_| async {
        let pool = open(named("resize-lent").max_size(4)).await;
        let mut leases = Vec::new();
        for _ in 0..4 {
            leases.push(pool.get().await.unwrap());
        }
        pool.resize(1, 2);
        pool.resize(1, 4);
        assert!(matches!(pool.get_timeout(Duration::from_millis(20)).await, Err(AcquireError::Timeout(_))));
        assert_eq!((pool.status().total, backends("resize-lent")), (4, 4));
        pool.resize(0, 2);
        for lease in &mut leases {
            lease.query_one("SELECT 1", &[]).await.expect("a lease is not taken away");
        }
        drop(leases.split_off(2));
        until("what came back is closed", || pool.status().total == 2).await;
        wait_for_backends(server(), "resize-lent", 2).await;
        assert!(matches!(pool.try_get(), Err(AcquireError::WouldBlock)));
        drop(leases);
        until("the rest is idle", || pool.status().idle == 2).await;
        pool.resize(0, 1);
        until("an idle one goes at once", || pool.status().total == 1).await;
        wait_for_backends(server(), "resize-lent", 1).await;
    });
}

/// A larger bound serves those who wait, at once; a larger min_size is reached with no caller's help.
#[test]
fn growing_serves_waiters() {
    run(|trace| async move {
        let pool = open(named("resize-grow").max_size(1)).await;
        let held = pool.get().await.unwrap();
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let pool = pool.clone();
                rt::spawn(async move { pid(&mut pool.get().await.unwrap()).await })
            })
            .collect();
        until("two wait", || pool.status().waiting == 2).await;
        pool.resize(1, 3);
        for waiter in waiters {
            waiter.await.unwrap();
        }
        drop(held);
        pool.resize(6, 9);
        until("the new min_size is open", || pool.status().idle == 6).await;
        assert_eq!(backends("resize-grow"), 6);
        let resized = trace.named("pgweir.pool.resized");
        assert_eq!((resized.len(), resized[1].number("min_size"), resized[1].number("max_size")), (2, 6, 9));
    });
}

/// While paused nothing is granted and acquires queue with their deadlines running; resumed, they are served in order.
#[test]
fn pause_and_resume() {
    run(|trace| async move {
        let pool = open(named("pause")).await;
        let mut held = pool.get().await.unwrap();
        pool.pause();
        pool.pause();
        held.query_one("SELECT 1", &[]).await.expect("a lease is not disturbed");
        drop(held);
        assert!(matches!(pool.try_get(), Err(AcquireError::WouldBlock)));
        let Err(AcquireError::Timeout(report)) = pool.get_timeout(Duration::from_millis(20)).await else {
            panic!("paused")
        };
        assert_eq!(report.phase, WaitPhase::Paused);
        let health = pool.health();
        assert_eq!((health.status, health.reasons.len()), (Status::Degraded, 1), "{health:?}");
        let waiter = rt::spawn({
            let pool = pool.clone();
            async move { pool.get().await.map(drop) }
        });
        until("one waits", || pool.status().waiting == 1).await;
        assert_eq!(pool.status().idle, 2);
        pool.resume();
        waiter.await.unwrap().unwrap();
        assert_eq!(pool.health().status, Status::Healthy);
        assert_eq!((trace.count("pgweir.pool.paused"), trace.count("pgweir.pool.resumed")), (1, 1));
        // Paused for good, it can still be closed.
        pool.pause();
        let waiter = rt::spawn({
            let pool = pool.clone();
            async move { pool.get().await.map(drop) }
        });
        until("one waits", || pool.status().waiting == 1).await;
        let report = pool.close().await;
        assert_eq!((report.finished, report.rejected), (0, 1));
        assert!(matches!(waiter.await.unwrap(), Err(AcquireError::Closed)));
    });
}

/// Recycled under load, every connection is another one afterwards, and no request fails.
#[test]
fn recycled_under_load() {
    run(|trace| async move {
        let pool = open(named("recycle-all").min_size(5).max_size(6)).await;
        let load = Load::on(&pool, 10);
        for _ in 0..3 {
            let before: BTreeSet<u32> = backends_meanwhile("recycle-all").await.into_iter().collect();
            assert!(before.len() >= 4, "{before:?}");
            pool.recycle();
            while backends_meanwhile("recycle-all").await.iter().any(|pid| before.contains(pid)) {}
        }
        assert!(load.end().await > 50);
        until("min_size holds", || pool.status().idle >= 5).await;
        assert!(trace.named("pgweir.connection.recycled").iter().all(|event| event.field("reason") == "recycle"));
        assert_eq!((trace.count("pgweir.pool.recycle"), pool.stats().timeouts), (3, 0));
        assert_eq!(pool.health().status, Status::Healthy);
    });
}

/// Recycling leaves a lease alone until it comes back; an idle pool is replaced with nobody's help, with min_size of
/// connections there all the time.
#[test]
fn recycled_at_rest() {
    run(|_| async {
        let pool = open(named("recycle-rest").max_size(4)).await;
        let mut held = pool.get().await.unwrap();
        let own = pid(&mut held).await;
        let before = backends_meanwhile("recycle-rest").await;
        pool.recycle();
        let kept = async || {
            let now = backends_meanwhile("recycle-rest").await;
            assert!(now.len() >= 2, "{now:?}");
            now.iter().filter(|pid| before.contains(pid)).count()
        };
        while kept().await != 1 {}
        elapse(Duration::from_millis(50)).await;
        assert_eq!(pid(&mut held).await, own);
        drop(held);
        while kept().await != 0 {}
        until("two are idle", || pool.status().idle == 2).await;
    });
}
