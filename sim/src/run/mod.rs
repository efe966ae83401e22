//! A run: one machine, one server, one workload, one clock.
//!
//! Time advances only when nothing is left to do, and then exactly to the next thing: the machine's next deadline (a
//! little late, as timers are), an answer from the server, a client's next step. All randomness comes from the seed, so
//! two runs of a seed are the same, and [`Outcome::digest`] proves it.

mod clients;
mod driver;
mod end;
mod faults;
mod recorded;
mod subject;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use pgweir_core::config::PoolConfig;
use pgweir_core::pool::{Action, ConnId, Event, Machine, Stats, WaiterId};
use pgweir_core::time::Instant;

use crate::expect::{self, Finding};
use crate::model::Server;
use crate::oracle::{Oracle, Violation};
use crate::queue::Queue;
use crate::record::Record;
use crate::rng::Rng;
use crate::scenario::Scenario;
use crate::trace::{NoTrace, Tail, Trace};
use crate::what_if::recording::Recording;
use clients::{Call, Client};
use driver::Peer;
use pgweir_core::digest::Digest;
pub(crate) use recorded::run_recording;
pub use subject::Subject;

/// More things than this at one moment are an endless loop.
const MOST_AT_ONCE: u32 = 1_000_000;
/// Steps shown with a failure.
const TAIL: usize = 30;

/// Streams of randomness.
const POOL: u64 = 1;
/// The first host's; the others' follow at a distance.
const SERVER: u64 = 2;
const TIMERS: u64 = 3;
const FAULTS: u64 = 4;
const RECORDED: u64 = 5;

/// A run that came to its end with every guarantee kept.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// The scenario's name.
    pub name: String,
    /// The seed.
    pub seed: u64,
    /// What happened.
    pub record: Record,
    /// What was expected and what was seen.
    pub findings: Vec<Finding>,
    /// The pool's own numbers at the end.
    pub stats: Stats,
    /// Over all events and actions.
    pub digest: Digest,
    /// Events that the machine was told.
    pub events: u64,
    /// Virtual time from the beginning to the last thing that happened.
    pub lasted: Duration,
}

impl Outcome {
    /// Whether every expectation holds.
    pub fn passed(&self) -> bool {
        self.findings.iter().all(|finding| finding.holds)
    }
}

