//! A fleet's run: every pool, the server, and one clock.
//!
//! Nothing is looked up by a hash: the pools lie side by side, the connections of all of them in one array, and what a
//! thing in the queue belongs to is an index and a count that tells whether it still does.

mod callers;
mod connections;

use std::collections::VecDeque;
use std::time::Duration;

use pgweir_core::config::PoolConfig;
use pgweir_core::pool::{Action, Check, ConnId, Event, Fault, FaultClass, Notice, Reject, ResetHow, State};
use pgweir_core::time::Instant;

use super::member::Member;
use super::outcome::{FleetOutcome, FleetTally, Sample};
use super::server::{Job, Server};
use super::spec::FleetSpec;
use crate::model::said;
use crate::oracle::Violation;
use crate::queue::Queue;
use crate::record::Spread;
use crate::rng::Rng;
use crate::scenario::scale;
use pgweir_core::digest::Digest;

/// How late a timer is.
const LATE: Duration = Duration::from_micros(50);
/// How often the fleet is looked at for the charts.
pub(super) const SAMPLE: Duration = Duration::from_millis(100);
/// How long the run goes on when all are back.
const AFTERWARDS: Duration = Duration::from_secs(2);
/// When a query that gets no answer is given up: command_timeout's default.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
/// The first retransmission of a SYN; each further one takes twice as long.
const SYN_AGAIN: Duration = Duration::from_secs(1);
/// What the network kept back arrives within this when it is well again.
const CATCH_UP: Duration = Duration::from_secs(1);

/// Streams of randomness.
const SERVER: u64 = 1;
const POOLS: u64 = 1 << 32;
const CLIENTS: u64 = 2 << 32;

/// A connection at one stage: of another job, it is a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ref {
    pub(super) instance: u32,
    pub(super) slot: u16,
    pub(super) job: u32,
}

#[derive(Clone, Copy, Debug)]
enum Due {
    Start(u32),
    Tick(u32),
    Arrival(u32),
    /// A caller is done.
    Done(Ref),
    /// A caller's connection ends under it.
    Broken(Ref),
    Answer(Ref, Answer),
    /// An idle connection's socket has something to say.
    Touch(Ref),
    /// A connection request arrives at the server, after so many in vain.
    Knock(Ref, u8),
    Worked(Job),
    Sample,
    Outage,
    Back,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Connected,
    Refused,
    Starting,
    Full,
    Validated,
    Reset,
    Closed,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Empty,
    Connecting,
    Idle,
    Checking,
    Resetting,
    Lent,
    Closing,
}

/// A connection, from the client's side.
#[derive(Clone, Copy, Debug, Default)]
struct Peer {
    generation: u32,
    job: u32,
    place: Place,
    /// The server holds a session for it.
    session: bool,
    /// The server ended its session.
    dead: bool,
}

struct Instance<M> {
    pool: M,
    rng: Rng,
    /// When its next tick is queued for.
    armed: Instant,
    /// The last acquire's id: the nanosecond in which it was made, or one more than the one before.
    last: u64,
    /// Since the outage ended, when it first served a caller, and when it also had min_size again.
    served: Option<Instant>,
    back: Option<Instant>,
}

pub(super) struct World<'a, M> {
    spec: &'a FleetSpec,
    seed: u64,
    now: Instant,
    queue: Queue<Due>,
    soon: VecDeque<(u32, Event)>,
    /// What the silent network keeps back, in order.
    held: Vec<Due>,
    instances: Vec<Instance<M>>,
    peers: Vec<Peer>,
    width: usize,
    server: Server,
    rng: Rng,
    actions: Vec<Action>,
    digest: Option<Digest>,
    events: u64,
    faults: Faults,
    tally: FleetTally,
    waits: Spread,
    samples: Vec<Sample>,
    sample: Sample,
    healed: Option<Instant>,
    over: Option<Instant>,
    answered: u64,
    wrong: Option<Violation>,
    max_size: u32,
    means: Means,
}

