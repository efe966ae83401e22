//! What the servers and the network show whenever time is about to pass.

use std::collections::BTreeMap;
use std::time::Duration;

use pgweir_core::config::PoolConfig;
use pgweir_core::time::Instant;

use super::watch::{CallId, Seen, Verdict, Watch};
use crate::Server;
use crate::oracle::ensure;
use crate::record::Record;
use crate::scenario::ServerState;
use crate::server::SessionView;

/// After the network was healed, until everybody has heard of it.
const HEALING: Duration = Duration::from_secs(3);
/// A socket that was read within the last millisecond is not looked at again before it is lent.
const HEARD: Duration = Duration::from_millis(2);

/// A session: which host's, and its process id.
pub(super) type Key = (usize, i32);

/// What was seen last.
pub(super) struct Look {
    hosts: Vec<HostSeen>,
    /// Sessions may be more than max_size for a while after a shrink.
    allowed: usize,
    max_size: usize,
    /// When the client's side of a connection heard of its end.
    ended: BTreeMap<Key, Instant>,
    sessions: BTreeMap<Key, Known>,
    calm: Calm,
    /// The pool's process does not run.
    pub(super) asleep: bool,
}

#[derive(Default)]
struct HostSeen {
    /// The network swallows something, and since when it does not any more.
    is_cut: bool,
    /// When it last began or ended to.
    last_cut: Option<Instant>,
    healed: Option<Instant>,
    refuses_logins: bool,
    /// Since when nobody can log in.
    down: Option<Instant>,
    attempts: u64,
    /// When somebody last tried, while it was down.
    tried: Option<Instant>,
    /// When somebody first tried, and how many more did before they could know what came of it.
    first: Option<Instant>,
    unknowing: u64,
}

/// How often a server that is down may be tried.
#[derive(Clone, Copy)]
struct Calm {
    /// Two tries are at least so far apart.
    soonest: Duration,
    /// So long after its end everybody who was connected to it knows.
    patience: Duration,
    /// Of several servers one may be in reserve, and nobody knows of its end until somebody has tried. A try has its
    /// answer within this time, and so many may be under way.
    answer: Duration,
    reserve: Option<u64>,
}

struct Known {
    link: crate::net::LinkId,
    seen: bool,
}

impl Look {
    pub(super) fn new(config: &PoolConfig, hosts: usize) -> Self {
        let demand = config.demand_probe_interval();
        let soonest = if demand.is_zero() { config.backoff_initial() } else { demand.min(config.backoff_initial()) };
        Look {
            hosts: (0..hosts).map(|_| HostSeen::default()).collect(),
            allowed: config.max_size() as usize,
            max_size: config.max_size() as usize,
            ended: BTreeMap::new(),
            sessions: BTreeMap::new(),
            calm: Calm {
                // Two connects of a jittered schedule, a login's time apart.
                soonest: soonest.mul_f64((1.0 - config.backoff_jitter()) * 0.99),
                patience: config.connect_timeout() + config.close_timeout() + config.reset_timeout(),
                answer: config.connect_timeout(),
                reserve: (hosts > 1).then_some(config.max_connecting().into()),
            },
            asleep: false,
        }
    }

    pub(super) fn cut(&mut self, host: usize, is_cut: bool, now: Instant) {
        let host = &mut self.hosts[host];
        host.is_cut = is_cut;
        host.last_cut = Some(now);
        host.healed = (!is_cut).then_some(now);
    }

    pub(super) fn is_cut(&self, host: usize) -> bool {
        self.hosts[host].is_cut
    }

    /// When the network last swallowed something on the way to a host.
    pub(super) fn last_cut(&self, host: usize) -> Option<Instant> {
        self.hosts[host].last_cut
    }

    pub(super) fn refuses_logins(&mut self, host: usize, refuses: bool) {
        self.hosts[host].refuses_logins = refuses;
    }

    /// New bounds: what is open already may stay for a while.
    pub(super) fn resize(&mut self, max_size: u32) {
        self.max_size = max_size as usize;
        self.allowed = self.allowed.max(self.max_size);
    }

    /// When the client's side of a connection heard that it has ended, if it did.
    pub(super) fn ended(&self, key: Key) -> Option<Instant> {
        self.ended.get(&key).copied()
    }

