//! Callers: who asks for connections, what they do with them, and how they leave them behind.

use std::future::pending;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pgweir_core::client::Error;
use pgweir_core::error::AcquireError;
use pgweir_core::time::Instant;

use super::look::{self, Key};
use super::watch::CallId;
use super::{Shared, world::World};
use crate::Server;
use crate::rng::Rng;
use crate::scenario::{Group, Scenario};
use crate::server::Answer;
use crate::stack::Lease;
use crate::wish::{End, Wish, Wisher, patience};

/// A client that was refused at once pauses at least this long.
const PAUSE: Duration = Duration::from_millis(1);
/// A setting that callers change within their transactions: who finds it changed has somebody else's transaction.
pub(super) const SETTING: &str = "work_mem";
/// A statement that is dropped before its end.
pub(super) const LONGEST_STATEMENT: Duration = Duration::from_secs(90);
/// Queries sent per lease, at most: a file that says thousands means the pool's count, not our patience.
const MOST_QUERIES: u64 = 20;
/// Rows that a stream asks for at a time.
const PORTION: NonZero<u32> = NonZero::new(100).expect("not zero");
/// The stream of what callers do with their connections.
const USES: u64 = 7 << 40;

/// What a caller writes. Standbys do not replicate in here, so there is no table behind it.
const WRITE: &str = "INSERT INTO written VALUES (1)";

/// Has the server take writes while it may.
pub(super) fn take_writes(server: &Server, writable: Arc<AtomicBool>) {
    server.on(WRITE, move |_| match writable.load(Ordering::Relaxed) {
        true => Answer::done("INSERT 0 1"),
        false => Answer::error("25006", "cannot execute INSERT in a read-only transaction"),
    });
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Succeeded,
    Broken,
    TimedOut,
    Unavailable,
    QueueFull,
    WouldBlock,
    Closed,
    Cancelled,
    CutOff,
}

/// The longest that a lease of the scenario is held, leaks for ever apart.
pub(super) fn longest(scenario: &Scenario) -> Duration {
    const MOST: u32 = 50;
    let of = |group: &Group| {
        let leaks = group.leaks.as_ref().map_or(Duration::ZERO, |leaks| match leaks.hold.mean() {
            Duration::MAX => Duration::ZERO,
            mean => mean.saturating_mul(MOST),
        });
        group.hold.mean().saturating_mul(MOST).max(leaks).saturating_add(group.command_timeout)
    };
    let longest = scenario.workload.iter().map(of).max().unwrap_or(Duration::ZERO);
    longest.clamp(LONGEST_STATEMENT, Duration::from_secs(7 * 24 * 3600))
}

/// Has everybody begin.
pub(super) fn hire(world: &Shared) {
    for (index, group) in world.scenario.workload.iter().enumerate() {
        for number in 0..group.clients.unwrap_or(1) {
            let wisher = Wisher::new(world.sim.seed(), index, number, group);
            let uses = Rng::new(world.sim.seed(), USES + ((index as u64) << 32) + u64::from(number));
            let caller = Caller { world: world.clone(), group: index, number, wisher, uses };
            match group.clients {
                Some(_) => drop(world.sim.spawn_named("client", caller.closed_loop())),
                None => drop(world.sim.spawn_named("arrivals", caller.open_loop())),
            }
        }
    }
}

struct Caller {
    world: Shared,
    group: usize,
    number: u32,
    wisher: Wisher,
    uses: Rng,
}

impl Caller {
    fn goes_on(&self) -> bool {
        let world = &self.world;
        let group = &world.scenario.workload[self.group];
        world.state().open && world.scenario.is_open(group, world.now() - Instant::ZERO)
    }

    async fn closed_loop(mut self) {
        let world = self.world.clone();
        let group = &world.scenario.workload[self.group];
        world.sim.sleep_until(self.wisher.begins(self.number, group)).await;
        while self.goes_on() {
            let asked = world.now();
            let wish = self.wisher.wish(group);
            Request::new(&world, self.group, wish, self.uses.next()).run().await;
            let think = self.wisher.thinks(group);
            world.sim.sleep(if world.now() - asked < PAUSE { think.max(PAUSE) } else { think }).await;
        }
    }

