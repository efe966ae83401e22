//! Tasks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pgweir_core::runtime::Runtime;

use super::World;
use super::io::{ms, until, within};
use crate::kit::{TaskError, sleep, spawn, yield_now};

/// Counts itself when it is done.
fn counting(count: &Arc<AtomicUsize>) -> impl Future<Output = ()> + Send + use<> {
    let count = count.clone();
    async move {
        yield_now().await;
        count.fetch_add(1, Ordering::SeqCst);
    }
}

async fn reaches<R: Runtime>(count: &AtomicUsize, goal: usize) {
    until::<R>("every task has run", || count.load(Ordering::SeqCst) == goal).await;
}

/// Tasks make progress while the one who spawned them waits for something else, and beside one another.
pub async fn run_while_the_caller_waits<R: Runtime, W: World>() {
    let (runtime, count) = (R::current(), Arc::default());
    for _ in 0..1_000 {
        runtime.spawn("test", counting(&count));
    }
    reaches::<R>(&count, 1_000).await;
    // Beside one another: each waits for the other.
    let turn = Arc::new(AtomicUsize::new(0));
    for own in 0..2 {
        let (turn, count, runtime) = (turn.clone(), count.clone(), runtime.clone());
        runtime.clone().spawn("test", async move {
            for round in 0..10 {
                while turn.load(Ordering::SeqCst) != round * 2 + own {
                    sleep(&runtime, Duration::from_micros(100)).await;
                }
                turn.fetch_add(1, Ordering::SeqCst);
            }
            count.fetch_add(1, Ordering::SeqCst);
        });
    }
    reaches::<R>(&count, 1_002).await;
}

/// A task may spawn others, by its own handle and by the current one.
pub async fn are_spawned_from_tasks<R: Runtime, W: World>() {
    let (runtime, count) = (R::current(), Arc::new(AtomicUsize::new(0)));
    let inner = count.clone();
    runtime.clone().spawn("outer", async move {
        runtime.spawn("inner", counting(&inner));
        R::current().spawn("inner", counting(&inner));
    });
    reaches::<R>(&count, 2).await;
}

/// [`Runtime::spawn`] works on threads that know of no runtime.
pub async fn are_spawned_from_other_threads<R: Runtime, W: World>() {
    let (runtime, count) = (R::current(), Arc::default());
    let work = counting(&count);
    let spawning = move || runtime.spawn("test", work);
    if W::THREADS {
        std::thread::spawn(spawning).join().expect("no panic")
    } else {
        spawning()
    }
    reaches::<R>(&count, 1).await;
}

struct SpawnsInDrop<R: Runtime>(R, Arc<AtomicUsize>);

impl<R: Runtime> Drop for SpawnsInDrop<R> {
    fn drop(&mut self) {
        self.0.spawn("test", counting(&self.1));
    }
}

/// A drop may spawn: in a task, in the caller and on a bare thread.
pub async fn are_spawned_from_a_drop<R: Runtime, W: World>() {
    let (runtime, count) = (R::current(), Arc::new(AtomicUsize::new(0)));
    let spawns = || SpawnsInDrop(runtime.clone(), count.clone());
    drop(spawns());
    let in_a_task = spawns();
    runtime.spawn("test", async move { drop(in_a_task) });
    let elsewhere = spawns();
    if W::THREADS {
        std::thread::spawn(move || drop(elsewhere)).join().expect("no panic");
    } else {
        drop(elsewhere);
    }
    reaches::<R>(&count, 3).await;
}

/// Nothing that a task's owner does not hold ends it: not the end of the task that spawned it, nor of its handle.
pub async fn outlive_who_spawned_them<R: Runtime, W: World>() {
    let (runtime, count) = (R::current(), Arc::new(AtomicUsize::new(0)));
    let inner = count.clone();
    let outer = spawn(&runtime.clone(), async move {
        let late = runtime.clone();
        drop(spawn(&runtime, async move {
            sleep(&late, ms(20)).await;
            inner.fetch_add(1, Ordering::SeqCst);
        }));
    });
    within::<R, _>("the outer one ends", outer).await.expect("no panic");
    assert_eq!(count.load(Ordering::SeqCst), 0);
    reaches::<R>(&count, 1).await;
}

/// The kit's own tasks, which the suites are written with: results, panics and aborts reach who joins.
pub async fn are_joined_and_aborted<R: Runtime, W: World>() {
    let runtime = R::current();
    let seven = spawn(&runtime, async {
        yield_now().await;
        7
    });
    assert_eq!(within::<R, _>("a result", seven).await.expect("no panic"), 7);
    let dropped = Arc::new(());
    let held = dropped.clone();
    let endless = spawn(&runtime, async move {
        std::future::pending::<()>().await;
        drop(held);
    });
    assert!(!endless.is_finished());
    endless.abort();
    let aborted = within::<R, _>("an abort", endless).await;
    assert!(matches!(aborted, Err(TaskError::Aborted)), "{aborted:?}");
    assert_eq!(Arc::strong_count(&dropped), 1, "what it held is dropped when the abort is seen");
}