/// Times that are drawn all the time, in nanoseconds: a [`Duration`] would cost divisions.
struct Means {
    gap: f64,
    hold: f64,
    half_trip: f64,
}

/// What can go wrong, made once.
struct Faults {
    refused: Fault,
    starting: Fault,
    full: Fault,
    lost: Fault,
    ended: Fault,
}

impl Faults {
    fn new() -> Self {
        let plain = |text: &str| Fault::new(FaultClass::Transient, text);
        Faults {
            refused: plain("connecting to db:5432: Connection refused"),
            starting: said("57P03", "the database system is starting up"),
            full: said("53300", "sorry, too many clients already"),
            lost: plain("the connection was lost while it was used"),
            ended: said("57P02", "terminating connection because of crash of another server process"),
        }
    }
}

impl<'a, M: Member> World<'a, M> {
    /// `digested` says whether everything is hashed: a measurement of the machine's speed does without.
    pub(super) fn new(spec: &'a FleetSpec, seed: u64, digested: bool) -> Self {
        let width = spec.pool.max_size() as usize;
        let config: &PoolConfig = &spec.pool;
        let instance = |index: u32| Instance {
            pool: M::new(config, Rng::new(seed, POOLS + u64::from(index)).next(), Instant::ZERO),
            rng: Rng::new(seed, CLIENTS + u64::from(index)),
            armed: Instant::MAX,
            last: 0,
            served: None,
            back: None,
        };
        World {
            spec,
            seed,
            now: Instant::ZERO,
            queue: Queue::new(),
            soon: VecDeque::new(),
            held: Vec::new(),
            instances: (0..spec.instances).map(instance).collect(),
            peers: vec![Peer::default(); width * spec.instances as usize],
            width,
            server: Server::new(spec.server, spec.max_connections()),
            rng: Rng::new(seed, SERVER),
            actions: Vec::new(),
            digest: digested.then(Digest::default),
            events: 0,
            faults: Faults::new(),
            tally: FleetTally::default(),
            waits: Spread::default(),
            samples: Vec::new(),
            sample: Sample::default(),
            healed: None,
            over: None,
            answered: 0,
            wrong: None,
            max_size: spec.pool.max_size(),
            means: Means {
                gap: if spec.rate > 0.0 { 1e9 / spec.rate } else { f64::INFINITY },
                hold: spec.hold.as_nanos() as f64,
                half_trip: spec.server.round_trip.as_nanos() as f64 / 2.0,
            },
        }
    }

    /// Runs to the end.
    pub(super) fn run(mut self) -> Result<FleetOutcome, Violation> {
        let outage = Instant::ZERO + self.spec.outage_at();
        self.queue.push(outage, Due::Outage);
        self.queue.push(outage + self.spec.outage, Due::Back);
        self.queue.push(Instant::ZERO + SAMPLE, Due::Sample);
        for index in 0..self.spec.instances {
            let share = f64::from(index) / f64::from(self.spec.instances);
            self.queue.push(Instant::ZERO + scale(self.spec.ramp, share), Due::Start(index));
        }
        let last = outage + self.spec.outage + self.spec.patience;
        while self.wrong.is_none() && self.now < last && self.over.is_none_or(|over| self.now < over + AFTERWARDS) {
            let next = self.queue.next_at();
            let Some(due) = self.queue.pop() else { break };
            self.now = next;
            self.happens(due);
        }
        match self.wrong.take() {
            Some(violation) => Err(violation),
            None => self.outcome(),
        }
    }