    async fn open_loop(mut self) {
        let world = self.world.clone();
        let group = &world.scenario.workload[self.group];
        world.sim.sleep_until(self.wisher.begins(self.number, group)).await;
        while self.goes_on() {
            let next = self.wisher.next_arrival(world.now(), group);
            for _ in 0..group.burst {
                let wish = self.wisher.wish(group);
                let request = Request::new(&world, self.group, wish, self.uses.next());
                drop(world.sim.spawn_named("request", request.run()));
            }
            let Some(next) = next else { return };
            world.sim.sleep_until(next).await;
        }
    }
}

/// One request.
struct Request {
    world: Shared,
    group: usize,
    wish: Wish,
    call: CallId,
    uses: Rng,
}

impl Request {
    fn new(world: &Shared, group: usize, wish: Wish, uses: u64) -> Self {
        let (call, patience) =
            (&mut world.state().next_call, patience(&world.scenario, &world.scenario.workload[group]));
        let (id, now) = (*call, world.now());
        *call += 1;
        let _ = (patience, now);
        Request { world: world.clone(), group, wish, call: id, uses: Rng::new(uses, 0) }
    }

    async fn run(mut self) {
        let world = self.world.clone();
        {
            let mut state = world.state();
            state.record.tally.started += 1;
            // Who holds for ever does not come to an end.
            *if self.wish.hold == Duration::MAX { &mut state.leaking } else { &mut state.busy } += 1;
        }
        let outcome = match self.wish.cancel {
            Some(after) => world.sim.timeout(after, self.go()).await.unwrap_or(Outcome::Cancelled),
            None => self.go().await,
        };
        let mut state = world.state();
        *if self.wish.hold == Duration::MAX { &mut state.leaking } else { &mut state.busy } -= 1;
        let tally = &mut state.record.tally;
        *match outcome {
            Outcome::Succeeded => &mut tally.succeeded,
            Outcome::Broken => &mut tally.broken,
            Outcome::TimedOut => &mut tally.timed_out,
            Outcome::Unavailable => &mut tally.unavailable,
            Outcome::QueueFull => &mut tally.queue_full,
            Outcome::WouldBlock => &mut tally.would_block,
            Outcome::Closed => &mut tally.closed,
            Outcome::Cancelled => &mut tally.cancelled,
            Outcome::CutOff => &mut tally.cut_off,
        } += 1;
    }

    async fn go(&mut self) -> Outcome {
        let world = self.world.clone();
        let group = &world.scenario.workload[self.group];
        let Some(pool) = world.state().pool.clone() else { return Outcome::Closed };
        let asked = world.now();
        let mut place = Place { world: &world, call: self.call, held: None };
        world.state().watch.asks(asked, self.call, patience(&world.scenario, group));
        let acquired = match group.timeout {
            Some(Duration::ZERO) => pool.try_get(),
            timeout => {
                let mut acquire = pool.get();
                if let Some(timeout) = timeout {
                    acquire = acquire.timeout(timeout);
                }
                if let Some(limit) = group.leak_after {
                    acquire = acquire.leak_after(limit);
                }
                acquire.await
            }
        };
        let mut lease = match acquired {
            Ok(lease) => lease,
            Err(error) => return place.refused(&error),
        };
        place.granted(&lease, asked);
        let queries = group.queries.clamp(1, MOST_QUERIES);
        let used = self.uses(&mut lease, queries, group.command_timeout).await;
        match (used, self.wish.end) {
            (Ok(()), End::Discarded) => {
                place.returns();
                lease.discard();
                Outcome::Succeeded
            }
            (Ok(()), End::Abandoned) => Outcome::Cancelled,
            (Ok(()), _) => Outcome::Succeeded,
            (Err(_), _) if pool.is_closed() => Outcome::CutOff,
            (Err(_), _) => Outcome::Broken,
        }
    }

    /// Uses the connection for as long as it is wished.
    async fn uses(&mut self, lease: &mut Lease, queries: u64, patience: Duration) -> Result<(), Lost> {
        let world = self.world.clone();
        let end = world.now() + self.wish.hold;
        match self.wish.end {
            End::Abandoned => return self.abandons(lease).await,
            End::Broken => {
                let killed = lease.batch_execute("SELECT pg_terminate_backend(pg_backend_pid())").await;
                return killed.map_err(Lost::Query);
            }
            End::Clean | End::Discarded => {}
        }
        for number in 0..queries {
            self.query_within(lease, number, patience).await?;
        }
        if self.wish.hold == Duration::MAX {
            pending::<()>().await;
        }
        if world.now() < end {
            world.sim.sleep_until(end).await;
            if !self.wish.leaked {
                // Whether it has ended meanwhile.
                self.query_within(lease, queries, patience).await?;
            }
        }
        Ok(())
    }