/// A run that ended early: a guarantee did not hold, the run came to a standstill, or the machine panicked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Failure {
    /// The scenario's name.
    pub name: String,
    /// The seed that shows it again.
    pub seed: u64,
    /// When, in virtual time.
    pub at: Instant,
    /// What was wrong.
    pub violation: Violation,
    /// The last things that happened.
    pub last: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: seed {} failed at {:?}", self.name, self.seed, self.at)?;
        write!(f, "  {}", self.violation)?;
        for line in &self.last {
            write!(f, "\n  | {line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// Runs a scenario.
///
/// # Errors
/// A guarantee that did not hold, with the last steps. Expectations that did not hold are no error here: see
/// [`Outcome::findings`].
pub fn run(scenario: &Scenario, seed: u64) -> Result<Outcome, Box<Failure>> {
    run_subject(scenario, seed, |config, seed| Machine::new(config, seed, Instant::ZERO))
}

/// Runs a scenario over something other than the machine itself, such as a wrapper that does something wrong.
///
/// # Errors
/// As [`run`].
pub fn run_subject<S: Subject>(
    scenario: &Scenario,
    seed: u64,
    mut make: impl FnMut(&PoolConfig, u64) -> S,
) -> Result<Outcome, Box<Failure>> {
    run_traced(scenario, seed, &mut make, &mut NoTrace).map_err(|mut failure| {
        // The same again, this time with its last steps.
        let mut tail = Tail::new(TAIL);
        if run_traced(scenario, seed, &mut make, &mut tail).is_err() {
            failure.last = tail.into_lines();
        }
        failure
    })
}

/// Runs a scenario and shows every event and action to `trace`.
///
/// # Errors
/// As [`run`], without the last steps.
pub fn run_traced<S: Subject, T: Trace>(
    scenario: &Scenario,
    seed: u64,
    make: impl FnMut(&PoolConfig, u64) -> S,
    trace: &mut T,
) -> Result<Outcome, Box<Failure>> {
    run_with(scenario, None, seed, make, trace)
}

fn run_with<S: Subject, T: Trace>(
    scenario: &Scenario,
    recording: Option<&Recording>,
    seed: u64,
    mut make: impl FnMut(&PoolConfig, u64) -> S,
    trace: &mut T,
) -> Result<Outcome, Box<Failure>> {
    let subject = make(&scenario.pool, Rng::new(seed, POOL).next());
    let mut run = Run::new(scenario, seed, subject, trace);
    if let Some(recording) = recording {
        run.play(recording, Rng::new(seed, RECORDED));
    }
    let result = catch_unwind(AssertUnwindSafe(|| run.all())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(Violation { guarantee: "No panic", detail: text.unwrap_or("the machine panicked").to_owned() })
    });
    match result {
        Ok(()) => Ok(run.outcome()),
        Err(violation) => {
            Err(Box::new(Failure { name: scenario.name.clone(), seed, at: run.now, violation, last: Vec::new() }))
        }
    }
}

type Step = Result<(), Violation>;

/// Something that happens later.
#[derive(Clone, Debug)]
enum Due {
    /// A step of the timeline.
    Step(usize),
    /// A host's plan goes on.
    Phase { host: usize, plan: u32 },
    /// The network to a host is back.
    Heal(usize),
    /// A host accepts passwords again.
    AllowLogins(usize),
    /// The pool's process runs again.
    WakeUp,
    /// The pool goes on.
    Resume,
    /// A client makes its next request.
    Client(u32),
    /// An open loop makes its next request.
    Arrival(u32),
    /// A caller looks at what it was granted.
    Seen(CallRef),
    /// A caller drops its request.
    Cancel(CallRef),
    /// A caller is done with its connection.
    Done(CallRef),
    /// A caller finds that its connection has ended.
    Broken(CallRef),
    /// A caller gives its query up.
    CommandTimeout(CallRef),
    /// Something that the pool asked for has its answer.
    Answer { conn: ConnId, job: u32, answer: Answer },
    /// An idle connection's socket has something to say.
    Touch(ConnId),
    /// Health is looked at for an expectation.
    Look(usize),
    /// The next of what was recorded.
    Recorded(recorded::Recorded),
}

impl Due {
    /// Whether it needs the pool's process to run.
    fn is_of_process(&self, scenario: &Scenario) -> bool {
        match self {
            Due::Step(index) => scenario.timeline[*index].what.is_of_pool(),
            Due::Phase { .. } | Due::Heal(_) | Due::AllowLogins(_) | Due::WakeUp | Due::Look(_) => false,
            _ => true,
        }
    }
}

/// A call, unless it is another one by now.
#[derive(Clone, Copy, Debug, PartialEq)]
struct CallRef {
    index: u32,
    serial: u32,
}

/// The answer to something that the pool asked for.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// Refused before a login.
    Refused,
    /// The login is through.
    Login,
    Validated,
    /// The socket was looked at.
    Looked,
    Reset,
    Closed,
}

/// Everything there is.
struct Run<'a, S, T> {
    scenario: &'a Scenario,
    /// What is run again, if this is such a run.
    recording: Option<&'a Recording>,
    seed: u64,
    pool: S,
    trace: &'a mut T,
    now: Instant,
    queue: Queue<Due>,
    /// What happens at this moment, before anything later.
    soon: VecDeque<Due>,
    /// What the network keeps back, in order, and for which host.
    held: Vec<(usize, Due)>,
    /// Until when the pool's process does not run.
    asleep_until: Instant,
    /// When the machine's timer fires, and for which deadline.
    timer: (Instant, Instant),
    timers: Rng,
    faults: Rng,
    hosts: Vec<Server>,
    peers: Vec<Peer>,
    clients: Vec<Client>,
    calls: Vec<Call>,
    free_calls: Vec<u32>,
    waiting: BTreeMap<WaiterId, u32>,
    /// The acquire that is being handled.
    asking: Option<(WaiterId, u32)>,
    next_waiter: u64,
    actions: Vec<Action>,
    oracle: Oracle,
    record: Record,
    digest: Digest,
    events: u64,
    /// Whether clients go on making requests.
    open: bool,
    /// Whether the pool is paused by the timeline.
    paused: bool,
    shut_down: bool,
    min_size: u32,
}

