//! recycling by query count, lifetime and idle time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::{elapse, named, pid, proxied};
use crate::suite::common::sampler::Sampler;
use crate::suite::common::{backends, open, run, server, until, wait_for_backends};
use crate::suite::rt;

/// a connection serves max_queries, then another takes its place; never under a caller, however many he sends.
#[test]
fn by_query_count() {
    run(|trace| async move {
        let pool = open(named("recycle-queries").max_size(1).max_queries(5)).await;
        let mut pids = Vec::new();
        for _ in 0..20 {
            pids.push(pid(&mut pool.get().await.unwrap()).await);
        }
        let runs: Vec<usize> = pids.chunk_by(|a, b| a == b).map(<[i32]>::len).collect();
        assert_eq!(runs, [5, 5, 5, 5], "{pids:?}");
        let mut client = pool.get().await.unwrap();
        let own = pid(&mut client).await;
        for _ in 0..12 {
            assert_eq!(pid(&mut client).await, own);
        }
        drop(client);
        assert_ne!(pid(&mut pool.get().await.unwrap()).await, own);
        let recycled = trace.named("pgweir.connection.recycled");
        assert_eq!(recycled.len(), 5);
        assert!(recycled.iter().all(|event| event.field("reason") == "query_limit"), "{}", trace.tail(40));
    });
}

/// connections are replaced at the end of their lifetime, used or not: before they go where there is room, so
/// that min_size holds at every moment; not all at once; and no caller notices.
#[test]
fn by_lifetime() {
    run(|trace| async move {
        let lifetime = Duration::from_millis(600);
        let pool = open(named("recycle-lifetime").min_size(4).max_size(8).max_connection_lifetime(lifetime)).await;
        let first: BTreeSet<u32> = backends(server(), "recycle-lifetime").into_iter().collect();
        let sampled = pool.clone();
        let sampler = Sampler::start(move || {
            let s = sampled.status();
            // One may be retired when its caller, who kept it past its time, returns it.
            let usable = s.idle + s.active + s.validating + s.resetting;
            assert!(usable + 1 >= 4 && s.total <= 8, "{s:?}");
        });
        // The first generation is never used; from then on there is one caller all the time.
        trace.wait("pgweir.connection.recycled", 4).await;
        let mut served = 0;
        while trace.count("pgweir.connection.recycled") < 12 {
            pool.get().await.unwrap().query_one("SELECT 1", &[]).await.unwrap();
            served += 1;
        }
        assert!(sampler.end() > 100 && served > 0);
        let recycled = trace.named("pgweir.connection.recycled");
        assert!(recycled.iter().all(|event| event.field("reason") == "lifetime"));
        let ages: Vec<u64> = recycled.iter().map(|event| event.number("age_ms")).collect();
        // Up to 10 % shorter, so that they do not end together; a replacement starts up to 5 % earlier still.
        assert!(ages.iter().all(|age| (500..1_500).contains(age)), "{ages:?}");
        assert!(ages[..4].iter().collect::<BTreeSet<_>>().len() > 1, "all at once: {ages:?}");
        let now: BTreeSet<u32> = backends(server(), "recycle-lifetime").into_iter().collect();
        assert!(first.is_disjoint(&now), "{first:?} {now:?}");
    });
}

/// a connection held past its lifetime works until it comes back; then it is retired.
#[test]
fn held_past_its_lifetime() {
    run(|trace| async move {
        let lifetime = Duration::from_millis(150);
        let pool = open(named("recycle-held").max_size(1).max_connection_lifetime(lifetime)).await;
        let mut client = pool.get().await.unwrap();
        let own = pid(&mut client).await;
        elapse(lifetime * 2).await;
        assert_eq!(pid(&mut client).await, own);
        assert_eq!(trace.count("pgweir.connection.recycled"), 0);
        drop(client);
        assert_ne!(pid(&mut pool.get().await.unwrap()).await, own);
        assert_eq!(trace.named("pgweir.connection.recycled")[0].field("reason"), "lifetime");
    });
}

/// PEERS 14 and 15: what is idle for max_idle_time goes, promptly and down to min_size; those that stay are
/// left alone.
#[test]
fn by_idle_time() {
    run(|_| async {
        let idle = Duration::from_millis(300);
        let pool = open(named("recycle-idle").max_idle_time(idle)).await;
        let kept = backends(server(), "recycle-idle");
        let mut leases = Vec::new();
        for _ in 0..5 {
            leases.push(pool.get().await.unwrap());
        }
        assert_eq!(pool.status().total, 5);
        // Idle time starts at the release: held for longer than it, they are not gone at once.
        elapse(idle * 2).await;
        let released = Instant::now();
        drop(leases);
        until("the pool shrinks", || pool.status().total < 5).await;
        let waited = released.elapsed();
        assert!(waited >= idle && waited < idle + Duration::from_secs(2), "{waited:?}");
        until("it is at min_size", || pool.status().total == 2).await;
        elapse(idle * 2).await;
        wait_for_backends(server(), "recycle-idle", 2).await;
        assert_eq!((pool.status().idle, pool.stats().opened), (2, 5), "nothing is opened and closed for its own sake");
        assert_eq!(kept.len(), 2);
    });
}

/// The connection that was used last is used next, so that the others can go: under light use a pool that has grown
/// shrinks.
#[test]
fn the_last_used_is_used_first() {
    run(|_| async {
        let idle = Duration::from_millis(300);
        let pool = open(named("recycle-stack").min_size(1).max_size(4).max_idle_time(idle)).await;
        drop(rt::join(rt::join(pool.get(), pool.get()), rt::join(pool.get(), pool.get())).await);
        until("all four are idle", || pool.status().idle == 4).await;
        let mut served: BTreeMap<i32, u32> = BTreeMap::new();
        while pool.status().total > 1 {
            *served.entry(pid(&mut pool.get().await.unwrap()).await).or_default() += 1;
        }
        let all: u32 = served.values().sum();
        assert!(served.values().any(|count| count * 10 >= all * 9), "{served:?}");
    });
}

/// edge: a replacement that fails does not take the pool down with it: when connects work again, min_size
/// returns, with nobody's help.
#[test]
fn a_failed_replacement() {
    run(|trace| async move {
        let (proxy, config) = proxied("recycle-failed");
        let config =
            config.max_connection_lifetime(Duration::from_millis(400)).backoff_initial(Duration::from_millis(50));
        let pool = open(config.backoff_max(Duration::from_millis(100))).await;
        let first = backends(server(), "recycle-failed");
        proxy.refuse();
        trace.wait("pgweir.connectivity.lost", 1).await;
        wait_for_backends(server(), "recycle-failed", 0).await;
        proxy.listen().unwrap();
        trace.wait("pgweir.connectivity.recovered", 1).await;
        until("min_size is restored", || pool.status().idle >= 2).await;
        let second = backends(server(), "recycle-failed");
        assert!(second.len() >= 2 && second.iter().all(|pid| !first.contains(pid)), "{first:?} {second:?}");
        pool.get().await.unwrap().query_one("SELECT 1", &[]).await.unwrap();
    });
}