    /// Whether the network has swallowed something lately.
    pub(super) fn is_troubled(&self, now: Instant) -> bool {
        self.hosts.iter().any(|host| host.is_cut || host.healed.is_some_and(|healed| now - healed < HEALING))
    }

    pub(super) fn look(&mut self, now: Instant, servers: &[Server], watch: &mut Watch, record: &mut Record) -> Verdict {
        let mut held = 0;
        let mut usable = false;
        self.sessions.values_mut().for_each(|known| known.seen = false);
        for (index, server) in servers.iter().enumerate() {
            let (state, standby, frozen, pids, attempts) = server.with(|server, _| {
                let counts = server.counts();
                // Cancel requests are connections too, and no attempts. An attempt counts from its beginning: the server
                // may take its time over a login that the pool gives up.
                let attempts = counts.refused + counts.startups;
                let pids: Vec<_> = server.session_links().collect();
                (server.state(), server.is_standby(), server.is_frozen(), pids, attempts)
            });
            for (pid, link) in pids {
                held += usize::from(server.net().is_held(link));
                self.sessions.entry((index, pid)).or_insert(Known { link, seen: true }).seen = true;
            }
            let host = &mut self.hosts[index];
            let up = state == ServerState::Up && !frozen && !host.is_cut && !host.refuses_logins;
            usable |= up && !standby;
            host.tries(now, up, attempts, &self.calm)?;
        }
        for (key, known) in &self.sessions {
            let (host, pid) = *key;
            if servers[host].net().has_heard_the_end(known.link) {
                self.ended.entry((host, pid)).or_insert(now);
            }
        }
        let died = self.sessions.values().any(|known| !known.seen);
        if died {
            watch.trouble(now);
        }
        self.sessions.retain(|key, known| known.seen || servers[key.0].net().is_held(known.link));
        if usable && !self.asleep {
            record.outage_ends(now)
        } else {
            record.outage_begins(now)
        }
        self.allowed = self.allowed.min(held).max(self.max_size);
        let most = if self.is_troubled(now) { usize::MAX } else { self.allowed };
        watch.look(now, held, most)
    }
}

impl HostSeen {
    /// Quiet outage: once everybody knows that nobody can log in, connects come one at a time and not too often.
    fn tries(&mut self, now: Instant, up: bool, attempts: u64, calm: &Calm) -> Verdict {
        let new = attempts.saturating_sub(self.attempts);
        self.attempts = attempts;
        if up {
            (self.down, self.tried, self.first, self.unknowing) = (None, None, None, 0);
            return Ok(());
        }
        let down = *self.down.get_or_insert(now);
        if new == 0 {
            return Ok(());
        }
        let first = *self.first.get_or_insert(now);
        if now - down < calm.patience {
            return Ok(());
        }
        // At the schedule's pace it is a try like any other.
        let early = new > 1 || self.tried.is_none_or(|tried| now - tried < calm.soonest);
        let unknowing = self.unknowing + new;
        if early && now - first <= calm.answer && calm.reserve.is_some_and(|most| unknowing <= most) {
            (self.unknowing, self.tried) = (unknowing, Some(now));
            return Ok(());
        }
        ensure!(new == 1, "Quiet outage, prompt recovery", "{new} connects at once to a server that is down");
        if let Some(tried) = self.tried.replace(now) {
            let gap = now - tried;
            ensure!(
                gap >= calm.soonest,
                "Quiet outage, prompt recovery",
                "a connect {gap:?} after the last one to a server that is down since {down:?}"
            );
        }
        Ok(())
    }
}

/// A session at the moment of a grant.
pub(super) fn seen(view: &SessionView) -> Seen {
    Seen {
        since: view.since,
        is_ready: view.state == "idle",
        is_clean: view.changed.iter().all(|(name, _)| name != super::request::SETTING),
    }
}

/// Sound: nobody is given a connection whose end a look at its socket would have shown.
pub(super) fn not_dead(now: Instant, call: CallId, key: Key, ended: Option<Instant>, late: Duration) -> Verdict {
    let known = ended.map(|ended| now - ended);
    let excused = known.is_none_or(|known| known <= HEARD + late);
    ensure!(excused, "Sound", "request {call} got session {key:?}, whose end was known for {known:?}");
    Ok(())
}