    fn happens(&mut self, due: Due) {
        match due {
            Due::Start(instance) => {
                self.post(instance, Event::Start { lazy: true });
                self.next_arrival(instance);
            }
            Due::Tick(instance) => self.tick(instance),
            Due::Arrival(instance) => self.arrival(instance),
            Due::Done(at) => self.done(at),
            Due::Broken(at) => self.broken(at),
            Due::Answer(at, answer) => self.answer(at, answer),
            Due::Touch(at) => {
                if let Some(peer) = self.peer(at)
                    && peer.place == Place::Idle
                {
                    let conn = ConnId { slot: at.slot.into(), generation: peer.generation };
                    self.post(at.instance, Event::Touched { conn });
                }
            }
            Due::Knock(at, times) => self.knock(at, times),
            Due::Worked(job) => self.worked(job),
            Due::Sample => self.take_sample(),
            Due::Outage => self.outage(),
            Due::Back => self.back(),
        }
    }

    fn post(&mut self, instance: u32, event: Event) {
        self.tell(instance, event);
        while let Some((instance, event)) = self.soon.pop_front() {
            self.tell(instance, event);
        }
    }

    fn tell(&mut self, index: u32, event: Event) {
        self.events += 1;
        if let Some(digest) = &mut self.digest {
            digest.add(&(self.now, index, &event));
        }
        let mut actions = std::mem::take(&mut self.actions);
        let instance = &mut self.instances[index as usize];
        instance.pool.handle(self.now, event, &mut actions);
        let deadline = instance.pool.deadline();
        if deadline < Instant::MAX && deadline + LATE < instance.armed {
            instance.armed = (deadline + LATE).max(self.now);
            self.queue.push(instance.armed, Due::Tick(index));
        }
        let counts = instance.pool.counts();
        if counts.total > self.max_size {
            self.violated("Cap", format!("instance {index} has {} connections of {}", counts.total, self.max_size));
        }
        for action in actions.drain(..) {
            if let Some(digest) = &mut self.digest {
                digest.add(&action);
            }
            self.apply(index, action);
        }
        self.actions = actions;
        let full = counts.idle + counts.active >= counts.min;
        self.note_back(index, full);
    }

    fn note_back(&mut self, index: u32, full: bool) {
        let Some(healed) = self.healed else { return };
        let instance = &mut self.instances[index as usize];
        if instance.back.is_some() || !full || (instance.served.is_none() && self.spec.rate > 0.0) {
            return;
        }
        instance.back = Some(self.now.max(healed));
        self.sample.back += 1;
        if self.sample.back == self.spec.instances {
            self.over = Some(self.now);
        }
    }

    fn violated(&mut self, guarantee: &'static str, detail: String) {
        self.wrong.get_or_insert(Violation { guarantee, detail });
    }

    fn tick(&mut self, index: u32) {
        let instance = &mut self.instances[index as usize];
        // An earlier one took this one's place.
        if self.now != instance.armed {
            return;
        }
        instance.armed = Instant::MAX;
        let deadline = instance.pool.deadline();
        if deadline <= self.now {
            self.post(index, Event::Tick);
        } else if deadline < Instant::MAX {
            instance.armed = deadline + LATE;
            self.queue.push(deadline + LATE, Due::Tick(index));
        }
    }

    fn apply(&mut self, index: u32, action: Action) {
        match action {
            Action::Grant { waiter, conn } => self.granted(index, waiter, conn),
            Action::Reject { reason, .. } => {
                self.answered += 1;
                self.sample.errors += 1;
                *match reason {
                    Reject::Timeout(_) => &mut self.tally.timed_out,
                    Reject::Unavailable(_) => &mut self.tally.unavailable,
                    Reject::QueueFull { .. } | Reject::WouldBlock | Reject::Closed => &mut self.tally.queue_full,
                } += 1;
            }
            Action::Connect { conn, .. } => self.connect(index, conn),
            Action::Validate { conn, how: Check::Socket, .. } => {
                let dead = !self.server.is_silent() && self.at(index, conn).dead;
                let event = match dead {
                    true => Event::ValidationFailed { conn, fault: Box::new(self.faults.ended.clone()) },
                    false => Event::Validated { conn },
                };
                self.soon.push_back((index, event));
            }
            Action::Validate { conn, .. } => self.ask(index, conn, Place::Checking, 1, Answer::Validated),
            Action::Reset { conn, how, .. } => {
                let trips = if how == ResetHow::Drain { 3 } else { 1 };
                self.ask(index, conn, Place::Resetting, trips, Answer::Reset);
            }
            Action::Close { conn, how, .. } => self.close(index, conn, how),
            Action::Notice(notice) => {
                if let Notice::StateChanged { from, to, .. } = *notice {
                    self.sample.unhealthy -= u32::from(from == State::Unhealthy && self.sample.unhealthy > 0);
                    self.sample.unhealthy += u32::from(to == State::Unhealthy);
                }
            }
        }
    }

