//! The edges of runtimes: what happens outside of one, on the runtime itself with nothing added.

use std::thread;

use pgweir_core::client::Postgres;
use pgweir_core::config::Config;
use pgweir_core::driver::{Lease, Pool};
use pgweir_core::runtime::Runtime;
use pgweir_tests::kit::spawn;

use super::common::{server, unique, until};
use crate::{Subject, block_on};

type SubjectPool = Pool<Subject, Postgres<Subject>>;
type SubjectLease = Lease<Subject, Postgres<Subject>>;

async fn open(name: &str) -> SubjectPool {
    let config = Config::builder().database_url(server().url()).application_name(name).min_size(2).max_size(2);
    SubjectPool::builder(config.build().expect("valid")).open().await.expect("the pool opens")
}

async fn answers(lease: &mut SubjectLease, number: i32) {
    let row = lease.query_one("SELECT $1::int4 + 1", &[&number]).await.expect("an answer");
    assert_eq!(row.get::<_, i32>(0), number + 1);
}

/// A pool and a lease are dropped on a thread that knows of no runtime, in either order.
#[test]
fn a_pool_may_be_dropped_on_a_thread_without_a_runtime() {
    for lease_first in [true, false] {
        let name = unique("bare-pool");
        block_on(async {
            let pool = open(&name).await;
            let mut lease = pool.get().await.expect("a connection");
            answers(&mut lease, 1).await;
            thread::spawn(move || {
                if lease_first {
                    drop(lease);
                    drop(pool);
                } else {
                    drop(pool);
                    drop(lease);
                }
            })
            .join()
            .expect("no panic");
            until("the server is rid of it", || super::common::backends(server(), &name).is_empty()).await;
        });
    }
}

/// A pool and a lease get out of the runtime that they were opened on, and are dropped when that has ended or is left:
/// no panic, and no backend stays.
#[test]
fn a_pool_may_be_dropped_after_its_runtime_was_left() {
    for lease_first in [true, false] {
        let name = unique("left-pool");
        let (pool, lease) = block_on(async {
            let pool = open(&name).await;
            let mut lease = pool.get().await.expect("a connection");
            answers(&mut lease, 1).await;
            (pool, lease)
        });
        if lease_first {
            drop(lease);
            drop(pool);
        } else {
            drop(pool);
            drop(lease);
        }
        server().wait_for_backends(&name, 0);
    }
}

/// A builder that is never opened, and an opening that is dropped on a bare thread, leave nothing.
#[test]
fn an_opening_may_be_dropped_on_a_thread_without_a_runtime() {
    let name = unique("bare-opening");
    block_on(async {
        let config = Config::builder().database_url(server().url()).application_name(&name).min_size(2);
        let builder = SubjectPool::builder(config.clone().build().expect("valid"));
        let opening = SubjectPool::builder(config.build().expect("valid")).open();
        thread::spawn(move || drop((builder, opening))).join().expect("no panic");
        assert!(super::common::backends(server(), &name).is_empty());
    });
}

/// A lease goes from the task that acquired it to another task, to a thread that only carries it, and back; it works
/// wherever there is a runtime, and ends where there is none, in the middle of a transaction.
#[test]
fn a_lease_moves_between_threads() {
    let name = unique("moved");
    block_on(async {
        let pool = open(&name).await;
        let runtime = Subject::current();
        let elsewhere = pool.clone();
        let acquired = spawn(&runtime, async move { elsewhere.get().await.expect("a connection") });
        let mut lease = acquired.await.expect("no panic");
        let pid = lease.backend_pid();
        answers(&mut lease, 2).await;
        let lease = spawn(&runtime, async move {
            answers(&mut lease, 3).await;
            lease
        });
        let lease = lease.await.expect("no panic");
        let mut lease = thread::spawn(move || lease).join().expect("no panic");
        answers(&mut lease, 4).await;
        lease.batch_execute("BEGIN; CREATE TEMP TABLE unfinished (a int)").await.expect("it works");
        thread::spawn(move || drop(lease)).join().expect("no panic");
        until("it is back", || pool.status().idle == 2).await;
        let (mut a, mut b) = (pool.get().await.expect("a connection"), pool.get().await.expect("a connection"));
        assert!([a.backend_pid(), b.backend_pid()].contains(&pid), "rolled back and kept");
        for lease in [&mut a, &mut b] {
            let row = lease.query_one("SELECT to_regclass('unfinished') IS NULL", &[]).await.expect("an answer");
            assert!(row.get::<_, bool>(0), "the transaction was rolled back");
        }
        drop((a, b));
        assert_eq!(pool.close().await.forced, 0);
        server().wait_for_backends(&name, 0);
    });
}

/// Two pools on one runtime, opened from two threads, each of which enters it for itself.
#[test]
fn two_threads_have_a_pool_each() {
    let names = [unique("thread-a"), unique("thread-b")];
    let threads = names.clone().map(|name| {
        thread::spawn(move || {
            block_on(async {
                let pool = open(&name).await;
                for number in 0..50 {
                    answers(&mut pool.get().await.expect("a connection"), number).await;
                }
                assert_eq!(pool.close().await.forced, 0);
            });
        })
    });
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    names.iter().for_each(|name| server().wait_for_backends(name, 0));
}
