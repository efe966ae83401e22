//! acquiring.

use std::panic::Location;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pgweir_core::error::AcquireError;
use pgweir_core::pool::WaitPhase;
use pgweir_tests::{Direction, Signal};
use tracing::Level;

use super::{backends, named, pid, proxied};
use crate::suite::common::sampler::Sampler;
use crate::suite::common::{open, run, server, until};
use crate::suite::rt;

/// 100 concurrent requests over 10 connections: no deadlock, no timeout, each gets its own answer; the server
/// never sees more than ten backends.
#[test]
fn a_hundred_tasks_over_ten_connections() {
    run(|_| async {
        let pool = open(named("acquire-hundred")).await;
        let most = Arc::new(Mutex::new(0));
        let sampled = most.clone();
        let sampler = Sampler::start(move || {
            let seen = backends("acquire-hundred");
            let mut most = sampled.lock().unwrap();
            *most = seen.max(*most);
        });
        let tasks: Vec<_> = (0..100)
            .map(|task| {
                let pool = pool.clone();
                rt::spawn(async move {
                    for round in 0..20 {
                        let number = task * 1_000 + round;
                        let mut client = pool.get().await.expect("no timeout");
                        let row = client.query_one("SELECT $1::int, pg_sleep(0.0005)", &[&number]).await.unwrap();
                        assert_eq!(row.get::<_, i32>(0), number);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let stats = pool.stats();
        assert_eq!((stats.total_acquisitions, stats.total_releases, stats.queries), (2_000, 2_000, 2_000));
        assert_eq!((stats.timeouts, stats.rejected, stats.peak_active_connections), (0, 0, 10));
        sampler.end();
        let most = *most.lock().unwrap();
        assert!((5..=10).contains(&most), "{most} backends at once");
    });
}

/// an idle connection is used before one is opened; growth goes one by one up to max_size and no further.
#[test]
fn growth_up_to_max_size() {
    run(|_| async {
        let pool = open(named("acquire-growth").max_size(4)).await;
        let mut leases = Vec::new();
        for held in 1..=4 {
            leases.push(pool.get().await.unwrap());
            assert_eq!(pool.status().total, held.max(2), "no connection without need");
            assert_eq!(backends("acquire-growth"), held.max(2) as usize);
        }
        assert!(matches!(pool.try_get(), Err(AcquireError::WouldBlock)));
        let error = pool.get_timeout(Duration::from_millis(30)).await.unwrap_err();
        assert!(matches!(error, AcquireError::Timeout(_)), "{error}");
        assert_eq!((backends("acquire-growth"), pool.stats().opened), (4, 4));
        let mut pids = Vec::new();
        for lease in &mut leases {
            pids.push(pid(lease).await);
        }
        pids.sort_unstable();
        pids.dedup();
        assert_eq!(pids.len(), 4, "one holder for each connection");
    });
}

/// PEERS 10 and 39: grants follow the order of arrival, and a caller that comes while others wait does not
/// overtake them.
#[test]
fn first_come_first_served() {
    run(|_| async {
        let pool = open(named("acquire-fifo").max_size(2)).await;
        let mut held = vec![pool.get().await.unwrap(), pool.get().await.unwrap()];
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiters = Vec::new();
        for n in 0..20 {
            let (pool, order) = (pool.clone(), order.clone());
            let before = pool.status().waiting;
            let watched = pool.clone();
            waiters.push(rt::spawn(async move {
                let lease = pool.get().await.unwrap();
                order.lock().unwrap().push(n);
                drop(lease);
                // It comes again at once, as a loop does: behind everybody else.
                drop(pool.get().await.unwrap());
                order.lock().unwrap().push(100 + n);
            }));
            until("one more waits", || watched.status().waiting == before + 1).await;
            assert!(matches!(watched.try_get(), Err(AcquireError::WouldBlock)));
        }
        // One connection only, so that the order of the grants is the order seen.
        drop(held.pop());
        for waiter in waiters {
            waiter.await.unwrap();
        }
        let order = order.lock().unwrap();
        let first: Vec<i32> = order.iter().copied().filter(|n| *n < 100).collect();
        assert!(first.iter().copied().eq(0..20), "{order:?}");
        assert_eq!(order[..20], first, "nobody came a second time before everybody had come once");
    });
}

/// PEERS 4: a timeout tells how long, for what, how many, who is ahead, who holds connections and where in the
/// source they got them, and what to do. The event has the same.
#[test]
fn a_timeout_explains_itself() {
    run(|trace| async move {
        let pool = open(named("acquire-timeout").max_size(2).acquire_timeout(Duration::from_millis(80))).await;
        let first_line = Location::caller().line() + 1;
        let first = pool.get().await.unwrap();
        super::elapse(Duration::from_millis(20)).await;
        let second = pool.get().await.unwrap();
        let (front, back) = rt::join(pool.get_timeout(Duration::from_secs(1)), pool.get()).await;
        let errors: Vec<AcquireError> = [front, back].into_iter().map(Result::unwrap_err).collect();
        for (position, error) in errors.iter().enumerate() {
            let AcquireError::Timeout(report) = error else { panic!("{error:?}") };
            let limit = Duration::from_millis(if position == 0 { 1_000 } else { 80 });
            assert!(report.waited >= limit && report.waited < limit + Duration::from_secs(4), "{error}");
            assert_eq!((report.phase, report.position as usize), (WaitPhase::InQueue, position));
            let counts = report.counts;
            assert_eq!((counts.total, counts.active, counts.idle, counts.max), (2, 2, 0, 2));
            assert!(report.last_fault.is_none());
            let holders: Vec<_> = report.holders.iter().map(|holder| (holder.conn, holder.held)).collect();
            assert_eq!((holders[0].0, holders[1].0), (first.id(), second.id()), "the longest first");
            assert!(holders[0].1 >= holders[1].1 && holders[1].1 >= Duration::from_millis(80));
            let location = report.holders[0].location.expect("a source line");
            assert_eq!((location.file(), location.line()), (file!(), first_line));
            let text = error.to_string();
            for part in [
                "waiting for a lease to end",
                &format!("position {} in the queue", position + 1),
                "total 2/2, active 2, idle 0",
                &format!("longest held: {}:{first_line}:", file!()),
                "hold leases for a shorter time",
            ] {
                assert!(text.contains(part), "{part:?} is not in {text:?}");
            }
            assert!(error.is_transient());
        }
        let mut events = trace.named("pgweir.acquire.timeout");
        events.retain(|event| event.number("max") == 2);
        assert_eq!((events.len(), events[0].level), (2, Level::ERROR));
        assert!(events[0].number("waited_ms") >= 80 && events[0].number("active") == 2, "{}", events[0]);
        assert!(events[0].field("message").contains(file!()), "{}", events[0]);
        let holders = pool.holders();
        assert_eq!((holders.len(), holders[0].conn), (2, first.id()));
        let stats = pool.stats();
        assert_eq!((stats.timeouts, stats.total_acquisitions), (2, 2));
    });
}

/// what is waited for is told apart: a connect that takes long, a paused pool, a check.
#[test]
fn a_timeout_names_the_phase() {
    run(|_| async {
        let (proxy, config) = proxied("acquire-phase");
        let pool = open(config.min_size(1).max_size(2).validation_interval(Duration::ZERO)).await;
        proxy.black_hole(pgweir_tests::Scope::All);
        let phase = async |limit: u64| {
            let error = pool.get_timeout(Duration::from_millis(limit)).await.unwrap_err();
            let AcquireError::Timeout(report) = error else { panic!("{error:?}") };
            (report.phase, report.suggestion())
        };
        assert_eq!(phase(40).await.0, WaitPhase::Validating);
        // The check took too long to count on: a connect is tried beside it.
        assert_eq!(phase(600).await.0, WaitPhase::Connecting);
        proxy.resume();
        until("it is over", || pool.status().connecting + pool.status().validating == 0).await;
        pool.pause();
        let (paused, suggestion) = phase(20).await;
        assert_eq!(paused, WaitPhase::Paused);
        assert!(suggestion.contains("resume()"), "{suggestion}");
    });
}

/// each call may have its own patience, shorter or longer than the pool's.
#[test]
fn patience_per_call() {
    run(|_| async {
        let pool = open(named("acquire-patience").max_size(1).acquire_timeout(Duration::from_millis(40))).await;
        let held = pool.get().await.unwrap();
        let started = Instant::now();
        let error = pool.get().await.unwrap_err();
        assert!(matches!(error, AcquireError::Timeout(report) if report.waited >= Duration::from_millis(40)));
        assert!(started.elapsed() >= Duration::from_millis(40));
        let error = pool.get().timeout(Duration::from_millis(5)).await.unwrap_err();
        assert!(matches!(error, AcquireError::Timeout(report) if report.waited < Duration::from_millis(40)));
        let (long, ()) = rt::join(pool.get_timeout(Duration::from_secs(60)), async {
            super::elapse(Duration::from_millis(80)).await;
            drop(held);
        })
        .await;
        long.unwrap();
    });
}

/// `try_get` takes what is free now, without a wait and without a round trip, and says so when nothing is; a database
/// that is down it calls by its name (PEERS 25).
#[test]
fn try_get_never_waits() {
    run(|_| async {
        let (proxy, config) = proxied("acquire-try");
        let pool = open(config.max_size(2)).await;
        proxy.black_hole(pgweir_tests::Scope::All);
        let first = pool.try_get().unwrap();
        let second = pool.try_get().unwrap();
        let error = pool.try_get().unwrap_err();
        assert!(matches!(error, AcquireError::WouldBlock) && error.to_string().contains("use get()"), "{error}");
        drop(first);
        drop(pool.try_get().unwrap());
        drop(second);
        let stats = pool.stats();
        assert_eq!((stats.total_acquisitions, stats.rejected), (3, 1));
        proxy.pass().unwrap();
    });
}

/// an acquire dropped while it waits is gone from the queue, and the next one gets what it would have got.
#[test]
fn a_dropped_acquire_strands_nobody() {
    run(|_| async {
        let pool = open(named("acquire-dropped").max_size(1)).await;
        let held = pool.get().await.unwrap();
        let waiters: Vec<_> = (0..5)
            .map(|n| {
                let pool = pool.clone();
                (n, rt::spawn(async move { pool.get().await.map(drop) }))
            })
            .collect();
        until("five wait", || pool.status().waiting == 5).await;
        for (n, waiter) in &waiters {
            if n % 2 == 0 {
                waiter.abort();
            }
        }
        until("two wait", || pool.status().waiting == 2).await;
        drop(held);
        for (n, waiter) in waiters {
            assert_eq!(waiter.await.is_ok_and(|granted| granted.is_ok()), n % 2 == 1);
        }
        let stats = pool.stats();
        assert_eq!((stats.cancelled, stats.total_acquisitions, stats.total_releases), (3, 3, 3));
    });
}

/// PEERS 11: acquires dropped at any moment, 2,000 of them from eight tasks over three connections, cost nobody
/// a connection or a wake-up: the numbers add up and the pool is whole.
#[test]
fn many_dropped_acquires() {
    run(|_| async {
        let pool = open(named("acquire-chaos").max_size(3)).await;
        let tasks: Vec<_> = (0..8u64)
            .map(|task| {
                let pool = pool.clone();
                rt::spawn(async move {
                    for round in 0..250u64 {
                        let patience = Duration::from_micros((task * 37 + round * 101) % 700);
                        if let Ok(lease) = rt::timeout(patience, pool.get()).await {
                            let mut lease = lease.expect("a connection");
                            if round % 2 == 0 {
                                lease.query_one("SELECT pg_sleep(0.0005)", &[]).await.expect("an answer");
                            }
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        until("everything is at home", || pool.status().idle == pool.status().total).await;
        let stats = pool.stats();
        assert_eq!((stats.active, stats.waiting, stats.timeouts), (0, 0, 0));
        assert_eq!(stats.total_acquisitions, stats.total_releases);
        assert!(stats.opened <= 3 && stats.cancelled > 0, "{stats:?}");
        for _ in 0..3 {
            pool.get().await.unwrap().query_one("SELECT 1", &[]).await.unwrap();
        }
    });
}

/// DESIGN 2, rule 5: the queue is bounded; who comes when it is full is told so at once.
#[test]
fn the_queue_is_bounded() {
    run(|_| async {
        let pool = open(named("acquire-bounded").max_size(1).max_waiting(3)).await;
        let held = pool.get().await.unwrap();
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                rt::spawn({
                    let pool = pool.clone();
                    async move { pool.get().await.map(drop) }
                })
            })
            .collect();
        until("three wait", || pool.status().waiting == 3).await;
        let error = pool.get().await.unwrap_err();
        assert!(matches!(error, AcquireError::QueueFull { max_waiting: 3 }), "{error:?}");
        assert!(error.to_string().contains("max_waiting"), "{error}");
        drop(held);
        for waiter in waiters {
            waiter.await.unwrap().unwrap();
        }
    });
}

/// connections that died while idle cost the next callers nothing but the time of a connect: all ten are ended
/// by the server, ten callers come at once, none sees an error.
#[test]
fn dead_idle_connections_are_replaced_unseen() {
    run(|_| async {
        let pool = open(named("acquire-dead").min_size(10)).await;
        for _ in 0..2 {
            let before = crate::suite::common::backends(server(), "acquire-dead");
            for pid in &before {
                server().kill_backend(*pid, Signal::TERM).unwrap();
            }
            let are_gone =
                || crate::suite::common::backends(server(), "acquire-dead").iter().all(|pid| !before.contains(pid));
            until("the backends end", are_gone).await;
            let callers: Vec<_> = (0..10)
                .map(|n| {
                    let pool = pool.clone();
                    rt::spawn(async move {
                        let mut client = pool.get().await.expect("a connection");
                        let row = client.query_one("SELECT $1::int, pg_sleep(0.02)", &[&n]).await.expect("a sound one");
                        assert_eq!(row.get::<_, i32>(0), n);
                    })
                })
                .collect();
            for caller in callers {
                caller.await.unwrap();
            }
            until("the pool is whole again", || pool.status().idle == 10).await;
        }
    });
}

/// A connection that its user finds wanting is given back to be closed, and replaced.
#[test]
fn discarded_leases() {
    run(|trace| async move {
        let pool = open(named("acquire-discard").max_size(2)).await;
        let mut client = pool.get().await.unwrap();
        let pid = pid(&mut client).await;
        client.discard();
        until("its backend ends", || {
            !crate::suite::common::backends(server(), "acquire-discard").contains(&(pid as u32))
        })
        .await;
        until("min_size is restored", || pool.status().idle == 2).await;
        let recycled = trace.wait("pgweir.connection.recycled", 1).await;
        assert_eq!(recycled.field("reason"), "discarded");
        assert!(pool.health().reasons.is_empty(), "that says nothing about the server");
    });
}

/// PEERS 6: a caller's timeout does not end the connect that it caused; what comes late serves the next.
#[test]
fn a_connect_outlives_its_caller() {
    run(|_| async {
        let (proxy, config) = proxied("acquire-late");
        let pool = open(config.min_size(0).max_size(3)).await;
        proxy.set_delay(Direction::ToClient, Duration::from_millis(40));
        assert!(matches!(pool.get_timeout(Duration::from_millis(30)).await, Err(AcquireError::Timeout(_))));
        until("the connect has finished", || pool.status().idle == 1).await;
        assert_eq!(proxy.stats().accepted.len(), 1);
        drop(pool.try_get().unwrap());
        proxy.pass().unwrap();
    });
}
