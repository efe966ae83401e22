//! The journal's place under the lock: what is recorded, when it is to be handed on, and to whom.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use super::shared::{Shared, State};
use super::sites::Sites;
use super::sync::{Ordering, StaticU64};
use crate::journal::{Check, Chunk, Dump, Header, JournalOptions, JournalSink, Ring, SITES, Tape, Why};
use crate::manager::Manager;
use crate::pool::{ConnId, Event, Fate, Fault, Machine, SiteId, WaiterId};
use crate::runtime::Runtime;
use crate::time::{Instant, Wall};

/// A continuous sink is handed what there is at least this often.
const FLUSH: Duration = Duration::from_secs(1);

/// The background task is to look now, whatever it is armed for: whoever changes something next finds that the machine
/// is due earlier. A continuous sink is served in time that way, at no cost to the hot path.
const RING: Instant = Instant::MAX;

pub(crate) struct Recorder {
    ring: Option<Ring>,
    sink: Option<Arc<dyn JournalSink>>,
    interval: Duration,
    unhealthy: Trigger,
    timeout: Trigger,
    flow: Option<Flow>,
}

/// A reason to write a journal.
#[derive(Default)]
struct Trigger {
    due: bool,
    last: Option<Instant>,
}

/// How far a continuous sink was served.
struct Flow {
    /// When a chunk is handed over although there is room for more.
    at: Instant,
    /// A chunk is handed over when it has so many events.
    full: usize,
    sites: usize,
    /// Tells the pools of one sink apart.
    pool: u64,
}

/// The number of the next pool with a continuous sink.
static POOL: StaticU64 = StaticU64::new(0);

/// What is handed to a sink after unlocking.
pub(crate) struct Delivery {
    sink: Arc<dyn JournalSink>,
    dumps: Vec<Dump>,
    chunk: Option<Chunk>,
}

impl Delivery {
    /// Runs the sink's code; false if it did not take a chunk.
    fn hand_over(self) -> bool {
        self.dumps.into_iter().for_each(|dump| self.sink.dump(dump));
        self.chunk.is_none_or(|chunk| self.sink.append(chunk))
    }
}

impl<R: Runtime, M: Manager> Shared<R, M> {
    /// Hands journals on, without the lock. A sink is foreign code: its panic must not end the pool's only task.
    pub(super) fn deliver(&self, delivery: Option<Delivery>) {
        let Some(delivery) = delivery else { return };
        let taken = panic::catch_unwind(AssertUnwindSafe(|| delivery.hand_over()));
        if !taken.unwrap_or(false)
            && let Some(ring) = &mut self.lock().recorder.ring
        {
            ring.interrupt();
        }
    }
}

impl Recorder {
    pub(crate) fn new(options: JournalOptions, machine: &Machine) -> Self {
        let ring = (options.entries > 0).then(|| Ring::new(options.entries, machine));
        let sink = options.sink.filter(|_| ring.is_some());
        let flow = sink.as_ref().filter(|sink| sink.is_continuous()).map(|_| Flow {
            at: Instant::ZERO,
            full: options.entries as usize / 4,
            sites: 0,
            pool: POOL.fetch_add(1, Ordering::Relaxed),
        });
        let (unhealthy, timeout) = Default::default();
        Recorder { ring, sink, interval: options.interval, unhealthy, timeout, flow }
    }

    /// Says that there is a reason to write a journal; true if somebody will.
    pub(crate) fn mark(&mut self, why: &Why) -> bool {
        if self.sink.is_none() {
            return false;
        }
        match why {
            Why::Unhealthy => self.unhealthy.due = true,
            Why::Timeout => self.timeout.due = true,
            _ => return false,
        }
        true
    }

    /// The last events, at most `limit`; `None` if nothing is recorded.
    pub(super) fn recent(&self, limit: usize) -> Option<Tape> {
        self.ring.as_ref().map(|ring| ring.recent(limit))
    }

    /// When something is to be handed over whatever happens until then.
    pub(super) fn due(&self) -> Instant {
        self.flow.as_ref().map_or(Instant::MAX, |flow| flow.at)
    }

    /// Whether it is time to hand something over: asked by the background task at each look.
    fn is_due(&self, now: Instant, ended: bool) -> bool {
        let flows =
            |flow: &Flow| ended || now >= flow.at || self.ring.as_ref().is_some_and(|ring| ring.untaken() >= flow.full);
        self.unhealthy.due || self.timeout.due || self.flow.as_ref().is_some_and(flows)
    }
}

impl Trigger {
    /// Whether to write now. A reason that comes too soon after the last one is forgotten.
    fn fires(&mut self, now: Instant, interval: Duration) -> bool {
        let due = std::mem::take(&mut self.due);
        let fires = due && self.last.is_none_or(|last| now >= last + interval);
        if fires {
            self.last = Some(now);
        }
        fires
    }
}

