//! The pool and its driver, unchanged, over streams to a host.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use pgweir_core::config::{PoolConfig, TcpOptions};
use pgweir_core::manager::{Manager, Returned};
use pgweir_core::pool::{Fate, Fault, FaultClass, HostId, ResetHow, ServerFacts};
use pgweir_core::runtime::{Abort, Address, Peek, Runtime, Stream};
use pgweir_core::time::Instant;
use pgweir_sim::net::SimStream;
use pgweir_sim::stack::{Pool, PoolBuilder};
use pgweir_sim::{Digest, Sim, SimRuntime};

use crate::hosts::{Echo, close, millis, read, read_exact, write};

/// Pools connections to an [`Echo`].
struct Lines(SimRuntime);

struct Line {
    stream: SimStream,
    /// Whether nothing is under way, queries answered, and what went wrong.
    settled: bool,
    queries: u64,
    broken: Option<Fault>,
}

impl Line {
    /// One round trip.
    async fn query(&mut self, text: &[u8]) -> io::Result<()> {
        self.settled = false;
        let answered = async {
            write(&mut self.stream, text).await?;
            read_exact(&mut self.stream, text.len()).await
        };
        match answered.await {
            Ok(answer) => {
                assert_eq!(answer, text);
                self.queries += 1;
                self.settled = true;
                Ok(())
            }
            Err(error) => {
                self.broken = Some(fault(&error));
                Err(error)
            }
        }
    }
}

fn fault(error: &io::Error) -> Fault {
    Fault::new(FaultClass::Transient, error.to_string())
}

impl Manager for Lines {
    type Connection = Line;

    async fn connect(&self, _: HostId, _: Instant) -> Result<(Line, ServerFacts), Fault> {
        let open = async {
            let address = self.0.resolve("db", 5432).await?[0];
            self.0.connect(&Address::Tcp(address, TcpOptions::default())).await
        };
        let stream = open.await.map_err(|error| fault(&error))?;
        let mut line = Line { stream, settled: true, queries: 0, broken: None };
        line.query(b"hello").await.map_err(|error| fault(&error))?;
        Ok((line, ServerFacts::default()))
    }

    async fn validate(&self, line: &mut Line) -> Result<(), Fault> {
        line.query(b"ping").await.map_err(|error| fault(&error))
    }

    async fn reset(&self, line: &mut Line, _: ResetHow, _: Instant) -> Result<(), Fault> {
        // What is under way cannot be told from what comes next.
        if line.settled { Ok(()) } else { Err(Fault::new(FaultClass::Transient, "in the middle of an answer")) }
    }

    fn peek(&self, line: &mut Line) -> Result<(), Fault> {
        match line.stream.peek() {
            Peek::Quiet => Ok(()),
            Peek::Readable | Peek::Ended => Err(Fault::new(FaultClass::Transient, "closed while idle")),
        }
    }

    fn poll_idle(&self, line: &mut Line, cx: &mut Context<'_>) -> Poll<Fault> {
        line.stream.poll_read(cx, &mut [0; 16]).map(|end| match end {
            Ok(_) => Fault::new(FaultClass::Transient, "closed while idle"),
            Err(error) => fault(&error),
        })
    }

    fn returned(&self, line: &mut Line) -> Returned {
        let fate = match (&line.broken, line.settled) {
            (Some(_), _) => Fate::Broken,
            (None, true) => Fate::Clean,
            (None, false) => Fate::Dirty,
        };
        let fault = line.broken.take().map(Box::new);
        Returned { fate, queries: std::mem::take(&mut line.queries), fault }
    }

    async fn close(&self, mut line: Line) {
        if close(&mut line.stream).await.is_ok() {
            while read(&mut line.stream).await.is_ok_and(|bytes| !bytes.is_empty()) {}
        }
    }

    fn abort_handle(&self, line: &Line) -> Option<Arc<dyn Abort>> {
        Some(line.stream.abort_handle())
    }
}

async fn pool(config: PoolConfig) -> Pool<Lines> {
    PoolBuilder::new(SimRuntime::current(), Lines(SimRuntime::current()), config).open().await.expect("it opens")
}

fn ten() -> PoolConfig {
    PoolConfig::builder().min_size(2).max_size(10).build().expect("valid")
}