    fn outage(&mut self) {
        self.server.measure_from_now();
        self.tally = FleetTally::default();
        self.waits = Spread::default();
        self.answered = 0;
        for instance in &self.instances {
            // What waits now is answered later, and counts.
            self.tally.requests += u64::from(instance.pool.counts().waiting);
        }
        if !self.server.fail(self.spec.kind) {
            return;
        }
        for place in 0..self.peers.len() {
            let peer = self.peers[place];
            let at = Ref { instance: (place / self.width) as u32, slot: (place % self.width) as u16, job: peer.job };
            match peer.place {
                Place::Connecting if !peer.session => self.answer_later(at, Answer::Refused),
                _ if !peer.session => {}
                _ => {
                    self.peers[place].session = false;
                    self.peers[place].dead = true;
                    let heard = self.now + self.round_trip() / 2;
                    match peer.place {
                        Place::Idle => self.queue.push(heard, Due::Touch(at)),
                        Place::Lent => self.queue.push(heard, Due::Broken(at)),
                        // What is under way hears of it with its answer.
                        _ => {}
                    }
                }
            }
        }
    }

    fn back(&mut self) {
        let silent = self.server.is_silent();
        self.server.heal();
        self.healed = Some(self.now);
        if silent {
            for due in std::mem::take(&mut self.held) {
                let within = scale(CATCH_UP, self.rng.fraction());
                self.queue.push(self.now + within, due);
            }
        }
    }

    fn take_sample(&mut self) {
        self.sample.at = self.now;
        self.sample.queued = self.server.queued();
        self.sample.sessions = self.server.sessions;
        self.samples.push(self.sample);
        let Sample { back, unhealthy, .. } = self.sample;
        self.sample = Sample { back, unhealthy, ..Sample::default() };
        self.queue.push(self.now + SAMPLE, Due::Sample);
    }

    fn outcome(self) -> Result<FleetOutcome, Violation> {
        let waiting: u64 = self.instances.iter().map(|instance| u64::from(instance.pool.counts().waiting)).sum();
        if self.answered + waiting < self.tally.requests {
            let detail = format!("{} acquires, {} answered, {waiting} waiting", self.tally.requests, self.answered);
            return Err(Violation { guarantee: "One answer", detail });
        }
        let healed = self.healed.unwrap_or(self.now);
        let since = |moment: fn(&Instance<M>) -> Option<Instant>| {
            let mut all: Vec<Duration> =
                self.instances.iter().filter_map(|instance| Some(moment(instance)? - healed)).collect();
            all.sort_unstable();
            all
        };
        Ok(FleetOutcome {
            seed: self.seed,
            digest: self.digest.unwrap_or_default(),
            events: self.events,
            lasted: self.now - Instant::ZERO,
            tally: self.tally,
            served: since(|instance| instance.served),
            back: since(|instance| instance.back),
            instances: self.spec.instances,
            outage: (Instant::ZERO + self.spec.outage_at(), healed),
            waits: self.waits,
            figures: self.server.figures,
            samples: self.samples,
        })
    }
}

/// `nanos` after `now`.
fn after(now: Instant, nanos: f64) -> Instant {
    Instant::from_nanos(now.as_nanos().saturating_add(nanos as u64))
}
