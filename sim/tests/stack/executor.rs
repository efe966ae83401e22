//! Tasks, timers and the ways in which a run fails.

use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use pgweir_core::runtime::{Runtime, Timer};
use pgweir_core::time::Instant;
use pgweir_sim::net::Output;
use pgweir_sim::scenario::Dist;
use pgweir_sim::{Elapsed, Sim, SimRuntime};

use crate::hosts::{Echo, at, connect, exact, millis, read};

type Log<T> = Arc<Mutex<Vec<T>>>;

/// What a run that must fail says.
pub(crate) fn failure(run: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("it fails");
    panic.downcast_ref::<String>().expect("a text").clone()
}

#[test]
fn timers_fire_in_order_and_exactly_then() {
    let log: Log<(u64, Instant)> = Log::default();
    let sim = exact();
    sim.run(async |sim| {
        for wait in [30, 10, 20, 10] {
            let (log, runtime) = (log.clone(), sim.runtime().clone());
            sim.spawn(async move {
                runtime.timer(at(wait)).await;
                log.lock().unwrap().push((wait, runtime.now()));
            });
        }
        sim.sleep(millis(100)).await;
    });
    assert_eq!(*log.lock().unwrap(), [(10, at(10)), (10, at(10)), (20, at(20)), (30, at(30))]);
    assert_eq!(sim.now(), at(100));
}

#[test]
fn a_timer_is_never_early_and_late_within_its_slack() {
    let slack = Dist::Uniform(millis(1), millis(3));
    let sim = Sim::builder().timer_slack(slack).build();
    sim.run(async |sim| {
        for round in 1..100 {
            let deadline = sim.now() + millis(round);
            sim.runtime().timer(deadline).await;
            let late = sim.now() - deadline;
            assert!((millis(1)..=millis(3)).contains(&late), "{late:?}");
        }
    });
}

#[test]
fn a_timer_can_be_moved_and_used_again() {
    exact().run(async |sim| {
        let mut timer = sim.runtime().timer(at(10));
        assert_eq!(sim.timeout(millis(5), &mut timer).await, Err(Elapsed));
        timer.reset(at(50));
        assert_eq!(sim.timeout(millis(40), &mut timer).await, Err(Elapsed));
        (&mut timer).await;
        assert_eq!(sim.now(), at(50));
        timer.reset(at(60));
        (&mut timer).await;
        assert_eq!(sim.now(), at(60));
        sim.runtime().timer(at(5)).await;
        assert_eq!(sim.now(), at(60), "a deadline that has passed is no wait");
        timer.reset(Instant::MAX);
        assert_eq!(sim.timeout(Duration::from_secs(1 << 20), timer).await, Err(Elapsed));
    });
}

#[test]
fn the_seed_decides_the_order_of_ready_tasks() {
    let order = |seed| {
        let log: Log<u32> = Log::default();
        Sim::builder().exact_seed(seed).build().run(async |sim| {
            for task in 0..10 {
                let log = log.clone();
                sim.spawn(async move { log.lock().unwrap().push(task) });
            }
            sim.sleep(millis(1)).await;
        });
        Arc::into_inner(log).expect("all tasks are gone").into_inner().unwrap()
    };
    assert_eq!(order(1), order(1));
    let orders: std::collections::BTreeSet<_> = (0..20).map(order).collect();
    assert!(orders.len() > 15, "{orders:?}");
    let sorted: Vec<u32> = (0..10).collect();
    for mut order in orders {
        order.sort_unstable();
        assert_eq!(order, sorted);
    }
}

#[test]
fn a_waker_counts_once_and_from_any_thread() {
    let polls = Arc::new(AtomicUsize::new(0));
    exact().run(async |sim| {
        let (waker, wakers) = std::sync::mpsc::channel();
        let counter = polls.clone();
        let task = sim.spawn(poll_fn(move |cx| {
            let _ = waker.send(cx.waker().clone());
            if counter.fetch_add(1, Ordering::Relaxed) == 1 { Poll::Ready(()) } else { Poll::Pending }
        }));
        sim.sleep(millis(1)).await;
        let waker = wakers.recv().expect("it was polled");
        std::thread::spawn(move || {
            waker.wake_by_ref();
            waker.wake_by_ref();
            waker.wake();
        })
        .join()
        .expect("the thread ends");
        task.await;
    });
    assert_eq!(polls.load(Ordering::Relaxed), 2);
}

