//! Every sequence of events up to a length, for pools so small that this can be done.
//!
//! Breadth first: from each state that was not seen before, everything that can happen next. Two states are one if they
//! differ only in what no decision depends on (`form`): names of waiters and generations of connections, the absolute
//! time, counters. Time passes to the machine's next deadline and no other: what lies between changes nothing, which is
//! a property of its own.
//!
//! After every event the machine's own invariants are checked and the oracle judges; from every state, faults end, and
//! everybody must be served and min_size come back within bounds.

mod form;
mod heal;
mod moves;
mod node;

use std::collections::HashSet;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use pgweir_core::config::PoolConfig;
use pgweir_core::pool::Event;
use pgweir_core::time::Instant;

use crate::oracle::Violation;
use form::form;
use heal::Healed;
use node::Node;

/// A pool that is small enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Small {
    /// max_size.
    pub connections: u32,
    /// Acquires that wait at once, at most.
    pub waiters: u32,
    /// Events in a sequence, at most.
    pub depth: u32,
}

/// What an exploration came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explored {
    /// Distinct states.
    pub states: u64,
    /// Events that were tried.
    pub transitions: u64,
    /// New states at each depth, from none on.
    pub layers: Vec<u64>,
    /// Events until all was well again, at most, from any state.
    pub longest_healing: u32,
    /// Virtual time that took, at most.
    pub slowest_healing: Duration,
}

/// A sequence of events after which a guarantee does not hold.
#[derive(Clone, Debug)]
pub struct Counterexample {
    /// What broke.
    pub violation: Violation,
    /// The pool's configuration.
    pub config: PoolConfig,
    /// What it was told, and when.
    pub told: Vec<(Instant, Event)>,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.violation)?;
        for (at, event) in &self.told {
            writeln!(f, "  {at:?} {event:?}")?;
        }
        Ok(())
    }
}

/// A sequence that shares its beginning with others.
struct Path {
    at: Instant,
    event: Event,
    before: Option<Rc<Path>>,
}

impl Path {
    fn events(path: Option<&Rc<Path>>) -> Vec<(Instant, Event)> {
        let all = std::iter::successors(path, |path| path.before.as_ref());
        let mut events: Vec<_> = all.map(|path| (path.at, path.event.clone())).collect();
        events.reverse();
        events
    }
}

impl Small {
    /// Tries everything.
    ///
    /// # Errors
    /// The first sequence found that breaks a guarantee; none is shorter.
    pub fn explore(&self) -> Result<Explored, Box<Counterexample>> {
        let config = self.config();
        let mut search = Search { small: *self, config, seen: HashSet::new(), explored: Explored::default() };
        // From the beginning, and from where every connection is open and idle: the second goes deeper into daily life.
        let mut layer = vec![None, Some(search.warm()?)];
        for root in &layer {
            let node = search.replay(root.as_ref())?;
            search.is_new(&node, root.as_ref())?;
        }
        search.explored.layers.push(search.seen.len() as u64);
        for depth in 1..=self.depth {
            layer = search.next_layer(&layer, depth < self.depth)?;
        }
        Ok(search.explored)
    }

    /// Without jitter, which would tell states apart that are alike; without lifetimes and leaks, whose times would.
    fn config(&self) -> PoolConfig {
        let second = Duration::from_secs(1);
        PoolConfig::builder()
            .min_size(1)
            .max_size(self.connections)
            .max_waiting(self.waiters)
            .max_connecting(2)
            .connect_timeout(second)
            .validation_timeout(second)
            .reset_timeout(second)
            .close_timeout(second)
            .validation_interval(second / 2)
            .acquire_slow(Duration::ZERO)
            .max_queries(0)
            .max_idle_time(2 * second)
            .max_connection_lifetime(Duration::ZERO)
            .enable_leak_detection(false)
            .backoff_initial(second)
            .backoff_max(2 * second)
            .backoff_jitter(0.0)
            .demand_probe_interval(second / 2)
            .outage_grace(second)
            .init_attempts(2)
            .build()
            .expect("within the rules")
    }
}

struct Search {
    small: Small,
    config: PoolConfig,
    seen: HashSet<u128>,
    explored: Explored,
}

impl Search {
    /// The events after which every connection is open and idle.
    fn warm(&self) -> Result<Rc<Path>, Box<Counterexample>> {
        let mut node = Node::new(&self.config);
        let mut path = None;
        let size = self.small.connections;
        let full = Event::Resize { min_size: size, max_size: size };
        let normal = Event::Resize { min_size: 1, max_size: size };
        for event in [Event::Start { lazy: true }, full] {
            path = Some(self.go(&mut node, event, path)?);
        }
        while let Some(event) = node.connected() {
            path = Some(self.go(&mut node, event, path)?);
        }
        self.go(&mut node, normal, path)
    }

    fn go(&self, node: &mut Node, event: Event, before: Option<Rc<Path>>) -> Result<Rc<Path>, Box<Counterexample>> {
        let at = node.time_of(&event);
        let path = Rc::new(Path { at, event: event.clone(), before });
        node.tell(at, event).map_err(|violation| self.counterexample(violation, Some(&path), Vec::new()))?;
        Ok(path)
    }

    fn replay(&self, path: Option<&Rc<Path>>) -> Result<Node, Box<Counterexample>> {
        let mut node = Node::new(&self.config);
        for (at, event) in Path::events(path) {
            node.tell(at, event).map_err(|violation| self.counterexample(violation, path, Vec::new()))?;
        }
        Ok(node)
    }

    fn counterexample(
        &self,
        violation: Violation,
        path: Option<&Rc<Path>>,
        then: Vec<(Instant, Event)>,
    ) -> Box<Counterexample> {
        let told = Path::events(path).into_iter().chain(then).collect();
        Box::new(Counterexample { violation, config: self.config.clone(), told })
    }

    /// The states that one more event leads to; empty unless they are to be `kept`.
    fn next_layer(
        &mut self,
        layer: &[Option<Rc<Path>>],
        kept: bool,
    ) -> Result<Vec<Option<Rc<Path>>>, Box<Counterexample>> {
        let mut next = Vec::new();
        let mut new = 0;
        for path in layer {
            let node = self.replay(path.as_ref())?;
            for event in node.moves(self.small) {
                let mut after = node.clone();
                let path = self.go(&mut after, event, path.clone())?;
                self.explored.transitions += 1;
                if self.is_new(&after, Some(&path))? {
                    new += 1;
                    if kept {
                        next.push(Some(path));
                    }
                }
            }
        }
        self.explored.layers.push(new);
        Ok(next)
    }

    /// Whether the state was not seen before; if so, it must heal.
    fn is_new(&mut self, node: &Node, path: Option<&Rc<Path>>) -> Result<bool, Box<Counterexample>> {
        if !self.seen.insert(form(node.machine())) {
            return Ok(false);
        }
        self.explored.states += 1;
        let Healed { events, took } =
            node.clone().heal().map_err(|(violation, then)| self.counterexample(violation, path, then))?;
        self.explored.longest_healing = self.explored.longest_healing.max(events);
        self.explored.slowest_healing = self.explored.slowest_healing.max(took);
        Ok(true)
    }
}