impl<'a, S: Subject, T: Trace> Run<'a, S, T> {
    fn new(scenario: &'a Scenario, seed: u64, pool: S, trace: &'a mut T) -> Self {
        Run {
            scenario,
            recording: None,
            seed,
            pool,
            trace,
            now: Instant::ZERO,
            queue: Queue::new(),
            soon: VecDeque::new(),
            held: Vec::new(),
            asleep_until: Instant::ZERO,
            timer: (Instant::MAX, Instant::MAX),
            timers: Rng::new(seed, TIMERS),
            faults: Rng::new(seed, FAULTS),
            hosts: hosts(scenario, seed),
            peers: Vec::new(),
            clients: Vec::new(),
            calls: Vec::new(),
            free_calls: Vec::new(),
            waiting: BTreeMap::new(),
            asking: None,
            next_waiter: 1,
            actions: Vec::new(),
            oracle: Oracle::new(&scenario.pool, scenario.timers_late_by),
            record: Record::new(scenario.duration, scenario.expect.health.len()),
            digest: Digest::default(),
            events: 0,
            open: true,
            paused: false,
            shut_down: false,
            min_size: scenario.pool.min_size(),
        }
    }

    fn all(&mut self) -> Step {
        let end = Instant::ZERO + self.scenario.duration;
        for (index, step) in self.scenario.timeline.iter().enumerate() {
            self.queue.push(Instant::ZERO + step.at, Due::Step(index));
        }
        for (index, health) in self.scenario.expect.health.iter().enumerate() {
            self.queue.push(Instant::ZERO + health.at, Due::Look(index));
        }
        self.note_outage();
        self.hire();
        self.post(Event::Start { lazy: self.scenario.lazy })?;
        self.until(end)?;
        self.wind_up(end)
    }

    /// Lets everything happen up to and including `end`.
    fn until(&mut self, end: Instant) -> Step {
        self.until_or(end, |_| false)
    }

    /// Lets everything happen up to and including `end`, or until `enough`.
    fn until_or(&mut self, end: Instant, enough: impl Fn(&Self) -> bool) -> Step {
        let mut at_once = 0;
        loop {
            while let Some(due) = self.soon.pop_front() {
                self.happens(due)?;
                at_once += 1;
            }
            if enough(self) {
                return Ok(());
            }
            self.set_timer();
            self.timer.0 = self.timer.0.max(self.asleep_until);
            let next = self.queue.next_at().min(self.timer.0);
            if next > end {
                self.now = end;
                return Ok(());
            }
            at_once = if next > self.now { 0 } else { at_once + 1 };
            if at_once > MOST_AT_ONCE {
                let detail = format!("a million things happen at {:?}: time stands still", self.now);
                return Err(Violation { guarantee: "Stall", detail });
            }
            self.now = self.now.max(next);
            // The timer after what happened before it fired.
            if self.queue.next_at() <= next {
                if let Some(due) = self.queue.pop() {
                    self.happens(due)?;
                }
            } else {
                self.timer = (Instant::MAX, Instant::MAX);
                self.post(Event::Tick)?;
            }
        }
    }

    /// Timers fire late, never early; a deadline that moves gets a new timer.
    fn set_timer(&mut self) {
        let deadline = self.pool.deadline().unwrap_or(Instant::MAX);
        if deadline != self.timer.1 {
            let late = crate::scenario::Dist::Uniform(Duration::ZERO, self.scenario.timers_late_by);
            let late = late.draw(&mut self.timers);
            self.timer = (deadline.max(self.now) + late, deadline);
        }
    }