    async fn query_within(&self, lease: &mut Lease, number: u64, patience: Duration) -> Result<(), Lost> {
        self.world.sim.timeout(patience, self.query(lease, number)).await.map_err(|_| Lost::Unanswered)?
    }

    /// Asks for a number that nobody else asks for, in one of the ways in which one can.
    async fn query(&self, lease: &mut Lease, number: u64) -> Result<(), Lost> {
        let expected = (self.call << 16 | number) as i64;
        let mut uses = Rng::new(self.call, number);
        let got: i64 = match uses.next() % 5 {
            0 => {
                let mut transaction = lease.transaction().await?;
                transaction.batch_execute("SET LOCAL work_mem = '77MB'").await?;
                let row = transaction.query_one("SELECT $1::int8", &[&expected]).await?;
                if uses.chance(0.5) {
                    transaction.commit().await?
                } else {
                    transaction.rollback().await?
                }
                row.get(0)
            }
            1 => {
                lease.batch_execute(WRITE).await?;
                expected
            }
            2 => {
                let text = format!("SELECT {expected}::int8");
                lease.query_one(&*text, &[]).await?.get(0)
            }
            _ => lease.query_one("SELECT $1::int8", &[&expected]).await?.get(0),
        };
        let verdict = self.world.state().watch.answered(self.call, expected, got);
        self.world.note(verdict);
        Ok(())
    }

    /// Drops something half-way.
    async fn abandons(&mut self, lease: &mut Lease) -> Result<(), Lost> {
        let world = self.world.clone();
        let hold = self.wish.hold.min(Duration::from_secs(30));
        match self.uses.next() % 3 {
            0 => {
                // A transaction whose end nobody sends.
                let mut transaction = lease.transaction().await?;
                transaction.batch_execute("SET LOCAL work_mem = '77MB'").await?;
                world.sim.sleep(hold).await;
                std::mem::forget(transaction);
            }
            1 => {
                let sleep = lease.batch_execute("SELECT pg_sleep(60)");
                if let Ok(ended) = world.sim.timeout(hold, sleep).await {
                    ended?;
                }
            }
            _ => {
                let many = "SELECT generate_series(1, 20000)";
                let mut rows = lease.query_stream(many, &[], PORTION).await?;
                rows.next().await?;
            }
        }
        Ok(())
    }
}

/// Why a lease was of no use any more.
#[derive(Debug)]
enum Lost {
    Query(#[allow(dead_code, reason = "shown by Debug")] Error),
    /// No answer within the caller's patience.
    Unanswered,
}

impl From<Error> for Lost {
    fn from(error: Error) -> Self {
        Lost::Query(error)
    }
}

/// A caller's place in the books, kept also where its future is dropped.
struct Place<'a> {
    world: &'a World,
    call: CallId,
    held: Option<Key>,
}

impl Place<'_> {
    fn refused(&self, error: &AcquireError) -> Outcome {
        let now = self.world.now();
        let verdict = self.world.state().watch.refused(now, self.call);
        self.world.note(verdict);
        match error {
            AcquireError::Timeout(_) => Outcome::TimedOut,
            AcquireError::Unavailable(_) => Outcome::Unavailable,
            AcquireError::WouldBlock => Outcome::WouldBlock,
            AcquireError::QueueFull { .. } => Outcome::QueueFull,
            _ => Outcome::Closed,
        }
    }

    fn granted(&mut self, lease: &Lease, asked: Instant) {
        let now = self.world.now();
        let key = (usize::from(lease.host().0), lease.backend_pid());
        let seen = self.world.servers[key.0].with(|server, _| server.session_of(key.1)).as_ref().map(look::seen);
        let verdict = {
            let mut state = self.world.state();
            let ended = state.look.ended(key);
            let late = self.world.scenario.timers_late_by;
            state.record.waits.add(now - asked);
            state.record.outage_sees(|outage| {
                if outage.back.is_some() {
                    outage.granted.get_or_insert(now);
                }
            });
            let verdict = state.watch.granted(now, self.call, key, seen);
            verdict.and_then(|()| look::not_dead(now, self.call, key, ended, late))
        };
        self.held = Some(key);
        self.world.note(verdict);
    }

    fn returns(&mut self) {
        if let Some(key) = self.held.take() {
            let verdict = self.world.state().watch.returns(self.call, key);
            self.world.note(verdict);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.world.state().watch.dropped(self.call);
        self.returns();
    }
}