#[test]
fn a_task_can_be_aborted_where_it_waits_and_while_it_runs() {
    struct Guard(Arc<AtomicUsize>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    exact().run(async |sim| {
        let guard = Guard(drops.clone());
        let task = sim.spawn(async move {
            let _guard = guard;
            pending::<()>().await;
        });
        sim.sleep(millis(1)).await;
        assert!(!task.is_finished());
        task.abort();
        assert_eq!(drops.load(Ordering::Relaxed), 1);

        let guard = Guard(drops.clone());
        let (send, receive) = std::sync::mpsc::channel::<pgweir_sim::JoinHandle<()>>();
        let task = sim.spawn(async move {
            let _guard = guard;
            receive.recv().expect("its own handle").abort();
            pending::<()>().await;
        });
        send.send(task).expect("it waits");
        sim.sleep(millis(1)).await;
        assert_eq!(drops.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn tasks_are_dropped_in_the_order_of_their_spawns_and_may_spawn_then() {
    struct Guard(u32, Log<u32>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.1.lock().unwrap().push(self.0);
            let after = Guard2(self.1.clone());
            SimRuntime::current().spawn("late", async move {
                let _after = after;
            });
        }
    }
    struct Guard2(Log<u32>);
    impl Drop for Guard2 {
        fn drop(&mut self) {
            self.0.lock().unwrap().push(99);
        }
    }
    let log: Log<u32> = Log::default();
    exact().run(async |sim| {
        for number in 0..5 {
            let guard = Guard(number, log.clone());
            sim.spawn(async move {
                let _guard = guard;
                pending::<()>().await;
            });
        }
        sim.sleep(millis(1)).await;
    });
    assert_eq!(*log.lock().unwrap(), [0, 99, 1, 99, 2, 99, 3, 99, 4, 99]);
}

#[test]
fn a_stall_ends_the_run_and_names_the_seed_and_the_tasks() {
    let said = failure(|| {
        Sim::builder().exact_seed(17).build().run(async |sim| {
            sim.spawn_named("worker", pending::<()>());
            sim.spawn_named("worker", pending::<()>());
            sim.sleep(millis(1500)).await;
            pending::<()>().await;
        });
    });
    assert!(said.starts_with("stalled:"), "{said}");
    for part in ["2 x \"worker\"", "at 1.500000000s", "seed 17", "PGWEIR_SIM_SEED=17 cargo test executor::a_stall"] {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
}

#[test]
fn a_run_that_never_ends_is_ended_by_the_time_limit() {
    let said = failure(|| {
        Sim::builder().exact_seed(21).time_limit(Duration::from_secs(3600)).build().run(async |sim| {
            let clock = sim.clone();
            let ticker = async move {
                loop {
                    clock.sleep(Duration::from_secs(60)).await;
                }
            };
            sim.spawn_named::<()>("ticker", ticker).await;
        });
    });
    assert!(said.contains("time limit") && said.contains("1 x \"ticker\"") && said.contains("seed 21"), "{said}");
}

#[test]
fn a_livelock_ends_the_run_and_names_the_task() {
    let said = failure(|| {
        Sim::builder().exact_seed(18).polls_per_instant(1000).build().run(async |sim| {
            let spinning = poll_fn(|cx| {
                cx.waker().wake_by_ref();
                Poll::<()>::Pending
            });
            sim.spawn_named("spinner", spinning).await;
        });
    });
    assert!(
        said.contains("livelock: 1000 polls") && said.contains("\"spinner\"") && said.contains("seed 18"),
        "{said}"
    );
}

#[test]
fn a_panic_in_a_task_ends_the_run_with_its_message_and_the_seed() {
    let said = failure(|| {
        Sim::builder().exact_seed(19).build().run(async |sim| {
            sim.spawn(async { panic!("one and one is {}", 3) });
            sim.sleep(millis(1)).await;
        });
    });
    assert!(said.contains("one and one is 3") && said.contains("seed 19"), "{said}");

    let said = failure(|| Sim::builder().exact_seed(20).build().run(async |_| panic!("in main")));
    assert!(said.contains("in main") && said.contains("seed 20"), "{said}");

    struct Fragile(Option<Sim>);
    impl Drop for Fragile {
        fn drop(&mut self) {
            if self.0.take().is_some() {
                panic!("in a drop");
            }
        }
    }
    let said = failure(|| {
        Sim::builder().exact_seed(22).build().run(async |sim| {
            let fragile = Fragile(Some(sim.clone()));
            sim.spawn(async move {
                let _fragile = fragile;
                pending::<()>().await;
            });
            sim.sleep(millis(1)).await;
        });
    });
    assert!(said.contains("in a drop") && said.contains("seed 22"), "{said}");
}

#[test]
fn many_seeds_stop_at_the_one_that_fails() {
    let mut tried = Vec::new();
    let said = failure(|| {
        Sim::seeds(1..=100, |sim| {
            tried.push(sim.seed());
            let third = tried.len() == 3;
            sim.run(async |_| ());
            assert!(!third, "three is too many");
        });
    });
    assert_eq!(tried, [1, 2, 3]);
    assert!(said.contains("three is too many") && said.contains("seed 3"), "{said}");
}

#[test]
fn a_simulation_runs_once() {
    let sim = exact();
    sim.run(async |_| ());
    assert!(catch_unwind(AssertUnwindSafe(|| sim.run(async |_| ()))).is_err());
}

#[test]
fn while_it_is_suspended_the_network_goes_on_and_nothing_else_does() {
    let sim = exact();
    let db = sim.host("db", 1, Echo::default());
    sim.run(async |sim| {
        let ticks: Log<Instant> = Log::default();
        let (log, clock) = (ticks.clone(), sim.clone());
        sim.spawn(async move {
            loop {
                clock.runtime().timer(clock.now() + millis(10)).await;
                log.lock().unwrap().push(clock.now());
            }
        });
        let mut stream = connect("db", 1).await.expect("it listens");
        db.with(|echo, _| echo.all(&Output::Bytes(b"before".to_vec())));
        db.with(|echo, _| echo.all(&Output::Close));
        let before = sim.now();
        sim.suspend(Duration::from_secs(3600)).await;
        assert_eq!(sim.now(), before + Duration::from_secs(3600));
        assert_eq!(read(&mut stream).await.expect("it came meanwhile"), b"before");
        assert_eq!(read(&mut stream).await.expect("and so did the end"), b"");
        assert_eq!(sim.now(), before + Duration::from_secs(3600), "all at once");
        sim.sleep(millis(1)).await;
        assert_eq!(*ticks.lock().unwrap(), [before + Duration::from_secs(3600)], "one tick, late");
    });
}

#[test]
fn the_wall_clock_can_be_set_and_only_people_see_it() {
    exact().run(async |sim| {
        let begin = Duration::from_secs(1_767_225_600);
        assert_eq!(sim.runtime().unix_time(), begin);
        sim.sleep(millis(1500)).await;
        assert_eq!(sim.runtime().unix_time(), begin + millis(1500));
        sim.set_wall_clock(Duration::from_secs(5));
        sim.sleep(millis(500)).await;
        assert_eq!((sim.runtime().unix_time(), sim.now()), (millis(5500), at(2000)));
    });
}

#[test]
fn pools_get_seeds_of_their_own_from_the_runs() {
    let seeds = |seed| {
        let sim = Sim::builder().exact_seed(seed).build();
        [sim.runtime().seed(), sim.runtime().seed()]
    };
    assert_eq!(seeds(1), seeds(1));
    assert!(seeds(1)[0] != seeds(1)[1] && seeds(1)[0] != seeds(2)[0]);
}