    /// Tells the machine one thing, and does what it asks for. What is due comes before everything but a cancel; it is
    /// told apart, so that the oracle knows which is which.
    fn post(&mut self, event: Event) -> Step {
        let first = !matches!(event, Event::Tick | Event::Cancel { .. });
        if first && self.pool.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.tell(Event::Tick)?;
        }
        self.tell(event)
    }

    fn tell(&mut self, event: Event) -> Step {
        self.events += 1;
        self.trace.event(self.now, &event);
        self.digest.add(&(self.now, &event));
        self.oracle.event(self.now, &event)?;
        let mut actions = std::mem::take(&mut self.actions);
        self.pool.handle(self.now, event, &mut actions);
        let mut result = Ok(());
        for action in actions.drain(..) {
            self.trace.action(self.now, &action);
            self.digest.add(&action);
            result = self.oracle.action(self.now, &action);
            if result.is_err() {
                break;
            }
            self.apply(action);
        }
        actions.clear();
        self.actions = actions;
        result?;
        let counts = self.pool.counts();
        self.oracle.settled(self.now, counts)?;
        self.oracle.is_well_said(self.now, &self.pool.health(self.now))?;
        self.record.peak = self.record.peak.max(counts.total);
        self.record.chart.sample(self.now, &counts);
        self.note_recovery(counts.idle + counts.active);
        Ok(())
    }

    fn happens(&mut self, due: Due) -> Step {
        if self.now < self.asleep_until && due.is_of_process(self.scenario) {
            self.queue.push(self.asleep_until, due);
            return Ok(());
        }
        match due {
            Due::Step(index) => self.step(index),
            Due::Phase { host, plan } => {
                if plan == self.hosts[host].plan_number {
                    self.next_phase(host);
                }
                Ok(())
            }
            Due::Heal(host) => {
                self.heal_network(host);
                Ok(())
            }
            Due::AllowLogins(host) => {
                self.allow_logins(host);
                Ok(())
            }
            Due::WakeUp => {
                self.note_outage();
                Ok(())
            }
            Due::Resume => self.resume(),
            Due::Client(client) => self.client_asks(client),
            Due::Arrival(client) => self.arrival(client),
            Due::Seen(call) => self.seen(call),
            Due::Cancel(call) => self.cancel(call),
            Due::Done(call) => self.done(call),
            Due::Broken(call) => self.broken(call),
            Due::CommandTimeout(call) => self.command_timeout(call),
            Due::Answer { conn, job, answer } => self.answer(conn, job, answer),
            Due::Touch(conn) => self.touch(conn),
            Due::Recorded(what) => self.recorded(what),
            Due::Look(index) => {
                self.record.looks[index] = Some(self.pool.health(self.now));
                Ok(())
            }
        }
    }

    fn outcome(mut self) -> Outcome {
        let most = |of: fn(&Server) -> usize| self.hosts.iter().map(of).max().unwrap_or(0) as u64;
        self.record.refused = self.hosts.iter().map(|host| host.refused).sum();
        self.record.peak_sessions = most(|host| host.peak_sessions);
        self.record.peak_logins = most(|host| host.peak_logins);
        Outcome {
            name: self.scenario.name.clone(),
            seed: self.seed,
            findings: expect::compare(self.scenario, &self.record),
            stats: self.pool.stats(self.now),
            digest: self.digest,
            events: self.events,
            lasted: self.now - Instant::ZERO,
            record: self.record,
        }
    }
}

fn hosts(scenario: &Scenario, seed: u64) -> Vec<Server> {
    let stream = |number: usize| SERVER + ((number as u64) << 16);
    let host = |(number, host)| Server::new(&scenario.server, Rng::new(seed, stream(number))).named(host);
    scenario.hosts().into_iter().enumerate().map(host).collect()
}