impl<M: Manager> State<M> {
    /// Tells the machine one thing, and records it: this and the two below are the only places that do. The answer is
    /// left in `actions`.
    pub(super) fn handle(&mut self, now: Instant, event: Event) {
        debug_assert!(self.actions.is_empty(), "the answer to one event is carried out before the next");
        let State { machine, actions, recorder, armed, .. } = self;
        // Clamped as the machine does it: a journal's times do not go back.
        let now = now.max(machine.now());
        if let Some(ring) = &mut recorder.ring
            && ring.begin(machine, now, &event)
            && recorder.flow.is_some()
        {
            *armed = RING;
        }
        machine.handle(now, event, actions);
        if let Some(ring) = &mut recorder.ring {
            ring.finish(Check::of(actions));
        }
    }

    /// The same, of an acquire: the hot path.
    #[inline(always)]
    pub(super) fn handle_acquire(
        &mut self,
        now: Instant,
        waiter: WaiterId,
        deadline: Instant,
        leak_after: Option<Duration>,
        site: SiteId,
    ) {
        let full = self.recorder.ring.as_ref().is_some_and(Ring::is_full);
        if full || leak_after.is_some() || site.0 >= SITES {
            return self.handle(now, Event::Acquire { waiter, deadline, leak_after, site });
        }
        let State { machine, actions, recorder, .. } = self;
        let now = now.max(machine.now());
        let check = recorder.ring.as_mut().and_then(|ring| ring.acquire(now, waiter, deadline, site));
        machine.handle(now, Event::Acquire { waiter, deadline, leak_after: None, site }, actions);
        if let Some(check) = check {
            *check = Check::of(actions);
        }
    }

    /// The same, of a release.
    #[inline(always)]
    pub(super) fn handle_release(
        &mut self,
        now: Instant,
        conn: ConnId,
        fate: Fate,
        queries: u64,
        fault: Option<Box<Fault>>,
    ) {
        let full = self.recorder.ring.as_ref().is_some_and(Ring::is_full);
        if full || fault.is_some() {
            return self.handle(now, Event::Release { conn, fate, queries, fault });
        }
        let State { machine, actions, recorder, .. } = self;
        let now = now.max(machine.now());
        let check = recorder.ring.as_mut().and_then(|ring| ring.release(now, conn, fate, queries));
        machine.handle(now, Event::Release { conn, fate, queries, fault: None }, actions);
        if let Some(check) = check {
            *check = Check::of(actions);
        }
    }

    /// The recent past; `None` if it is not recorded.
    pub(crate) fn dump(&self, why: Why, now: Instant, wall: Wall) -> Option<Dump> {
        let tape = self.recorder.ring.as_ref()?.copy();
        let start = tape.start.as_ref()?;
        let sites = self.sites.all().to_vec();
        Some(Dump { header: header(why, now, wall, start), tape, sites })
    }

    /// What is to be handed to the sink, if it is time. With `ended` the pool's last events go with it.
    pub(crate) fn delivery(&mut self, now: Instant, wall: Wall, ended: bool) -> Option<Delivery> {
        if !self.recorder.is_due(now, ended) {
            return None;
        }
        let interval = self.recorder.interval;
        let mut dumps = Vec::new();
        if self.recorder.unhealthy.fires(now, interval) {
            dumps.extend(self.dump(Why::Unhealthy, now, wall));
        }
        if self.recorder.timeout.fires(now, interval) {
            dumps.extend(self.dump(Why::Timeout, now, wall));
        }
        let State { recorder, sites, .. } = self;
        let chunk = recorder.chunk(sites, now, wall, ended);
        Some(Delivery { sink: recorder.sink.clone()?, dumps, chunk })
    }
}

impl Recorder {
    fn chunk(&mut self, sites: &Sites, now: Instant, wall: Wall, ended: bool) -> Option<Chunk> {
        let (ring, flow) = (self.ring.as_mut()?, self.flow.as_mut()?);
        flow.at = now + FLUSH;
        if ring.untaken() == 0 && !ended {
            return None;
        }
        let tape = ring.take();
        let begins = tape.start.as_ref().map(|start| header(Why::Continuous, now, wall, start));
        let known = if begins.is_some() { 0 } else { flow.sites };
        let sites = sites.all();
        flow.sites = sites.len();
        let chunk = Chunk { pool: flow.pool, begins, tape, sites: sites[known..].to_vec(), ends: ended };
        if ended {
            self.flow = None;
        }
        Some(chunk)
    }
}

fn header(why: Why, written: Instant, wall: Wall, start: &Machine) -> Header {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Header { version, config: start.config().clone(), wall, why, written }
}