/// A hundred tasks share ten connections while these are reset, the host is cut off for a while, and clients give up
/// in the middle of what they do. The digest, how many queries were answered, and how many failed.
fn outage(seed: u64) -> (Digest, usize, usize) {
    let sim = Sim::builder().exact_seed(seed).build();
    let db = sim.host("db", 5432, Echo::default());
    let answered = Arc::new(AtomicUsize::new(0));
    let failed = Arc::new(AtomicUsize::new(0));
    sim.run(async |sim| {
        let pool = pool(ten()).await;
        let tasks: Vec<_> = (0..100_u32)
            .map(|task| {
                let (sim, pool) = (sim.clone(), pool.clone());
                let (answered, failed) = (answered.clone(), failed.clone());
                sim.clone().spawn(async move {
                    while sim.now() < Instant::from_secs(60) {
                        let work = async {
                            let mut line = pool.get_timeout(Duration::from_secs(5)).await.ok()?;
                            line.query(b"select 1").await.ok()
                        };
                        // Some have less patience than an answer takes.
                        let patience = if task % 10 == 0 { Duration::from_micros(300) } else { millis(7000) };
                        let counter = match sim.timeout(patience, work).await {
                            Ok(Some(())) => &answered,
                            Ok(None) | Err(_) => &failed,
                        };
                        counter.fetch_add(1, Ordering::Relaxed);
                        sim.sleep(millis(200)).await;
                    }
                })
            })
            .collect();
        sim.sleep(Duration::from_secs(10)).await;
        db.net().reset_all().refuse();
        sim.sleep(Duration::from_secs(10)).await;
        db.net().heal();
        sim.sleep(Duration::from_secs(10)).await;
        db.net().partition();
        sim.sleep(Duration::from_secs(10)).await;
        db.net().heal();
        for task in tasks {
            task.await;
        }
        let before = answered.load(Ordering::Relaxed);
        for _ in 0..10 {
            pool.get().await.expect("it has recovered").query(b"again").await.expect("and works");
        }
        assert!(before > 5_000, "{before}");
        let report = pool.close().await;
        assert_eq!(report.forced, 0, "{report:?}");
        sim.sleep(millis(1)).await;
        assert_eq!(db.with(|echo, _| echo.links.len()), 0, "the host is left alone");
    });
    (sim.digest(), answered.load(Ordering::Relaxed), failed.load(Ordering::Relaxed))
}

#[test]
fn a_pool_survives_resets_refusal_and_a_partition_the_same_way_every_time() {
    let first = outage(1);
    assert_eq!(first, outage(1));
    let second = outage(2);
    assert!(first.0 != second.0 && first.2 > 100, "{first:?} and {second:?}");
}

#[test]
fn a_pool_whose_host_comes_up_late_opens_when_it_does() {
    let sim = Sim::new(1);
    let db = sim.host("db", 5432, Echo::default());
    db.net().refuse();
    sim.run(async |sim| {
        let config = ten();
        let pool = PoolBuilder::new(SimRuntime::current(), Lines(SimRuntime::current()), config).open_lazy();
        let waiting = sim.spawn({
            let pool = pool.clone();
            async move { pool.get_timeout(Duration::from_secs(60)).await.map(drop) }
        });
        sim.sleep(Duration::from_secs(3)).await;
        assert!(db.with(|echo, _| echo.accepted) == 0);
        db.net().heal();
        sim.timeout(Duration::from_secs(30), async {
            let early = waiting.await;
            // An acquire of its own may have been told of the outage; the next one is served.
            if early.is_err() {
                while pool.get().await.is_err() {
                    sim.sleep(millis(100)).await;
                }
            }
        })
        .await
        .expect("it recovers");
        pool.close().await;
    });
}

#[test]
fn a_laptop_that_wakes_up_finds_its_pool_working() {
    let sim = Sim::new(1);
    sim.host("db", 5432, Echo::default());
    sim.run(async |sim| {
        let pool = pool(ten()).await;
        pool.get().await.expect("it is open").query(b"before").await.expect("works");
        sim.net("db").reset_all();
        sim.suspend(Duration::from_secs(8 * 3600)).await;
        let mut line = pool.get().await.expect("a new one");
        line.query(b"after").await.expect("works");
        drop(line);
        pool.close().await;
    });
}
